//! Clients that begin and do not go on: heads, bodies and lines that do not arrive.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use task_tracker::http::Front;

use crate::harness::Mode::{self, Embedded, Node};
use crate::harness::raw::{Raw, status};
use crate::harness::{Server, eventually, seq_ids};

/// Longer than any test may take.
const NEVER: Duration = Duration::from_hours(1);

/// A server with limits of its own.
async fn server(mode: Mode, front: Front) -> Server {
    Server::start_with(mode, |config| task_tracker::config::Config {
        front: front.clone(),
        ..config
    })
    .await
}

async fn raw(server: &Server) -> Raw {
    Raw::connect(server.nodes[0].address()).await
}

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The body of an answer that has one.
fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_arrive_ends_the_connection(#[values(Embedded, Node)] mode: Mode) {
    let front = Front { header_time: milliseconds(400), keep_alive: NEVER, ..Front::default() };
    let server = server(mode, front).await;
    let beginnings: [&[u8]; 8] = [
        b"",
        b"G",
        b"PRI",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        b"GET /livez HTTP/1.1",
        b"GET /livez HTTP/1.1\r\nhost: x\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\nx-more: ",
        b"\r\n",
    ];
    for begun in beginnings {
        let mut client = raw(&server).await;
        assert!(client.send(begun).await);
        assert_eq!(client.rest().await, "", "{begun:?}");
    }
    assert_eq!(server.get("/tasks").await.status, 200, "others are served");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_byte_by_byte_ends_the_connection_in_time(
    #[values(Embedded, Node)] mode: Mode,
) {
    let front = Front { header_time: milliseconds(500), keep_alive: NEVER, ..Front::default() };
    let server = server(mode, front).await;
    for requests_before in [0, 1] {
        let mut client = raw(&server).await;
        for _ in 0..requests_before {
            assert!(client.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await);
            assert_eq!(status(&client.answer().await), 200);
        }
        assert!(client.send("GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: ").await);
        let begun = std::time::Instant::now();
        while client.send("x").await {
            assert!(begun.elapsed() < milliseconds(15_000), "it goes on and on");
            tokio::time::sleep(milliseconds(25)).await;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_between_two_requests_but_not_for_ever(
    #[values(Embedded, Node)] mode: Mode,
) {
    const REQUEST: &str = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    // Idle for far longer than a head may take: that is no slow head.
    let front = Front { header_time: milliseconds(200), keep_alive: NEVER, ..Front::default() };
    let patient = server(mode, front).await;
    let mut client = raw(&patient).await;
    for _ in 0..3 {
        assert!(client.send(REQUEST).await);
        assert_eq!(status(&client.answer().await), 200);
        tokio::time::sleep(milliseconds(700)).await;
    }
    let front =
        Front { header_time: milliseconds(200), keep_alive: milliseconds(300), ..Front::default() };
    let hasty = server(mode, front).await;
    let mut client = raw(&hasty).await;
    assert!(client.send(REQUEST).await);
    assert_eq!(status(&client.answer().await), 200);
    assert_eq!(client.rest().await, "", "and nothing else is said");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_408_and_the_end_of_its_connection(
    #[values(Embedded, Node)] mode: Mode,
) {
    let front = Front { body_idle: milliseconds(300), ..Front::default() };
    let server = server(mode, front).await;
    let id = server.started("t").await;
    let calls = [
        ("/tasks", "content-length: 100"),
        ("/tasks", "transfer-encoding: chunked"),
        ("/tasks", "expect: 100-continue\r\ncontent-length: 100"),
        ("/tasks/claim", "content-length: 100"),
        (&format!("/tasks/{id}/progress"), "content-length: 100"),
        (&format!("/tasks/{id}/complete"), "transfer-encoding: chunked"),
        (&format!("/tasks/{id}/release"), "content-length: 1"),
    ];
    for (path, length) in calls {
        let mut client = raw(&server).await;
        let head = format!(
            "POST /api/v1{path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
        );
        assert!(client.send(head).await);
        let answer = client.rest().await;
        let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
        assert_eq!(status(answer), 408, "{path} {length}: {answer}");
        assert_eq!(body(answer)["code"], "request_timeout");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\nx-correlation-id: "), "{answer}");
    }
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["progressHistory"]), (&json!("in_progress"), &json!([])));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_byte_by_byte_is_408_in_time(#[values(Embedded, Node)] mode: Mode) {
    let front = Front { body_idle: NEVER, body_time: milliseconds(500), ..Front::default() };
    let server = server(mode, front).await;
    let mut client = raw(&server).await;
    let head = "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
    assert!(client.send(head).await);
    let dribble = async {
        let begun = std::time::Instant::now();
        while client.send(" ").await {
            assert!(begun.elapsed() < milliseconds(15_000), "it goes on and on");
            tokio::time::sleep(milliseconds(25)).await;
        }
    };
    dribble.await;
    let fine = server.post("/tasks", json!({ "taskType": "t" })).await;
    assert_eq!(fine.status, 201);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn lines_may_come_for_as_long_as_they_come(#[values(Embedded, Node)] mode: Mode) {
    let front = Front {
        body_idle: milliseconds(100),
        body_time: milliseconds(300),
        lines_idle: milliseconds(2500),
        ..Front::default()
    };
    let server = server(mode, front).await;
    let id = server.started("t").await;
    let mut client = raw(&server).await;
    let head = format!(
        "POST /api/v1/tasks/{id}/progress HTTP/1.1\r\nhost: x\r\n\
         content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    assert!(client.send(head).await);
    // Each line far apart, and all of them far longer than a JSON body may take; an empty one is a sign of life.
    for chunk in ["8\r\n{\"n\":1}\n\r\n", "1\r\n\n\r\n", "8\r\n{\"n\":2}\n\r\n"] {
        assert!(client.send(chunk).await);
        tokio::time::sleep(milliseconds(400)).await;
    }
    let kept = async || (seq_ids(&server.task(&id).await) == [1, 2]).then_some(());
    eventually(kept).await;
    let answer = client.rest().await;
    assert_eq!(status(&answer), 408, "silent for too long: {answer}");
    let problem = body(&answer);
    assert_eq!(problem["code"], "request_timeout");
    assert_eq!((&problem["count"], &problem["seqId"]), (&json!(2), &json!(2)), "what was kept");
}
