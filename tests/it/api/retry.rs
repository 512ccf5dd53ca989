//! Retrying, and the chain it makes.

use rstest::rstest;
use serde_json::{Value, json};

use super::{by, instant, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

async fn retried(server: &Server, id: &str) -> Reply {
    server.post_nothing(&format!("/tasks/{id}/retry")).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_a_new_task_of_the_same_kind(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for (word, status) in [("fail", "failed"), ("timeout", "timeout")] {
        let given = json!({
            "taskType": "t", "metadata": { "tenant": "ä" }, "params": { "n": 9_007_199_254_740_993_u64 },
            "timeoutSeconds": 77,
        });
        let registered = server.post("/tasks", given.clone()).await.ok();
        let id = registered["taskId"].as_str().expect("an id");
        server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
        server.progressed(id, json!({ "percent": 50 })).await;
        let body = json!({ "workerId": "worker-1", "error": { "why": "disk" } });
        server.post(&format!("/tasks/{id}/{word}"), body).await.ok();
        let parent = server.task(id).await;

        let reply = retried(&server, id).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        let answer = reply.json();
        assert_eq!(names(&answer), ["newTaskId", "originalTaskId", "retryCount", "status"]);
        assert_eq!((&answer["originalTaskId"], &answer["retryCount"]), (&json!(id), &json!(1)));
        assert_eq!(answer["status"], "pending");
        let child_id = answer["newTaskId"].as_str().expect("an id");
        assert_ne!(child_id, id);

        let child = server.task(child_id).await;
        for name in ["taskType", "metadata", "params", "timeoutSeconds"] {
            assert_eq!(child[name], given[name], "{name}");
        }
        for name in ["result", "error", "workerId", "startedAt", "completedAt"] {
            assert_eq!(child[name], Value::Null, "{name}");
        }
        assert_eq!(child["progressHistory"], json!([]));
        assert_eq!((&child["originalTaskId"], &child["retryCount"]), (&json!(id), &json!(1)));
        let given_time = instant(&child["timeoutAt"]).since(instant(&child["createdAt"]));
        assert_eq!(given_time.as_secs(), 77, "counted anew");
        assert!(instant(&child["createdAt"]) >= instant(&parent["completedAt"]));
        assert_eq!(server.task(id).await, parent, "the parent is as it was");
        assert_eq!(parent["status"], status);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_retries_names_its_first_task(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let original = server.registered("t").await;
    let mut present = original.clone();
    for count in 1..=4 {
        server.post_nothing(&format!("/tasks/{present}/timeout")).await.ok();
        let answer = retried(&server, &present).await.ok();
        assert_eq!(
            (&answer["originalTaskId"], &answer["retryCount"]),
            (&json!(original), &json!(count))
        );
        present = answer["newTaskId"].as_str().expect("an id").to_owned();
        let task = server.task(&present).await;
        assert_eq!(
            (&task["originalTaskId"], &task["retryCount"]),
            (&json!(original), &json!(count))
        );
    }
    let first = server.task(&original).await;
    assert_eq!((&first["originalTaskId"], &first["retryCount"]), (&Value::Null, &json!(0)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_retried_once(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.post(&format!("/tasks/{id}/fail"), by("worker-1")).await.ok();
    retried(&server, &id).await.ok();
    for _ in 0..server.nodes.len() {
        let problem = retried(&server, &id).await.problem(409, "invalid_transition");
        assert_eq!((&problem["from"], &problem["attempted"]), (&json!("failed"), &json!("retry")));
    }
    let items = server.get("/tasks").await.ok()["items"].as_array().map(Vec::len);
    assert_eq!(items, Some(2), "one child");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_can_be_worked_like_any_task(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    server.post_nothing(&format!("/tasks/{id}/timeout")).await.ok();
    let child = retried(&server, &id).await.ok()["newTaskId"].as_str().expect("an id").to_owned();
    let claim = json!({ "taskTypes": ["t"], "workerId": "worker-1" });
    assert_eq!(server.post("/tasks/claim", claim).await.ok()["id"], child);
    assert_eq!(server.progressed(&child, json!({})).await, 1, "counted from the beginning");
    server.completed(&child).await.ok();
    assert_eq!(server.task(&child).await["status"], "completed");
    assert_eq!(server.task(&id).await["status"], "timeout");
}
