//! Registering a task, and reading it back.

use std::collections::HashSet;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{instant, names, one_wins};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::Server;

/// The members of a task, in the order of the alphabet.
const MEMBERS: [&str; 28] = [
    "attempt",
    "cancelDeadline",
    "cancelReason",
    "cancelRequestedAt",
    "completedAt",
    "createdAt",
    "error",
    "id",
    "lastHeartbeatAt",
    "leaseExpiresAt",
    "leaseSeconds",
    "lostAttempts",
    "maxAttempts",
    "metadata",
    "originalTaskId",
    "params",
    "progressHistory",
    "result",
    "retryCount",
    "stallSeconds",
    "stalledAt",
    "startedAt",
    "status",
    "taskType",
    "timeoutAt",
    "timeoutSeconds",
    "updatedAt",
    "workerId",
];

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_registered_with_defaults(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let before = server.clock.now();
    let reply = server.post("/tasks", json!({ "taskType": "report.build" })).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let body = reply.json();
    assert_eq!(names(&body), ["createdAt", "status", "taskId", "timeoutAt"]);
    assert_eq!(body["status"], "pending");
    let id = body["taskId"].as_str().expect("an id");
    assert!((20..=32).contains(&id.len()), "a cuid2: {id}");
    assert_eq!(reply.header("location"), format!("/api/v1/tasks/{id}"));
    assert_eq!(reply.header("content-type"), "application/json");
    let created = instant(&body["createdAt"]);
    assert!(created.as_millis() >= before.as_millis() && created <= server.clock.now());
    let given = instant(&body["timeoutAt"]).since(created);
    assert_eq!(given.as_millis(), 86_400_000);

    let task = server.task(id).await;
    assert_eq!(names(&task), MEMBERS);
    let expected = json!({
        "id": id, "taskType": "report.build", "status": "pending", "metadata": null, "params": null,
        "result": null, "error": null, "progressHistory": [], "timeoutSeconds": 86_400,
        "workerId": null, "originalTaskId": null, "retryCount": 0,
        "createdAt": body["createdAt"], "updatedAt": body["createdAt"], "startedAt": null,
        "completedAt": null, "timeoutAt": body["timeoutAt"],
        "attempt": 0, "maxAttempts": 3, "lostAttempts": 0, "leaseSeconds": null,
        "leaseExpiresAt": null, "lastHeartbeatAt": null, "stallSeconds": null, "stalledAt": null,
        "cancelRequestedAt": null, "cancelReason": null, "cancelDeadline": null,
    });
    assert_eq!(task, expected);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_is_kept_on_every_node(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let given = json!({
        "taskId": "nightly:2026-11-20_a.B", "taskType": "Bericht für März 🦀",
        "metadata": { "tenant": "acme" }, "params": { "month": 3 }, "timeoutSeconds": 60,
        "maxAttempts": 7, "stallSeconds": 9,
        "unknown": "members are passed over",
    });
    let body = server.post("/tasks", given.clone()).await.ok();
    assert_eq!(body["taskId"], given["taskId"]);
    let given_time = instant(&body["timeoutAt"]).since(instant(&body["createdAt"]));
    assert_eq!(given_time.as_secs(), 60);
    for node in 0..server.nodes.len() {
        let task = server.get_at(node, "/tasks/nightly:2026-11-20_a.B").await.ok();
        for name in
            ["taskType", "metadata", "params", "timeoutSeconds", "maxAttempts", "stallSeconds"]
        {
            assert_eq!(task[name], given[name], "{name}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_null_count_as_absent(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let nulls = json!({
        "taskId": null, "taskType": "t", "metadata": null, "params": null, "timeoutSeconds": null,
    });
    let body = server.post("/tasks", nulls).await.ok();
    let task = server.task(body["taskId"].as_str().expect("an id")).await;
    assert_eq!(task["timeoutSeconds"], 86_400);
    assert_eq!((&task["metadata"], &task["params"]), (&Value::Null, &Value::Null));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_bounds_of_each_field_are_inclusive(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let fine = [
        json!({ "taskType": "t", "timeoutSeconds": 1 }),
        json!({ "taskType": "t", "timeoutSeconds": 31_536_000 }),
        json!({ "taskType": "t", "taskId": "x" }),
        json!({ "taskType": "t", "taskId": "A".repeat(64) }),
        json!({ "taskType": "t", "taskId": "abcxyzABCXYZ0189_.:-" }),
        json!({ "taskType": "x" }),
        json!({ "taskType": "ä".repeat(128) }),
        json!({ "taskType": "🦀".repeat(128) }),
        json!({ "taskType": "a b/c?d#e%f\"\\'{}" }),
    ];
    for body in fine {
        let reply = server.post("/tasks", body.clone()).await;
        assert_eq!(reply.status, 201, "{body}: {}", reply.text);
        let id = reply.json()["taskId"].as_str().expect("an id").to_owned();
        assert_eq!(server.task(&id).await["taskType"], body["taskType"]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_field_out_of_bounds_is_refused_by_its_path(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let wrong = |path: &'static str, values: Vec<Value>| {
        values.into_iter().map(move |value| (path, value)).collect::<Vec<_>>()
    };
    let long = "x".repeat(65);
    let ids = ["", " ", "a b", "a/b", "ä", "a\n", "{x}", "a\u{0}", "*", long.as_str()];
    let too_long = "ä".repeat(129);
    let types = ["", "a\u{0}", "a\nb", "\u{7f}", "\u{85}", too_long.as_str()];
    let cases = [
        wrong("taskId", ids.map(Value::from).to_vec()),
        wrong("taskId", vec![json!(7), json!(["x"]), json!({}), json!(true)]),
        wrong("taskType", types.map(Value::from).to_vec()),
        wrong("taskType", vec![json!(null), json!(7), json!([]), json!({}), json!(false)]),
        wrong("timeoutSeconds", vec![json!(0), json!(-1), json!(31_536_001), json!(u64::MAX)]),
        wrong(
            "timeoutSeconds",
            vec![json!("60"), json!(1.5), json!(1e30), json!(true), json!([60])],
        ),
        wrong("metadata", vec![json!([]), json!("x"), json!(1), json!(false), json!([{}])]),
        wrong("params", vec![json!([]), json!(""), json!(0), json!(true)]),
    ];
    for (path, value) in cases.concat() {
        let mut body = json!({ "taskType": "t" });
        body[path] = value;
        let problem = server.post("/tasks", body.clone()).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["path"], path, "{body}: {problem}");
        assert!(problem["errors"][0]["message"].is_string(), "{problem}");
    }
    let problem = server.post("/tasks", json!({})).await.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["path"], "taskType");
    assert_eq!(server.get("/tasks").await.ok()["items"], json!([]), "nothing was registered");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_id_is_refused_whatever_became_of_it(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let body = json!({ "taskId": "mine", "taskType": "t", "params": { "first": true } });
    server.post("/tasks", body.clone()).await.ok();
    for node in 0..server.nodes.len() {
        server.post_at(node, "/tasks", body.clone()).await.problem(409, "task_exists");
    }
    server.post("/tasks/mine/start", json!({ "workerId": "worker-1" })).await.ok();
    server.completed("mine").await.ok();
    let other = json!({ "taskId": "mine", "taskType": "other" });
    server.post("/tasks", other).await.problem(409, "task_exists");
    let task = server.task("mine").await;
    assert_eq!((&task["taskType"], &task["status"]), (&json!("t"), &json!("completed")));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_register_one_id_one_succeeds(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let replies = join_all((0..20).map(|caller| {
        let body = json!({ "taskId": "one", "taskType": "t", "params": { "caller": caller } });
        server.post("/tasks", body)
    }));
    let replies = replies.await;
    let winners: Vec<usize> = (0..20).filter(|caller| replies[*caller].status == 201).collect();
    assert_eq!(winners.len(), 1);
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        reply.problem(409, "task_exists");
    }
    assert_eq!(server.task("one").await["params"]["caller"], winners[0]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn ids_are_unlike_each_other(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let ids = join_all((0..100).map(|_| server.registered("t"))).await;
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 100);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_spells_a_route_is_an_id_like_any_other(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for id in ["claim", "bulk", "timeouts", "process", "tasks", "track"] {
        server.post("/tasks", json!({ "taskId": id, "taskType": "t" })).await.ok();
        assert_eq!(server.task(id).await["id"], id);
        let path = format!("/tasks/{id}/start");
        let replies = [server.post_nothing(&path).await, server.post_nothing(&path).await];
        assert_eq!(one_wins(&replies, 200, "in_progress", "start"), 0);
        assert_eq!(server.progressed(id, json!({})).await, 1);
        server.post_nothing(&format!("/tasks/{id}/complete")).await.ok();
        assert_eq!(server.task(id).await["status"], "completed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_task_that_was_never_registered(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for path in ["/tasks/nobody", "/tasks/nobody/track"] {
        server.get(path).await.problem(404, "task_not_found");
    }
    for word in ["start", "complete", "fail", "timeout", "retry"] {
        let path = format!("/tasks/nobody/{word}");
        server.post_nothing(&path).await.problem(404, "task_not_found");
        server.post(&path, json!({ "workerId": "w" })).await.problem(404, "task_not_found");
    }
    let release = server.post("/tasks/nobody/release", json!({ "workerId": "w" })).await;
    release.problem(404, "task_not_found");
    let entries = [json!({ "progress": {} }), json!({ "entries": [{}, {}] })];
    for body in entries {
        server.post("/tasks/nobody/progress", body).await.problem(404, "task_not_found");
    }
    let lines = server.post_raw("/tasks/nobody/progress", "application/x-ndjson", "{}\n").await;
    lines.problem(404, "task_not_found");
}
