//! Calls and streams while Postgres is away: it is said in time, what runs goes on, and the pool is well again when
//! it is back.

use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    POSTGRES_IN_TIME, REDIS_IN_TIME, assert_whole, by_worker, in_time, is_unavailable, named, posts,
};
use crate::harness::{Fault, Mode, Server, eventually, seq_ids};

/// Waits until the first node registers a task again.
async fn registers(server: &Server) {
    eventually(|| async {
        let reply = server.post_at(0, "/tasks", json!({ "taskType": "after" })).await;
        (reply.status == 201).then_some(())
    })
    .await;
}

#[rstest]
#[case::refused(Fault::Refused)]
#[case::black_hole(Fault::BlackHole)]
#[case::deaf(Fault::Deaf)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_postgres_is_refused_in_time_and_what_runs_goes_on(#[case] fault: Fault) {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let (running, done) = (server.started("work").await, server.started("work").await);
    let [ending, failing, leaving, late] =
        join_all((0..4).map(|_| server.started("work"))).await.try_into().expect("four");
    let waiting = server.registered("next").await;
    for id in [&running, &done] {
        server.progressed(id, json!({ "percent": 1 })).await;
    }
    let mut stream = server.track_at(0, &running, "").await;
    let mut heard = vec![stream.next().await.expect("the first entry")];
    server.post_at(0, &format!("/tasks/{done}/complete"), by_worker()).await.ok();
    proxies.database.set(fault);

    let claim = json!({ "taskTypes": ["nothing"], "workerId": "worker-1", "waitSeconds": 1 });
    for round in 0..2 {
        let refused = [
            ("/tasks".to_owned(), json!({ "taskType": "work" })),
            ("/tasks/claim".to_owned(), claim.clone()),
            (format!("/tasks/{waiting}/start"), by_worker()),
            (format!("/tasks/{ending}/complete"), by_worker()),
            (format!("/tasks/{failing}/fail"), by_worker()),
            (format!("/tasks/{leaving}/release"), by_worker()),
            (format!("/tasks/{late}/timeout"), json!({})),
            // Its attempt has not reported yet: whether it may, only the database knows.
            (format!("/tasks/{ending}/progress"), json!({ "progress": {} })),
            (format!("/tasks/{done}/retry"), json!({})),
        ];
        let reads =
            [format!("/tasks/{running}"), "/tasks".to_owned(), format!("/tasks/{done}/track")];
        let reads = reads.map(async |path| {
            let reply = in_time(POSTGRES_IN_TIME, &path, server.get_at(0, &path)).await;
            (path, reply)
        });
        let entry = [(format!("/tasks/{running}/progress"), json!({ "progress": { "n": round } }))];
        let (replies, reads, kept) = futures::join!(
            posts(&server, POSTGRES_IN_TIME, &refused),
            join_all(reads),
            posts(&server, REDIS_IN_TIME, &entry)
        );
        for ((path, _), reply) in refused.iter().zip(&replies) {
            is_unavailable(&named(fault, path), reply);
        }
        for (path, reply) in &reads {
            is_unavailable(&named(fault, path), reply);
        }
        assert_eq!(kept[0].ok()["seqId"], round + 2, "an attempt that reports goes on");
        heard.push(stream.next().await.expect("an entry"));
        assert_eq!(heard.last().and_then(crate::harness::Event::seq_id), Some(round + 2));
    }
    proxies.database.set(Fault::None);
    registers(&server).await;

    let done = server.get_at(0, &format!("/tasks/{done}")).await.ok();
    assert_eq!((&done["status"], seq_ids(&done)), (&json!("completed"), vec![1]));
    for id in [&ending, &failing, &leaving, &late] {
        assert_eq!(server.task(id).await["status"], "in_progress", "none is half done");
    }
    server.post_at(0, &format!("/tasks/{running}/complete"), by_worker()).await.ok();
    heard.extend(stream.rest().await);
    assert_whole(&heard, 3);
}

