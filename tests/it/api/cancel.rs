//! Ending a task before it is done.

use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, instant, is_whole, one_wins};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Server, seq_ids};

async fn cancelled(server: &Server, id: &str, body: Value) -> Value {
    server.post(&format!("/tasks/{id}/cancel"), body).await.ok()
}

/// Has every node cut off whoever had its time.
async fn cut_off(server: &Server) -> u64 {
    let rounds = server.nodes.iter().map(|node| node.tracker().cut_off());
    join_all(rounds).await.into_iter().map(|round| round.expect("a round")).sum()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_ends_at_once(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let stream = server.track(&id, "").await;
    let answer = cancelled(&server, &id, json!({ "reason": "no \"longer\" wanted" })).await;
    assert_eq!((&answer["status"], &answer["cancelDeadline"]), (&json!("cancelled"), &Value::Null));
    let task = server.task(&id).await;
    assert_eq!(
        (&task["status"], &task["cancelReason"]),
        (&json!("cancelled"), &json!("no \"longer\" wanted"))
    );
    assert_eq!(task["completedAt"], answer["updatedAt"]);
    let events = stream.rest().await;
    is_whole(&events, 0, 0, "cancelled");
    assert_eq!(events[0].data["data"]["reason"], "no \"longer\" wanted");
    let claim = json!({ "taskTypes": ["t"], "workerId": "w" });
    assert_eq!(server.post("/tasks/claim", claim).await.ok(), Value::Null, "nobody gets it");
    let again = server.post(&format!("/tasks/{id}/cancel"), json!({})).await;
    assert_eq!(again.problem(409, "invalid_transition")["from"], "cancelled");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_told_with_its_next_answer_and_may_finish(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let entry = json!({ "progress": { "percent": 1 } });
    let path = format!("/tasks/{id}/progress");
    assert_eq!(server.post(&path, entry.clone()).await.ok()["cancelRequested"], false);
    let mut stream = server.track(&id, "").await;
    stream.take(1).await;

    let answer = cancelled(&server, &id, json!({ "reason": "stop" })).await;
    assert_eq!(
        (&answer["status"], &answer["cancelRequested"]),
        (&json!("in_progress"), &json!(true))
    );
    let grace = instant(&answer["serverTime"]).plus(Duration::from_secs(30));
    assert!(instant(&answer["cancelDeadline"]) <= grace);
    let told = stream.next().await.expect("a notice");
    assert_eq!((told.event.as_str(), told.id.as_ref()), ("cancel_requested", None));
    assert_eq!(
        told.data["data"],
        json!({ "reason": "stop", "deadline": answer["cancelDeadline"] })
    );

    // Told by whatever it says next, and by each.
    assert_eq!(server.post(&path, entry.clone()).await.ok()["cancelRequested"], true);
    let beat = server.post(&format!("/tasks/{id}/heartbeat"), by("worker-1")).await.ok();
    assert_eq!(beat["cancelRequested"], true);
    assert_eq!(server.post(&path, entry).await.ok()["cancelRequested"], true);
    server.completed(&id).await.ok();
    let task = server.task(&id).await;
    assert_eq!((&task["status"], seq_ids(&task)), (&json!("completed"), vec![1, 2, 3]));
    is_whole(&stream.rest().await, 1, 3, "completed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_acknowledges_by_cancelling_or_releasing_in_its_own_name(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for word in ["cancel", "release"] {
        let id = server.started("t").await;
        server.progressed(&id, json!({ "percent": 1 })).await;
        cancelled(&server, &id, json!({ "reason": "stop" })).await;
        let path = format!("/tasks/{id}/{word}");
        server.post(&path, by("worker-2")).await.problem(403, "not_the_worker");
        let answer = server.post(&path, by("worker-1")).await.ok();
        assert_eq!(answer["status"], "cancelled", "{word}");
        let task = server.task(&id).await;
        let said = (&task["status"], &task["cancelReason"], seq_ids(&task));
        assert_eq!(said, (&json!("cancelled"), &json!("stop"), vec![1]), "{word}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_neither_is_cut_off_after_the_grace(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.progressed(&id, json!({ "percent": 1 })).await;
    let stream = server.track(&id, "").await;
    cancelled(&server, &id, json!({ "graceSeconds": 5, "reason": "now" })).await;
    // Asking again can only shorten it.
    let again = cancelled(&server, &id, json!({ "graceSeconds": 500 })).await;
    server.clock.advance(Duration::from_secs(4));
    assert_eq!(cut_off(&server).await, 0);
    server.clock.advance(Duration::from_secs(2));
    assert_eq!(cut_off(&server).await, 1);
    assert_eq!(cut_off(&server).await, 0);
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["cancelReason"]), (&json!("cancelled"), &json!("now")));
    assert_eq!(task["cancelDeadline"], again["cancelDeadline"]);
    is_whole(&stream.rest().await, 0, 1, "cancelled");
    let late = server.post(&format!("/tasks/{id}/complete"), by("worker-1")).await;
    assert_eq!(late.problem(409, "invalid_transition")["from"], "cancelled");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn force_gives_no_time(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.progressed(&id, json!({ "percent": 1 })).await;
    let stream = server.track(&id, "").await;
    let answer = cancelled(&server, &id, json!({ "force": true })).await;
    assert_eq!(answer["status"], "cancelled");
    is_whole(&stream.rest().await, 0, 1, "cancelled");
    let late = server.post(&format!("/tasks/{id}/progress"), json!({ "progress": {} })).await;
    assert_eq!(late.problem(409, "invalid_transition")["from"], "cancelled");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_worker_of_a_cancelled_task_is_not_waited_for(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let lease = json!({ "workerId": "worker-1", "leaseSeconds": 10 });
    server.post(&format!("/tasks/{id}/start"), lease).await.ok();
    cancelled(&server, &id, json!({ "graceSeconds": 3600 })).await;
    server.clock.advance(Duration::from_secs(11));
    for node in &server.nodes {
        node.tracker().expire_leases().await.expect("a round");
    }
    assert_eq!(server.task(&id).await["status"], "cancelled", "and nobody else gets it");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_can_be_retried_once(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    cancelled(&server, &id, json!({})).await;
    let retry = server.post_nothing(&format!("/tasks/{id}/retry")).await.ok();
    assert_eq!((&retry["originalTaskId"], &retry["retryCount"]), (&json!(id), &json!(1)));
    let child = server.task(retry["newTaskId"].as_str().unwrap()).await;
    assert_eq!((&child["status"], &child["cancelReason"]), (&json!("pending"), &Value::Null));
    assert_eq!(server.post_nothing(&format!("/tasks/{id}/retry")).await.status, 409);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_cancel_a_waiting_task_one_does(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let path = format!("/tasks/{id}/cancel");
    let replies = join_all((0..10).map(|_| server.post(&path, json!({})))).await;
    one_wins(&replies, 200, "cancelled", "cancel");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_a_cancellation_and_a_claim_both_are_told_the_truth(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for _ in 0..20 {
        let id = server.registered("t").await;
        let claim = json!({ "taskTypes": ["t"], "workerId": "w" });
        let path = format!("/tasks/{id}/cancel");
        let (claimed, answer) =
            tokio::join!(server.post("/tasks/claim", claim), server.post(&path, json!({})));
        let (claimed, answer) = (claimed.ok(), answer.ok());
        let status = server.task(&id).await["status"].clone();
        assert_eq!(answer["status"], status);
        if claimed.is_null() {
            assert_eq!(status, "cancelled");
        } else {
            assert_eq!((&claimed["id"], &status), (&json!(id), &json!("in_progress")));
            let answer = server.post(&path, by("w")).await.ok();
            assert_eq!(answer["status"], "cancelled");
        }
    }
}

#[rstest]
#[case::a_long_reason(json!({ "reason": "x".repeat(1001) }), "reason")]
#[case::no_reason(json!({ "reason": "" }), "reason")]
#[case::a_null_character(json!({ "reason": "a\u{0}b" }), "reason")]
#[case::a_negative_grace(json!({ "graceSeconds": -1 }), "graceSeconds")]
#[case::no_flag(json!({ "force": "yes" }), "force")]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_cancellation_is_refused(#[case] body: Value, #[case] path: &str) {
    let server = Server::start(Embedded).await;
    let id = server.started("t").await;
    let reply = server.post(&format!("/tasks/{id}/cancel"), body).await;
    assert_eq!(reply.problem(422, "validation_failed")["errors"][0]["path"], path);
    assert_eq!(server.task(&id).await["cancelRequestedAt"], Value::Null);
    server.post("/tasks/nobody/cancel", json!({})).await.problem(404, "task_not_found");
}
