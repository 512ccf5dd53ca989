//! A master of a cluster that dies, and the replica that takes its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use super::told::{Told, entries, told};
use crate::contract::own_cluster::Cluster;
use crate::harness::{Ground, Mode, Reply, Server, eventually, seq_ids};

/// How long a failover may take that a client waits for: a master is dead after two silent seconds.
const FAILOVER: Duration = Duration::from_mins(1);

/// Two nodes on a cluster of the test's own, whose first master has a replica.
pub async fn scene() -> (Cluster, Server) {
    let cluster = Cluster::with_replica(3).await;
    let ground = Ground::new(Mode::Cluster).await.on_redis(cluster.url());
    let server = Server::start_on(ground, |config| config).await;
    ready(&server).await;
    (cluster, server)
}

pub async fn ready(server: &Server) {
    for node in 0..server.nodes.len() {
        eventually(async || {
            let ready = server.client().get(server.root_at(node, "/readyz"));
            (server.send(ready).await.status == 200).then_some(())
        })
        .await;
    }
}

/// Repeats what is refused because a server is away, as a client does that is told to come again.
pub async fn insisted(ask: impl AsyncFn() -> Reply) -> Value {
    let asked = Instant::now();
    loop {
        let reply = ask().await;
        if reply.status != 503 {
            return reply.ok();
        }
        assert!(!reply.header("retry-after").is_empty());
        assert!(asked.elapsed() < FAILOVER, "{}", reply.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn appended(server: &Server, id: &str, percent: u64) -> u64 {
    let body = json!({ "progress": { "percent": percent }, "workerId": "worker-1" });
    let path = format!("/tasks/{id}/progress");
    let reply = insisted(async || server.post(&path, body.clone()).await).await;
    reply["seqId"].as_u64().expect("a number")
}

/// Tasks in progress, by the master that has their logs: two for each.
pub async fn tasks(cluster: &Cluster, server: &Server) -> [Vec<String>; 3] {
    let mut of: [Vec<String>; 3] = Default::default();
    while of.iter().any(|tasks| tasks.len() < 2) {
        let id = server.registered("work").await;
        let key = format!("{}:seq:{{{id}}}", server.ground.namespace());
        let owner = cluster.owner(&key).await;
        if of[owner].len() < 2 {
            let worker = json!({ "workerId": "worker-1" });
            server.post(&format!("/tasks/{id}/start"), worker).await.ok();
            of[owner].push(id);
        }
    }
    of
}

/// Waits until everything the first master acknowledged is at its replica, and kills it.
async fn kill_the_first(cluster: &mut Cluster, id: &str) {
    cluster.replicated(0, &format!("{{{id}}}")).await;
    cluster.kill(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_of_one_master_is_survived() {
    let (mut cluster, server) = scene().await;
    let of = tasks(&cluster, &server).await;
    let server = Arc::new(server);
    let all: Vec<String> = of.concat();
    let mut streams = Vec::new();
    for (turn, id) in all.iter().chain(&all).enumerate() {
        let mut events = server.track_at(usize::from(turn >= all.len()), id, "").await;
        events.opened().await;
        streams.push(events);
    }
    for id in &all {
        for percent in 1..=10 {
            assert_eq!(appended(&server, id, percent).await, percent);
        }
    }

    kill_the_first(&mut cluster, &of[0][0]).await;
    // Those of the other masters do not even notice.
    for id in of[1].iter().chain(&of[2]) {
        assert_eq!(server.progressed(id, json!({ "percent": 11 })).await, 11);
    }
    // The others are refused until the replica has taken over. Nobody knows that it has everything, so they go on
    // behind a gap.
    join_all(of[0].iter().map(async |id| {
        for percent in 11..=20 {
            assert_eq!(appended(&server, id, percent).await, 10_000 + percent);
        }
    }))
    .await;
    assert_eq!(cluster.owner(&format!("{{{}}}", of[0][0])).await, 3, "the replica has the slots");

    for (turn, id) in all.iter().enumerate() {
        let path = format!("/tasks/{id}/complete");
        let by = json!({ "workerId": "worker-1" });
        insisted(async || server.post_at(turn % 2, &path, by.clone()).await).await;
    }
    for (id, events) in all.iter().chain(&all).zip(streams) {
        let task = server.task(id).await;
        assert_eq!(task["status"], "completed");
        let heard = told(&events.rest().await);
        if of[0].contains(id) {
            assert!(seq_ids(&task).into_iter().eq((1..=10).chain(10_011..=10_020)));
            let after = [entries(10_011..=10_020), vec![Told::End("10020-end".to_owned())]];
            let expected = [entries(1..=10), vec![Told::Gap(11, 10_010)], after.concat()];
            assert_eq!(heard, expected.concat());
        } else {
            assert!(seq_ids(&task).into_iter().eq(1..=11));
            let end = Told::End("11-end".to_owned());
            assert_eq!(heard, [entries(1..=11), vec![end]].concat(), "what is lost elsewhere");
        }
    }
    ready(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_begins_and_waits_during_a_failover_ends_well() {
    let (mut cluster, server) = scene().await;
    let server = Arc::new(server);
    let waiting: Vec<_> = (0..4)
        .map(|worker| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let body = json!({ "taskTypes": ["late"], "workerId": format!("w{worker}"), "waitSeconds": 15 });
                server.post_at(worker % 2, "/tasks/claim", body).await.ok()
            })
        })
        .collect();
    cluster.kill(0);
    for _ in 0..4 {
        server.registered("late").await;
    }
    for (worker, claim) in waiting.into_iter().enumerate() {
        let task = claim.await.expect("an answer");
        let id = task["id"].as_str().expect("a task for each worker").to_owned();
        let by = json!({ "workerId": format!("w{worker}"), "progress": {} });
        let path = format!("/tasks/{id}/progress");
        let reply = insisted(async || server.post(&path, by.clone()).await).await;
        // Whoever began before the loss was noticed may have said something that is lost.
        assert!([1, 10_001].contains(&reply["seqId"].as_u64().expect("a number")), "{reply}");
        let by = json!({ "workerId": format!("w{worker}") });
        let path = format!("/tasks/{id}/complete");
        insisted(async || server.post(&path, by.clone()).await).await;
        assert_eq!(server.task(&id).await["status"], "completed");
    }
}
