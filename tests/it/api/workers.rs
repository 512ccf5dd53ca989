//! Who may end or give back a task; what a release keeps.

use rstest::rstest;
use serde_json::{Value, json};

use super::{by, instant};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Server, seq_ids};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_the_worker_that_holds_a_task_ends_it(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let before = server.task(&id).await;
    for word in ["complete", "fail", "release"] {
        let path = format!("/tasks/{id}/{word}");
        for worker in ["worker-2", "WORKER-1", "worker-1 ", "worker-10"] {
            server.post(&path, by(worker)).await.problem(403, "not_the_worker");
        }
        if word != "release" {
            server.post_nothing(&path).await.problem(403, "not_the_worker");
            server.post(&path, json!({ "workerId": null })).await.problem(403, "not_the_worker");
        }
    }
    let entry = json!({ "progress": {}, "workerId": "worker-2" });
    server.post(&format!("/tasks/{id}/progress"), entry).await.problem(403, "not_the_worker");
    assert_eq!(server.task(&id).await, before, "nothing changed");
    let entry = json!({ "progress": {}, "workerId": "worker-1" });
    server.post(&format!("/tasks/{id}/progress"), entry).await.ok();
    server.progressed(&id, json!({ "by": "nobody in particular" })).await;
    server.completed(&id).await.ok();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_status_speaks_before_the_worker(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.completed(&id).await.ok();
    for word in ["complete", "fail", "release"] {
        let late = server.post(&format!("/tasks/{id}/{word}"), by("worker-2")).await;
        late.problem(409, "invalid_transition");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_a_worker_is_anybodys(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for (word, body, status) in [
        ("complete", by("whoever"), "completed"),
        ("fail", json!({}), "failed"),
        ("release", by("whoever"), "pending"),
        ("timeout", by("whoever"), "timeout"),
    ] {
        let id = server.registered("t").await;
        server.post_nothing(&format!("/tasks/{id}/start")).await.ok();
        let entry = json!({ "progress": {}, "workerId": "somebody" });
        server.post(&format!("/tasks/{id}/progress"), entry).await.ok();
        let reply = server.post(&format!("/tasks/{id}/{word}"), body).await.ok();
        assert_eq!(reply["status"], status);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_asks_for_no_worker(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for body in [json!({}), by("worker-1"), by("somebody else")] {
        let id = server.started("t").await;
        server.post(&format!("/tasks/{id}/timeout"), body).await.ok();
        assert_eq!(server.task(&id).await["workerId"], "worker-1");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_release_keeps_the_progress_and_the_next_worker_goes_on_counting(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let path = |word: &str| format!("/tasks/{id}/{word}");
    let created = server.task(&id).await;
    for attempt in 1..=4_u64 {
        let worker = format!("worker-{attempt}");
        let claim = json!({ "taskTypes": ["t"], "workerId": worker });
        let claimed = server.post("/tasks/claim", claim).await.ok();
        assert_eq!(claimed["id"], id);
        assert_eq!(
            seq_ids(&claimed),
            (1..=(attempt - 1) * 2).collect::<Vec<_>>(),
            "the claim shows it"
        );
        for step in 1..=2 {
            let body = json!({ "progress": { "by": worker, "step": step }, "workerId": worker });
            let kept = server.post(&path("progress"), body).await.ok();
            assert_eq!(kept["seqId"], (attempt - 1) * 2 + step);
        }
        let released = server.post(&path("release"), by(&worker)).await.ok();
        assert_eq!((&released["taskId"], &released["status"]), (&json!(id), &json!("pending")));
        assert!(released["message"].is_string());
        let task = server.task(&id).await;
        assert_eq!(task["status"], "pending");
        assert_eq!((&task["workerId"], &task["startedAt"]), (&Value::Null, &Value::Null));
        assert_eq!(
            (&task["createdAt"], &task["timeoutAt"]),
            (&created["createdAt"], &created["timeoutAt"])
        );
        assert!(instant(&task["updatedAt"]) >= instant(&claimed["updatedAt"]));
        assert_eq!(seq_ids(&task), (1..=attempt * 2).collect::<Vec<_>>());
        let late = json!({ "progress": {}, "workerId": worker });
        let problem = server.post(&path("progress"), late).await.problem(409, "invalid_transition");
        assert_eq!(problem["from"], "pending");
    }
    server.post(&path("start"), by("last")).await.ok();
    for former in ["worker-1", "worker-4"] {
        let late = json!({ "progress": {}, "workerId": former });
        server.post(&path("progress"), late).await.problem(403, "not_the_worker");
        server.post(&path("complete"), by(former)).await.problem(403, "not_the_worker");
    }
    server.post(&path("complete"), by("last")).await.ok();
    let task = server.task(&id).await;
    assert_eq!(seq_ids(&task), (1..=8).collect::<Vec<_>>(), "sealed whole");
    assert_eq!(task["progressHistory"][2], json!({ "seqId": 3, "by": "worker-2", "step": 1 }));
    assert_eq!(server.task(&id).await["retryCount"], 0, "a release is no retry");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_released_task_that_times_out_keeps_its_history(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.progressed(&id, json!({ "percent": 1 })).await;
    server.post(&format!("/tasks/{id}/release"), by("worker-1")).await.ok();
    server.post_nothing(&format!("/tasks/{id}/timeout")).await.ok();
    assert_eq!(seq_ids(&server.task(&id).await), [1]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_released_task_is_again_the_oldest(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let first = server.started("t").await;
    let second = server.registered("t").await;
    server.post(&format!("/tasks/{first}/release"), by("worker-1")).await.ok();
    for expected in [first, second] {
        let claim = json!({ "taskTypes": ["t"], "workerId": "w" });
        assert_eq!(server.post("/tasks/claim", claim).await.ok()["id"], expected);
    }
}
