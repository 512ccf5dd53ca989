//! Cancelling and retrying many tasks at once, each with an outcome of its own.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, instant, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::Server;

/// Sends them and checks what must hold of every answer.
async fn sent(server: &Server, word: &str, ids: &[String], more: Value) -> Value {
    let mut body = more;
    body["taskIds"] = json!(ids);
    let reply = server.post(&format!("/tasks/{word}"), body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let body = reply.json();
    let results = body["results"].as_array().expect("results");
    assert_eq!(results.len(), ids.len());
    let mut done = 0;
    for (index, (result, id)) in results.iter().zip(ids).enumerate() {
        assert_eq!((&result["index"], &result["taskId"]), (&json!(index), &json!(id)));
        let status = result["status"].as_u64().expect("a status");
        if status < 300 {
            done += 1;
            continue;
        }
        assert_eq!(names(result), ["index", "problem", "status", "taskId"]);
        let (problem, word) = (&result["problem"], result["problem"]["code"].as_str().unwrap());
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:task-tracker:problem:{word}"));
    }
    assert_eq!((&body["done"], &body["failed"]), (&json!(done), &json!(ids.len() - done)));
    body
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn statuses(body: &Value) -> Vec<u64> {
    let results = body["results"].as_array().expect("results");
    results.iter().map(|result| result["status"].as_u64().expect("a status")).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_is_cancelled_as_if_it_came_alone(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let (waits, runs) = (server.registered("t").await, server.started("t").await);
    let (ended, other) = (server.started("t").await, server.registered("t").await);
    server.completed(&ended).await.ok();
    let stream = server.track(&waits, "").await;
    let ids = [waits.clone(), ended.clone(), "nobody".to_owned(), runs.clone()];
    let wish = json!({ "reason": "the \"month\" was reopened", "graceSeconds": 7 });
    let body = sent(&server, "cancel", &ids, wish.clone()).await;
    assert_eq!(statuses(&body), [200, 409, 404, 200]);
    let result = |index: usize| &body["results"][index];
    let expected = ["cancelDeadline", "index", "status", "taskId", "taskStatus", "updatedAt"];
    assert_eq!(names(result(0)), expected);
    assert_eq!(
        (&result(0)["taskStatus"], &result(0)["cancelDeadline"]),
        (&json!("cancelled"), &Value::Null)
    );
    assert_eq!(result(1)["problem"]["code"], "invalid_transition");
    assert_eq!(result(1)["problem"]["from"], "completed");
    assert_eq!(result(2)["problem"]["code"], "task_not_found");
    assert_eq!(result(3)["taskStatus"], "in_progress");
    for (index, id) in [(0, &waits), (3, &runs)] {
        let task = server.task(id).await;
        assert_eq!(task["status"], result(index)["taskStatus"]);
        assert_eq!(task["cancelReason"], wish["reason"]);
        assert_eq!(task["updatedAt"], result(index)["updatedAt"]);
    }
    let task = server.task(&runs).await;
    assert_eq!(task["cancelDeadline"], result(3)["cancelDeadline"]);
    let grace = instant(&task["cancelDeadline"]).since(instant(&task["cancelRequestedAt"]));
    assert_eq!(grace, Duration::from_secs(7));
    assert_eq!(server.task(&ended).await["cancelRequestedAt"], Value::Null);
    assert_eq!(server.task(&other).await["status"], "pending", "nobody named it");
    assert_eq!(stream.rest().await.last().and_then(|end| end.status()), Some("cancelled"));
    // Again: it can only be sooner.
    let body = sent(&server, "cancel", &[runs.clone(), waits], json!({ "force": true })).await;
    assert_eq!(statuses(&body), [200, 409]);
    assert_eq!(server.task(&runs).await["status"], "cancelled");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_is_retried_as_if_it_came_alone(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let mut ids = Vec::new();
    for word in ["fail", "complete", "timeout", "cancel"] {
        let id = server.started("t").await;
        server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
        ids.push(id);
    }
    ids.extend(owned(&["nobody"]));
    ids.push(server.registered("t").await);
    let body = sent(&server, "retry", &ids, json!({})).await;
    assert_eq!(statuses(&body), [201, 409, 201, 201, 404, 409]);
    for index in [0, 2, 3] {
        let result = &body["results"][index];
        let expected = ["index", "newTaskId", "originalTaskId", "retryCount", "status", "taskId"];
        assert_eq!(names(result), expected);
        let child = server.task(result["newTaskId"].as_str().expect("an id")).await;
        assert_eq!((&child["status"], &child["taskType"]), (&json!("pending"), &json!("t")));
        assert_eq!(
            (&child["originalTaskId"], &child["retryCount"]),
            (&json!(ids[index]), &json!(1))
        );
        assert_eq!(result["originalTaskId"], child["originalTaskId"]);
        assert_eq!(result["retryCount"], child["retryCount"]);
    }
    let again = sent(&server, "retry", &ids[..1], json!({})).await;
    assert_eq!(again["results"][0]["problem"]["code"], "invalid_transition");
    assert_eq!(again["results"][0]["problem"]["attempted"], "retry");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_requests_that_share_their_tasks_each_is_done_once(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let tasks = vec![json!({ "taskType": "t" }); 60];
    let made = server.post("/tasks/bulk", json!({ "tasks": tasks })).await.ok();
    let results = made["results"].as_array().expect("results");
    let ids: Vec<String> =
        results.iter().map(|made| made["taskId"].as_str().expect("an id").to_owned()).collect();
    for (word, refusal) in [("cancel", "invalid_transition"), ("retry", "invalid_transition")] {
        let requests = join_all((0..4_usize).map(|caller| {
            let mut ids = ids.clone();
            ids.rotate_left(caller * 15);
            let server = &server;
            async move { sent(server, word, &ids, json!({})).await }
        }));
        let answers = requests.await;
        let done: u64 = answers.iter().map(|body| body["done"].as_u64().unwrap()).sum();
        assert_eq!(done, 60, "{word}");
        let mut once = HashSet::new();
        for result in answers.iter().flat_map(|body| body["results"].as_array().unwrap()) {
            match result["status"].as_u64().unwrap() {
                200 | 201 => assert!(once.insert(result["taskId"].to_string()), "{result}"),
                _ => assert_eq!(result["problem"]["code"], refusal),
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_are_cancelled_and_retried_while_others_go_on(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    // As many as may be; nodes have a request to answer in time, on whatever machine the tests run.
    let count = if mode == Embedded { 1000 } else { 200 };
    let tasks: Vec<Value> =
        (0..count).map(|n| json!({ "taskType": "t", "taskId": format!("task-{n}") })).collect();
    server.post("/tasks/bulk", json!({ "tasks": tasks })).await.ok();
    let ids: Vec<String> = (0..count).map(|n| format!("task-{n}")).collect();
    let others = async {
        for _ in 0..20 {
            server.registered("other").await;
        }
    };
    let (body, ()) = futures::join!(sent(&server, "cancel", &ids, json!({})), others);
    assert_eq!(body["done"], count);
    assert_eq!(sent(&server, "retry", &ids, json!({})).await["done"], count);
    let page = server.get("/tasks?taskType=t&status=pending&limit=100").await.ok();
    assert_eq!(page["items"].as_array().expect("items").len(), 100);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_none_is_refused_whole_and_nothing_is_done(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let failed = server.started("t").await;
    server.post(&format!("/tasks/{failed}/fail"), by("worker-1")).await.ok();
    let many: Vec<String> = (0..1001).map(|n| format!("task-{n}")).collect();
    for word in ["cancel", "retry"] {
        let path = format!("/tasks/{word}");
        for (ids, at) in [
            (json!([]), "taskIds"),
            (json!(many), "taskIds"),
            (json!(id), "taskIds"),
            (json!(null), "taskIds"),
            (json!([id, failed, 7]), "taskIds[2]"),
            (json!([id, "a b"]), "taskIds[1]"),
            (json!([id, failed, "x", failed, id]), "taskIds[3]"),
        ] {
            let reply = server.post(&path, json!({ "taskIds": ids })).await;
            let problem = reply.problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["path"], at, "{problem}");
        }
        server.post(&path, json!({})).await.problem(422, "validation_failed");
        server.post_nothing(&path).await.problem(422, "validation_failed");
    }
    for (name, value) in [("graceSeconds", json!(-1)), ("reason", json!("")), ("force", json!(1))] {
        let reply = server.post("/tasks/cancel", json!({ "taskIds": [id], name: value })).await;
        assert_eq!(reply.problem(422, "validation_failed")["errors"][0]["path"], name);
    }
    assert_eq!(server.task(&id).await["status"], "pending");
    assert_eq!(server.get("/tasks").await.ok()["items"].as_array().unwrap().len(), 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn tasks_may_be_called_as_routes_are(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for name in ["bulk", "cancel", "claim", "retry"] {
        server.get(&format!("/tasks/{name}")).await.problem(404, "task_not_found");
        server.post("/tasks", json!({ "taskType": "t", "taskId": name })).await.ok();
        assert_eq!(server.task(name).await["id"], name);
        server.post_nothing(&format!("/tasks/{name}/cancel")).await.ok();
        server.post_nothing(&format!("/tasks/{name}/retry")).await.ok();
    }
}
