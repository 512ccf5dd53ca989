//! Of many callers at once exactly one wins, and the others hear of it.

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, one_wins};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server, seq_ids};

const CALLERS: usize = 20;

/// Every caller sends its body to the same path, at both nodes.
async fn at_once(server: &Server, path: &str, body: impl Fn(usize) -> Value) -> Vec<Reply> {
    join_all((0..CALLERS).map(|caller| server.post(path, body(caller)))).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_starts_one_wins(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for _ in 0..3 {
        let id = server.registered("t").await;
        let worker = |caller: usize| by(&format!("worker-{caller}"));
        let replies = at_once(&server, &format!("/tasks/{id}/start"), worker).await;
        let winner = one_wins(&replies, 200, "in_progress", "start");
        assert_eq!(server.task(&id).await["workerId"], format!("worker-{winner}"));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_ends_of_one_kind_one_wins(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for (word, status, name) in [
        ("complete", "completed", "result"),
        ("fail", "failed", "error"),
        ("timeout", "timeout", ""),
    ] {
        let id = server.started("t").await;
        let last = server.progressed(&id, json!({})).await;
        let stream = server.track(&id, "").await;
        let body = |caller: usize| match name {
            "" => by("worker-1"),
            name => json!({ "workerId": "worker-1", name: { "caller": caller } }),
        };
        let replies = at_once(&server, &format!("/tasks/{id}/{word}"), body).await;
        let winner = one_wins(&replies, 200, status, word);
        let task = server.task(&id).await;
        assert_eq!((&task["status"], seq_ids(&task)), (&json!(status), vec![last]));
        if !name.is_empty() {
            assert_eq!(task[name], json!({ "caller": winner }), "the winner's word stands");
        }
        let ends = stream.rest().await.into_iter().filter(crate::harness::Event::is_end);
        let ends: Vec<_> = ends.collect();
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0].data["timestamp"], task["completedAt"]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_ends_of_every_kind_one_wins(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for _ in 0..5 {
        let id = server.started("t").await;
        server.progressed(&id, json!({})).await;
        let stream = server.track(&id, "").await;
        let paths =
            ["complete", "fail", "timeout", "release"].map(|word| format!("/tasks/{id}/{word}"));
        let replies =
            join_all((0..CALLERS).map(|caller| server.post(&paths[caller % 4], by("worker-1"))));
        let replies = replies.await;
        // A timeout may come after a release; but a task ends once.
        let ends: Vec<&Reply> = replies
            .iter()
            .filter(|reply| reply.status == 200 && reply.json()["status"] != "pending")
            .collect();
        assert_eq!(ends.len(), 1, "{ends:?}");
        for reply in replies.iter().filter(|reply| reply.status != 200) {
            reply.problem(409, "invalid_transition");
        }
        let task = server.task(&id).await;
        assert_eq!(task["status"], ends[0].json()["status"]);
        assert_eq!(seq_ids(&task), [1]);
        let events = stream.rest().await;
        assert_eq!(events.iter().filter(|event| event.is_end()).count(), 1);
        assert_eq!(events.last().and_then(|end| end.status()), task["status"].as_str());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_releases_one_wins(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let path = format!("/tasks/{id}/release");
    let replies = at_once(&server, &path, |_| by("worker-1")).await;
    one_wins(&replies, 200, "pending", "release");
    assert_eq!(server.task(&id).await["status"], "pending");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_retries_one_makes_the_child(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for (word, status) in [("fail", "failed"), ("timeout", "timeout")] {
        let id = server.started(word).await;
        server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
        let replies = at_once(&server, &format!("/tasks/{id}/retry"), |_| json!({})).await;
        let winner = one_wins(&replies, 201, status, "retry");
        let pending = server.get(&format!("/tasks?taskType={word}&status=pending")).await.ok();
        let children = pending["items"].as_array().expect("items");
        assert_eq!(children.len(), 1);
        assert_eq!(children[0]["id"], replies[winner].json()["newTaskId"]);
    }
}
