//! Where a stream begins, and what a reader is refused.

use rstest::rstest;
use serde_json::json;

use super::{is_whole, numbers};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::Server;

/// A task in progress with entries 1 to 6.
async fn with_six(server: &Server) -> String {
    let id = server.started("t").await;
    let entries: Vec<_> = (1..=6).map(|n| json!({ "n": n })).collect();
    server.post(&format!("/tasks/{id}/progress"), json!({ "entries": entries })).await.ok();
    id
}

/// Every way to say where to begin, and behind which entry of six that is.
const BEGINNINGS: [(&str, Option<&str>, u64); 22] = [
    ("", None, 0),
    ("?afterSeqId=0", None, 0),
    ("?afterSeqId=4", None, 4),
    ("?afterSeqId=6", None, 6),
    ("", Some("3"), 3),
    ("", Some("0"), 0),
    ("?afterSeqId=2", Some("5"), 5),
    ("?afterSeqId=5", Some("2"), 5),
    ("?afterSeqId=3", Some("3"), 3),
    ("?ignoreHistory=false", None, 0),
    ("?ignoreHistory=false&afterSeqId=2", None, 2),
    ("?ignoreHistory=true", None, 6),
    ("?ignoreHistory=true&afterSeqId=2", None, 2),
    ("?afterSeqId=0&ignoreHistory=true", None, 0),
    ("?ignoreHistory=true&afterSeqId=2", Some("4"), 4),
    // A browser that reconnects repeats its query: what it has seen says where it goes on.
    ("?ignoreHistory=true", Some("3"), 3),
    ("", Some(""), 0),
    ("", Some("not of ours"), 0),
    ("", Some("-1"), 0),
    ("?afterSeqId=2", Some("nonsense"), 2),
    ("?unknown=parameter", None, 0),
    ("?afterSeqId=%34", None, 4),
];

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_active_task_is_streamed_from_where_the_reader_asks(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = with_six(&server).await;
    let mut streams = Vec::new();
    for (query, last_event_id, _) in BEGINNINGS {
        let headers: Vec<_> =
            last_event_id.map(|last| ("last-event-id", last)).into_iter().collect();
        let mut stream = server.track_with(&id, query, &headers).await;
        assert_eq!(stream.status(), 200, "{query} {last_event_id:?}");
        stream.opened().await;
        streams.push(stream);
    }
    server.progressed(&id, json!({ "n": 7 })).await;
    server.completed(&id).await.ok();
    for (stream, (query, last_event_id, after)) in streams.into_iter().zip(BEGINNINGS) {
        let events = stream.rest().await;
        let expected: Vec<u64> = (after + 1..=7).collect();
        assert_eq!(numbers(&events), expected, "{query} {last_event_id:?}");
        is_whole(&events, after, 7, "completed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_task_is_streamed_from_where_the_reader_asks(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = with_six(&server).await;
    server.completed(&id).await.ok();
    for (query, last_event_id, after) in BEGINNINGS {
        let headers: Vec<_> =
            last_event_id.map(|last| ("last-event-id", last)).into_iter().collect();
        let events = server.track_with(&id, query, &headers).await.rest().await;
        assert_eq!(
            numbers(&events),
            (after + 1..=6).collect::<Vec<_>>(),
            "{query} {last_event_id:?}"
        );
        is_whole(&events, after, 6, "completed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_ahead_of_the_task_hears_only_its_end(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = with_six(&server).await;
    let ahead =
        ["?afterSeqId=7", "?afterSeqId=9007199254740993", "?afterSeqId=18446744073709551615"];
    let mut streams = Vec::new();
    for query in ahead {
        streams.push(server.track(&id, query).await);
    }
    server.completed(&id).await.ok();
    for query in ahead {
        streams.push(server.track(&id, query).await);
    }
    for stream in streams {
        let events = stream.rest().await;
        assert_eq!(numbers(&events), [0; 0]);
        assert_eq!(events.last().and_then(|end| end.id.as_deref()), Some("6-end"));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_the_end_is_told_to_stop(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = with_six(&server).await;
    server.completed(&id).await.ok();
    let last =
        server.track(&id, "").await.rest().await.pop().and_then(|end| end.id).expect("an id");
    for last in [last.as_str(), "0-end", "99-end"] {
        for query in ["", "?afterSeqId=2", "?ignoreHistory=true"] {
            let request = server.client().get(server.api(&format!("/tasks/{id}/track{query}")));
            let reply = server.send(request.header("last-event-id", last)).await;
            assert_eq!((reply.status, reply.text.as_str()), (204, ""), "{last} {query}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_streamed_is_refused(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = with_six(&server).await;
    for unknown in ["nobody", "%20", "a%2Fb", "%F0%9F%A6%80"] {
        server.get(&format!("/tasks/{unknown}/track")).await.problem(404, "task_not_found");
    }
    let wrong = [
        ("afterSeqId", "?afterSeqId=x"),
        ("afterSeqId", "?afterSeqId=-1"),
        ("afterSeqId", "?afterSeqId=1.5"),
        ("afterSeqId", "?afterSeqId="),
        ("afterSeqId", "?afterSeqId=99999999999999999999999"),
        ("afterSeqId", "?afterSeqId=%00"),
        ("ignoreHistory", "?ignoreHistory=maybe"),
        ("ignoreHistory", "?ignoreHistory=2"),
        ("ignoreHistory", "?ignoreHistory="),
    ];
    for (path, query) in wrong {
        let reply = server.get(&format!("/tasks/{id}/track{query}")).await;
        let problem = reply.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["path"], path, "{query}: {problem}");
    }
}
