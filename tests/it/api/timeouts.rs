//! Deadlines: the sweep on request and in the background.

use std::time::Duration;

use futures::future::{join, join_all};
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, is_whole, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Server, eventually, seq_ids};

/// Registers a task with this many seconds to live.
async fn given(server: &Server, seconds: u64) -> String {
    let body = json!({ "taskType": "t", "timeoutSeconds": seconds });
    let task = server.post("/tasks", body).await.ok();
    task["taskId"].as_str().expect("an id").to_owned()
}

/// The same, started.
async fn running(server: &Server, seconds: u64) -> String {
    let id = given(server, seconds).await;
    server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
    id
}

async fn swept(server: &Server) -> u64 {
    let reply = server.post_nothing("/tasks/timeouts/process").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let body = reply.json();
    assert_eq!(names(&body), ["processedCount"]);
    body["processedCount"].as_u64().expect("a count")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_ends_what_is_overdue_and_nothing_else(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    assert_eq!(swept(&server).await, 0);
    let pending = given(&server, 60).await;
    let active = running(&server, 60).await;
    let released = running(&server, 60).await;
    let done = running(&server, 60).await;
    let longer = running(&server, 3600).await;
    for id in [&active, &released, &done, &longer] {
        server.progressed(id, json!({ "percent": 1 })).await;
        server.progressed(id, json!({ "percent": 2 })).await;
    }
    server.post(&format!("/tasks/{released}/release"), by("worker-1")).await.ok();
    server.completed(&done).await.ok();
    server.clock.advance(Duration::from_secs(50));
    assert_eq!(swept(&server).await, 0, "not before their time");
    let streams = [server.track(&active, "").await, server.track(&released, "").await];
    server.clock.advance(Duration::from_secs(11));
    assert_eq!(swept(&server).await, 3);
    assert_eq!(swept(&server).await, 0);

    for (id, entries) in [(&pending, 0), (&active, 2), (&released, 2)] {
        let task = server.task(id).await;
        assert_eq!((&task["status"], &task["error"]), (&json!("timeout"), &Value::Null));
        assert!(super::instant(&task["completedAt"]) >= super::instant(&task["timeoutAt"]));
        assert_eq!(seq_ids(&task), (1..=entries).collect::<Vec<u64>>(), "sealed");
        let late = server.post(&format!("/tasks/{id}/progress"), json!({ "progress": {} })).await;
        assert_eq!(late.problem(409, "invalid_transition")["from"], "timeout");
    }
    assert_eq!(server.task(&active).await["workerId"], "worker-1");
    assert_eq!(server.task(&done).await["status"], "completed");
    assert_eq!(server.task(&longer).await["status"], "in_progress");
    for stream in streams {
        is_whole(&stream.rest().await, 0, 2, "timeout");
    }
    assert_eq!(server.progressed(&longer, json!({})).await, 3, "it goes on");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_task_counts_from_its_registration(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = given(&server, 60).await;
    server.clock.advance(Duration::from_secs(40));
    server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
    server.clock.advance(Duration::from_secs(21));
    assert_eq!(swept(&server).await, 1, "a start gives no more time");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_sweep_does_not_matter(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    given(&server, 1).await;
    server.clock.advance(Duration::from_secs(2));
    let reply = server.post("/tasks/timeouts/process", json!({ "any": "thing" })).await.ok();
    assert_eq!(reply["processedCount"], 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_overdue_tasks_are_swept_by_one_call(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let ids = join_all((0..250).map(|_| given(&server, 60))).await;
    for id in ids.iter().step_by(50) {
        server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
        server.progressed(id, json!({})).await;
    }
    server.clock.advance(Duration::from_secs(61));
    assert_eq!(swept(&server).await, 250);
    for status in ["pending", "in_progress"] {
        let left = server.get(&format!("/tasks?status={status}")).await.ok();
        assert_eq!(left["items"], json!([]));
    }
    for id in ids.iter().step_by(50) {
        assert_eq!(seq_ids(&server.task(id).await), [1]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sweeps_at_once_count_each_task_once(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for round in 0..3_u64 {
        let count = 80 + round * 60;
        let ids = join_all((0..count).map(|_| given(&server, 60))).await;
        server.clock.advance(Duration::from_secs(61));
        let processed = join_all((0..6).map(|_| swept(&server))).await;
        // What a sweep passed over is in the hands of another, or of this one.
        let rest = swept(&server).await;
        assert_eq!(processed.iter().sum::<u64>() + rest, count, "{processed:?} and {rest}");
        assert_eq!(rest, 0, "all was taken when all had answered");
        assert_eq!(server.task(&ids[7]).await["status"], "timeout");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_a_sweep_and_a_worker_that_is_done_one_wins(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for _ in 0..3 {
        let ids = join_all((0..20).map(|_| running(&server, 60))).await;
        join_all(ids.iter().map(|id| server.progressed(id, json!({})))).await;
        server.clock.advance(Duration::from_secs(61));
        let complete = join_all(ids.iter().map(|id| server.completed(id)));
        let sweep = join_all((0..2).map(|_| swept(&server)));
        let (completions, counts) = join(complete, sweep).await;
        let mut timed_out = 0;
        for (id, completion) in ids.iter().zip(completions) {
            let task = server.task(id).await;
            if completion.status == 200 {
                assert_eq!(task["status"], "completed");
            } else {
                assert_eq!(completion.problem(409, "invalid_transition")["from"], "timeout");
                assert_eq!(task["status"], "timeout");
                timed_out += 1;
            }
            assert_eq!(seq_ids(&task), [1]);
        }
        assert_eq!(counts.iter().sum::<u64>(), timed_out);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn entries_beside_a_sweep_are_kept_or_refused(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let ids = join_all((0..20).map(|_| running(&server, 60))).await;
    server.clock.advance(Duration::from_secs(61));
    let append = join_all(ids.iter().map(async |id| {
        let path = format!("/tasks/{id}/progress");
        for kept in 0.. {
            let reply = server.post(&path, json!({ "progress": { "n": kept } })).await;
            if reply.status != 200 {
                assert_eq!(reply.problem(409, "invalid_transition")["from"], "timeout");
                return kept;
            }
        }
        unreachable!("a task that never ends")
    }));
    let sweep = async {
        let begun = async || (seq_ids(&server.task(&ids[19]).await).len() >= 3).then_some(());
        eventually(begun).await;
        swept(&server).await
    };
    let (kept, count) = join(append, sweep).await;
    assert_eq!(count, 20);
    for (id, kept) in ids.iter().zip(kept) {
        assert_eq!(seq_ids(&server.task(id).await), (1..=kept).collect::<Vec<u64>>());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_server_sweeps_by_itself(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start_with(mode, |mut config| {
        config.sweep_every = Duration::from_millis(100);
        config
    });
    let server = server.await;
    let overdue = running(&server, 60).await;
    let pending = given(&server, 60).await;
    let longer = running(&server, 3600).await;
    server.progressed(&overdue, json!({ "percent": 1 })).await;
    let stream = server.track_at(server.last_node(), &overdue, "").await;
    server.clock.advance(Duration::from_secs(61));
    is_whole(&stream.rest().await, 0, 1, "timeout");
    eventually(async || (server.task(&pending).await["status"] == "timeout").then_some(())).await;
    assert_eq!(seq_ids(&server.task(&overdue).await), [1]);
    assert_eq!(server.task(&longer).await["status"], "in_progress");
}