#[rstest]
#[case::black_hole(Fault::BlackHole)]
#[case::deaf(Fault::Deaf)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_is_whole_after_every_connection_of_it_fell_silent(#[case] fault: Fault) {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    let id = server.started("work").await;
    let register = ("/tasks".to_owned(), json!({ "taskType": "work" }));
    let crowd = vec![register; 60];
    // More callers than connections, again and again: a place that is lost is lost for good.
    for _ in 0..2 {
        for reply in posts(&server, POSTGRES_IN_TIME, &crowd).await {
            assert_eq!(reply.status, 201, "{}", reply.text);
        }
        proxies.database.set(fault);
        let (path, ending) = (format!("/tasks/{id}"), format!("/tasks/{id}/complete"));
        let (registered, read, ended) = futures::join!(
            posts(&server, POSTGRES_IN_TIME, &crowd),
            join_all((0..10).map(|_| in_time(POSTGRES_IN_TIME, &path, server.get_at(0, &path)))),
            in_time(POSTGRES_IN_TIME, &ending, server.post_at(0, &ending, by_worker()))
        );
        for reply in registered.iter().chain(&read).chain([&ended]) {
            is_unavailable("one of a crowd", reply);
        }
        proxies.database.set(Fault::None);
        registers(&server).await;
    }
    for reply in posts(&server, POSTGRES_IN_TIME, &crowd).await {
        assert_eq!(reply.status, 201, "{}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_hang_up_on_a_silent_database_leave_nothing_behind() {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    let id = server.started("work").await;
    let hasty = |path: String, body: Option<Value>| {
        let client = server.client().clone();
        let request = match body {
            Some(body) => client.post(server.api_at(0, &path)).json(&body),
            None => client.get(server.api_at(0, &path)),
        };
        async move { request.timeout(Duration::from_millis(300)).send().await }
    };
    // Every connection of the pool is at work when its answers cease.
    let warm = (0..30).map(|_| server.get_at(0, "/tasks"));
    join_all(warm).await;
    proxies.database.set(Fault::BlackHole);
    for _ in 0..3 {
        let reads = (0..20).map(|_| hasty(format!("/tasks/{id}"), None));
        let ends = (0..3).map(|_| hasty(format!("/tasks/{id}/complete"), Some(by_worker())));
        let (reads, ends) = futures::join!(join_all(reads), join_all(ends));
        assert!(reads.iter().chain(&ends).all(Result::is_err), "nobody was answered");
    }
    proxies.database.set(Fault::None);
    registers(&server).await;
    let replies = join_all((0..30).map(|_| server.get_at(0, "/tasks"))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    // An end goes on without its caller, and may have found the database back.
    let ended = server.completed(&id).await;
    assert!(matches!(ended.status, 200 | 409), "{}", ended.text);
    assert_eq!(server.task(&id).await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_again_and_again_are_made_anew() {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    for _ in 0..10 {
        let crowd = (0..20).map(|_| server.post_at(0, "/tasks", json!({ "taskType": "work" })));
        let (replies, ()) = futures::join!(join_all(crowd), async { proxies.database.cut() });
        for reply in replies.iter().filter(|reply| reply.status != 201) {
            is_unavailable("in the middle of a cut", reply);
        }
        // Nothing is in flight, and every idle connection is dead: nobody notices.
        proxies.database.cut();
        registers(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_catches_up_from_the_live_log_while_postgres_is_away() {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let id = server.started("work").await;
    let append = async |entries: usize| {
        for _ in 0..entries {
            let body = json!({ "progress": { "from": "far" } });
            server.post_at(1, &format!("/tasks/{id}/progress"), body).await.ok();
        }
    };
    append(1).await;
    let mut stream = server.track_at(0, &id, "").await;
    let mut heard = vec![stream.next().await.expect("the first entry")];
    proxies.database.set(Fault::BlackHole);
    for round in 1..=3 {
        // Its subscription is lost, so that it must go back to the log, which nobody can ask whether it has ended.
        proxies.redis.cut_subscriptions();
        append(2).await;
        for number in [2 * round, 2 * round + 1] {
            heard.push(stream.next().await.expect("an entry"));
            assert_eq!(heard.last().and_then(crate::harness::Event::seq_id), Some(number));
        }
    }
    server.post_at(1, &format!("/tasks/{id}/complete"), by_worker()).await.ok();
    proxies.database.set(Fault::None);
    heard.extend(stream.rest().await);
    assert_whole(&heard, 7);
}
