//! Calls while Redis is away: what needs it is refused in time, the rest goes on, and all is well when it is back.

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{REDIS_IN_TIME, by_worker, in_time, is_unavailable, named, posts, takes_entries};
use crate::harness::{Fault, Mode, Server, eventually, seq_ids};

/// A task of a type of its own that was begun, has an entry, and was given back.
async fn given_back(server: &Server) -> String {
    let id = server.started("again").await;
    server.progressed(&id, json!({ "percent": 10 })).await;
    server.post_at(0, &format!("/tasks/{id}/release"), by_worker()).await.ok();
    id
}

#[rstest]
#[case::refused(Fault::Refused)]
#[case::black_hole(Fault::BlackHole)]
#[case::deaf(Fault::Deaf)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_redis_goes_on_and_the_rest_is_refused_in_time(#[case] fault: Fault) {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    let (running, again) = (server.started("work").await, given_back(&server).await);
    for percent in 1..=3 {
        server.progressed(&running, json!({ "percent": percent })).await;
    }
    let (ending, ended) = (server.started("work").await, server.started("work").await);
    let (failing, late) = (server.started("work").await, server.started("work").await);
    let leaving = server.started("work").await;
    server.progressed(&ended, json!({ "percent": 100 })).await;
    server.completed(&ended).await.ok();
    let waiting = server.registered("next").await;
    proxies.redis.set(fault);

    // Twice: with the connections of before, and with those that are to be made.
    for _ in 0..2 {
        let call = |path: &str, body: Value| (path.replace("{id}", &running), body);
        let refused = [
            call("/tasks/{id}/progress", json!({ "progress": {} })),
            call("/tasks/{id}/progress", json!({ "entries": [{}, {}] })),
            (format!("/tasks/{ending}/complete"), by_worker()),
            (format!("/tasks/{failing}/fail"), by_worker()),
            (format!("/tasks/{leaving}/release"), by_worker()),
            (format!("/tasks/{late}/timeout"), json!({})),
        ];
        let replies = posts(&server, REDIS_IN_TIME, &refused).await;
        for ((path, _), reply) in refused.iter().zip(&replies) {
            is_unavailable(&named(fault, path), reply);
        }
        let reads = ["/tasks/{id}", "/tasks", "/tasks?status=in_progress"];
        let reads = reads.map(|path| path.replace("{id}", &running));
        let read = reads.iter().map(|path| in_time(REDIS_IN_TIME, path, server.get_at(0, path)));
        let [task, all, some] = &join_all(read).await[..] else { unreachable!("three") };
        assert_eq!(task.ok()["progressHistoryComplete"], false);
        assert_eq!(seq_ids(&task.ok()), [0_u64; 0], "nothing is sealed yet");
        for list in [all, some] {
            assert_eq!(list.ok()["latestProgressComplete"], false);
        }
        let path = format!("/tasks/{ended}");
        let ended = in_time(REDIS_IN_TIME, &path, server.get_at(0, &path)).await.ok();
        assert_eq!((seq_ids(&ended), &ended["progressHistoryComplete"]), (vec![1], &Value::Null));
    }
    let claim = |kind: &str| json!({ "taskTypes": [kind], "workerId": "worker-1" });
    let goes_on = [
        ("/tasks".to_owned(), json!({ "taskType": "new" })),
        ("/tasks/claim".to_owned(), claim("again")),
        (format!("/tasks/{waiting}/start"), by_worker()),
        ("/tasks/claim".to_owned(), claim("nothing")),
        ("/tasks/timeouts/process".to_owned(), json!({})),
    ];
    let replies = posts(&server, REDIS_IN_TIME, &goes_on).await;
    let answers: Vec<Value> = replies.iter().map(crate::harness::Reply::ok).collect();
    assert_eq!(answers[1]["id"], *again, "claimed a second time, its history being away");
    assert_eq!(answers[1]["progressHistoryComplete"], false);
    assert_eq!((&answers[2]["status"], &answers[3]), (&json!("in_progress"), &Value::Null));

    proxies.redis.set(Fault::None);
    let back = takes_entries(&server, &running).await["seqId"].as_u64().expect("a number");
    // What was refused may have been done, where only the answer was lost.
    let expected: Vec<u64> = (1..=back).collect();
    assert!(fault == Fault::Deaf || back == 4, "{back}");
    let task = eventually(|| async {
        let task = server.task(&running).await;
        (task["progressHistoryComplete"].is_null()).then_some(task)
    });
    assert_eq!(seq_ids(&task.await), expected);
    let progress = server.progressed(&again, json!({ "percent": 20 })).await;
    assert_eq!(progress, 2, "the second attempt goes on counting");
    // None of the ends was half done: the task runs, and ends when it is told again.
    for id in [&ending, &failing, &leaving, &late] {
        assert_eq!(server.task(id).await["status"], "in_progress");
    }
    eventually(|| async { (server.completed(&ending).await.status == 200).then_some(()) }).await;
}

#[rstest]
#[case::refused(Fault::Refused)]
#[case::black_hole(Fault::BlackHole)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_hears_in_time_that_redis_is_away_and_goes_on_when_it_is_back(
    #[case] fault: Fault,
) {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    let id = server.started("work").await;
    server.progressed(&id, json!({})).await;
    let entry = (format!("/tasks/{id}/progress"), json!({ "progress": {} }));
    for _ in 0..2 {
        proxies.redis.set(fault);
        let crowd = vec![entry.clone(); 100];
        let task = format!("/tasks/{id}");
        let read = (0..20).map(|_| in_time(REDIS_IN_TIME, &task, server.get_at(0, &task)));
        let (replies, read) = futures::join!(posts(&server, REDIS_IN_TIME, &crowd), join_all(read));
        for reply in &replies {
            is_unavailable("an entry of many", reply);
        }
        for reply in &read {
            assert_eq!(reply.ok()["progressHistoryComplete"], false);
        }
        proxies.redis.set(Fault::None);
        takes_entries(&server, &id).await;
        let replies = posts(&server, REDIS_IN_TIME, &crowd).await;
        let refused = replies.iter().filter(|reply| reply.status != 200).count();
        assert_eq!(refused, 0, "once it is back, it is back for all");
    }
    let numbers = seq_ids(&server.task(&id).await);
    assert!(numbers.iter().copied().eq(1..=203), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_costs_one_refusal_at_most() {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    let id = server.started("work").await;
    let path = format!("/tasks/{id}/progress");
    let mut kept = 0;
    for _ in 0..10 {
        proxies.redis.cut();
        let mut refusals = 0;
        loop {
            let reply = server.post_at(0, &path, json!({ "progress": {} })).await;
            if reply.status == 200 {
                break;
            }
            is_unavailable("an entry", &reply);
            refusals += 1;
            // One by the connection that was cut, one by that which is made in this moment.
            assert!(refusals <= 2, "the connection is not made anew");
        }
        kept += 1;
    }
    assert!(seq_ids(&server.task(&id).await).len() >= kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_redis_is_not_away() {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    let id = server.started("work").await;
    proxies.redis.set(Fault::Slow(std::time::Duration::from_millis(100)));
    let entry = (format!("/tasks/{id}/progress"), json!({ "progress": {} }));
    for reply in posts(&server, REDIS_IN_TIME, &vec![entry; 10]).await {
        reply.ok();
    }
    assert_eq!(seq_ids(&server.task(&id).await).len(), 10);
    server.completed(&id).await.ok();
    assert_eq!(seq_ids(&server.task(&id).await).len(), 10);
}
