//! Looking instead of following: what is there of a stream at this moment, for those whose proxies hold streams back.

use rstest::rstest;
use serde_json::json;

use super::{by, is_whole, numbers};
use crate::harness::Mode::{self, Cluster, Embedded, Node, TwoNodes};
use crate::harness::{Event, Server};

/// What a look says, which is over at once.
async fn look(server: &Server, id: &str, query: &str, last_event_id: Option<&str>) -> Vec<Event> {
    let headers: Vec<_> = last_event_id.map(|last| ("last-event-id", last)).into_iter().collect();
    let stream = server.track_with(id, &format!("?follow=false{query}"), &headers).await;
    assert_eq!(stream.status(), 200);
    stream.rest().await
}

/// Where it says that the task stands, and that it says so last and without an id.
#[track_caller]
fn standing(events: &[Event]) -> &str {
    let last = events.last().expect("a last event");
    assert_eq!((last.event.as_str(), &last.id), ("status_change", &None), "{events:?}");
    last.status().expect("a status")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_look_says_what_is_there_and_where_the_task_stands(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    assert_eq!(standing(&look(&server, &id, "", None).await), "pending");
    server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
    let events = look(&server, &id, "", None).await;
    assert_eq!((events.len(), standing(&events)), (1, "in_progress"));
    for n in 1..=3 {
        server.progressed(&id, json!({ "n": n })).await;
    }
    let events = look(&server, &id, "", None).await;
    assert_eq!((numbers(&events), standing(&events)), (vec![1, 2, 3], "in_progress"));
    let events = look(&server, &id, "&afterSeqId=1", Some("2")).await;
    assert_eq!((numbers(&events), standing(&events)), (vec![3], "in_progress"));
    let events = look(&server, &id, "&ignoreHistory=true", None).await;
    assert_eq!((numbers(&events), standing(&events)), (vec![], "in_progress"));
    server.post(&format!("/tasks/{id}/release"), by("worker-1")).await.ok();
    assert_eq!(standing(&look(&server, &id, "", Some("3")).await), "pending");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn looks_one_after_the_other_give_what_a_stream_gives(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let stream = server.track(&id, "").await;
    let mut seen = Vec::new();
    for n in 0..4 {
        let entries: Vec<_> = (0..n * 300).map(|n| json!({ "n": n })).collect();
        if !entries.is_empty() {
            server.post(&format!("/tasks/{id}/progress"), json!({ "entries": entries })).await.ok();
        }
        let last: Option<String> = seen.last().and_then(|event: &Event| event.id.clone());
        let mut events = look(&server, &id, "", last.as_deref()).await;
        assert_eq!(standing(&events), "in_progress");
        events.pop();
        seen.extend(events);
    }
    server.completed(&id).await.ok();
    let last = seen.last().and_then(|event| event.id.clone());
    seen.extend(look(&server, &id, "", last.as_deref()).await);
    is_whole(&seen, 0, 1800, "completed");
    assert_eq!(seen, stream.rest().await);
    let again = server.client().get(server.api(&format!("/tasks/{id}/track?follow=false")));
    let reply = server.send(again.header("last-event-id", "1800-end")).await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_look_comes_as_lines_too_and_is_refused_as_a_stream_is(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.progressed(&id, json!({ "n": 1 })).await;
    let lines = [("accept", "application/x-ndjson")];
    let text = server.track_with(&id, "?follow=false", &lines).await.text().await;
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(events.len(), 2, "{text}");
    assert_eq!(events[0]["data"], json!({ "seqId": 1, "n": 1 }));
    assert_eq!(events[1]["data"], json!({ "status": "in_progress" }));
    server.get("/tasks/nobody/track?follow=false").await.problem(404, "task_not_found");
    let wrong = server.get(&format!("/tasks/{id}/track?follow=maybe")).await;
    assert_eq!(wrong.problem(422, "validation_failed")["errors"][0]["path"], "follow");
}
