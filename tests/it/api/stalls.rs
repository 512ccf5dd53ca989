//! A worker that is alive and gets nowhere.

use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, is_whole};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::Server;

/// Registers and starts a task that is to report every minute.
async fn started(server: &Server) -> String {
    let body = json!({ "taskType": "t", "stallSeconds": 60 });
    let task = server.post("/tasks", body).await.ok();
    let id = task["taskId"].as_str().expect("an id").to_owned();
    server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
    id
}

/// Lets time pass and has every node look for stalls.
async fn pass(server: &Server, seconds: u64) -> u64 {
    server.clock.advance(Duration::from_secs(seconds));
    let rounds = server.nodes.iter().map(|node| node.tracker().find_stalls());
    join_all(rounds).await.into_iter().map(|round| round.expect("a round")).sum()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_progress_is_flagged_and_goes_on(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = started(&server).await;
    let mut stream = server.track(&id, "").await;
    stream.opened().await;
    assert_eq!(pass(&server, 59).await, 0);
    // A sign of life is no progress.
    server.post(&format!("/tasks/{id}/heartbeat"), by("worker-1")).await.ok();
    assert_eq!(pass(&server, 2).await, 1);
    assert_eq!(pass(&server, 600).await, 0, "flagged once");
    let task = server.task(&id).await;
    assert_eq!(task["status"], "in_progress", "a stall is no death");
    assert!(task["stalledAt"].is_string(), "{task}");
    let told = stream.next().await.expect("a notice");
    assert_eq!((told.event.as_str(), told.id), ("stalled", None));
    assert!(told.data["data"]["since"].is_string());

    server.progressed(&id, json!({ "percent": 1 })).await;
    assert_eq!(server.task(&id).await["stalledAt"], Value::Null);
    assert_eq!(stream.next().await.expect("a notice").event, "recovered");
    // And it is looked for anew.
    assert_eq!(pass(&server, 30).await, 0);
    server.progressed(&id, json!({ "percent": 2 })).await;
    assert_eq!(pass(&server, 40).await, 0, "it reported in between");
    assert_eq!(pass(&server, 30).await, 1);
    server.completed(&id).await.ok();
    is_whole(&stream.rest().await, 0, 2, "completed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_need_not_report_does_not_stall(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    assert_eq!(pass(&server, 80_000).await, 0);
    assert_eq!(server.task(&id).await["stalledAt"], Value::Null);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_task_that_is_given_back_begins_anew(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = started(&server).await;
    assert_eq!(pass(&server, 61).await, 1);
    server.post(&format!("/tasks/{id}/release"), by("worker-1")).await.ok();
    assert_eq!(server.task(&id).await["stalledAt"], Value::Null);
    let claim = json!({ "taskTypes": ["t"], "workerId": "worker-2" });
    server.post("/tasks/claim", claim).await.ok();
    assert_eq!(pass(&server, 59).await, 0, "counted from the claim");
    assert_eq!(pass(&server, 2).await, 1);
}
