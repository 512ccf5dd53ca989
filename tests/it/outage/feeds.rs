//! Feeds of many tasks while a dependency is away.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use super::by_worker;
use crate::harness::{Event, Events, Fault, Mode, Server, eventually};

async fn feed(server: &Server, node: usize, query: &str) -> Events {
    let request = server.client().get(server.api_at(node, &format!("/events{query}")));
    // In all; each event has the usual time.
    let request = request.timeout(Duration::from_mins(3));
    let mut events = Events::open(request).await;
    assert_eq!(events.next().await.expect("an event").event, "open");
    events
}

/// Waits until a task is told to stand there.
async fn until(events: &mut Events, id: &str, status: &str) -> Event {
    loop {
        let event = events.next().await.expect("another event");
        if event.data["taskId"] == id && event.status() == Some(status) {
            return event;
        }
    }
}

/// Waits until an entry of a task is told.
async fn until_progress(events: &mut Events, id: &str) -> Event {
    loop {
        let event = events.next().await.expect("another event");
        if event.event == "progress" && event.data["taskId"] == id {
            return event;
        }
    }
}

/// Registers and starts a task at the second node, to which nothing happens.
async fn started_far_away(server: &Server) -> String {
    let task = server.post_at(1, "/tasks", json!({ "taskType": "t" })).await.ok();
    let id = task["taskId"].as_str().expect("an id").to_owned();
    server.post_at(1, &format!("/tasks/{id}/start"), by_worker()).await.ok();
    id
}

async fn report_far_away(server: &Server, id: &str) {
    let body = json!({ "progress": { "n": 1 }, "workerId": "worker-1" });
    server.post_at(1, &format!("/tasks/{id}/progress"), body).await.ok();
}

#[rstest]
#[case::refused(Fault::Refused)]
#[case::black_hole(Fault::BlackHole)]
#[case::deaf(Fault::Deaf)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_tells_where_tasks_stand_while_redis_is_away(#[case] fault: Fault) {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let (mut events, mut slow) = (feed(&server, 0, "").await, feed(&server, 0, "?every=3s").await);
    let before = started_far_away(&server).await;
    for events in [&mut events, &mut slow] {
        until(events, &before, "in_progress").await;
    }
    // One of which the slow feed has heard, and whose entry it will ask for with its next tick: in vain.
    let asked = started_far_away(&server).await;
    report_far_away(&server, &asked).await;
    until_progress(&mut events, &asked).await;
    proxies.redis.set(fault);
    let meanwhile = started_far_away(&server).await;
    until(&mut events, &meanwhile, "in_progress").await;
    server.post_at(1, &format!("/tasks/{before}/complete"), by_worker()).await.ok();
    until(&mut events, &before, "completed").await;
    for (id, status) in [(&asked, "in_progress"), (&before, "completed")] {
        until(&mut slow, id, status).await;
    }
    // One that is opened meanwhile.
    let mut late = feed(&server, 0, &format!("?taskId={meanwhile}")).await;
    until(&mut late, &meanwhile, "in_progress").await;
    report_far_away(&server, &meanwhile).await;
    proxies.redis.set(Fault::None);
    for events in [&mut events, &mut late] {
        assert_eq!(
            until_progress(events, &meanwhile).await.seq_id(),
            Some(1),
            "what came meanwhile"
        );
    }
}

#[rstest]
#[case::cut(false)]
#[case::silent(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_misses_nothing_although_its_subscriptions_are_lost(#[case] silently: bool) {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let mut events = feed(&server, 0, "").await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        if silently {
            proxies.redis.hush_subscriptions();
        } else {
            proxies.redis.cut_subscriptions();
        }
        let id = started_far_away(&server).await;
        server.post_at(1, &format!("/tasks/{id}/complete"), by_worker()).await.ok();
        tasks.push(id);
    }
    while !tasks.is_empty() {
        let event = events.next().await.expect("another event");
        if event.status() == Some("completed") {
            tasks.retain(|id| event.data["taskId"] != *id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_goes_on_when_postgres_is_back() {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let mut events = feed(&server, 0, "").await;
    proxies.database.set(Fault::Refused);
    let id = started_far_away(&server).await;
    server.post_at(1, &format!("/tasks/{id}/complete"), by_worker()).await.ok();
    // The node has noticed.
    eventually(|| async {
        (server.get_at(0, &format!("/tasks/{id}")).await.status == 503).then_some(())
    })
    .await;
    proxies.database.set(Fault::None);
    until(&mut events, &id, "completed").await;
}
