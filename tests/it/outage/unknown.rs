//! An end whose commit is not answered: done or not done, it is so as a whole, and who asks again hears what holds.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use super::{POSTGRES_IN_TIME, assert_whole, by_worker, in_time, is_unavailable};
use crate::contract::broker;
use crate::harness::{Fault, Lost, Mode, Server, eventually, redis_url, seq_ids};

/// Keys of tasks in the namespace of the server.
async fn keys(server: &Server) -> Vec<String> {
    let mut keys = broker::keys(&redis_url(), server.ground.namespace()).await;
    // What says which memory this is belongs to no task.
    keys.retain(|key| !key.contains(":generation"));
    keys
}

#[rstest]
#[case::word(Lost::Word, false)]
#[case::answer(Lost::Answer, true)]
#[case::answer_silently(Lost::AnswerSilently, true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_whose_commit_is_not_answered_is_done_or_not_done(
    #[case] lost: Lost,
    #[case] is_done: bool,
) {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let id = server.started("work").await;
    for percent in [1, 2] {
        server.progressed(&id, json!({ "percent": percent })).await;
    }
    let mut stream = server.track_at(1, &id, "").await;
    stream.opened().await;
    let path = format!("/tasks/{id}/complete");
    proxies.database.lose(lost, b"COMMIT");
    let reply = in_time(POSTGRES_IN_TIME, &path, server.post_at(0, &path, by_worker())).await;
    is_unavailable(&path, &reply);
    assert!(proxies.database.has_lost(), "the commit was said");
    proxies.database.set(Fault::None);

    let stands = server.get_at(1, &format!("/tasks/{id}")).await.ok();
    assert_eq!(stands["status"], if is_done { "completed" } else { "in_progress" });
    assert_eq!(seq_ids(&stands), [1, 2]);
    // Whoever asks again hears what holds: that it is done, or it is done now.
    let again = eventually(|| async {
        let reply = server.post_at(0, &path, by_worker()).await;
        (reply.status != 503).then_some(reply)
    });
    let again = again.await;
    if is_done {
        assert_eq!(again.problem(409, "invalid_transition")["from"], "completed");
    } else {
        assert_eq!(again.ok()["status"], "completed");
    }
    // Nothing is left of the log, and the stream ends: what its node did not settle is settled for it.
    server.clock.advance(Duration::from_secs(11));
    assert_whole(&stream.rest().await, 2);
    eventually(|| async { keys(&server).await.is_empty().then_some(()) }).await;
    let task = server.get_at(1, &format!("/tasks/{id}")).await.ok();
    assert_eq!((&task["status"], seq_ids(&task)), (&json!("completed"), vec![1, 2]));
}

#[rstest]
#[case::word(Lost::Word)]
#[case::answer(Lost::Answer)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_whose_commit_is_not_answered_ends_each_task_once(#[case] lost: Lost) {
    let (server, proxies) = Server::start_behind(Mode::TwoNodes).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let task = json!({ "taskType": "work", "timeoutSeconds": 60 });
        let task = server.post("/tasks", task).await.ok();
        let id = task["taskId"].as_str().expect("an id").to_owned();
        server.post(&format!("/tasks/{id}/start"), by_worker()).await.ok();
        server.progressed(&id, json!({})).await;
        let mut stream = server.track_at(1, &id, "").await;
        stream.opened().await;
        streams.push(stream);
    }
    server.clock.advance(Duration::from_secs(61));
    proxies.database.lose(lost, b"COMMIT");
    let reply = server.post_at(0, "/tasks/timeouts/process", json!({})).await;
    is_unavailable("a sweep", &reply);
    proxies.database.set(Fault::None);
    let swept = eventually(|| async {
        let reply = server.post_at(0, "/tasks/timeouts/process", json!({})).await;
        (reply.status == 200).then(|| reply.json()["processedCount"].clone())
    });
    assert_eq!(swept.await, if lost == Lost::Word { 5 } else { 0 });
    server.clock.advance(Duration::from_secs(11));
    for stream in streams {
        let events = stream.rest().await;
        assert_whole(&events, 1);
        assert_eq!(events.last().and_then(crate::harness::Event::status), Some("timeout"));
    }
}
