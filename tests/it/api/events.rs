//! The stream of many tasks: where each stands now, and its progress.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::by;
use crate::harness::Mode::{self, Cluster, Embedded, Node, TwoNodes};
use crate::harness::{Event, Events, Server};

/// Opens a feed on a node; its first event is there.
async fn feed(server: &Server, node: usize, query: &str) -> Events {
    feed_after(server, node, query, None).await.0
}

/// The same, behind an event; and whether it goes on from there.
async fn feed_after(
    server: &Server,
    node: usize,
    query: &str,
    last: Option<&str>,
) -> (Events, bool) {
    let mut request = server.client().get(server.api_at(node, &format!("/events{query}")));
    // In all; each event has the usual time.
    request = request.timeout(Duration::from_mins(3));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let mut events = Events::open(request).await;
    assert_eq!(events.status(), 200);
    let open = events.next().await.expect("an event");
    assert_eq!(open.event, "open", "{open:?}");
    let is_resumed = open.data["data"]["resumed"].as_bool().expect("whether it is resumed");
    (events, is_resumed)
}

/// The next event of this kind and task; others are passed over.
async fn next_of(events: &mut Events, kind: &str, id: &str) -> Event {
    loop {
        let event = events.next().await.expect("another event");
        if event.event == kind && event.data["taskId"] == id {
            return event;
        }
    }
}

/// Waits until a task is told to stand there.
async fn until(events: &mut Events, id: &str, status: &str) -> Value {
    loop {
        let event = next_of(events, "task", id).await;
        if event.status() == Some(status) {
            return event.data["data"].clone();
        }
    }
}

