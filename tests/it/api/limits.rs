//! What a client may have at once: connections, streams, places to wait.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use task_tracker::config::Config;
use task_tracker::http::Front;

use super::{is_whole, numbers};
use crate::harness::Mode::{self, Embedded, Node};
use crate::harness::raw::{Raw, status};
use crate::harness::{Event, Events, Reply, Server, eventually};

const LIVEZ: &str = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";

async fn server(mode: Mode, front: Front) -> Server {
    Server::start_with(mode, |config| Config { front: front.clone(), ..config }).await
}

/// When a client that was refused may come again.
#[track_caller]
fn comes_again(reply: &Reply) -> u32 {
    let after = reply.header("retry-after").parse().expect("a retry-after in seconds");
    assert!((1..=60).contains(&after), "{after}");
    after
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_told_so_and_the_others_go_on(
    #[values(Embedded, Node)] mode: Mode,
) {
    let server = server(mode, Front { connections: 3, ..Front::default() }).await;
    let address = server.nodes[0].address();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect(address).await;
        assert!(client.send(LIVEZ).await);
        assert_eq!(status(&client.answer().await), 200);
        clients.push(client);
    }
    for _ in 0..20 {
        let mut refused = Raw::connect(address).await;
        assert!(refused.send(LIVEZ).await);
        let answer = refused.rest().await;
        assert_eq!(status(&answer), 503, "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        for line in ["content-type: application/problem+json", "connection: close"] {
            assert!(head.lines().any(|header| header == line), "{line} in {head}");
        }
        for header in ["retry-after: ", "x-correlation-id: "] {
            assert!(head.contains(header), "{header} in {head}");
        }
        let problem: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&problem["code"], &problem["status"]), (&json!("unavailable"), &json!(503)));
    }
    for client in &mut clients {
        assert!(client.send(LIVEZ).await);
        assert_eq!(status(&client.answer().await), 200, "who was there goes on");
    }
    clients.pop();
    let served = async || {
        let mut next = Raw::connect(address).await;
        next.send("GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        (status(&next.rest().await) == 200).then_some(())
    };
    eventually(served).await;
}

/// Opens a stream as a proxy would for a client of its own.
async fn tracked(server: &Server, id: &str, client: &str) -> Events {
    server.track_with(id, "", &[("x-forwarded-for", client)]).await
}

/// What a client is answered that asks for a stream.
async fn asked(server: &Server, id: &str, client: &str) -> Reply {
    let request = server.client().get(server.api(&format!("/tasks/{id}/track")));
    server.send(request.header("x-forwarded-for", client)).await
}

