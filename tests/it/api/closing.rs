//! Streams and waiting workers when their node closes.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use rstest::rstest;
use serde_json::{Value, json};

use super::is_whole;
use crate::harness::Mode::{self, Cluster, Embedded, Node, TwoNodes};
use crate::harness::{Event, Events, Server, eventually};

/// Closes the first node, and starts another where it was the only one.
async fn first_node_closed(mut server: Server) -> Server {
    if server.nodes.len() == 1 {
        return Server::start_on(server.stop().await, |config| config).await;
    }
    server.nodes.remove(0).shut_down().await;
    server
}

/// What a stream brought, and the id to go on with.
async fn until_closed(stream: Events) -> (Vec<Event>, Option<String>) {
    let events = stream.rest().await;
    let last = events.iter().rev().find_map(|event| event.id.clone());
    (events, last)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_cleanly_with_its_node_and_goes_on_at_another(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    for n in 1..=5 {
        server.progressed(&id, json!({ "n": n })).await;
    }
    let mut streams = Vec::new();
    for after in [0, 2, 5] {
        let mut stream = server.track_at(0, &id, &format!("?afterSeqId={after}")).await;
        let seen = stream.take(5 - after).await;
        streams.push((after as u64, seen, stream));
    }
    let asked = Instant::now();
    let server = first_node_closed(server).await;
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "no stream held it up: {:?}",
        asked.elapsed()
    );
    server.progressed(&id, json!({ "n": 6 })).await;
    let mut resumed = Vec::new();
    for (after, mut seen, stream) in streams {
        // Reads to the end as a browser does: a stream that is cut off inside a frame or a chunk fails.
        let (more, _) = until_closed(stream).await;
        seen.extend(more);
        assert!(!seen.iter().any(Event::is_end), "the task has not ended");
        let last =
            seen.iter().rev().find_map(|event| event.id.clone()).unwrap_or(after.to_string());
        let stream = server.track_with(&id, "", &[("last-event-id", &last)]).await;
        resumed.push((after, seen, stream));
    }
    server.progressed(&id, json!({ "n": 7 })).await;
    server.completed(&id).await.ok();
    for (after, mut seen, stream) in resumed {
        seen.extend(stream.rest().await);
        is_whole(&seen, after, 7, "completed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_node_closes_while_entries_are_appended(
    #[values(TwoNodes)] mode: Mode,
) {
    const LAST: u64 = 300;
    let mut server = Server::start(mode).await;
    let id = server.started("t").await;
    let leaving = server.nodes.remove(0);
    let url = format!("http://{}/api/v1/tasks/{id}/track", leaving.address());
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(Events::open(reqwest::Client::new().get(&url)).await);
    }
    let append = async {
        for n in 1..=LAST {
            server.progressed(&id, json!({ "n": n })).await;
        }
        server.completed(&id).await.ok();
    };
    let close = async {
        let enough = async || {
            let latest =
                server.get("/tasks").await.ok()["items"][0]["latestProgress"]["seqId"].as_u64();
            (latest >= Some(LAST / 4)).then_some(())
        };
        eventually(enough).await;
        leaving.shut_down().await;
    };
    let read = join_all(streams.into_iter().map(async |stream| {
        let (mut events, last) = until_closed(stream).await;
        assert!(!events.iter().any(Event::is_end), "its node closed before the task ended");
        let last = last.unwrap_or_else(|| "0".to_owned());
        let resumed = server.track_with(&id, "", &[("last-event-id", &last)]).await;
        events.extend(resumed.rest().await);
        events
    }));
    let (streams, ((), ())) = join(read, join(append, close)).await;
    for events in streams {
        is_whole(&events, 0, LAST, "completed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_is_told_null_when_its_node_closes(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let client = server.client().clone();
    let url = server.api_at(0, "/tasks/claim");
    let claim = json!({ "taskTypes": ["t"], "workerId": "w", "waitSeconds": 15 });
    let claim = client.post(url).json(&claim).send();
    let asked = Instant::now();
    let close = async {
        for _ in 0..5 {
            server.get_at(0, "/tasks").await.ok();
        }
        first_node_closed(server).await
    };
    let (claim, _server) = join(claim, close).await;
    let claim = claim.expect("an answer");
    assert_eq!(claim.status(), 200);
    assert_eq!(claim.json::<Value>().await.expect("JSON"), Value::Null);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_taken_for_a_worker_that_is_told_null_at_the_close(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    const WORKERS: usize = 40;
    let mut server = Server::start(mode).await;
    for round in 0..4_usize {
        let client = server.client().clone();
        let url = server.api_at(0, "/tasks/claim");
        let claims = join_all((0..WORKERS).map(|n| {
            let worker = format!("worker-{round}-{n}");
            let body = json!({ "taskTypes": ["t"], "workerId": worker, "waitSeconds": 10 });
            client.post(&url).json(&body).send()
        }));
        let close = async {
            let registered = (0..WORKERS).map(|_| server.registered("t"));
            // The close comes in the middle of the claims that the registrations woke.
            futures::future::select_all(registered.map(Box::pin)).await;
            let mut next = first_node_closed(server).await;
            if mode == TwoNodes {
                let replacement = Server::start_on(next.stop().await, |config| config).await;
                next = replacement;
            }
            next
        };
        let (claims, after) = join(claims, close).await;
        server = after;
        let (mut told, mut answered) = (HashSet::new(), 0);
        // A connection that was not accepted any more has no answer, and asked for nothing.
        for claim in claims.into_iter().flatten() {
            assert_eq!(claim.status(), 200);
            let task: Value = claim.json().await.expect("JSON");
            told.extend(task["id"].as_str().map(str::to_owned));
            answered += 1;
        }
        let held = server.get("/tasks?status=in_progress&limit=100").await.ok();
        for task in held["items"].as_array().expect("items") {
            let id = task["id"].as_str().expect("an id");
            let (holder, tasks) = (&task["workerId"], told.len());
            let heard =
                format!("{answered} of {WORKERS} were answered, {tasks} of them with a task");
            assert!(told.contains(id), "{holder} holds {id} and does not know; {heard}");
            server.post_nothing(&format!("/tasks/{id}/timeout")).await.ok();
        }
        // What was not taken waits on; it is out of the way of the next round.
        loop {
            let claim = json!({ "taskTypes": ["t"], "workerId": "last" });
            let left = server.post("/tasks/claim", claim).await.ok();
            let Some(id) = left["id"].as_str() else { break };
            server.post_nothing(&format!("/tasks/{id}/timeout")).await.ok();
        }
    }
}
