//! Streams while Redis is away, and when only the connection of the subscriptions is lost.

use futures::future::join_all;
use rstest::rstest;
use serde_json::json;

use super::{assert_whole, by_worker, takes_entries};
use crate::harness::{Event, Events, Fault, Mode, Server, eventually};

/// Appends at the second node, to which nothing happens.
async fn appended_far_away(server: &Server, id: &str, entries: usize) {
    for _ in 0..entries {
        let body = json!({ "progress": { "from": "far" }, "workerId": "worker-1" });
        server.post_at(1, &format!("/tasks/{id}/progress"), body).await.ok();
    }
}

async fn completed_far_away(server: &Server, id: &str) {
    server.post_at(1, &format!("/tasks/{id}/complete"), by_worker()).await.ok();
}

/// The first `count` entries of a stream.
async fn entries(stream: &mut Events, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.iter().filter_map(Event::seq_id).count() < count {
        events.push(stream.next().await.expect("another event"));
    }
    events
}

#[rstest]
#[case::refused(Fault::Refused)]
#[case::black_hole(Fault::BlackHole)]
#[case::deaf(Fault::Deaf)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_stay_open_while_redis_is_away_and_catch_up_when_it_is_back(#[case] fault: Fault) {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let (on, over) = (server.started("work").await, server.started("work").await);
    let mut streams = Vec::new();
    for id in [&on, &over] {
        appended_far_away(&server, id, 2).await;
        let mut stream = server.track_at(0, id, "").await;
        let heard = entries(&mut stream, 2).await;
        streams.push((stream, heard));
    }
    proxies.redis.set(fault);
    appended_far_away(&server, &on, 3).await;
    appended_far_away(&server, &over, 3).await;
    completed_far_away(&server, &over).await;
    // The node has noticed: what it is asked needs Redis, and is refused.
    let progress = format!("/tasks/{on}/progress");
    eventually(|| async {
        let reply = server.post_at(0, &progress, json!({ "progress": {} })).await;
        (reply.status == 503).then_some(())
    })
    .await;
    proxies.redis.set(Fault::None);

    let (mut stream, mut heard) = streams.pop().expect("the second stream");
    while let Some(event) = stream.next().await {
        heard.push(event);
    }
    assert_whole(&heard, 5);
    let last = takes_entries(&server, &on).await["seqId"].as_u64().expect("a number");
    completed_far_away(&server, &on).await;
    let (stream, mut heard) = streams.pop().expect("the first stream");
    heard.extend(stream.rest().await);
    assert_whole(&heard, last);
}

#[rstest]
#[case::refused(Fault::Refused)]
#[case::black_hole(Fault::BlackHole)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_opened_while_redis_is_away_begins_when_it_is_back(#[case] fault: Fault) {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let id = server.started("work").await;
    appended_far_away(&server, &id, 2).await;
    proxies.redis.set(fault);
    let opened =
        ["", "?afterSeqId=1", "?ignoreHistory=true"].map(|query| server.track_at(0, &id, query));
    let mut streams = join_all(opened).await;
    for stream in &mut streams {
        assert_eq!(stream.status(), 200, "an EventSource takes a refusal for the last word");
        stream.opened().await;
        assert_eq!(stream.frames.comments, ["open"]);
    }
    assert_eq!(server.track_at(0, "nobody", "").await.status(), 404);
    appended_far_away(&server, &id, 1).await;
    proxies.redis.set(Fault::None);
    for (stream, first) in streams.iter_mut().zip([1, 2]) {
        assert_eq!(stream.next().await.and_then(|event| event.seq_id()), Some(first));
    }
    // The third begins at the moment from which it could hear something; the end comes to it in any case.
    appended_far_away(&server, &id, 1).await;
    completed_far_away(&server, &id).await;
    for (stream, (after, is_exact)) in streams.into_iter().zip([(1, true), (2, true), (3, false)]) {
        let events = stream.rest().await;
        let end = events.last().expect("an end");
        assert_eq!(end.id.as_deref(), Some("4-end"));
        let numbers: Vec<u64> = events.iter().filter_map(Event::seq_id).collect();
        let expected: Vec<u64> = (after + 1..=4).collect();
        assert!(numbers == expected || (!is_exact && numbers.is_empty()), "{numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_task_that_ended_needs_no_redis() {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    let id = server.started("work").await;
    server.progressed(&id, json!({ "percent": 100 })).await;
    server.completed(&id).await.ok();
    proxies.redis.set(Fault::BlackHole);
    assert_whole(&server.track_at(0, &id, "").await.rest().await, 1);
    let end = server.track_at(0, &id, "?ignoreHistory=true").await.rest().await;
    assert!(end.len() == 1 && end[0].id.as_deref() == Some("1-end"), "{end:?}");
}

#[rstest]
#[case::cut(false)]
#[case::silent(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_whole_although_only_their_subscriptions_are_lost(#[case] silently: bool) {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let mut streams = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let id = server.started("work").await;
        let mut stream = server.track_at(0, &id, "").await;
        stream.opened().await;
        streams.push(tokio::spawn(stream.rest()));
        tasks.push(id);
    }
    // A silent connection is found out by a ping that comes every few seconds; a cut one at once.
    for _ in 0..if silently { 1 } else { 15 } {
        if silently {
            proxies.redis.hush_subscriptions();
        } else {
            proxies.redis.cut_subscriptions();
        }
        join_all(tasks.iter().map(|id| appended_far_away(&server, id, 4))).await;
        join_all(tasks.iter().map(|id| server.progressed(id, json!({ "from": "any" })))).await;
    }
    let entries = if silently { 5 } else { 75 };
    if !silently {
        proxies.redis.cut_subscriptions();
    }
    join_all(tasks.iter().map(|id| completed_far_away(&server, id))).await;
    for stream in streams {
        assert_whole(&stream.await.expect("a stream"), entries);
    }
}
