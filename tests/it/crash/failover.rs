//! A master of a cluster that dies, and the replica that takes its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use super::assert_whole;
use crate::contract::own_cluster::Cluster;
use crate::harness::{Ground, Mode, Reply, Server, eventually, seq_ids};

/// How long a failover may take that a client waits for: a master is dead after two silent seconds.
const FAILOVER: Duration = Duration::from_mins(1);

/// Two nodes on a cluster of the test's own, whose first master has a replica.
async fn scene() -> (Cluster, Server) {
    let cluster = Cluster::with_replica(3).await;
    let ground = Ground::new(Mode::Cluster).await.on_redis(cluster.url());
    let server = Server::start_on(ground, |config| config).await;
    ready(&server).await;
    (cluster, server)
}

async fn ready(server: &Server) {
    for node in 0..server.nodes.len() {
        eventually(async || {
            let ready = server.client().get(server.root_at(node, "/readyz"));
            (server.send(ready).await.status == 200).then_some(())
        })
        .await;
    }
}

/// Repeats what is refused because a server is away, as a client does that is told to come again.
async fn insisted(ask: impl AsyncFn() -> Reply) -> Value {
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

async fn appended(server: &Server, id: &str, percent: u64) -> u64 {
    let body = json!({ "progress": { "percent": percent }, "workerId": "worker-1" });
    let path = format!("/tasks/{id}/progress");
    let reply = insisted(async || server.post(&path, body.clone()).await).await;
    reply["seqId"].as_u64().expect("a number")
}

/// Tasks in progress, by the master that has their logs: two for each.
async fn tasks(cluster: &Cluster, server: &Server) -> [Vec<String>; 3] {
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
    // The others are refused until the replica has taken over, and go on counting where they were.
    join_all(of[0].iter().map(async |id| {
        for percent in 11..=20 {
            assert_eq!(appended(&server, id, percent).await, percent);
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
        let last = if of[0].contains(id) { 20 } else { 11 };
        assert!(seq_ids(&task).into_iter().eq(1..=last));
        assert_whole(&events.rest().await, last);
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
        assert_eq!(reply["seqId"], 1);
        let by = json!({ "workerId": format!("w{worker}") });
        let path = format!("/tasks/{id}/complete");
        insisted(async || server.post(&path, by.clone()).await).await;
        assert_eq!(server.task(&id).await["status"], "completed");
    }
}
