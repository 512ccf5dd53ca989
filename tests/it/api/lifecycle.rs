//! Every transition from every status, as the table has it.

use rstest::rstest;
use serde_json::{Value, json};
use task_tracker::domain::lifecycle::{Rule, TABLE};
use task_tracker::domain::{Status, Transition};

use super::{by, instant, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

/// A task that stands in `status`, with one entry where it ever ran.
async fn standing(server: &Server, status: Status) -> String {
    if status == Status::Pending {
        return server.registered("t").await;
    }
    let id = server.started("t").await;
    server.progressed(&id, json!({ "percent": 1 })).await;
    let word = match status {
        Status::Completed => "complete",
        Status::Failed => "fail",
        Status::Timeout => "timeout",
        Status::Cancelled => "cancel",
        Status::Pending | Status::InProgress => return id,
    };
    server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
    id
}

/// Asks for the transition of `rule`, as the worker that holds the task.
async fn asked(server: &Server, id: &str, rule: &Rule) -> Reply {
    let mut body = by("worker-1");
    if rule.transition == Transition::Progress {
        body["progress"] = json!({ "percent": 2 });
    }
    server.post(&format!("/tasks/{id}/{}", rule.word), body).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_transition_is_made_from_its_statuses_and_from_no_other(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    // A claim names no task, some nobody asks for, and a request to cancel is no call of its own: each has tests
    // elsewhere.
    let apart = [
        Transition::Claim,
        Transition::Expire,
        Transition::Exhaust,
        Transition::Stall,
        Transition::RequestCancel,
    ];
    for rule in TABLE.iter().filter(|rule| !apart.contains(&rule.transition)) {
        for status in Status::ALL {
            let id = standing(&server, status).await;
            let before = server.task(&id).await;
            let reply = asked(&server, &id, rule).await;
            let after = server.task(&id).await;
            let case = format!("{} from {status}: {}", rule.word, reply.text);
            if rule.from.contains(&status) {
                let answer = reply.ok();
                let expected = rule.to.unwrap_or(status).as_str();
                assert_eq!(after["status"], expected, "{case}");
                if rule.to.is_some() {
                    assert_eq!(
                        (&answer["taskId"], &answer["status"]),
                        (&json!(id), &json!(expected))
                    );
                }
            } else {
                let problem = reply.problem(409, "invalid_transition");
                assert_eq!(problem["from"], status.as_str(), "{case}");
                assert_eq!(problem["attempted"], rule.word, "{case}");
                assert_eq!(after, before, "{case}: nothing changed");
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_change_answers_with_the_status_and_when(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for (word, status) in [("complete", "completed"), ("fail", "failed"), ("timeout", "timeout")] {
        let id = server.registered("t").await;
        let started = server.post(&format!("/tasks/{id}/start"), by("worker-1")).await;
        assert_eq!(started.status, 200);
        let ended = server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await;
        assert_eq!(ended.status, 200);
        let (started, ended) = (started.json(), ended.json());
        let task = server.task(&id).await;
        for (answer, status) in [(&started, "in_progress"), (&ended, status)] {
            let standing = ["cancelRequested", "leaseExpiresAt", "serverTime"];
            let mut members = [&standing[..], &["status", "taskId", "updatedAt"]].concat();
            if *answer == started {
                members.extend(["attempt", "leaseToken"]);
                members.sort_unstable();
            }
            assert_eq!(names(answer), members);
            assert_eq!((&answer["taskId"], &answer["status"]), (&json!(id), &json!(status)));
            instant(&answer["updatedAt"]);
        }
        assert_eq!(task["startedAt"], started["updatedAt"]);
        assert_eq!(
            (&task["updatedAt"], &task["completedAt"]),
            (&ended["updatedAt"], &ended["updatedAt"])
        );
        assert_eq!(task["workerId"], "worker-1", "who held it at its end");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn results_and_errors_may_be_null_or_absent(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for (word, name, other) in [("complete", "result", "error"), ("fail", "error", "result")] {
        for (given, kept) in [
            (json!({}), Value::Null),
            (json!({ name: null }), Value::Null),
            (json!({ name: {} }), json!({})),
            (json!({ name: { "rows": 42 }, other: { "passed": "over" } }), json!({ "rows": 42 })),
        ] {
            let id = server.registered("t").await;
            server.post_nothing(&format!("/tasks/{id}/start")).await.ok();
            server.post(&format!("/tasks/{id}/{word}"), given.clone()).await.ok();
            let task = server.task(&id).await;
            assert_eq!((&task[name], &task[other]), (&kept, &Value::Null), "{word} {given}");
        }
        let id = server.registered("t").await;
        server.post_nothing(&format!("/tasks/{id}/start")).await.ok();
        for wrong in [json!([]), json!("x"), json!(1), json!(true), json!([{ "a": 1 }])] {
            let reply = server.post(&format!("/tasks/{id}/{word}"), json!({ name: wrong })).await;
            let problem = reply.problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["path"], name);
        }
        assert_eq!(server.task(&id).await["status"], "in_progress", "nothing changed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_is_an_empty_object(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for (word, status) in [("complete", "completed"), ("fail", "failed"), ("timeout", "timeout")] {
        let id = server.registered("t").await;
        let start = server.post_nothing(&format!("/tasks/{id}/start")).await;
        assert_eq!(start.ok()["status"], "in_progress");
        assert_eq!(server.task(&id).await["workerId"], Value::Null);
        let end = server.post_raw(&format!("/tasks/{id}/{word}"), "application/json", "").await;
        assert_eq!(end.ok()["status"], status);
        let id = server.registered("t").await;
        server.post_raw(&format!("/tasks/{id}/start"), "application/json", "{}").await.ok();
        server.post_nothing(&format!("/tasks/{id}/{word}")).await.ok();
    }
    let id = server.registered("t").await;
    let release = server.post_nothing(&format!("/tasks/{id}/release")).await;
    let problem = release.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["path"], "workerId");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_second_timeout_does_not_wipe_the_history(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    for percent in 1..=3 {
        server.progressed(&id, json!({ "percent": percent })).await;
    }
    server.post_nothing(&format!("/tasks/{id}/timeout")).await.ok();
    let before = server.task(&id).await;
    assert_eq!(before["progressHistory"].as_array().map(Vec::len), Some(3));
    for word in ["timeout", "complete", "fail", "timeout"] {
        for _ in 0..server.nodes.len() {
            let again = server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await;
            let problem = again.problem(409, "invalid_transition");
            assert_eq!(
                (&problem["from"], &problem["attempted"]),
                (&json!("timeout"), &json!(word))
            );
        }
    }
    assert_eq!(server.post("/tasks/timeouts/process", json!({})).await.ok()["processedCount"], 0);
    assert_eq!(server.task(&id).await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_can_time_out(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    server.post(&format!("/tasks/{id}/timeout"), by("whoever")).await.ok();
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["startedAt"]), (&json!("timeout"), &Value::Null));
    assert_eq!((&task["workerId"], &task["progressHistory"]), (&Value::Null, &json!([])));
    let claim = json!({ "taskTypes": ["t"], "workerId": "w" });
    assert_eq!(server.post("/tasks/claim", claim).await.ok(), Value::Null);
}
