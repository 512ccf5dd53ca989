//! A Redis that is killed and comes back, or stops in its tracks and goes on.

use futures::future::join_all;
use serde_json::{Value, json};
use task_tracker::config::Mode as ConfigMode;

use super::{REDIS_IN_TIME, assert_whole, in_time, is_unavailable, takes_entries};
use crate::harness::servers::DurableRedis;
use crate::harness::{Mode, Server, eventually, seq_ids};

async fn node_on(redis: &DurableRedis) -> Server {
    Server::start_with(Mode::TwoNodes, |mut config| {
        if let ConfigMode::Node { redis_url, .. } = &mut config.mode {
            *redis_url = redis.url();
        }
        config
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_redis_that_is_killed() {
    let mut redis = DurableRedis::start().await;
    let server = node_on(&redis).await;
    let id = server.started("work").await;
    let stream = server.track_at(1, &id, "").await;
    let reader = tokio::spawn(stream.rest());
    let path = format!("/tasks/{id}/progress");
    let mut acknowledged: Vec<(u64, Value)> = Vec::new();
    for round in 0..3 {
        takes_entries(&server, &id).await;
        for turn in 0..20 {
            let entry = json!({ "round": round, "turn": turn });
            let kept = server.post_at(0, &path, json!({ "progress": entry })).await.ok();
            acknowledged.push((kept["seqId"].as_u64().expect("a number"), entry));
        }
        redis.kill();
        let reply = server.post_at(0, &path, json!({ "progress": {} }));
        is_unavailable("an entry", &in_time(REDIS_IN_TIME, &path, reply).await);
        redis.start_again().await;
    }
    takes_entries(&server, &id).await;
    eventually(|| async { (server.completed(&id).await.status == 200).then_some(()) }).await;
    let task = server.task(&id).await;
    let numbers = seq_ids(&task);
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
    for (number, mut entry) in acknowledged {
        entry["seqId"] = number.into();
        let index = usize::try_from(number).expect("a small number") - 1;
        assert_eq!(task["progressHistory"][index], entry, "{number} was acknowledged");
    }
    assert_whole(&reader.await.expect("a reader"), numbers.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stops_in_its_tracks_holds_nobody_up() {
    let redis = DurableRedis::start().await;
    let server = node_on(&redis).await;
    let id = server.started("work").await;
    server.progressed(&id, json!({ "percent": 1 })).await;
    let stream = server.track_at(1, &id, "").await;
    let reader = tokio::spawn(stream.rest());
    redis.freeze();
    let (path, task) = (format!("/tasks/{id}/progress"), format!("/tasks/{id}"));
    for _ in 0..2 {
        let entries = (0..20).map(|_| {
            let entry = server.post_at(0, &path, json!({ "progress": {} }));
            in_time(REDIS_IN_TIME, &path, entry)
        });
        let read = in_time(REDIS_IN_TIME, &task, server.get_at(0, &task));
        let (entries, read) = futures::join!(join_all(entries), read);
        for reply in &entries {
            is_unavailable("an entry", reply);
        }
        assert_eq!(read.ok()["progressHistoryComplete"], false);
    }
    redis.thaw();
    // What lay in its sockets it does now: an entry that was refused may be there, and none twice by one number.
    let last = takes_entries(&server, &id).await["seqId"].as_u64().expect("a number");
    let numbers = seq_ids(&server.task(&id).await);
    assert!(numbers.len() as u64 >= last && numbers.iter().copied().eq(1..=numbers.len() as u64));
    eventually(|| async { (server.completed(&id).await.status == 200).then_some(()) }).await;
    let task = server.task(&id).await;
    assert_whole(&reader.await.expect("a reader"), seq_ids(&task).len() as u64);
}
