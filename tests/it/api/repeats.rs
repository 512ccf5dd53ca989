//! Workers that did not hear the answer and ask again under the same key.

use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::by;
use super::idempotency::{is_repeated, post_keyed};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server, seq_ids};

const DAY: Duration = Duration::from_hours(24);

async fn append(server: &Server, id: &str, key: &str, body: &Value) -> Reply {
    post_keyed(server, &format!("/tasks/{id}/progress"), key, body).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_sent_again_is_in_the_history_once(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    // The very first entry, too, for which the fence is not open yet.
    let one = json!({ "progress": { "percent": 1 }, "workerId": "worker-1" });
    let many = json!({ "entries": [{ "percent": 2 }, { "percent": 3 }] });
    let first = append(&server, &id, "one", &one).await;
    assert_eq!(first.ok()["seqId"], 1);
    let second = append(&server, &id, "\"many\"", &many).await;
    assert_eq!((&second.ok()["seqId"], &second.ok()["count"]), (&json!(3), &json!(2)));
    for _ in 0..2 {
        is_repeated(&first, &append(&server, &id, "one", &one).await);
        is_repeated(&second, &append(&server, &id, "many", &many).await);
    }
    append(&server, &id, "one", &many).await.problem(422, "idempotency_key_reused");
    let twins = join_all((0..20).map(|_| append(&server, &id, "twins", &one))).await;
    assert!(twins.iter().all(|reply| reply.ok()["seqId"] == 4), "{twins:?}");
    let done = twins.iter().filter(|reply| reply.header("idempotency-replayed").is_empty());
    assert_eq!(done.count(), 1);
    let other = server.started("t").await;
    assert_eq!(append(&server, &other, "one", &one).await.ok()["seqId"], 1, "another task");
    assert_eq!(seq_ids(&server.task(&id).await), [1, 2, 3, 4]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_acknowledged_again_whatever_became_of_its_task(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let entry = json!({ "progress": { "percent": 1 }, "workerId": "worker-1" });
    let first = append(&server, &id, "k", &entry).await;
    let again = async || is_repeated(&first, &append(&server, &id, "k", &entry).await);
    // Given back; with another worker, who reports; ended.
    server.post(&format!("/tasks/{id}/release"), by("worker-1")).await.ok();
    again().await;
    server.post(&format!("/tasks/{id}/start"), by("worker-2")).await.ok();
    again().await;
    let theirs = json!({ "progress": { "percent": 2 }, "workerId": "worker-2" });
    append(&server, &id, "theirs", &theirs).await.ok();
    again().await;
    append(&server, &id, "new", &entry).await.problem(403, "not_the_worker");
    server.post(&format!("/tasks/{id}/complete"), by("worker-2")).await.ok();
    again().await;
    append(&server, &id, "new", &entry).await.problem(409, "invalid_transition");
    append(&server, &id, "k", &theirs).await.problem(422, "idempotency_key_reused");
    is_repeated(&first, &append(&server, &id, "k", &entry).await);
    assert_eq!(seq_ids(&server.task(&id).await), [1, 2]);
    // A day after it was acknowledged, not after the end.
    server.clock.advance(DAY);
    append(&server, &id, "k", &entry).await.problem(409, "invalid_transition");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_acknowledgements_move_with_the_history(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let entry = |n: usize| json!({ "progress": { "n": n } });
    let mut first = Vec::new();
    for n in 0..30 {
        first.push(append(&server, &id, &format!("key-{n}"), &entry(n)).await);
    }
    server.clock.advance(DAY / 2);
    first.push(append(&server, &id, "key-30", &entry(30)).await);
    server.post(&format!("/tasks/{id}/timeout"), json!({})).await.ok();
    for (n, first) in first.iter().enumerate() {
        is_repeated(first, &append(&server, &id, &format!("key-{n}"), &entry(n)).await);
    }
    server.clock.advance(DAY / 2);
    append(&server, &id, "key-0", &entry(0)).await.problem(409, "invalid_transition");
    is_repeated(&first[30], &append(&server, &id, "key-30", &entry(30)).await);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_change_that_is_sent_again_is_answered_the_same(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let result = json!({ "workerId": "worker-1", "result": { "rows": 42 } });
    let error = json!({ "workerId": "worker-1", "error": { "message": "no" } });
    for (end, body) in [("complete", &result), ("fail", &error), ("timeout", &by("worker-1"))] {
        let id = server.registered("t").await;
        let path = |word: &str| format!("/tasks/{id}/{word}");
        let mut said = Vec::new();
        // One key for all: each route has keys of its own.
        for (word, body) in [("start", &by("worker-1")), ("release", &by("worker-1"))] {
            said.push((word, body.clone(), post_keyed(&server, &path(word), "k", body).await));
        }
        server.post(&path("start"), by("worker-1")).await.ok();
        server.progressed(&id, json!({})).await;
        said.push((end, body.clone(), post_keyed(&server, &path(end), "k", body).await));
        for (word, body, first) in &said {
            assert_eq!(first.status, 200, "{word} {}", first.text);
            is_repeated(first, &post_keyed(&server, &path(word), "k", body).await);
            let other = json!({ "workerId": "worker-2" });
            let reused = post_keyed(&server, &path(word), "k", &other).await;
            reused.problem(422, "idempotency_key_reused");
            post_keyed(&server, &path(word), "l", body).await.problem(409, "invalid_transition");
            server.post(&path(word), body.clone()).await.problem(409, "invalid_transition");
        }
        let task = server.task(&id).await;
        assert_eq!((&task["result"], &task["error"]), (&body["result"], &body["error"]));
        assert_eq!(seq_ids(&task), [1]);
    }
    let nobody = post_keyed(&server, "/tasks/nobody/complete", "k", &json!({})).await;
    nobody.problem(404, "task_not_found");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_twins_that_finish_at_once_all_hear_that_it_is_done(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.progressed(&id, json!({})).await;
    let path = format!("/tasks/{id}/complete");
    let body = by("worker-1");
    let twins = join_all((0..20).map(|_| post_keyed(&server, &path, "k", &body))).await;
    assert!(
        twins.iter().all(|reply| reply.status == 200 && reply.text == twins[0].text),
        "{twins:?}"
    );
    let done = twins.iter().filter(|reply| reply.header("idempotency-replayed").is_empty());
    assert_eq!(done.count(), 1);
    // A finish that was refused may be made under the same key when its reason has passed.
    let waiting = server.registered("t").await;
    let path = format!("/tasks/{waiting}/complete");
    post_keyed(&server, &path, "k", &body).await.problem(409, "invalid_transition");
    server.post(&format!("/tasks/{waiting}/start"), by("worker-1")).await.ok();
    assert_eq!(post_keyed(&server, &path, "k", &body).await.ok()["status"], "completed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_lease_hears_again_what_it_was_told(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let path = |word: &str| format!("/tasks/{id}/{word}");
    let start = json!({ "workerId": "worker-1", "leaseSeconds": 60 });
    let started = post_keyed(&server, &path("start"), "k", &start).await;
    let token = started.ok()["leaseToken"].clone();
    assert!(token.is_string(), "{}", started.text);
    is_repeated(&started, &post_keyed(&server, &path("start"), "k", &start).await);
    let entry = json!({ "progress": { "percent": 1 }, "leaseToken": token });
    let told = append(&server, &id, "k", &entry).await;
    assert!(told.ok()["leaseExpiresAt"].is_string(), "{}", told.text);
    server.post(&path("cancel"), json!({ "reason": "enough" })).await.ok();
    let warned = append(&server, &id, "warned", &entry).await;
    assert_eq!(warned.ok()["cancelRequested"], true);
    let release = json!({ "workerId": "worker-1", "leaseToken": token });
    let released = post_keyed(&server, &path("release"), "k", &release).await;
    assert_eq!(released.ok()["status"], "cancelled");
    // The attempt is over, and so is the task: what it did is acknowledged all the same.
    is_repeated(&told, &append(&server, &id, "k", &entry).await);
    is_repeated(&warned, &append(&server, &id, "warned", &entry).await);
    is_repeated(&released, &post_keyed(&server, &path("release"), "k", &release).await);
    is_repeated(&started, &post_keyed(&server, &path("start"), "k", &start).await);
    assert_eq!(seq_ids(&server.task(&id).await), [1, 2]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn lines_have_no_key(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let request = server
        .client()
        .post(server.api(&format!("/tasks/{id}/progress")))
        .header("content-type", "application/x-ndjson")
        .header("idempotency-key", "k")
        .body("{}\n{}\n");
    let problem = server.send(request).await.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["path"], "Idempotency-Key");
    assert_eq!(server.task(&id).await["progressHistory"], json!([]));
}
