//! A stream on a bare connection: how it is framed, and what a client may send behind it.

use rstest::rstest;
use serde_json::json;

use crate::harness::Mode::{self, Embedded, Node};
use crate::harness::Server;
use crate::harness::raw::Raw;

const LAST: &str = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// Opens a task's stream, which has nothing to say but that.
async fn opened(server: &Server, id: &str, version: &str, headers: &str) -> (Raw, String) {
    let mut client = Raw::connect(server.nodes[0].address()).await;
    let request =
        format!("GET /api/v1/tasks/{id}/track HTTP/{version}\r\nhost: x\r\n{headers}\r\n");
    assert!(client.send(request).await);
    let begun = client.until("\nretry: ").await;
    (client, begun)
}

/// Says something on the stream, and then its end.
async fn ends(server: &Server, id: &str) {
    server.progressed(id, json!({ "n": 1 })).await;
    server.completed(id).await.ok();
}

/// The chunks of a body to its end, put together, and what comes behind it.
#[track_caller]
fn unchunked(mut rest: &str) -> (String, &str) {
    let mut body = String::new();
    loop {
        let (size, behind) = rest.split_once("\r\n").expect("a size");
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("{size:?}"));
        body.push_str(&behind[..size]);
        rest = behind[size..].strip_prefix("\r\n").expect("the end of a chunk");
        if size == 0 {
            return (body, rest);
        }
    }
}

#[track_caller]
fn is_whole(body: &str) {
    let ids: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["1", "1-end"], "{body}");
    assert!(body.starts_with(": open\n") && body.ends_with("}\n\n"), "{body}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn requests_behind_a_stream_are_served_when_it_has_ended(
    #[values(Embedded, Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    // Sent while the stream is open, all at once or cut in two; or when it has ended.
    for (meanwhile, after) in [(LAST, ""), (&LAST[..9], &LAST[9..]), ("", LAST)] {
        let id = server.started("t").await;
        let (mut client, mut answer) = opened(&server, &id, "1.1", "").await;
        assert!(client.send(meanwhile).await);
        ends(&server, &id).await;
        answer.push_str(&client.until("\r\n0\r\n\r\n").await);
        assert!(client.send(after).await);
        answer.push_str(&client.rest().await);
        let (head, rest) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("\r\ntransfer-encoding: chunked"), "{head}");
        let (body, behind) = unchunked(rest);
        is_whole(&body);
        assert!(behind.starts_with("HTTP/1.1 200 OK\r\n"), "{behind:?}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_framed_as_its_head_says_and_closed_where_that_was_asked(
    #[values(Embedded, Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let (mut closing, mut of_closing) = opened(&server, &id, "1.1", "connection: close\r\n").await;
    let (mut old, mut of_old) = opened(&server, &id, "1.0", "").await;
    // Its body may still come, so it is not taken for the next request.
    let (mut uploading, mut of_uploading) =
        opened(&server, &id, "1.1", "connection: close\r\ncontent-length: 5\r\n").await;
    assert!(uploading.send("GET /").await);
    ends(&server, &id).await;
    of_closing.push_str(&closing.rest().await);
    of_old.push_str(&old.rest().await);
    of_uploading.push_str(&uploading.rest().await);
    for answer in [of_closing, of_uploading] {
        let (body, behind) = unchunked(answer.split_once("\r\n\r\n").expect("a head").1);
        is_whole(&body);
        assert_eq!(behind, "");
    }
    let (head, body) = of_old.split_once("\r\n\r\n").expect("a head");
    assert!(!head.contains("chunked"), "{head}");
    is_whole(body);
}
