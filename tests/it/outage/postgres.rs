//! Calls and streams while Postgres is away: it is said in time, what runs goes on, and the pool is well again when
//! it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use task_tracker::config::Mode as ConfigMode;
use tokio::sync::Mutex;

use super::{
    POSTGRES_IN_TIME, REDIS_IN_TIME, assert_whole, by_worker, in_time, is_unavailable, named, posts,
};
use crate::harness::{Fault, Mode, Proxies, Server, eventually, seq_ids};

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

/// Connections that the node of these tests has at most.
const CONNECTIONS: u32 = 2;

/// A node with few connections, so that all of them are at work at once however slow the machine is.
async fn node_of_few() -> (Server, Proxies) {
    let proxies = Proxies::new();
    let server = Server::start_with(Mode::Node, |config| {
        let mut config = proxies.route(config);
        if let ConfigMode::Node { database_connections, .. } = &mut config.mode {
            *database_connections = CONNECTIONS;
        }
        config
    });
    (server.await, proxies)
}

/// The table of tasks, locked, so that every statement about it is in flight for as long as a test wants.
struct Lock(Mutex<PgConnection>);

impl Lock {
    async fn of(server: &Server) -> Self {
        let url = server.ground.database_url().expect("a node's ground");
        let mut connection = PgConnection::connect(url).await.expect("the Postgres of the tests");
        let lock = "BEGIN; LOCK TABLE tracker_tasks IN ACCESS EXCLUSIVE MODE";
        sqlx::raw_sql(lock).execute(&mut connection).await.expect("the lock");
        Self(Mutex::new(connection))
    }

    /// Waits until every connection of a node waits for the lock.
    async fn holds_all(&self) {
        // Not pg_stat_activity: within a transaction that shows for ever what it showed first.
        let count = "SELECT count(DISTINCT pid) FROM pg_locks
                     WHERE NOT granted AND relation = 'tracker_tasks'::regclass";
        eventually(|| async {
            let mut connection = self.0.lock().await;
            let held: i64 =
                sqlx::query_scalar(count).fetch_one(&mut *connection).await.expect("a count");
            (held == i64::from(CONNECTIONS)).then_some(())
        })
        .await;
    }

    async fn give_up(self) {
        self.0.into_inner().close().await.expect("a closed connection");
    }
}

#[rstest]
#[case::black_hole(Fault::BlackHole)]
#[case::deaf(Fault::Deaf)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_is_whole_after_every_connection_fell_silent_at_work(#[case] fault: Fault) {
    let (server, proxies) = node_of_few().await;
    let ids = join_all((0..2 * CONNECTIONS).map(|_| server.started("work"))).await;
    let crowd = vec![("/tasks".to_owned(), json!({ "taskType": "work" })); 60];
    let lock = Lock::of(&server).await;
    let is_silent = AtomicBool::new(false);
    // Whoever does not get the lock in time tries again, until the database has fallen silent.
    let ends = ids.iter().map(async |id| {
        let path = format!("/tasks/{id}/complete");
        loop {
            let was_silent = is_silent.load(Ordering::SeqCst);
            let end = server.post_at(0, &path, by_worker());
            is_unavailable(&path, &in_time(POSTGRES_IN_TIME, &path, end).await);
            if was_silent {
                break;
            }
        }
    });
    let falls_silent = async {
        lock.holds_all().await;
        proxies.database.set(fault);
        is_silent.store(true, Ordering::SeqCst);
        // The ends go on at the server: they lock their rows, say so, and wait for a word that does not come.
        lock.give_up().await;
        for reply in posts(&server, POSTGRES_IN_TIME, &crowd).await {
            is_unavailable("an answer of a silent database", &reply);
        }
    };
    futures::join!(join_all(ends), falls_silent);
    proxies.database.set(Fault::None);
    registers(&server).await;
    // A place in the pool that was lost would be lost for good: there are no more than were at work.
    for reply in posts(&server, POSTGRES_IN_TIME, &crowd).await {
        assert_eq!(reply.status, 201, "{}", reply.text);
    }
    // What the server still holds for a node that does not speak any more, it frees by itself.
    for id in &ids {
        assert_eq!(server.task(id).await["status"], "in_progress");
        eventually(|| async { (server.completed(id).await.status == 200).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_hang_up_on_a_silent_database_leave_nothing_behind() {
    let (server, proxies) = node_of_few().await;
    let id = server.started("work").await;
    let lock = Lock::of(&server).await;
    let read = (0..2 * CONNECTIONS).map(|_| {
        let request = server.client().get(server.api_at(0, &format!("/tasks/{id}")));
        // Whoever does not get the lock in time tries again.
        tokio::spawn(async move {
            while let Some(again) = request.try_clone() {
                let answered = again.send().await.is_ok_and(|answer| answer.status() == 200);
                assert!(!answered, "the table is locked");
            }
        })
    });
    let callers: Vec<_> = read.collect();
    lock.holds_all().await;
    proxies.database.set(Fault::BlackHole);
    for caller in callers {
        caller.abort();
        assert!(caller.await.is_err_and(|ended| ended.is_cancelled()), "nobody was answered");
    }
    lock.give_up().await;
    proxies.database.set(Fault::None);
    registers(&server).await;
    let replies = join_all((0..30).map(|_| server.get_at(0, "/tasks"))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    server.completed(&id).await.ok();
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

#[rstest]
#[case::of_a_fast_server(Fault::None)]
// So slow that what is at hand is stale when it is wanted, and has to be tested before it is used.
#[case::of_a_slow_server(Fault::Slow(Duration::from_millis(30)))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_begun_is_made_and_kept(#[case] fault: Fault) {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    proxies.database.set(fault);
    // Callers that come and go at once: each finds others faster than the connection that it asked for.
    for _ in 0..15 {
        let crowd = (0..40).map(async |_| {
            let id = server.registered("work").await;
            server.get_at(0, &format!("/tasks/{id}")).await.ok();
        });
        join_all(crowd).await;
    }
    // Six may be there at once; some more are for what is done once.
    let accepted = proxies.database.accepted();
    assert!(accepted <= 12, "{accepted} connections");
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
