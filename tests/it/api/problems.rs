//! The shape of every refusal, and the ids that tie requests to logs.

use std::collections::HashSet;

use rstest::rstest;
use serde_json::json;

use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_are_problems_too(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let paths = [
        "/dashboard/nothing.js",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v2/tasks",
        "/api/v1/task",
        "/api/v1/tasks/",
        "/api/v1/tasks/{id}/",
        "/api/v1/tasks/{id}/unknown",
        "/api/v1/tasks/{id}/start/again",
        "/api/v1//tasks",
        "/favicon.ico",
        "/%ff",
    ];
    for path in paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "QUERY"] {
            let url = server.root(&path.replace("{id}", &id));
            let method = method.parse::<reqwest::Method>().expect("a method");
            let reply = server.send(server.client().request(method, url)).await;
            reply.problem(404, "route_not_found");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn wrong_methods_hear_which_are_right(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let routes = [
        ("/api/v1/tasks", &["GET", "POST"][..]),
        ("/api/v1/tasks/timeouts/process", &["POST"]),
        ("/api/v1/tasks/{id}", &["GET"]),
        ("/api/v1/tasks/{id}/track", &["GET"]),
        ("/api/v1/tasks/{id}/start", &["POST"]),
        ("/api/v1/tasks/{id}/complete", &["POST"]),
        ("/api/v1/tasks/{id}/fail", &["POST"]),
        ("/api/v1/tasks/{id}/timeout", &["POST"]),
        ("/api/v1/tasks/{id}/progress", &["POST"]),
        ("/api/v1/tasks/{id}/release", &["POST"]),
        ("/api/v1/tasks/{id}/retry", &["POST"]),
        ("/livez", &["GET"]),
        ("/metrics", &["GET"]),
    ];
    for (path, allowed) in routes {
        let wrong = ["GET", "POST", "PUT", "DELETE", "PATCH"].into_iter();
        for method in wrong.filter(|method| !allowed.contains(method)) {
            let url = server.root(&path.replace("{id}", &id));
            let request = server.client().request(method.parse().expect("a method"), url);
            let reply = server.send(request).await;
            reply.problem(405, "method_not_allowed");
            let allow = reply.header("allow");
            for right in allowed {
                assert!(allow.split(',').any(|word| word.trim() == *right), "{path}: {allow:?}");
            }
            assert!(!allow.contains(method), "{path}: {allow:?}");
        }
    }
    assert_eq!(server.task(&id).await["status"], "in_progress");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_id_no_task_can_have_is_no_task(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let long = "x".repeat(65);
    let longer = "x".repeat(5000);
    let ids = [
        "%20",
        "a%20b",
        "a%2Fb",
        "..%2F..",
        "%00",
        "%ff",
        "%F0%9F%A6%80",
        "a%0d%0ab",
        "*",
        "{x}",
        "~",
        long.as_str(),
        longer.as_str(),
    ];
    for id in ids {
        server.get(&format!("/tasks/{id}")).await.problem(404, "task_not_found");
        server.get(&format!("/tasks/{id}/track")).await.problem(404, "task_not_found");
        for word in ["start", "complete", "fail", "timeout", "release", "retry", "progress"] {
            let body = json!({ "workerId": "w", "progress": {} });
            let reply = server.post(&format!("/tasks/{id}/{word}"), body).await;
            reply.problem(404, "task_not_found");
        }
    }
}

/// One request for each kind of answer.
async fn every_kind(server: &Server, headers: &[(&str, &str)]) -> Vec<Reply> {
    let id = server.started("t").await;
    let client = server.client();
    let json = |request: reqwest::RequestBuilder, body: &'static str| {
        request.header("content-type", "application/json").body(body)
    };
    let requests = [
        client.get(server.root("/livez")),
        client.get(server.root("/healthz")),
        client.get(server.root("/metrics")),
        client.get(server.root("/openapi.json")),
        client.get(server.root("/docs/")),
        client.get(server.api("/tasks")),
        json(client.post(server.api("/tasks")), r#"{"taskType":"t"}"#),
        json(client.post(server.api("/tasks")), "{"),
        json(client.post(server.api("/tasks")), "{}"),
        json(client.post(server.api("/tasks/claim")), r#"{"taskTypes":["none"],"workerId":"w"}"#),
        client.post(server.api("/tasks")).body("x"),
        client.post(server.api("/tasks")).body(vec![b'x'; 2 << 20]),
        client.get(server.api("/tasks/nobody")),
        client.get(server.api("/unknown")),
        client.put(server.api("/tasks")),
        client.post(server.api(&format!("/tasks/{id}/start"))),
        client.post(server.api(&format!("/tasks/{id}/complete"))),
        client.get(server.api(&format!("/tasks/{id}/track"))).header("last-event-id", "1-end"),
        client.get(server.api(&format!("/tasks/{id}/track?afterSeqId=x"))),
        client
            .request(reqwest::Method::OPTIONS, server.api("/tasks"))
            .header("origin", "https://a.example")
            .header("access-control-request-method", "GET"),
    ];
    let mut replies = Vec::new();
    for request in requests {
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        replies.push(server.send(request).await);
    }
    replies
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_callers_correlation_id(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let trace = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let given = "order/7:retry_3.a-Z";
    let replies = every_kind(&server, &[("x-correlation-id", given), trace]).await;
    let statuses: HashSet<u16> = replies.iter().map(|reply| reply.status).collect();
    for status in [200, 201, 204, 400, 403, 404, 405, 409, 413, 415, 422] {
        assert!(statuses.contains(&status), "no answer was a {status}");
    }
    for reply in &replies {
        assert_eq!(reply.header("x-correlation-id"), given, "{} {}", reply.status, reply.text);
        assert!(reply.status < 500);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_gets_a_correlation_id_where_none_was_given(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let replies = every_kind(&server, &[("traceparent", "00-rubbish")]).await;
    let ids: HashSet<&str> = replies.iter().map(|reply| reply.header("x-correlation-id")).collect();
    assert_eq!(ids.len(), replies.len(), "each its own");
    assert!(!ids.contains(""));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn headers_of_rubbish_break_nothing(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.completed(&id).await.ok();
    let long = "x".repeat(4000);
    let names = [
        "x-correlation-id",
        "traceparent",
        "last-event-id",
        "accept",
        "origin",
        "content-type",
        "if-none-match",
    ];
    let values: [&[u8]; 5] = [b"\xff\xfe", b"a\tb c", b"\"';--", long.as_bytes(), "ä🦀".as_bytes()];
    for name in names {
        for value in values {
            for path in ["/api/v1/tasks", &format!("/api/v1/tasks/{id}/track")] {
                let head =
                    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{name}: ");
                let request = [head.as_bytes(), value, b"\r\n\r\n"].concat();
                let answer = server.raw_at(0, &request).await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
                let ids = answer.to_ascii_lowercase().matches("\r\nx-correlation-id: ").count();
                assert_eq!(ids, 1, "{answer}");
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_problem_names_its_kind_for_programs_and_people(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let replies = [
        (server.get("/tasks/nobody").await, 404, "task_not_found"),
        (server.post_nothing(&format!("/tasks/{id}/start")).await, 409, "invalid_transition"),
        (server.post("/tasks", json!({})).await, 422, "validation_failed"),
    ];
    let mut types = HashSet::new();
    for (reply, status, code) in replies {
        let problem = reply.problem(status, code);
        assert!(types.insert(problem["type"].to_string()), "a type of its own: {problem}");
        assert_eq!(problem["status"], status);
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(!detail.is_empty());
        assert_eq!(problem["errors"].is_array(), code == "validation_failed");
    }
}
