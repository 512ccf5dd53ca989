//! Claims that wait for a task to appear.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::by;
use crate::harness::Mode::{self, Cluster, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

/// Rounds of one kind of wake. Waiting workers also look for themselves every two seconds, so one quick
/// answer proves little; the sum of several does.
const ROUNDS: u32 = 8;
/// What the rounds may take in all. By looking alone they would take about a second each.
const SOON: Duration = Duration::from_millis(3500);

fn waiting(types: &[&str], worker: &str, seconds: f64) -> Value {
    json!({ "taskTypes": types, "workerId": worker, "waitSeconds": seconds })
}

/// Has a worker wait at the first node while `appear` makes a task, and checks that it gets that one.
async fn woken_by(server: &Server, appear: impl AsyncFn(usize) -> String) -> Duration {
    let asked = Instant::now();
    let made = async {
        // Round trips on the same node, so that the claim is there before the task, as a rule.
        for _ in 0..3 {
            server.get_at(0, "/tasks?limit=1").await.ok();
        }
        appear(server.last_node()).await
    };
    let claim = server.post_at(0, "/tasks/claim", waiting(&["t", "u"], "worker-1", 15.0));
    let (claimed, id) = futures::join!(claim, made);
    assert_eq!(claimed.ok()["id"], id);
    asked.elapsed()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_registration_at_another_node_wakes_who_waits(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let mut took = Duration::ZERO;
    for _ in 0..ROUNDS {
        let registered = async |node| {
            let body = json!({ "taskType": "t" });
            let task = server.post_at(node, "/tasks", body).await.ok();
            task["taskId"].as_str().expect("an id").to_owned()
        };
        took += woken_by(&server, registered).await;
    }
    assert!(took < SOON, "{took:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_release_at_another_node_wakes_who_waits(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let mut took = Duration::ZERO;
    for _ in 0..ROUNDS {
        let id = server.started("t").await;
        server.progressed(&id, json!({ "kept": true })).await;
        let released = async |node| {
            server.post_at(node, &format!("/tasks/{id}/release"), by("worker-1")).await.ok();
            id.clone()
        };
        took += woken_by(&server, released).await;
        let history = server.task(&id).await["progressHistory"].clone();
        assert_eq!(history, json!([{ "seqId": 1, "kept": true }]));
    }
    assert!(took < SOON, "{took:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_at_another_node_wakes_who_waits(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let mut took = Duration::ZERO;
    for _ in 0..ROUNDS {
        let id = server.started("u").await;
        server.post(&format!("/tasks/{id}/fail"), by("worker-1")).await.ok();
        let retried = async |node| {
            let path = format!("/tasks/{id}/retry");
            let child = server.post_at(node, &path, json!({})).await.ok();
            child["newTaskId"].as_str().expect("an id").to_owned()
        };
        took += woken_by(&server, retried).await;
    }
    assert!(took < SOON, "{took:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_waiting_workers_get_two_hundred_tasks(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let types = ["a", "b", "c", "d"];
    // First each waits for one type, fifty for each; then all wait for every type.
    for one_type_each in [true, false] {
        let claims = join_all((0..200).map(|n| {
            let wanted = if one_type_each { &types[n % 4..=n % 4] } else { &types[..] };
            let body = waiting(wanted, &format!("worker-{n}"), 15.0);
            server.post_at(n / 4 % server.nodes.len(), "/tasks/claim", body)
        }));
        let registrations = async {
            server.get_at(0, "/tasks?limit=1").await.ok();
            join_all((0..200).map(|n| server.registered(types[n % 4]))).await
        };
        let (claims, ids) = futures::join!(claims, registrations);
        let claimed: Vec<Value> = claims.iter().map(Reply::ok).collect();
        let taken: HashSet<&str> = claimed.iter().filter_map(|task| task["id"].as_str()).collect();
        let missing: Vec<&String> = ids.iter().filter(|id| !taken.contains(id.as_str())).collect();
        assert!(missing.is_empty(), "{} tasks went to nobody", missing.len());
        assert_eq!(taken.len(), 200);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn one_task_goes_to_one_of_those_who_wait(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let claims = join_all((0..20).map(|n| {
        let body = waiting(&["t"], &format!("worker-{n}"), 2.0);
        server.post_at(n % server.nodes.len(), "/tasks/claim", body)
    }));
    let (claims, id) = futures::join!(claims, server.registered("t"));
    let claimed: Vec<Value> = claims.iter().map(Reply::ok).filter(|task| !task.is_null()).collect();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0]["id"], id);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_in_vain_ends_with_null(#[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode) {
    let server = Server::start(mode).await;
    let asked = Instant::now();
    let (vain, other) = futures::join!(
        server.post("/tasks/claim", waiting(&["t"], "w", 1.0)),
        server.registered("another type"),
    );
    assert_eq!((vain.status, vain.text.as_str()), (200, "null"));
    assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(server.task(&other).await["status"], "pending");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_takes_at_once_what_is_there(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let asked = Instant::now();
    let claimed = server.post("/tasks/claim", waiting(&["t"], "w", 60.0)).await.ok();
    assert_eq!(claimed["id"], id);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