/// Waits until a client is given a stream again.
async fn readmitted(server: &Server, id: &str, client: &str) -> Events {
    let admitted = async || {
        let stream = tracked(server, id, client).await;
        (stream.status() == 200).then_some(stream)
    };
    eventually(admitted).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_have_so_many_streams_and_another_as_many(
    #[values(Embedded, Node)] mode: Mode,
) {
    let front = Front {
        streams_per_client: 2,
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..Front::default()
    };
    let server = server(mode, front).await;
    let id = server.started("t").await;
    // What stands further left was said by the client, who could say anything.
    let mut of_one = vec![
        tracked(&server, &id, "192.0.2.1").await,
        tracked(&server, &id, "198.51.100.77, 192.0.2.1").await,
    ];
    let refused = asked(&server, &id, "198.51.100.78, 192.0.2.1").await;
    refused.problem(429, "too_many_streams");
    let after: Vec<u32> = join_all((0..20).map(|_| asked(&server, &id, "192.0.2.1")))
        .await
        .iter()
        .map(comes_again)
        .collect();
    assert!(after.iter().any(|other| *other != after[0]), "not all at once: {after:?}");
    let of_another = tracked(&server, &id, "192.0.2.2").await;
    assert_eq!(of_another.status(), 200);
    // A client of IPv6 has a whole network of addresses.
    let _of_six =
        [tracked(&server, &id, "2001:db8::1").await, tracked(&server, &id, "2001:db8::2").await];
    asked(&server, &id, "2001:db8::3").await.problem(429, "too_many_streams");
    // A place is free when its stream has ended, and one only.
    of_one.pop();
    let _again = readmitted(&server, &id, "192.0.2.1").await;
    asked(&server, &id, "192.0.2.1").await.problem(429, "too_many_streams");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_says_of_its_address_is_not_believed(#[values(Embedded, Node)] mode: Mode) {
    let server = server(mode, Front { streams_per_client: 2, ..Front::default() }).await;
    let id = server.started("t").await;
    let _two = [tracked(&server, &id, "192.0.2.1").await, tracked(&server, &id, "192.0.2.2").await];
    asked(&server, &id, "192.0.2.3").await.problem(429, "too_many_streams");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_so_many_streams_and_each_end_frees_one(#[values(Embedded, Node)] mode: Mode) {
    let server = server(mode, Front { streams: 3, ..Front::default() }).await;
    let id = server.started("t").await;
    server.progressed(&id, json!({})).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(server.track(&id, "").await);
    }
    let refused = server.get(&format!("/tasks/{id}/track")).await;
    refused.problem(503, "unavailable");
    comes_again(&refused);
    // Whoever is refused, or asks for what is not there, takes no place.
    server.get("/tasks/nobody/track").await.problem(503, "unavailable");
    server.completed(&id).await.ok();
    for stream in streams {
        is_whole(&stream.rest().await, 0, 1, "completed");
    }
    for _ in 0..10 {
        server.get("/tasks/nobody/track").await.problem(404, "task_not_found");
        let stream = async || {
            let stream = server.track(&id, "").await;
            (stream.status() == 200).then_some(stream)
        };
        is_whole(&eventually(stream).await.rest().await, 0, 1, "completed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_lives_for_so_long_ends_cleanly_and_is_resumed(
    #[values(Embedded, Node)] mode: Mode,
) {
    const LAST: u64 = 60;
    let life = Duration::from_millis(400);
    let server = server(mode, Front { stream_life: life, ..Front::default() }).await;
    let id = server.started("t").await;
    let appended = async {
        for n in 1..=LAST {
            server.progressed(&id, json!({ "n": n })).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        server.completed(&id).await.ok();
    };
    let read = async {
        let (mut seen, mut streams) = (Vec::<Event>::new(), 0);
        while !seen.last().is_some_and(Event::is_end) {
            let last = numbers(&seen).last().map_or("0".to_owned(), u64::to_string);
            let opened = Instant::now();
            // A stream that is cut off inside a frame or a chunk fails here.
            let stream = server.track_with(&id, "", &[("last-event-id", &last)]).await;
            seen.extend(stream.rest().await);
            streams += 1;
            let is_over = seen.last().is_some_and(Event::is_end);
            assert!(is_over || opened.elapsed() >= life.mul_f64(0.85), "{:?}", opened.elapsed());
        }
        (seen, streams)
    };
    let ((), (seen, streams)) = futures::join!(appended, read);
    is_whole(&seen, 0, LAST, "completed");
    assert!(streams >= 3, "{streams}");
}

fn waiting(types: &[&str], seconds: f64) -> Value {
    json!({ "taskTypes": types, "workerId": "w", "waitSeconds": seconds })
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn so_many_workers_may_wait_and_for_so_many_types(#[values(Embedded, Node)] mode: Mode) {
    let front = Front { waiting_claims: 3, waiting_types: 3, ..Front::default() };
    let server = server(mode, front).await;
    // A worker that does not give up: while we look whether there is room, there may be none for it.
    let wait = |types: &'static [&'static str]| {
        let (client, url) = (server.client().clone(), server.api("/tasks/claim"));
        tokio::spawn(async move {
            loop {
                let claim = client.post(&url).json(&waiting(types, 10.0)).send().await;
                let claim = claim.expect("an answer");
                if claim.status() == 200 {
                    let task: Value = claim.json().await.expect("JSON");
                    if !task.is_null() {
                        return task;
                    }
                }
            }
        })
    };
    let refused = async |types: &[&str]| {
        let refused = server.post("/tasks/claim", waiting(types, 0.1)).await;
        if refused.status != 429 {
            assert_eq!((refused.status, refused.text.as_str()), (200, "null"));
            return None;
        }
        refused.problem(429, "too_many_claims");
        comes_again(&refused);
        Some(())
    };
    let two_types = wait(&["a", "b"]);
    // From the moment on that it waits there is room for one more type.
    eventually(|| refused(&["c", "d"])).await;
    assert_eq!(refused(&["a", "c"]).await, None);
    let others = [wait(&["a"]), wait(&["a"])];
    eventually(|| refused(&["a"])).await;
    // Who does not wait needs no place, and a worker that leaves frees its own.
    let at_once = server.post("/tasks/claim", waiting(&["x", "y", "z"], 0.0)).await;
    assert_eq!((at_once.status, at_once.text.as_str()), (200, "null"));
    two_types.abort();
    let free = async || refused(&["c", "d"]).await.is_none().then_some(());
    eventually(free).await;
    server.registered("a").await;
    server.registered("a").await;
    for other in others {
        assert_eq!(other.await.expect("a task")["taskType"], "a");
    }
}

/// The figure of this process for a reason; other tests count, too.
async fn closed(server: &Server, reason: &str) -> u64 {
    let figures = server.send(server.client().get(server.root("/metrics"))).await.text;
    let line = format!("streams_closed_total{{reason=\"{reason}\"}} ");
    let value = figures.lines().find_map(|figure| figure.strip_prefix(&line));
    value.map_or(0, |value| value.parse().expect("a count"))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_http2_that_is_not_taken_is_reset_and_its_connection_goes_on(
    #[values(Embedded, Node)] mode: Mode,
) {
    let stall = Duration::from_millis(500);
    let server = server(mode, Front { stall, requests: 7, ..Front::default() }).await;
    let id = server.started("t").await;
    let entries: Vec<Value> = (0..5).map(|_| json!({ "fill": "x".repeat(100_000) })).collect();
    server.post(&format!("/tasks/{id}/progress"), json!({ "entries": entries })).await.ok();
    let before = closed(&server, "stalled").await;
    let address = server.nodes[0].address();
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    // One stream may not take the window of all.
    let client = h2::client::Builder::new()
        .initial_window_size(50_000)
        .initial_connection_window_size(1 << 20)
        .handshake::<_, bytes::Bytes>(stream)
        .await;
    let (mut client, connection) = client.expect("HTTP/2");
    tokio::spawn(connection);
    let get = |path: &str| {
        let uri = format!("http://{address}{path}");
        axum::http::Request::get(uri).body(()).expect("a request")
    };
    let request = get(&format!("/api/v1/tasks/{id}/track"));
    let (answer, _) = client.send_request(request, true).expect("a request");
    let mut body = answer.await.expect("an answer").into_body();
    // It takes what the window lets through, and opens it no more. Then more comes.
    let begun = body.data().await.expect("a beginning");
    assert_eq!(client.current_max_send_streams(), 7, "so many at once on one connection");
    assert!(!begun.expect("an unbroken stream").is_empty());
    let entries: Vec<Value> = (0..3).map(|_| json!({ "fill": "x".repeat(100_000) })).collect();
    for entry in entries {
        server.progressed(&id, entry).await;
    }
    let ended = async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("the task has not ended"),
            }
        }
    };
    let error =
        tokio::time::timeout(crate::harness::PATIENCE, ended).await.expect("a reset in time");
    assert!(error.is_reset(), "{error}");
    let (answer, _) = client.send_request(get("/livez"), true).expect("a connection that goes on");
    assert_eq!(answer.await.expect("an answer").status(), 200);
    let counted = async || (closed(&server, "stalled").await > before).then_some(());
    eventually(counted).await;
}
