//! Bytes that are no HTTP, and JSON without end: a 4xx or a close, never a hang, never a fault.

use std::fmt::Write;
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use task_tracker::config::Config;
use task_tracker::http::Front;

use crate::harness::Mode::{self, Embedded, Node};
use crate::harness::raw::{Raw, status};
use crate::harness::{Reply, Server};

/// What no client of these tests may have to wait for.
const SHORT: Duration = Duration::from_millis(500);

/// A server that does not wait long for what has begun.
async fn server(mode: Mode) -> Server {
    server_with(mode, Front::default()).await
}

async fn server_with(mode: Mode, front: Front) -> Server {
    let front = Front { header_time: SHORT, body_idle: SHORT, ..front };
    Server::start_with(mode, |config| Config { front: front.clone(), ..config }).await
}

/// Says the bytes and nothing more, and reads what comes until the server closes, which it must.
async fn said(server: &Server, bytes: impl AsRef<[u8]>) -> String {
    let mut client = Raw::connect(server.nodes[0].address()).await;
    client.send(bytes).await;
    client.rest().await
}

fn post(headers: &str, body: &str) -> String {
    format!(
        "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}\r\n\r\n{body}"
    )
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_no_head_is_refused_or_closed(#[values(Embedded, Node)] mode: Mode) {
    let server = server(mode).await;
    let long = "x".repeat(200_000);
    let many: String = (0..5000).fold(String::new(), |mut headers, n| {
        write!(headers, "x-{n}: {n}\r\n").expect("memory");
        headers
    });
    let heads = [
        "asdf\r\n\r\n".to_owned(),
        "\r\n\r\n\r\n\r\nGET\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\nname: a\0b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n: nameless\r\n\r\n".to_owned(),
        "GET /\x01 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "G\u{e9}T / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "GET http:// HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("{long} / HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{long}: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", &long[..40_000]),
        post("content-length: abc", "{}"),
        post("content-length: -1", "{}"),
        post("content-length: 1e3", "{}"),
        post("content-length: 99999999999999999999999999", "{}"),
        post("content-length: 2\r\ncontent-length: 3", "{}"),
        post("transfer-encoding: gzip", "{}"),
        post("transfer-encoding: chunked, gzip", "{}"),
    ];
    for head in &heads {
        let answer = said(&server, head).await;
        let shown: String = head.chars().take(60).collect();
        assert!(
            answer.is_empty() || (400..500).contains(&status(&answer)),
            "{shown:?}: {answer:?}"
        );
    }
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    assert!(matches!(said(&server, tls).await.get(9..12), None | Some("400")));
    assert_eq!(server.get("/tasks").await.status, 200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn noise_is_refused_or_closed(#[values(Embedded)] mode: Mode) {
    let server = server(mode).await;
    // Seeded, so that what fails once fails again.
    let mut random = fastrand::Rng::with_seed(7);
    let noises: Vec<Vec<u8>> = (0..200)
        .map(|n| {
            let prefix = ["", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"][n % 3];
            let noise = (0..random.usize(1..3000)).map(|_| random.u8(..));
            prefix.bytes().chain(noise).collect()
        })
        .collect();
    let answers = join_all(noises.iter().map(async |noise| {
        let mut client = Raw::connect(server.nodes[0].address()).await;
        client.send(noise).await;
        // HTTP/2 may take noise for a frame that has not come to its end; then the end of all has.
        client.finish().await;
        client.rest().await
    }));
    for (noise, answer) in noises.iter().zip(answers.await) {
        if answer.starts_with("HTTP/1") {
            assert!((400..500).contains(&status(&answer)), "{noise:?}: {answer:?}");
        }
    }
    assert_eq!(server.get("/tasks").await.status, 200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_no_chunks_are_refused_or_closed(#[values(Embedded, Node)] mode: Mode) {
    let server = server(mode).await;
    let chunked = |body: &str| post("transfer-encoding: chunked", body);
    let long = "x".repeat(200_000);
    let trailers = "x-t: y\r\n".repeat(20_000);
    let bodies = [
        chunked("zz\r\n{}\r\n0\r\n\r\n"),
        chunked("-2\r\n{}\r\n0\r\n\r\n"),
        chunked("\r\n{}\r\n0\r\n\r\n"),
        chunked("FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"),
        chunked("FFFFFFFFFFFFFFFF\r\n{}"),
        chunked("2\r\n{}xx0\r\n\r\n"),
        chunked(&format!("2;{long}\r\n{{}}\r\n0\r\n\r\n")),
        chunked(&format!("{}\r\n{{}}\r\n0\r\n\r\n", "0".repeat(100_000))),
        chunked(&format!("2\r\n{{}}\r\n0\r\n{trailers}\r\n")),
        chunked(&format!("2\r\n{{}}\r\n0\r\nx-t: {long}\r\n\r\n")),
        chunked("2\r\n{"),
        chunked("2\r\n{}\r\n"),
        post("content-length: 10\r\ntransfer-encoding: chunked", "zz\r\n"),
    ];
    for body in &bodies {
        let answer = said(&server, body).await;
        let shown: String = body.chars().skip(90).take(60).collect();
        assert!(
            answer.is_empty() || (400..500).contains(&status(&answer)),
            "{shown:?}: {answer:?}"
        );
    }
    let tasks = server.get("/tasks").await.ok();
    assert_eq!(tasks["items"].as_array().map(Vec::len), Some(0), "nothing was made of it");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn rubbish_behind_a_request_does_not_spoil_its_answer(#[values(Embedded, Node)] mode: Mode) {
    // What comes in part with the request before has as long as an idle connection.
    let server = server_with(mode, Front { keep_alive: SHORT, ..Front::default() }).await;
    let fine = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    for rubbish in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "GET /liv"] {
        let answer = said(&server, format!("{fine}{rubbish}")).await;
        assert_eq!(status(&answer), 200, "{rubbish:?}: {answer}");
        let (_, behind) = answer.split_once("alive\n").expect("the answer");
        assert!(behind.is_empty() || (400..500).contains(&status(behind)), "{rubbish:?}: {behind}");
    }
    // A thousand at once on one connection are answered one after the other.
    let mut client = Raw::connect(server.nodes[0].address()).await;
    client.send(fine.repeat(1000)).await;
    client.send("GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!(client.rest().await.matches("HTTP/1.1 200 OK").count(), 1001);
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_no_frames_end_their_connection(#[values(Embedded)] mode: Mode) {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let (data, headers, reset, settings, ping, window, continuation) = (0, 1, 3, 4, 6, 8, 9);
    let server = server(mode).await;
    // `GET`, `http`, `/` and an authority, from the static table (RFC 7541).
    let head = b"\x82\x86\x84\x41\x01x";
    let opened_and_reset: Vec<u8> = (0..5000)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            [frame(headers, 5, stream, head), frame(reset, 0, stream, &[0, 0, 0, 8])].concat()
        })
        .collect();
    let endless_head: Vec<u8> =
        (0..5000).flat_map(|_| frame(continuation, 0, 1, &b"\x00\x01x\x7e".repeat(100))).collect();
    let endless_head = [frame(headers, 1, 1, head), endless_head].concat();
    let rubbish = [
        frame(data, 0, 0, b"data of nobody"),
        frame(data, 0, 1, b"data of a stream that is not open"),
        frame(headers, 5, 2, head),
        frame(headers, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        frame(window, 0, 0, &[0, 0, 0, 0]),
        frame(window, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        frame(settings, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        frame(settings, 0, 0, b"odd"),
        frame(ping, 0, 0, b"short"),
        vec![0xff; 100],
        opened_and_reset,
        endless_head,
        frame(settings, 0, 0, &[]).repeat(20_000),
        frame(ping, 0, 0, b"pingping").repeat(20_000),
    ];
    for (n, rubbish) in rubbish.iter().enumerate() {
        let mut client = Raw::connect(server.nodes[0].address()).await;
        client.send([PREFACE, &frame(settings, 0, 0, &[]), rubbish].concat()).await;
        // Floods of what is allowed are answered until the client has had enough.
        if n >= 10 {
            client.finish().await;
        }
        client.rest().await;
        assert_eq!(server.get("/tasks").await.status, 200);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn json_and_queries_without_end_are_taken_or_refused(#[values(Embedded, Node)] mode: Mode) {
    let server = server(mode).await;
    let id = server.started("t").await;
    let digits = "9".repeat(900_000);
    let keys: String = (0..60_000).fold(String::new(), |mut keys, n| {
        write!(keys, "\"{n}\":{n},").expect("memory");
        keys
    });
    let deep = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let values = [
        digits.clone(),
        format!("-{digits}"),
        format!("0.{digits}"),
        format!("1e{digits}"),
        "1e400".to_owned(),
        "-0".to_owned(),
        format!("{{\"{digits}\":1}}"),
        format!("{{{keys}\"end\":1}}"),
        format!("{{{}\"a\":1}}", "\"a\":1,".repeat(100_000)),
        deep(100),
        deep(100_000),
        format!("\"{}\"", r"\u0000".repeat(100_000)),
        format!("\"{}\"", r"\ud800".repeat(100_000)),
    ];
    let calls = |value: &str| {
        [
            ("/tasks".to_owned(), format!(r#"{{"taskType":"t","metadata":{{"v":{value}}}}}"#)),
            ("/tasks".to_owned(), format!(r#"{{"taskType":"t","timeoutSeconds":{value}}}"#)),
            ("/tasks".to_owned(), format!(r#"{{"taskType":"t","unknown":{value}}}"#)),
            (format!("/tasks/{id}/progress"), format!(r#"{{"progress":{{"v":{value}}}}}"#)),
            (
                "/tasks/claim".to_owned(),
                format!(r#"{{"taskTypes":["none"],"workerId":"w","waitSeconds":{value}}}"#),
            ),
        ]
    };
    let check = |reply: &Reply, what: &str| {
        let known = matches!(reply.status, 200 | 201 | 204 | 400 | 404 | 413 | 414 | 422 | 431);
        let what: String = what.chars().take(80).collect();
        let text: String = reply.text.chars().take(200).collect();
        assert!(known, "{what}: {} {text}", reply.status);
    };
    for value in &values {
        for (path, body) in calls(value) {
            check(&server.post_raw(&path, "application/json", body.clone()).await, &body);
        }
    }
    let long = "9".repeat(20_000);
    let many = "status=failed&".repeat(1500);
    for query in [
        format!("/tasks?limit={long}"),
        format!("/tasks?cursor={long}"),
        format!("/tasks?taskType={long}"),
        format!("/tasks?createdAfter={long}"),
        format!("/tasks?{many}"),
        format!("/tasks?{}", "%ff".repeat(5000)),
        format!("/tasks?{}", "&".repeat(20_000)),
        format!("/tasks/{long}"),
        format!("/tasks/{id}/track?afterSeqId={long}"),
        format!("/tasks/{id}/track?ignoreHistory={long}"),
    ] {
        check(&server.get(&query).await, &query);
    }
    assert_eq!(server.task(&id).await["status"], "in_progress");
}
