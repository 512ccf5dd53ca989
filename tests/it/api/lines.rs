//! Entries that arrive line by line, in a body that may take its time.

use bytes::Bytes;
use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::Mode::{self, Cluster, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server, eventually, seq_ids};

const LINES: &str = "application/x-ndjson";

/// A body whose pieces are sent one by one, and the way to send them.
fn pieces() -> (mpsc::Sender<Result<Bytes, std::io::Error>>, reqwest::Body) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, reqwest::Body::wrap_stream(ReceiverStream::new(receiver)))
}

async fn sent(server: &Server, id: &str, body: impl Into<reqwest::Body>) -> Reply {
    server.post_raw(&format!("/tasks/{id}/progress"), LINES, body).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_an_entry(#[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let body = "{\"n\":1}\n\n  \n{\"n\":2}\r\n{ \"n\" : 3, \"seqId\": 9 }\n{\"n\":4}";
    let reply = sent(&server, &id, body).await.ok();
    assert_eq!((&reply["seqId"], &reply["count"]), (&json!(4), &json!(4)));
    assert_eq!(reply["taskId"], id);
    let expected: Vec<Value> = (1..=4).map(|n| json!({ "seqId": n, "n": n })).collect();
    assert_eq!(server.task(&id).await["progressHistory"], json!(expected));
    let parameter = "application/x-ndjson; charset=utf-8";
    let path = format!("/tasks/{id}/progress");
    let reply = server.post_raw(&path, parameter, "{}\n").await.ok();
    assert_eq!((&reply["seqId"], &reply["count"]), (&json!(5), &json!(1)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_visible_before_the_body_ends(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let mut stream = server.track_at(server.last_node(), &id, "").await;
    let (sender, body) = pieces();
    let reply = sent(&server, &id, body);
    let watch = async {
        // Borders inside a line, inside a character, inside an escape.
        let crab = "🦀".as_bytes();
        let text = [b"\"}\n{\"text\":\"".as_slice(), &crab[..2]].concat();
        let pieces: [(&[u8], Option<Value>); 6] = [
            (b"{\"n\":1}\n{\"n\"", Some(json!({ "seqId": 1, "n": 1 }))),
            (b":2}\r\n{\"esc\":\"\\u00", Some(json!({ "seqId": 2, "n": 2 }))),
            (b"e9", None),
            (&text, Some(json!({ "seqId": 3, "esc": "é" }))),
            (&crab[2..], None),
            (b"\"}\n{\"last\":true}", Some(json!({ "seqId": 4, "text": "🦀" }))),
        ];
        for (piece, expected) in pieces {
            sender.send(Ok(Bytes::copy_from_slice(piece))).await.expect("a server that reads");
            if let Some(expected) = expected {
                let event = stream.next().await.expect("an event");
                assert_eq!(event.data["data"], expected, "while the body goes on");
            }
        }
        drop(sender);
        assert_eq!(stream.next().await.expect("an event").data["data"]["last"], true);
    };
    let (reply, ()) = futures::join!(reply, watch);
    let reply = reply.ok();
    assert_eq!((&reply["seqId"], &reply["count"]), (&json!(5), &json!(5)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_says_how_many_were_kept_before_it(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let too_long = format!("{{\"a\":\"{}\"}}", "x".repeat(256 << 10));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let cases: [(&[u8], u16, &str); 8] = [
        (b"{\"n\":", 400, "malformed_body"),
        (b"nonsense", 400, "malformed_body"),
        (b"{} {}", 400, "malformed_body"),
        (b"{\"a\":\"\xff\xfe\"}", 400, "malformed_body"),
        (b"[1]", 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
        (too_long.as_bytes(), 413, "body_too_large"),
        (deep.as_bytes(), 422, "validation_failed"),
    ];
    for (bad, status, code) in cases {
        let id = server.started("t").await;
        server.progressed(&id, json!({})).await;
        let body = [b"{\"n\":2}\n{\"n\":3}\n".as_slice(), bad, b"\n{\"never\":true}\n"].concat();
        let problem = sent(&server, &id, body).await.problem(status, code);
        assert_eq!((&problem["count"], &problem["seqId"]), (&json!(2), &json!(3)), "{problem}");
        assert_eq!(seq_ids(&server.task(&id).await), [1, 2, 3], "and nothing after it");
        let first = [bad, b"\n{}\n"].concat();
        sent(&server, &id, first).await.problem(status, code);
        assert_eq!(server.progressed(&id, json!({})).await, 4, "no number was used up");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn lines_come_from_the_worker_in_the_query(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let path = |worker: &str| format!("/tasks/{id}/progress?workerId={worker}");
    server.post_raw(&path("worker-1"), LINES, "{}\n").await.ok();
    let other = server.post_raw(&path("worker-2"), LINES, "{}\n").await;
    other.problem(403, "not_the_worker");
    let none = server.post_raw(&path(""), LINES, "{}\n").await;
    assert_eq!(none.problem(422, "validation_failed")["errors"][0]["path"], "workerId");
    assert_eq!(seq_ids(&server.task(&id).await), [1]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_line_is_refused(#[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    for body in ["", "\n\n", "  \r\n"] {
        sent(&server, &id, body).await.problem(422, "validation_failed");
    }
    assert_eq!(server.task(&id).await["progressHistory"], json!([]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn lines_after_the_end_are_refused_and_those_before_it_kept(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let (sender, body) = pieces();
    let end = async {
        sender.send(Ok(Bytes::from_static(b"{\"n\":1}\n{\"n\":2}\n"))).await.expect("a reader");
        eventually(async || (seq_ids(&server.task(&id).await) == [1, 2]).then_some(())).await;
        server.completed(&id).await.ok();
        // The server may have hung up already: it has said all it has to say.
        let _ = sender.send(Ok(Bytes::from_static(b"{\"n\":3}\n"))).await;
        drop(sender);
    };
    let (reply, ()) = futures::join!(sent(&server, &id, body), end);
    let problem = reply.problem(409, "invalid_transition");
    assert_eq!(
        (&problem["from"], &problem["attempted"]),
        (&json!("completed"), &json!("progress"))
    );
    assert_eq!((&problem["count"], &problem["seqId"]), (&json!(2), &json!(2)));
    assert_eq!(seq_ids(&server.task(&id).await), [1, 2]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_was_cut_off_is_no_entry(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let mut connection = TcpStream::connect(server.nodes[0].address()).await.expect("a connection");
    // The second line would be whole JSON; but its end never came.
    let lines = "{\"n\":1}\n{\"n\":2}";
    let head = format!(
        "POST /api/v1/tasks/{id}/progress HTTP/1.1\r\nhost: x\r\ncontent-type: {LINES}\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{lines}\r\n",
        lines.len()
    );
    connection.write_all(head.as_bytes()).await.expect("a server that reads");
    eventually(async || (seq_ids(&server.task(&id).await) == [1]).then_some(())).await;
    drop(connection);
    assert_eq!(server.progressed(&id, json!({ "n": 3 })).await, 2);
    server.completed(&id).await.ok();
    let history = server.task(&id).await["progressHistory"].clone();
    assert_eq!(history, json!([{ "seqId": 1, "n": 1 }, { "seqId": 2, "n": 3 }]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_lines_may_be_longer_than_any_other(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let line = format!("{{\"fill\":\"{}\"}}\n", "x".repeat(1000));
    let reply = sent(&server, &id, line.repeat(3000)).await.ok();
    assert_eq!((&reply["seqId"], &reply["count"]), (&json!(3000), &json!(3000)));
    server.completed(&id).await.ok();
    assert_eq!(seq_ids(&server.task(&id).await), (1..=3000).collect::<Vec<_>>());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_lines_side_by_side_leave_no_gap(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let bodies = join_all((0..8).map(|body| {
        let lines: Vec<String> =
            (0..50).map(|n| json!({ "body": body, "n": n }).to_string()).collect();
        let lines = lines.join("\n");
        sent(&server, &id, lines)
    }));
    for reply in bodies.await {
        assert_eq!(reply.ok()["count"], 50);
    }
    let task = server.task(&id).await;
    assert_eq!(seq_ids(&task), (1..=400).collect::<Vec<_>>());
    for body in 0..8 {
        let history = task["progressHistory"].as_array().expect("a history");
        let mine = history.iter().filter(|entry| entry["body"] == body);
        assert!(mine.map(|entry| entry["n"].as_u64()).eq((0..50).map(Some)), "in order");
    }
}
