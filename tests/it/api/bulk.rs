//! Registering many tasks at once, each with an outcome of its own.

use std::collections::HashSet;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::idempotency::{is_repeated, post_keyed};
use super::names;
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::Server;

async fn register(server: &Server, tasks: &[Value]) -> Value {
    let reply = server.post("/tasks/bulk", json!({ "tasks": tasks })).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let body = reply.json();
    let results = body["results"].as_array().expect("results");
    assert!(results.iter().enumerate().all(|(index, result)| result["index"] == index), "{body}");
    assert_eq!(results.len(), tasks.len());
    let created = results.iter().filter(|result| result["status"] == 201).count();
    assert_eq!(body["created"], created);
    assert_eq!(body["failed"], tasks.len() - created);
    body
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_task_has_an_outcome_of_its_own_in_order(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    server.post("/tasks", json!({ "taskId": "taken", "taskType": "t" })).await.ok();
    let tasks = [
        json!({ "taskType": "t", "taskId": "a" }),
        json!({ "taskType": "t", "taskId": "taken" }),
        json!({ "taskType": "" }),
        json!({ "taskType": "t", "taskId": "a", "params": { "second": true } }),
        json!([1]),
        json!({ "taskType": "t", "timeoutSeconds": 0 }),
        json!(null),
        json!({ "taskType": "t" }),
    ];
    let body = register(&server, &tasks).await;
    let statuses: Vec<_> =
        (0..tasks.len()).map(|index| body["results"][index]["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 409, 422, 409, 422, 422, 422, 201]);
    let result = |index: usize| &body["results"][index];
    assert_eq!(names(result(0)), ["createdAt", "index", "status", "taskId", "timeoutAt"]);
    assert_eq!(result(0)["taskId"], "a");
    assert_eq!(names(result(1)), ["index", "problem", "status"]);
    for index in [1, 3] {
        assert_eq!(result(index)["problem"]["code"], "task_exists");
        assert_eq!(result(index)["problem"]["type"], "urn:task-tracker:problem:task_exists");
        assert_eq!(result(index)["problem"]["status"], 409);
    }
    for (index, path) in
        [(2, "tasks[2].taskType"), (4, "tasks[4]"), (5, "tasks[5].timeoutSeconds"), (6, "tasks[6]")]
    {
        let problem = &result(index)["problem"];
        assert_eq!(
            (&problem["code"], &problem["errors"][0]["path"]),
            (&json!("validation_failed"), &json!(path))
        );
        assert!(problem["detail"].as_str().unwrap().contains(path), "{problem}");
    }
    assert_eq!(server.task("a").await["params"], Value::Null, "of twins the first is registered");
    let id = result(7)["taskId"].as_str().expect("a made id");
    assert_eq!(server.task(id).await["createdAt"], result(7)["createdAt"]);
    assert_eq!(server.get("/tasks").await.ok()["items"].as_array().unwrap().len(), 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_many_is_like_one_that_came_alone(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let task = json!({
        "taskType": "any text: {ü} 日本語 $1 ? '\"", "timeoutSeconds": 31_536_000,
        "maxAttempts": 7, "stallSeconds": 90,
        "metadata": { "b": u64::MAX, "a": "\u{0}\\u0000 \u{1f980}", "n": null },
        "params": { "nested": [[{ "deep": [] }]], "quote": "'\"\\" },
    });
    let alone = server.post("/tasks", task.clone()).await.ok();
    let many = register(&server, &[task.clone(), task]).await;
    let alone = server.task(alone["taskId"].as_str().unwrap()).await;
    for result in many["results"].as_array().unwrap() {
        let mut one = server.task(result["taskId"].as_str().unwrap()).await;
        let given = |task: &Value| {
            super::instant(&task["timeoutAt"]).since(super::instant(&task["createdAt"]))
        };
        assert_eq!(given(&one).as_secs(), given(&alone).as_secs());
        assert_eq!(one["updatedAt"], one["createdAt"]);
        for name in ["id", "createdAt", "updatedAt", "timeoutAt"] {
            one[name] = alone[name].clone();
        }
        assert_eq!(one, alone);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_are_taken_and_claimed_in_their_order(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let tasks: Vec<_> = (0..1000)
        .map(|n| json!({ "taskType": format!("t{}", n % 2), "params": { "n": n } }))
        .collect();
    let body = register(&server, &tasks).await;
    assert_eq!(body["created"], 1000);
    let ids: HashSet<_> = body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["taskId"].as_str())
        .collect();
    assert_eq!(ids.len(), 1000);
    for n in 0..20 {
        let claim = json!({ "taskTypes": ["t0", "t1"], "workerId": "w" });
        let claimed = server.post("/tasks/claim", claim).await.ok();
        assert_eq!(claimed["params"]["n"], n);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_batch_is_refused_as_a_whole(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let many = vec![json!({ "taskType": "t" }); 1001];
    for tasks in [json!([]), json!(many), json!({}), json!(null), json!("x")] {
        let reply = server.post("/tasks/bulk", json!({ "tasks": tasks })).await;
        assert_eq!(reply.problem(422, "validation_failed")["errors"][0]["path"], "tasks");
    }
    server.post("/tasks/bulk", json!({})).await.problem(422, "validation_failed");
    server.post("/tasks/bulk", json!([])).await.problem(422, "validation_failed");
    let broken = server.post_raw("/tasks/bulk", "application/json", r#"{"tasks":[{}"#).await;
    broken.problem(400, "malformed_body");
    server.post_raw("/tasks/bulk", "text/plain", "{}").await.problem(415, "unsupported_media_type");
    let large = json!({ "tasks": [{ "taskType": "t", "params": { "x": "x".repeat(1 << 20) } }] });
    server.post("/tasks/bulk", large).await.problem(413, "body_too_large");
    assert_eq!(server.get("/tasks").await.ok()["items"], json!([]), "nothing was registered");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_share_their_ids_register_each_once(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let ids: Vec<String> = (0..200).map(|n| format!("task-{n}")).collect();
    let batches = join_all((0..8).map(|caller| {
        let mut ids = ids.clone();
        // Each in an order of its own: they must not wait for each other in a circle.
        ids.rotate_left(caller * 25);
        if caller % 2 == 1 {
            ids.reverse();
        }
        let tasks: Vec<_> = ids
            .iter()
            .map(|id| json!({ "taskType": "t", "taskId": id, "params": { "by": caller } }))
            .collect();
        let server = &server;
        async move { register(server, &tasks).await }
    }))
    .await;
    let created: u64 = batches.iter().map(|body| body["created"].as_u64().unwrap()).sum();
    assert_eq!(created, 200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn workers_that_wait_get_the_tasks_of_a_batch(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let claims = join_all((0..12).map(|worker| {
        let task_type = format!("t{}", worker % 3);
        let claim = json!({ "taskTypes": [task_type], "workerId": "w", "waitSeconds": 15 });
        server.post("/tasks/claim", claim)
    }));
    let batch = async {
        for _ in 0..3 {
            server.get("/tasks?limit=1").await.ok();
        }
        let tasks: Vec<_> = (0..12).map(|n| json!({ "taskType": format!("t{}", n % 3) })).collect();
        register(&server, &tasks).await
    };
    let (claimed, body) = futures::join!(claims, batch);
    let claimed: HashSet<_> = claimed.iter().map(|reply| reply.ok()["id"].to_string()).collect();
    let registered: HashSet<_> = body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["taskId"].to_string())
        .collect();
    assert_eq!(claimed, registered);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_sent_again_is_answered_the_same(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let body = json!({ "tasks": [{ "taskType": "t" }, {}, { "taskType": "t", "taskId": "a" }] });
    let twins = join_all((0..10).map(|_| post_keyed(&server, "/tasks/bulk", "k", &body))).await;
    let first = twins.iter().find(|reply| reply.header("idempotency-replayed").is_empty());
    let first = first.expect("one that did it");
    for again in twins.iter().filter(|reply| !reply.header("idempotency-replayed").is_empty()) {
        is_repeated(first, again);
    }
    assert_eq!(first.json()["created"], 2);
    let other = json!({ "tasks": [{ "taskType": "t" }] });
    post_keyed(&server, "/tasks/bulk", "k", &other).await.problem(422, "idempotency_key_reused");
    assert_eq!(server.get("/tasks").await.ok()["items"].as_array().unwrap().len(), 2);
    // Of a batch all that was refused is remembered, too: the batch as such was done.
    let wrong = json!({ "tasks": [{}, { "taskType": "t", "taskId": "a" }] });
    let first = post_keyed(&server, "/tasks/bulk", "wrong", &wrong).await;
    assert_eq!(first.ok()["failed"], 2);
    is_repeated(&first, &post_keyed(&server, "/tasks/bulk", "wrong", &wrong).await);
}
