//! A worker that falls silent, and one that comes back too late.

use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, instant, is_whole};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Server, seq_ids};

/// Registers a task that may be lost so often.
async fn registered(server: &Server, max_attempts: u32) -> String {
    let body = json!({ "taskType": "t", "maxAttempts": max_attempts });
    let task = server.post("/tasks", body).await.ok();
    task["taskId"].as_str().expect("an id").to_owned()
}

/// Claims a task of type `t` for a minute.
async fn claimed(server: &Server, worker: &str) -> Value {
    let body = json!({ "taskTypes": ["t"], "workerId": worker, "leaseSeconds": 60 });
    server.post("/tasks/claim", body).await.ok()
}

/// A call of the worker that has `claim`.
fn as_in(claim: &Value) -> Value {
    json!({ "workerId": claim["workerId"], "leaseToken": claim["leaseToken"] })
}

/// Has every node look for leases that ran out.
async fn expired(server: &Server) -> u64 {
    let rounds = server.nodes.iter().map(|node| node.tracker().expire_leases());
    join_all(rounds).await.into_iter().map(|round| round.expect("a round")).sum()
}

async fn pass(server: &Server, seconds: u64) -> u64 {
    server.clock.advance(Duration::from_secs(seconds));
    expired(server).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_tells_its_worker_alone_what_it_holds(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = registered(&server, 3).await;
    let claim = claimed(&server, "w").await;
    assert_eq!((&claim["id"], &claim["attempt"]), (&json!(id), &json!(1)));
    assert_eq!((&claim["leaseSeconds"], &claim["cancelRequested"]), (&json!(60), &json!(false)));
    assert!(claim["leaseToken"].as_str().is_some_and(|token| token.len() >= 32), "{claim}");
    let (now, until) = (instant(&claim["serverTime"]), instant(&claim["leaseExpiresAt"]));
    assert!(until <= now.plus(Duration::from_mins(1)) && until > now, "{claim}");

    let task = server.task(&id).await;
    assert_eq!((&task["attempt"], &task["leaseSeconds"]), (&json!(1), &json!(60)));
    assert_eq!(task["leaseExpiresAt"], claim["leaseExpiresAt"]);
    let listed = server.get("/tasks").await;
    for text in [task.to_string(), listed.text] {
        assert!(!text.contains(claim["leaseToken"].as_str().unwrap()), "a secret: {text}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_a_lease_waits_for_its_deadline(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    registered(&server, 1).await;
    let body = json!({ "taskTypes": ["t"], "workerId": "w" });
    let claim = server.post("/tasks/claim", body).await.ok();
    assert_eq!((&claim["leaseSeconds"], &claim["leaseExpiresAt"]), (&Value::Null, &Value::Null));
    assert!(claim["leaseToken"].is_string(), "it fences all the same");
    assert_eq!(pass(&server, 80_000).await, 0);
    let id = claim["id"].as_str().unwrap();
    assert_eq!(server.task(id).await["status"], "in_progress");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_runs_out_gives_the_task_to_the_next_worker(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = registered(&server, 3).await;
    let first = claimed(&server, "w").await;
    let mut entry = as_in(&first);
    entry["progress"] = json!({ "by": "first" });
    server.post(&format!("/tasks/{id}/progress"), entry.clone()).await.ok();
    let mut stream = server.track(&id, "").await;
    stream.opened().await;
    assert_eq!(pass(&server, 59).await, 0, "not before its time");
    assert_eq!(pass(&server, 2).await, 1);
    assert_eq!(expired(&server).await, 0, "once");
    let task = server.task(&id).await;
    let nobody = (&task["status"], &task["workerId"], &task["leaseExpiresAt"]);
    assert_eq!(nobody, (&json!("pending"), &Value::Null, &Value::Null));
    assert_eq!(task["lostAttempts"], 1);

    // The same name again, as replicas have it: the token tells them apart.
    let second = claimed(&server, "w").await;
    assert_eq!((&second["id"], &second["attempt"]), (&json!(id), &json!(2)));
    assert_eq!(seq_ids(&second), [1], "its progress is kept");
    assert_ne!(first["leaseToken"], second["leaseToken"]);
    let before = server.task(&id).await;
    server.post(&format!("/tasks/{id}/progress"), entry.clone()).await.problem(409, "lease_lost");
    for word in ["complete", "fail", "release", "heartbeat", "cancel"] {
        let late = server.post(&format!("/tasks/{id}/{word}"), as_in(&first)).await;
        late.problem(409, "lease_lost");
    }
    assert_eq!(server.task(&id).await, before, "a late zombie changes nothing");

    entry["leaseToken"] = second["leaseToken"].clone();
    let answer = server.post(&format!("/tasks/{id}/progress"), entry.clone()).await.ok();
    assert_eq!(answer["seqId"], 2, "it goes on counting");
    server.post(&format!("/tasks/{id}/complete"), as_in(&second)).await.ok();
    let events = stream.rest().await;
    is_whole(&events, 0, 2, "completed");
    // Also after the end the zombie hears that it is one, and the worker that it ended.
    let path = format!("/tasks/{id}/complete");
    server.post(&path, as_in(&first)).await.problem(409, "lease_lost");
    server.post(&path, as_in(&second)).await.problem(409, "invalid_transition");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_renews_and_may_change_the_length(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = registered(&server, 3).await;
    let claim = claimed(&server, "w").await;
    let path = format!("/tasks/{id}/heartbeat");
    for _ in 0..3 {
        assert_eq!(pass(&server, 50).await, 0);
        let answer = server.post(&path, as_in(&claim)).await.ok();
        let until = instant(&answer["serverTime"]).plus(Duration::from_mins(1));
        assert!(instant(&answer["leaseExpiresAt"]) <= until);
        assert_eq!(answer["cancelRequested"], false);
    }
    // The entry opens the log; the new length must reach the answers all the same.
    server.progressed(&id, json!({})).await;
    let mut longer = as_in(&claim);
    longer["leaseSeconds"] = json!(600);
    server.post(&path, longer).await.ok();
    let answer =
        server.post(&format!("/tasks/{id}/progress"), json!({ "progress": {} })).await.ok();
    let until = instant(&answer["timestamp"]).plus(Duration::from_mins(10));
    assert_eq!(instant(&answer["leaseExpiresAt"]), until);
    assert_eq!(pass(&server, 599).await, 0);
    assert_eq!(server.task(&id).await["leaseSeconds"], 600);
    assert_eq!(pass(&server, 2).await, 1);
    server.post(&path, by("w")).await.problem(409, "invalid_transition");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn progress_renews_the_lease(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = registered(&server, 1).await;
    claimed(&server, "w").await;
    for percent in 0..4 {
        assert_eq!(pass(&server, 50).await, 0, "it reported {percent}");
        let body = json!({ "progress": { "percent": percent } });
        let answer = server.post(&format!("/tasks/{id}/progress"), body).await.ok();
        let until = instant(&answer["timestamp"]).plus(Duration::from_mins(1));
        assert_eq!(instant(&answer["leaseExpiresAt"]), until);
        assert_eq!(server.task(&id).await["leaseExpiresAt"], answer["leaseExpiresAt"]);
    }
    assert_eq!(pass(&server, 61).await, 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_lost_too_often_fails_and_says_why(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = registered(&server, 2).await;
    // Giving it back is no loss.
    for _ in 0..3 {
        claimed(&server, "careful").await;
        server.post(&format!("/tasks/{id}/release"), by("careful")).await.ok();
    }
    claimed(&server, "first").await;
    server.progressed(&id, json!({ "percent": 1 })).await;
    assert_eq!(pass(&server, 61).await, 1);
    let stream = server.track(&id, "").await;
    claimed(&server, "second").await;
    assert_eq!(pass(&server, 61).await, 1);
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["lostAttempts"]), (&json!("failed"), &json!(2)));
    assert_eq!(task["error"]["code"], "lease_expired", "{task}");
    assert_eq!(task["error"]["lastWorkerId"], "second");
    is_whole(&stream.rest().await, 0, 1, "failed");
    let retry = server.post_nothing(&format!("/tasks/{id}/retry")).await.ok();
    let child = server.task(retry["newTaskId"].as_str().unwrap()).await;
    assert_eq!((&child["maxAttempts"], &child["lostAttempts"]), (&json!(2), &json!(0)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_run_out_are_found_without_being_asked_for(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start_with(mode, |config| task_tracker::config::Config {
        sweep_every: Duration::from_millis(50),
        ..config
    })
    .await;
    let id = registered(&server, 3).await;
    claimed(&server, "first").await;
    server.clock.advance(Duration::from_secs(61));
    // A worker that waits gets it.
    let body = json!({ "taskTypes": ["t"], "workerId": "second", "waitSeconds": 20 });
    let claim = server.post("/tasks/claim", body).await.ok();
    assert_eq!((&claim["id"], &claim["attempt"]), (&json!(id), &json!(2)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_a_lease_that_runs_out_and_an_end_that_comes_late_one_wins(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for _ in 0..20 {
        let id = registered(&server, 3).await;
        let claim = claimed(&server, "w").await;
        server.clock.advance(Duration::from_secs(61));
        let path = format!("/tasks/{id}/complete");
        let (swept, reply) = tokio::join!(expired(&server), server.post(&path, as_in(&claim)));
        let status = server.task(&id).await["status"].clone();
        if reply.status == 200 {
            assert_eq!((swept, &status), (0, &json!("completed")));
        } else {
            reply.problem(409, "lease_lost");
            assert_eq!((swept, &status), (1, &json!("pending")));
            server.post(&format!("/tasks/{id}/cancel"), json!({})).await.ok();
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn entries_beside_a_lease_that_runs_out_are_kept_or_refused(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = registered(&server, 100).await;
    let mut kept = 0;
    for _ in 0..10 {
        let claim = claimed(&server, "w").await;
        server.clock.advance(Duration::from_secs(61));
        let mut body = as_in(&claim);
        body["progress"] = json!({});
        let path = format!("/tasks/{id}/progress");
        let appends = join_all((0..5).map(|_| server.post(&path, body.clone())));
        let (_, replies) = tokio::join!(expired(&server), appends);
        let acknowledged = replies.iter().filter(|reply| reply.status == 200).count() as u64;
        kept += acknowledged;
        let task = server.task(&id).await;
        assert_eq!(seq_ids(&task), (1..=kept).collect::<Vec<u64>>());
        if task["status"] == "in_progress" {
            assert!(acknowledged > 0, "only an entry can have renewed it: {task}");
            server.post(&format!("/tasks/{id}/release"), as_in(&claim)).await.ok();
        }
    }
}

#[rstest]
#[case::none(json!({ "leaseSeconds": 0 }), "leaseSeconds")]
#[case::too_long(json!({ "leaseSeconds": 86_401 }), "leaseSeconds")]
#[case::no_number(json!({ "leaseSeconds": "60" }), "leaseSeconds")]
#[case::a_fraction(json!({ "leaseSeconds": 0.5 }), "leaseSeconds")]
#[case::no_token(json!({ "leaseToken": "" }), "leaseToken")]
#[case::a_strange_token(json!({ "leaseToken": "a b" }), "leaseToken")]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_lease_is_refused(#[case] body: Value, #[case] path: &str) {
    let server = Server::start(Embedded).await;
    let id = server.started("t").await;
    let reply = server.post(&format!("/tasks/{id}/heartbeat"), body).await;
    assert_eq!(reply.problem(422, "validation_failed")["errors"][0]["path"], path);
}
