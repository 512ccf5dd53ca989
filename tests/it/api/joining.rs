//! Streams that are opened while entries are appended, and readers that are slow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{by, is_whole, numbers};
use crate::harness::Mode::{self, Cluster, Embedded, Node, TwoNodes};
use crate::harness::{Frames, PATIENCE, Server, eventually};

/// Appends `last` entries from several writers as fast as they are taken, then completes the task.
async fn written(server: &Server, id: &str, last: u64, acknowledged: &AtomicU64) {
    let path = format!("/tasks/{id}/progress");
    let given = AtomicU64::new(0);
    let writers = (0..4_usize).map(|writer| {
        let (path, given) = (&path, &given);
        async move {
            while given.fetch_add(4, Ordering::Relaxed) < last {
                // One by one, or four at once.
                let entry = json!({ "writer": writer, "text": "ä🦀" });
                if writer % 2 == 0 {
                    for _ in 0..4 {
                        server.post(path, json!({ "progress": entry })).await.ok();
                    }
                } else {
                    let entries = vec![entry; 4];
                    server.post(path, json!({ "entries": entries })).await.ok();
                }
                acknowledged.fetch_add(4, Ordering::Relaxed);
            }
        }
    });
    join_all(writers).await;
    server.post(&format!("/tasks/{id}/complete"), by("worker-1")).await.ok();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_in_the_middle_gets_everything_once(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    const LAST: u64 = 600;
    let server = Server::start(mode).await;
    for _ in 0..2 {
        let id = server.started("t").await;
        let acknowledged = AtomicU64::new(0);
        let readers = join_all((0..24_u64).map(|reader| {
            let (server, id, acknowledged) = (&server, &id, &acknowledged);
            async move {
                // Each joins a little later than the one before, most of them in full flight.
                let joins_at = reader * 22;
                eventually(async || {
                    (acknowledged.load(Ordering::Relaxed) >= joins_at).then_some(())
                })
                .await;
                let node = usize::from(reader % 2 == 1 && server.nodes.len() > 1);
                let (query, after) = match reader % 3 {
                    0 => (format!("?afterSeqId={}", joins_at / 2), joins_at / 2),
                    1 => (String::new(), 0),
                    // In step with the writers, or a little ahead of them.
                    _ => (format!("?afterSeqId={}", joins_at + 5), joins_at + 5),
                };
                (server.track_at(node, id, &query).await.rest().await, after)
            }
        }));
        let (readers, ()) = join(readers, written(&server, &id, LAST, &acknowledged)).await;
        for (events, after) in readers {
            is_whole(&events, after, LAST, "completed");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn whoever_ignores_history_gets_what_comes_without_a_hole(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    const LAST: u64 = 400;
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let acknowledged = AtomicU64::new(0);
    let readers = join_all((0..10_u64).map(|reader| {
        let (server, id, acknowledged) = (&server, &id, &acknowledged);
        async move {
            let known = eventually(async || {
                let known = acknowledged.load(Ordering::Relaxed);
                (known >= reader * 30).then_some(known)
            })
            .await;
            let node = usize::try_from(reader).expect("few") % server.nodes.len();
            (known, server.track_at(node, id, "?ignoreHistory=true").await.rest().await)
        }
    }));
    let (readers, ()) = join(readers, written(&server, &id, LAST, &acknowledged)).await;
    for (known, events) in readers {
        let first = numbers(&events).first().copied().unwrap_or(LAST + 1);
        assert!(first > known, "entry {first} came, but {known} were there before");
        is_whole(&events, first - 1, LAST, "completed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_cut_off_again_and_again_misses_nothing(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    const LAST: u64 = 400;
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let acknowledged = AtomicU64::new(0);
    let readers = join_all((1..=4_usize).map(|reader| {
        let (server, id) = (&server, &id);
        async move {
            let (mut seen, mut last): (Vec<_>, Option<String>) = (Vec::new(), None);
            for connection in 0.. {
                let url =
                    server.api_at(connection % server.nodes.len(), &format!("/tasks/{id}/track"));
                let mut request = reqwest::Client::new().get(url);
                if let Some(last) = &last {
                    request = request.header("last-event-id", last);
                }
                let mut stream = crate::harness::Events::open(request).await;
                for _ in 0..reader * 17 {
                    let event = stream.next().await.expect("an event before the end");
                    last = event.id.clone().or(last);
                    let is_end = event.is_end();
                    seen.push(event);
                    if is_end {
                        return seen;
                    }
                }
            }
            seen
        }
    }));
    let (readers, ()) = join(readers, written(&server, &id, LAST, &acknowledged)).await;
    for events in readers {
        is_whole(&events, 0, LAST, "completed");
    }
}

/// Opens a stream whose reader takes next to nothing before it wants to.
async fn slow_reader(server: &Server, node: usize, id: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 << 10).expect("a small window");
    let mut stream = socket.connect(server.nodes[node].address()).await.expect("a connection");
    // HTTP/1.0 gets the stream without chunks between its bytes.
    let request = format!("GET /api/v1/tasks/{id}/track HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a server that reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    stream
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_nobody_and_loses_nothing(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    // Far more than the buffers between two sockets and the newest events a node holds.
    const LAST: u64 = 320;
    const BYTES: usize = 48 << 10;
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let mut slow = slow_reader(&server, server.last_node(), &id).await;
    let mut fast = server.track_at(server.last_node(), &id, "").await;
    fast.opened().await;
    let entry = json!({ "fill": "x".repeat(BYTES) });
    let append = async {
        for _ in 0..LAST / 4 {
            let body = json!({ "entries": vec![&entry; 4] });
            server.post(&format!("/tasks/{id}/progress"), body).await.ok();
        }
    };
    let (events, ()) = join(fast.take(usize::try_from(LAST).expect("few")), append).await;
    assert_eq!(numbers(&events), (1..=LAST).collect::<Vec<_>>(), "the fast one has it all by now");

    let mut frames = Frames::default();
    let mut buffer = vec![0; 256 << 10];
    let mut seen = Vec::new();
    let mut completed = false;
    let read = async {
        loop {
            let read = slow.read(&mut buffer).await.expect("an unbroken stream");
            if read == 0 {
                break;
            }
            frames.push(&buffer[..read]);
            while let Some(event) = frames.pop() {
                seen.push(event);
            }
            // The end comes while it is still far behind.
            if !completed {
                completed = true;
                assert!(seen.len() < 200, "{} events were on their way", seen.len());
                server.completed(&id).await.ok();
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("all of it in time");
    frames.assert_whole();
    is_whole(&seen, 0, LAST, "completed");
    is_whole(&[events, fast.rest().await].concat(), 0, LAST, "completed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_stops_nothing(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let idle = slow_reader(&server, 0, &id).await;
    let entries = vec![json!({ "fill": "x".repeat(100_000) }); 10];
    // Each request must be answered in time, or the client gives it up.
    for _ in 0..10 {
        server.post(&format!("/tasks/{id}/progress"), json!({ "entries": entries })).await.ok();
    }
    server.completed(&id).await.ok();
    is_whole(&server.track_at(0, &id, "").await.rest().await, 0, 100, "completed");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_says_every_fifteen_seconds_that_it_is_alive() {
    // All at once, so that the wait is there once.
    let quiet = async |mode| {
        let server = Server::start(mode).await;
        let id = server.started("t").await;
        let mut stream = server.track(&id, "").await;
        stream.opened().await;
        let opened = Instant::now();
        let comments = stream.frames.comments.len();
        while stream.frames.comments.len() == comments {
            assert!(stream.read().await, "closed while the task is active");
        }
        let silence = opened.elapsed();
        let expected = Duration::from_secs(14)..Duration::from_secs(18);
        assert!(expected.contains(&silence), "{mode:?}: {silence:?}");
        let entry: Value = json!({ "after": "the silence" });
        server.progressed(&id, entry).await;
        assert_eq!(stream.next().await.and_then(|event| event.seq_id()), Some(1));
    };
    futures::join!(quiet(Embedded), quiet(Node), quiet(TwoNodes));
}
