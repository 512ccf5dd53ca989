//! Servers that are killed and come back, and a Redis that stops in its tracks and goes on.

use futures::future::join_all;
use serde_json::{Value, json};
use task_tracker::config::Mode as ConfigMode;

use super::{REDIS_IN_TIME, assert_whole, in_time, is_unavailable, takes_entries};
use crate::harness::private::{DurableRedis, PrivatePostgres};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_was_acknowledged_outlives_a_postgres_that_is_stopped() {
    let mut postgres = PrivatePostgres::start().await;
    let server = Server::start_with(Mode::TwoNodes, |mut config| {
        if let ConfigMode::Node { database_url, .. } = &mut config.mode {
            *database_url = postgres.url();
        }
        config
    });
    let server = server.await;
    let (mut ended, mut running) = (Vec::new(), Vec::new());
    for round in 0..2 {
        for _ in 0..5 {
            let (over, on) = (server.started("work").await, server.started("work").await);
            for id in [&over, &on] {
                server.progressed(id, json!({ "round": round })).await;
            }
            server.completed(&over).await.ok();
            ended.push(over);
            running.push((server.track(&on, "").await, on));
        }
        postgres.stop();
        // The attempts that report go on, and so do their streams; an end waits for the database.
        for (stream, id) in running.iter_mut().rev().take(5) {
            server.progressed(id, json!({ "while": "away" })).await;
            for number in 1..=2 {
                assert_eq!(stream.next().await.and_then(|event| event.seq_id()), Some(number));
            }
        }
        let path = format!("/tasks/{}/complete", running[0].1);
        let refused = server.post_at(0, &path, super::by_worker());
        is_unavailable(&path, &in_time(super::POSTGRES_IN_TIME, &path, refused).await);
        postgres.start_again().await;
        // A node that has not asked since may have connections at hand that it takes for alive: one question each finds out.
        for node in 0..2 {
            eventually(|| async {
                let reply = server.get_at(node, "/tasks?limit=1").await;
                (reply.status == 200).then_some(())
            })
            .await;
        }
    }
    for id in &ended {
        let task = server.task(id).await;
        assert_eq!((&task["status"], seq_ids(&task)), (&json!("completed"), vec![1]));
    }
    for (stream, id) in running {
        assert_eq!(server.task(&id).await["status"], "in_progress");
        server.completed(&id).await.ok();
        let rest = stream.rest().await;
        assert_eq!(rest.last().and_then(|end| end.id.as_deref()), Some("2-end"));
        assert_eq!(seq_ids(&server.task(&id).await), [1, 2]);
    }
}
