//! Requests that are sent again under their key: `Idempotency-Key`.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

/// Almost a day.
const NEARLY: Duration = Duration::from_hours(24).saturating_sub(Duration::from_mins(2));

/// POST under a key, at the node whose turn it is.
pub(super) async fn post_keyed(server: &Server, path: &str, key: &str, body: &Value) -> Reply {
    let request = server.client().post(server.api(path)).header("idempotency-key", key).json(body);
    server.send(request).await
}

/// Checks that `again` is what was answered `first`, and says so.
#[track_caller]
pub(super) fn is_repeated(first: &Reply, again: &Reply) {
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    for name in ["location", "content-type"] {
        assert_eq!(first.header(name), again.header(name), "{name}");
    }
    assert_eq!(
        (first.header("idempotency-replayed"), again.header("idempotency-replayed")),
        ("", "true")
    );
}

/// How many tasks there are, a hundred at most.
async fn tasks(server: &Server) -> usize {
    let page = server.get("/tasks?limit=100").await.ok();
    page["items"].as_array().expect("items").len()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_sent_again_is_answered_the_same(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let body = json!({ "taskType": "t", "params": { "month": "2026-11" } });
    let first = post_keyed(&server, "/tasks", "\"8e03978e-40d5\"", &body).await;
    assert_eq!(first.status, 201, "{}", first.text);
    // Whatever became of the task since: the answer is that of then.
    let id = first.json()["taskId"].as_str().expect("an id").to_owned();
    server.post(&format!("/tasks/{id}/timeout"), json!({})).await.ok();
    for key in ["\"8e03978e-40d5\"", "8e03978e-40d5", "8e03978e-40d5"] {
        is_repeated(&first, &post_keyed(&server, "/tasks", key, &body).await);
    }
    assert_eq!(tasks(&server).await, 1);
    let other = post_keyed(&server, "/tasks", "8E03978E-40D5", &body).await;
    assert_ne!(other.ok()["taskId"], id, "another key is another request");
    let unkeyed = server.post("/tasks", body).await;
    assert_eq!((unkeyed.status, unkeyed.header("idempotency-replayed")), (201, ""));
    assert_eq!(tasks(&server).await, 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_body_is_refused(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let body = json!({ "taskType": "t" });
    let first = post_keyed(&server, "/tasks", "k", &body).await;
    for other in [json!({ "taskType": "u" }), json!({ "taskType": "t", "params": {} })] {
        for _ in 0..2 {
            let reply = post_keyed(&server, "/tasks", "k", &other).await;
            reply.problem(422, "idempotency_key_reused");
        }
    }
    is_repeated(&first, &post_keyed(&server, "/tasks", "k", &body).await);
    assert_eq!(tasks(&server).await, 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_twins_at_once_one_makes_a_task_and_all_hear_of_it(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for round in 0..3 {
        let (key, body) =
            (format!("round-{round}"), json!({ "taskType": "t", "params": { "round": round } }));
        let replies = join_all((0..50).map(|_| post_keyed(&server, "/tasks", &key, &body))).await;
        let answers: HashSet<_> = replies
            .iter()
            .map(|reply| (reply.status, reply.header("location"), &reply.text))
            .collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(replies[0].status, 201);
        let first = replies.iter().filter(|reply| reply.header("idempotency-replayed").is_empty());
        assert_eq!(first.count(), 1, "one of them made it");
        assert_eq!(tasks(&server).await, round + 1);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_twins_that_name_an_id_none_hears_that_it_is_taken(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let body = json!({ "taskType": "t", "taskId": "mine" });
    let replies = join_all((0..20).map(|_| post_keyed(&server, "/tasks", "k", &body))).await;
    assert!(replies.iter().all(|reply| reply.status == 201), "{replies:?}");
    post_keyed(&server, "/tasks", "another", &body).await.problem(409, "task_exists");
    server.post("/tasks", body).await.problem(409, "task_exists");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_remembered(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    // What was wrong may be mended under the same key: nothing was done yet.
    let wrong = post_keyed(&server, "/tasks", "k", &json!({ "taskType": "" })).await;
    wrong.problem(422, "validation_failed");
    server.post("/tasks", json!({ "taskId": "taken", "taskType": "t" })).await.ok();
    let taken = json!({ "taskId": "taken", "taskType": "t" });
    for _ in 0..2 {
        let reply = post_keyed(&server, "/tasks", "k", &taken).await;
        reply.problem(409, "task_exists");
        assert_eq!(reply.header("idempotency-replayed"), "");
    }
    let right = json!({ "taskId": "free", "taskType": "t" });
    let first = post_keyed(&server, "/tasks", "k", &right).await;
    assert_eq!(first.status, 201, "{}", first.text);
    is_repeated(&first, &post_keyed(&server, "/tasks", "k", &right).await);
    post_keyed(&server, "/tasks", "k", &taken).await.problem(422, "idempotency_key_reused");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_remembered_for_a_day(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let body = json!({ "taskType": "t" });
    let first = post_keyed(&server, "/tasks", "k", &body).await;
    server.clock.advance(NEARLY);
    is_repeated(&first, &post_keyed(&server, "/tasks", "k", &body).await);
    server.clock.advance(Duration::from_mins(2));
    // Deleted or not, it is over: twins of the second life share one task, too.
    let replies = join_all((0..10).map(|_| post_keyed(&server, "/tasks", "k", &body))).await;
    let ids: HashSet<String> =
        replies.iter().map(|reply| reply.ok()["taskId"].to_string()).collect();
    assert_eq!(ids.len(), 1);
    assert!(!ids.contains(&first.json()["taskId"].to_string()));
    assert_eq!(tasks(&server).await, 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn rubbish_for_a_key_is_refused_and_does_nothing(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let long = "x".repeat(256);
    let rubbish: [&[u8]; 9] =
        [b"", b"\"\"", b"\"open", b"a b", b"a, b", b"\"a\" b", b"\xff", b"a\tb", long.as_bytes()];
    for key in rubbish {
        for path in ["/tasks", "/tasks/bulk", "/tasks/nobody/retry"] {
            let value = reqwest::header::HeaderValue::from_bytes(key).expect("a header");
            let request = server.client().post(server.api(path)).header("idempotency-key", value);
            let request = request.json(&json!({ "taskType": "t", "tasks": [{ "taskType": "t" }] }));
            let problem = server.send(request).await.problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["path"], "Idempotency-Key", "{key:?}");
        }
    }
    let twice = server.client().post(server.api("/tasks")).header("idempotency-key", "a");
    let twice = twice.header("idempotency-key", "a").json(&json!({ "taskType": "t" }));
    server.send(twice).await.problem(422, "validation_failed");
    assert_eq!(tasks(&server).await, 0);
    let longest = "~".repeat(255);
    post_keyed(&server, "/tasks", &longest, &json!({ "taskType": "t" })).await.ok();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_different_routes_and_tasks_are_different_keys(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let one = json!({ "taskType": "t" });
    let registered = post_keyed(&server, "/tasks", "k", &one).await;
    let many = json!({ "tasks": [{ "taskType": "t" }] });
    let bulk = post_keyed(&server, "/tasks/bulk", "k", &many).await;
    assert_eq!((registered.status, bulk.status), (201, 200), "{}", bulk.text);
    let mut retries = HashSet::new();
    for _ in 0..2 {
        let id = server.started("t").await;
        server.post(&format!("/tasks/{id}/fail"), json!({ "workerId": "worker-1" })).await.ok();
        let path = format!("/tasks/{id}/retry");
        let first = post_keyed(&server, &path, "k", &json!({})).await;
        assert_eq!(first.status, 201, "{}", first.text);
        is_repeated(&first, &post_keyed(&server, &path, "k", &json!({})).await);
        post_keyed(&server, &path, "other", &json!({})).await.problem(409, "invalid_transition");
        retries.insert(first.json()["newTaskId"].to_string());
    }
    assert_eq!(retries.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_configured_origin_may_send_a_key_and_see_that_an_answer_is_repeated() {
    let server = Server::start_with(Embedded, |mut config| {
        config.cors_origins = vec!["https://ours.example".parse().expect("an origin")];
        config
    });
    let server = server.await;
    let preflight = server
        .client()
        .request(reqwest::Method::OPTIONS, server.api("/tasks"))
        .header("origin", "https://ours.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "idempotency-key");
    let allowed = server.send(preflight).await;
    assert!(allowed.header("access-control-allow-headers").contains("idempotency-key"));
    let request = server.client().post(server.api("/tasks")).json(&json!({ "taskType": "t" }));
    let reply = server.send(request.header("origin", "https://ours.example")).await;
    assert!(reply.header("access-control-expose-headers").contains("idempotency-replayed"));
}
