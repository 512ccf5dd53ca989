//! Why a task stands where it stands; who asks for work.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::{by, instant};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Server, eventually};

async fn why(server: &Server, id: &str) -> Value {
    server.get(&format!("/tasks/{id}/why")).await.ok()
}

#[track_caller]
fn says(why: &Value, code: &str, words: &[&str]) {
    let explanation = why["explanation"].as_str().expect("words");
    assert_eq!(why["code"], code, "{explanation}");
    for word in words {
        assert!(explanation.contains(word), "{word:?} in {explanation:?}");
    }
}

async fn claimed(server: &Server, worker: &str, types: &[&str]) -> Value {
    let body = json!({ "taskTypes": types, "workerId": worker, "leaseSeconds": 60 });
    server.post("/tasks/claim", body).await.ok()
}

/// Has every node write down who asked for work.
async fn written_down(server: &Server) {
    for node in &server.nodes {
        node.tracker().call_roll().await.expect("a round");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_says_for_what(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let first = server.registered("t").await;
    let second = server.registered("t").await;
    let reason = why(&server, &first).await;
    says(&reason, "no_worker", &["no worker has asked", "t in the last week"]);
    assert_eq!((&reason["ahead"], &reason["typePolledAt"]), (&json!(0), &Value::Null));

    assert_eq!(claimed(&server, "w-1", &["t"]).await["id"], json!(first));
    written_down(&server).await;
    let third = server.registered("t").await;
    says(&why(&server, &second).await, "next", &["next worker", "w-1"]);
    let reason = why(&server, &third).await;
    says(&reason, "workers_busy", &["behind 1 older", "w-1"]);
    assert_eq!((&reason["ahead"], &reason["typePolledBy"]), (&json!(1), &json!("w-1")));
    server.clock.advance(Duration::from_hours(3));
    says(&why(&server, &third).await, "no_worker", &["for 3h", "w-1"]);
    server.clock.advance(Duration::from_hours(24));
    says(&why(&server, &third).await, "overdue", &["next sweep"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_in_progress_says_who_has_it_and_for_how_long(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let body = json!({ "taskType": "t", "stallSeconds": 20, "timeoutSeconds": 3600 });
    server.post("/tasks", body).await.ok();
    let claim = claimed(&server, "w-1", &["t"]).await;
    let id = claim["id"].as_str().unwrap();
    let reason = why(&server, id).await;
    says(&reason, "running", &["w-1 has it", "another worker gets it", "deadline"]);
    assert_eq!(reason["leaseExpiresAt"], claim["leaseExpiresAt"]);
    assert_eq!((&reason["lastProgressAt"], &reason["ahead"]), (&Value::Null, &Value::Null));

    server.clock.advance(Duration::from_secs(15));
    server.progressed(id, json!({ "percent": 1 })).await;
    let reason = why(&server, id).await;
    assert_eq!(reason["latestProgress"], json!({ "seqId": 1, "percent": 1 }));
    let renewed = instant(&reason["lastProgressAt"]).plus(Duration::from_mins(1));
    assert_eq!(instant(&reason["leaseExpiresAt"]), renewed);

    server.clock.advance(Duration::from_secs(21));
    for node in &server.nodes {
        node.tracker().find_stalls().await.expect("a round");
    }
    says(&why(&server, id).await, "stalled", &["no progress"]);
    server.post(&format!("/tasks/{id}/cancel"), json!({})).await.ok();
    let reason = why(&server, id).await;
    says(&reason, "cancel_requested", &["asked to end", "cut off in"]);
    assert_eq!(reason["cancelRequested"], true);
    server.clock.advance(Duration::from_hours(1));
    says(&why(&server, id).await, "overdue", &["deadline has passed"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_is_told_before_and_after(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let body = json!({ "taskType": "t", "maxAttempts": 2 });
    server.post("/tasks", body).await.ok();
    let claim = claimed(&server, "w-1", &["t"]).await;
    let id = claim["id"].as_str().unwrap();
    server.clock.advance(Duration::from_secs(61));
    says(&why(&server, id).await, "lease_expired", &["last heard 1m", "next sweep"]);
    let expired = async || server.nodes[0].tracker().expire_leases().await.expect("a round");
    assert_eq!(expired().await, 1);
    written_down(&server).await;
    says(&why(&server, id).await, "next", &["lost once", "may be lost twice"]);
    claimed(&server, "w-2", &["t"]).await;
    server.clock.advance(Duration::from_secs(61));
    assert_eq!(expired().await, 1);
    says(&why(&server, id).await, "lease_exhausted", &["lost twice", "w-2"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_has_ended_says_how(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let error = json!({ "workerId": "worker-1", "error": { "message": "the disk is full" } });
    for (word, body, code, words) in [
        ("complete", by("worker-1"), "completed", "done"),
        ("fail", error, "failed", "the disk is full"),
        ("timeout", json!({}), "timed_out", "24h"),
        ("cancel", json!({ "force": true, "reason": "no \"use\"" }), "cancelled", "no \"use\""),
    ] {
        let id = server.started("t").await;
        server.progressed(&id, json!({ "percent": 1 })).await;
        server.post(&format!("/tasks/{id}/{word}"), body).await.ok();
        let reason = why(&server, &id).await;
        says(&reason, code, &[words, "worker-1"]);
        assert_eq!(reason["latestProgress"]["seqId"], 1, "{reason}");
        assert_eq!(reason["leaseExpiresAt"], Value::Null);
    }
    server.get("/tasks/nobody/why").await.problem(404, "task_not_found");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_with_what_they_ask_for_and_hold(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    assert_eq!(server.get("/workers").await.ok(), json!({ "items": [], "nextCursor": null }));
    let id = server.registered("a").await;
    claimed(&server, "w-1", &["b", "a"]).await;
    for worker in ["w-3", "w-2"] {
        assert_eq!(claimed(&server, worker, &["c"]).await, Value::Null);
    }
    written_down(&server).await;
    let page = server.get("/workers?limit=2").await.ok();
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items").iter();
        items.map(|item| item["workerId"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(
        (names(&page), &page["nextCursor"]),
        (vec!["w-1".into(), "w-2".into()], &json!("w-2"))
    );
    let first = &page["items"][0];
    assert_eq!(first["taskTypes"], json!(["a", "b"]));
    assert_eq!(first["holds"][0]["taskId"], json!(id));
    assert_eq!(page["items"][1]["holds"], json!([]));
    let rest = server.get("/workers?limit=2&cursor=w-2").await.ok();
    assert_eq!((names(&rest), &rest["nextCursor"]), (vec!["w-3".into()], &Value::Null));

    server.post(&format!("/tasks/{id}/complete"), by("w-1")).await.ok();
    assert_eq!(server.get("/workers?limit=1").await.ok()["items"][0]["holds"], json!([]));
    server.clock.advance(Duration::from_hours(8 * 24));
    written_down(&server).await;
    assert_eq!(server.get("/workers").await.ok()["items"], json!([]), "forgotten after a week");
    for wrong in ["?limit=0", "?limit=101", "?limit=x", "?cursor="] {
        server.get(&format!("/workers{wrong}")).await.problem(422, "validation_failed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_is_seen_without_being_asked_for(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let body = json!({ "taskTypes": ["t"], "workerId": "w-1", "waitSeconds": 20 });
    let claim = server.post("/tasks/claim", body);
    let seen = async {
        eventually(|| async {
            let items = server.get("/workers").await.ok()["items"].clone();
            (items[0]["workerId"] == "w-1").then_some(())
        })
        .await;
        server.registered("t").await
    };
    let (claim, id) = tokio::join!(claim, seen);
    assert_eq!(claim.ok()["id"], json!(id));
}