/// What a feed says that closes by itself.
async fn look(server: &Server, query: &str, last: Option<&str>) -> Vec<Event> {
    let (events, _) = feed_after(server, 0, &format!("?follow=false{query}"), last).await;
    events.rest().await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_says_where_a_task_stands_whenever_it_moves(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let mut events = feed(&server, server.last_node(), "?every=0ms").await;
    let id = server.registered("report").await;
    let told = until(&mut events, &id, "pending").await;
    let listed = server.get("/tasks").await.ok()["items"][0].clone();
    assert_eq!(told, listed, "as a list has it");
    server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
    assert_eq!(until(&mut events, &id, "in_progress").await["workerId"], "worker-1");
    server.progressed(&id, json!({ "percent": 40 })).await;
    let entry = next_of(&mut events, "progress", &id).await;
    assert_eq!(entry.data["data"], json!({ "seqId": 1, "percent": 40 }));
    server.post(&format!("/tasks/{id}/release"), by("worker-1")).await.ok();
    until(&mut events, &id, "pending").await;
    server.post(&format!("/tasks/{id}/start"), by("worker-2")).await.ok();
    until(&mut events, &id, "in_progress").await;
    server.post(&format!("/tasks/{id}/cancel"), json!({ "reason": "enough" })).await.ok();
    assert_eq!(next_of(&mut events, "task", &id).await.data["data"]["cancelReason"], "enough");
    let end = json!({ "workerId": "worker-2", "result": { "rows": 7 } });
    server.post(&format!("/tasks/{id}/complete"), end).await.ok();
    let told = until(&mut events, &id, "completed").await;
    assert_eq!(told["result"], json!({ "rows": 7 }));
    assert_eq!(told["latestProgress"], json!({ "seqId": 1, "percent": 40 }));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_a_running_task_the_newest_entry_is_told(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let early = server.started("t").await;
    server.progressed(&early, json!({ "n": 1 })).await;
    let mut events = feed(&server, server.last_node(), "?every=50ms").await;
    assert_eq!(next_of(&mut events, "progress", &early).await.seq_id(), Some(1), "there already");
    let late = server.started("t").await;
    for _ in 0..20 {
        let entries: Vec<Value> = (0..50).map(|n| json!({ "n": n })).collect();
        server.post(&format!("/tasks/{late}/progress"), json!({ "entries": entries })).await.ok();
    }
    let (mut told, mut newest) = (0, 0);
    while newest < 1000 {
        let seq_id = next_of(&mut events, "progress", &late).await.seq_id().expect("a number");
        assert!(seq_id > newest, "{seq_id} behind {newest}");
        (told, newest) = (told + 1, seq_id);
    }
    assert!(told <= 20, "each tick the newest of a request at most: {told}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_entry_is_told_once_and_in_order_however_often_a_reader_comes_back(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    const ENTRIES: u64 = 300;
    let server = Server::start(mode).await;
    let ids = [server.started("t").await, server.started("t").await, "comes-later".to_owned()];
    let query = format!("?progress=all&taskId={}&taskId={}&taskId={}", ids[0], ids[1], ids[2]);
    let append = async |id: &str| {
        for n in 0..ENTRIES {
            server.progressed(id, json!({ "n": n })).await;
        }
        server.completed(id).await.ok();
    };
    let appending = async {
        let later = async {
            server.post("/tasks", json!({ "taskId": ids[2], "taskType": "t" })).await.ok();
            server.post(&format!("/tasks/{}/start", ids[2]), json!({})).await.ok();
            append(&ids[2]).await;
        };
        tokio::join!(append(&ids[0]), append(&ids[1]), later);
    };
    let reading = async {
        let (mut last, mut ended) = (None::<String>, Vec::new());
        let mut seen: HashMap<String, Vec<u64>> = HashMap::new();
        for visit in 0_usize.. {
            let node = visit % (server.last_node() + 1);
            let (mut events, _) = feed_after(&server, node, &query, last.as_deref()).await;
            // It leaves after some events, and comes back to another node.
            for _ in 0..7 + 31 * (visit % 5) {
                let event = events.next().await.expect("an event");
                let id = event.data["taskId"].as_str().expect("a task").to_owned();
                match event.event.as_str() {
                    "progress" => {
                        assert!(!ended.contains(&id), "an entry behind the end");
                        seen.entry(id).or_default().push(event.seq_id().expect("a number"));
                    }
                    "task" if event.status() == Some("completed") => {
                        assert_eq!(seen[&id].last(), Some(&ENTRIES), "its end comes last");
                        ended.push(id);
                    }
                    _ => {}
                }
                last = event.id;
                ended.sort();
                ended.dedup();
                if ended.len() == ids.len() {
                    return seen;
                }
            }
        }
        seen
    };
    let (seen, ()) = tokio::join!(reading, appending);
    for id in &ids {
        assert!(seen[id].iter().copied().eq(1..=ENTRIES), "{id}: {:?}", seen[id]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_told_what_moved_meanwhile(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let [ends, begins, stays] =
        [server.started("t").await, server.registered("t").await, server.registered("u").await];
    let mut events = feed(&server, 0, "?taskType=t&taskType=v").await;
    let first = server.registered("t").await;
    let last = next_of(&mut events, "task", &first).await.id.expect("an id");
    drop(events);
    server.completed(&ends).await.ok();
    server.post(&format!("/tasks/{begins}/start"), json!({})).await.ok();
    let new = server.registered("v").await;
    server.post(&format!("/tasks/{stays}/start"), json!({})).await.ok();
    let (mut events, is_resumed) =
        feed_after(&server, server.last_node(), "?taskType=t&taskType=v", Some(&last)).await;
    assert!(is_resumed);
    let mut stands = HashMap::new();
    while ![&ends, &begins, &new].iter().all(|id| stands.contains_key(*id)) {
        let event = events.next().await.expect("an event");
        assert_ne!(event.data["taskId"], stays, "of another type");
        if event.event == "task" {
            let id = event.data["taskId"].as_str().expect("a task").to_owned();
            stands.insert(id, event.status().expect("a status").to_owned());
        }
    }
    assert_eq!(
        (&*stands[&ends], &*stands[&begins], &*stands[&new]),
        ("completed", "in_progress", "pending")
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn who_missed_more_than_can_be_told_is_told_to_list_anew(
    #[values(Embedded, Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let mut events = feed(&server, 0, "").await;
    let first = server.registered("t").await;
    let last = next_of(&mut events, "task", &first).await.id.expect("an id");
    drop(events);
    for _ in 0..2 {
        let tasks = vec![json!({ "taskType": "t" }); 600];
        server.post("/tasks/bulk", json!({ "tasks": tasks })).await.ok();
    }
    let (mut events, is_resumed) = feed_after(&server, 0, "", Some(&last)).await;
    assert!(!is_resumed);
    assert_eq!(events.next().await.expect("an event").event, "resync");
    // And it goes on.
    let id = server.registered("t").await;
    let last = next_of(&mut events, "task", &id).await.id.expect("an id");
    let (_, is_resumed) = feed_after(&server, 0, "?taskType=u", Some(&last)).await;
    assert!(is_resumed, "of this type nothing was missed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_leaves_the_chosen_status_is_told_once_more(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let mut waiting = feed(&server, 0, "?status=pending&every=0ms").await;
    let mut failed = feed(&server, server.last_node(), "?status=failed&every=0ms").await;
    let id = server.registered("t").await;
    until(&mut waiting, &id, "pending").await;
    server.post(&format!("/tasks/{id}/start"), json!({})).await.ok();
    until(&mut waiting, &id, "in_progress").await;
    server.progressed(&id, json!({ "n": 1 })).await;
    server.post(&format!("/tasks/{id}/fail"), json!({ "error": { "why": "so" } })).await.ok();
    let event = failed.next().await.expect("an event");
    assert_eq!(
        (event.event.as_str(), event.status()),
        ("task", Some("failed")),
        "and nothing before"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn named_tasks_are_told_at_the_start_and_when_they_come(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.registered("t").await;
    let query = format!("?taskId={id}&taskId=not-yet&progress=none");
    let mut events = feed(&server, server.last_node(), &query).await;
    let event = events.next().await.expect("an event");
    assert_eq!((&event.data["taskId"], event.status()), (&json!(id), Some("in_progress")));
    server.progressed(&id, json!({ "n": 1 })).await;
    server.post("/tasks", json!({ "taskId": "not-yet", "taskType": "t" })).await.ok();
    loop {
        let event = events.next().await.expect("an event");
        assert_eq!(event.event, "task", "no progress: {event:?}");
        if event.data["taskId"] == "not-yet" {
            break;
        }
        // Told again by who looks for what moved lately.
        assert_eq!((&event.data["taskId"], event.status()), (&json!(id), Some("in_progress")));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn looks_at_many_tasks_tell_what_a_feed_tells(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let first = look(&server, "", None).await;
    assert_eq!(first.len(), 0, "where nobody is named nothing is told at first: {first:?}");
    let (open, _) = feed_after(&server, 0, "", None).await;
    drop(open);
    let ids = [server.started("t").await, server.started("t").await];
    let query = format!("&progress=all&taskId={}&taskId={}", ids[0], ids[1]);
    let mut last: Option<String> = None;
    let mut seen: HashMap<String, Vec<u64>> = HashMap::new();
    for round in 1..=4_u64 {
        let add = ids.iter().map(async |id| {
            let entries: Vec<Value> = (0..400 * round).map(|n| json!({ "n": n })).collect();
            server.post(&format!("/tasks/{id}/progress"), json!({ "entries": entries })).await.ok();
        });
        join_all(add).await;
        if round == 4 {
            server.completed(&ids[0]).await.ok();
        }
        for event in look(&server, &query, last.as_deref()).await {
            if let Some(seq_id) = event.seq_id() {
                let id = event.data["taskId"].as_str().expect("a task").to_owned();
                seen.entry(id).or_default().push(seq_id);
            }
            last = event.id;
        }
    }
    for id in &ids {
        assert!(seen[id].iter().copied().eq(1..=4000), "{id}: {} entries", seen[id].len());
    }
    let events = look(&server, &format!("&taskId={}&taskId={}", ids[0], ids[1]), None).await;
    let told: Vec<_> = events.iter().map(|event| (event.event.as_str(), event.status())).collect();
    assert!(told.contains(&("task", Some("completed"))), "{told:?}");
    assert!(told.contains(&("progress", None)) || told.len() == 2, "{told:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn lines_carry_the_id_that_frames_have(#[values(Embedded, Node)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let request = server.client().get(server.api(&format!("/events?follow=false&taskId={id}")));
    let text = Events::open(request.header("accept", "application/x-ndjson")).await.text().await;
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!((&lines[0]["event"], &lines[1]["event"]), (&json!("open"), &json!("task")));
    assert_eq!(lines[1]["data"]["id"], json!(id));
    let last = lines[1]["id"].as_str().expect("an id");
    let again = feed_after(&server, 0, &format!("?after={last}"), None).await;
    assert!(again.1, "it goes on from there");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_counts_as_a_stream_and_is_refused_what_cannot_be(
    #[values(Embedded, Node)] mode: Mode,
) {
    let server = Server::start_with(mode, |mut config| {
        config.front.streams_per_client = 2;
        config
    })
    .await;
    for (query, path) in
        [("?progress=all", "progress"), ("?status=gone", "status"), ("?every=1h", "every")]
    {
        let refused = server.get(&format!("/events{query}")).await;
        assert_eq!(refused.problem(422, "validation_failed")["errors"][0]["path"], path);
    }
    let _open = (feed(&server, 0, "").await, feed(&server, 0, "?progress=none").await);
    server.get("/events").await.problem(429, "too_many_streams");
}
