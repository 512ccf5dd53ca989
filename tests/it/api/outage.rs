//! A broker that is away: what needs it is refused at once, the rest goes on, nothing hangs.

use std::time::{Duration, Instant};

use serde_json::json;
use task_tracker::config::Mode as ConfigMode;

use super::by;
use crate::harness::{Mode, Reply, Server};

/// How long an answer may take while the broker is away.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A node whose Redis is at a port where nobody listens.
async fn without_redis() -> Server {
    let server = Server::start_with(Mode::Node, |mut config| {
        if let ConfigMode::Node { redis_url, .. } = &mut config.mode {
            "redis://127.0.0.1:1".clone_into(redis_url);
        }
        config
    });
    server.await
}

/// Checks that an answer says to come again later, and nothing of the inside.
#[track_caller]
fn is_unavailable(reply: &Reply) {
    let problem = reply.problem(503, "unavailable");
    let after = reply.header("retry-after");
    assert!(after.parse::<u32>().is_ok_and(|seconds| seconds >= 1), "retry-after: {after:?}");
    let text = problem.to_string().to_ascii_lowercase();
    for inside in ["redis", "127.0.0.1", "refused", "os error", "connection", "tokio", "src/"] {
        assert!(!text.contains(inside), "{inside} in {text}");
    }
}

/// Waits for an answer that must come at once.
async fn at_once<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let asked = Instant::now();
    let answer = answer.await;
    assert!(asked.elapsed() < AT_ONCE, "{what} took {:?}", asked.elapsed());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_broker_is_alive_and_not_ready() {
    let server = without_redis().await;
    let get =
        async |path: &str| at_once(path, server.send(server.client().get(server.root(path)))).await;
    assert_eq!(get("/livez").await.status, 200);
    let ready = get("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text);
    let health = get("/healthz").await;
    assert_eq!(health.status, 200);
    let health = health.json();
    assert_eq!(health["status"], "down");
    let of = |name: &str| {
        let checks = health["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["name"] == name).map(|check| check["status"].clone())
    };
    assert_eq!((of("database"), of("live_log")), (Some(json!("up")), Some(json!("down"))));
    assert_eq!(get("/metrics").await.status, 200);
    assert_eq!(get("/openapi.json").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_broker_goes_on_without_it() {
    let server = without_redis().await;
    let registered =
        at_once("register", server.post("/tasks", json!({ "taskType": "t" }))).await.ok();
    let id = registered["taskId"].as_str().expect("an id");
    let claim = json!({ "taskTypes": ["t"], "workerId": "worker-1" });
    let claimed = at_once("claim", server.post("/tasks/claim", claim)).await.ok();
    assert_eq!(claimed["id"], id);
    let other = at_once("register", server.post("/tasks", json!({ "taskType": "u" }))).await.ok();
    let start = format!("/tasks/{}/start", other["taskId"].as_str().expect("an id"));
    at_once("start", server.post(&start, by("worker-1"))).await.ok();
    let wrong = at_once("validation", server.post("/tasks", json!({}))).await;
    wrong.problem(422, "validation_failed");
    at_once("an unknown task", server.get("/tasks/nobody")).await.problem(404, "task_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_broker_is_refused_at_once() {
    let server = without_redis().await;
    let id = server.started("t").await;
    let path = |word: &str| format!("/tasks/{id}/{word}");
    let progress = path("progress");
    for _ in 0..3 {
        let entry = server.post(&progress, json!({ "progress": { "percent": 1 } }));
        is_unavailable(&at_once("progress", entry).await);
    }
    let lines = server.post_raw(&progress, "application/x-ndjson", "{}\n{}\n");
    is_unavailable(&at_once("lines", lines).await);
    for word in ["complete", "fail", "release", "timeout"] {
        let reply = at_once(word, server.post(&path(word), by("worker-1"))).await;
        is_unavailable(&reply);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_without_the_broker_says_what_is_missing() {
    let server = without_redis().await;
    let (id, waiting) = (server.started("t").await, server.registered("t").await);
    let running = at_once("get", server.get(&format!("/tasks/{id}"))).await.ok();
    assert_eq!(running["progressHistoryComplete"], false);
    let pending = at_once("get", server.get(&format!("/tasks/{waiting}"))).await.ok();
    assert_eq!(pending["progressHistoryComplete"], json!(null), "it cannot have any");
    let list = at_once("list", server.get("/tasks?status=in_progress")).await.ok();
    assert_eq!(list["latestProgressComplete"], false);
    let list = at_once("list", server.get("/tasks?status=pending")).await.ok();
    assert_eq!(list["latestProgressComplete"], json!(null), "nothing is missing");
    // A stream is opened and begins when the broker is there: an `EventSource` takes a refusal for the last word.
    let mut stream = at_once("track", server.track(&id, "")).await;
    assert_eq!(stream.status(), 200);
    stream.opened().await;
    let nobody = at_once("track", server.track("nobody", "")).await;
    assert_eq!(nobody.status(), 404);
    // Whoever looks does not wait: what cannot be told is refused, and what nobody needs the broker for is told.
    let look = |id: &str| format!("/tasks/{id}/track?follow=false");
    is_unavailable(&at_once("look", server.get(&look(&id))).await);
    let standing = at_once("look", server.get(&look(&waiting))).await;
    assert!(standing.status == 200 && standing.text.contains(r#"{"status":"pending"}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_without_the_broker_all_hear_at_once() {
    let server = without_redis().await;
    let id = server.started("t").await;
    let path = format!("/tasks/{id}/progress");
    let calls = (0..100).map(|_| server.post(&path, json!({ "progress": {} })));
    for reply in at_once("a hundred entries", futures::future::join_all(calls)).await {
        is_unavailable(&reply);
    }
    let registered = (0..50).map(|_| server.post("/tasks", json!({ "taskType": "t" })));
    for reply in at_once("fifty tasks", futures::future::join_all(registered)).await {
        reply.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_broker_closes_in_time() {
    let server = without_redis().await;
    server.registered("t").await;
    let asked = Instant::now();
    server.stop().await;
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
}
