//! Entries are sealed while their task runs, and nobody notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{join, join_all};
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, is_whole, numbers};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Server, eventually, seq_ids};

impl Server {
    /// Has every node seal what it took entries for.
    async fn seal(&self) {
        // Longer than an entry waits.
        self.clock.advance(Duration::from_secs(4));
        for node in &self.nodes {
            node.tracker().seal().await.expect("a round");
        }
    }

    /// Seals at full pace until told to stop.
    async fn keep_sealing(&self, node: usize, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            self.clock.advance(Duration::from_secs(4));
            self.nodes[node].tracker().seal().await.expect("a round");
            tokio::task::yield_now().await;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn entries_are_sealed_while_their_task_runs_and_leave_the_log(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let mut live = server.track(&id, "").await;
    for n in 1..=10 {
        server.progressed(&id, json!({ "n": n })).await;
    }
    for node in &server.nodes {
        assert_eq!(node.tracker().seal().await.expect("a round"), 0, "nothing is due yet");
    }
    assert!(server.ground.rows(&id).await.is_empty());
    server.seal().await;
    let rows = server.ground.rows(&id).await;
    assert_eq!(rows.last().map(|row| row.1), Some(10));
    assert!(rows.iter().all(|(.., is_lost)| !is_lost));
    assert_eq!(server.ground.live_entries(&id).await, 1, "the newest stays at hand");

    assert!(seq_ids(&server.task(&id).await).into_iter().eq(1..=10));
    let listed = server.get("/tasks").await.ok();
    assert_eq!(listed["items"][0]["latestProgress"], json!({ "seqId": 10, "n": 10 }));
    assert_eq!(server.progressed(&id, json!({ "n": 11 })).await, 11);
    let mut heard = live.take(11).await;
    for after in [0, 4, 9, 10] {
        let mut late = server.track(&id, &format!("?afterSeqId={after}")).await;
        let count = usize::try_from(11 - after).expect("few");
        assert!(numbers(&late.take(count).await).into_iter().eq(after + 1..=11));
    }
    assert!(seq_ids(&server.task(&id).await).into_iter().eq(1..=11));
    server.completed(&id).await.ok();
    heard.extend(live.rest().await);
    is_whole(&heard, 0, 11, "completed");
    is_whole(&server.track(&id, "").await.rest().await, 0, 11, "completed");
    assert_eq!(server.ground.live_entries(&id).await, 0);
    assert_eq!(server.ground.rows(&id).await.last().map(|row| row.1), Some(11));
    for node in &server.nodes {
        assert_eq!(node.tracker().seal().await.expect("a round"), 0, "an ended task is forgotten");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn readers_of_every_kind_see_each_entry_once_while_all_is_being_sealed(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    const LAST: u64 = 400;
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let path = format!("/tasks/{id}/progress");
    let writers = async {
        join_all((0..2_usize).map(async |writer| {
            for turn in 0..LAST / 8 {
                let node = writer % server.nodes.len();
                if turn % 2 == 0 {
                    let entries = vec![json!({ "writer": writer }); 4];
                    server.post_at(node, &path, json!({ "entries": entries })).await.ok();
                } else {
                    for _ in 0..4 {
                        server.post_at(node, &path, json!({ "progress": {} })).await.ok();
                    }
                }
                acknowledged.fetch_add(4, Ordering::SeqCst);
            }
        }))
        .await;
        server.completed(&id).await.ok();
        stop.store(true, Ordering::SeqCst);
    };
    let sealers = join_all((0..server.nodes.len()).map(|node| server.keep_sealing(node, &stop)));
    let streams = join_all((0..8_u64).map(async |reader| {
        let joins_at = reader * 45;
        eventually(async || (acknowledged.load(Ordering::SeqCst) >= joins_at).then_some(())).await;
        let after = if reader % 2 == 0 { 0 } else { joins_at / 2 };
        let node = usize::try_from(reader).expect("few") % server.nodes.len();
        let stream = server.track_at(node, &id, &format!("?afterSeqId={after}")).await;
        (stream.rest().await, after)
    }));
    let looks = async {
        while !stop.load(Ordering::SeqCst) {
            let known = acknowledged.load(Ordering::SeqCst);
            let task = server.task(&id).await;
            let read = seq_ids(&task);
            assert!(read.iter().copied().eq(1..=read.len() as u64), "{read:?}");
            assert!(read.len() as u64 >= known, "{} of {known}", read.len());
            let listed = server.get("/tasks").await.ok();
            let item = &listed["items"][0];
            // One that ended in between may have neither its log nor, in this answer, its history.
            if item["status"] == "in_progress" && !stop.load(Ordering::SeqCst) {
                let again = server.task(&id).await;
                let latest = item["latestProgress"]["seqId"].as_u64().unwrap_or(0);
                assert!(latest >= known || again["status"] != "in_progress", "{latest} of {known}");
            }
        }
    };
    let (((), _), (readers, ())) = join(join(writers, sealers), join(streams, looks)).await;
    for (events, after) in readers {
        is_whole(&events, after, LAST, "completed");
    }
    assert_eq!(server.ground.rows(&id).await.last().map(|row| row.1), Some(LAST));
    assert!(seq_ids(&server.task(&id).await).into_iter().eq(1..=LAST));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn ends_of_every_kind_beside_sealing_keep_what_was_acknowledged(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let stop = AtomicBool::new(false);
    let one = async |number: usize| {
        let id = server.started("t").await;
        let path = format!("/tasks/{id}/progress");
        let mut kept = 0;
        for turn in 0..10 {
            let entries = vec![json!({ "turn": turn }); 1 + number % 3];
            let reply = server.post(&path, json!({ "entries": entries })).await.ok();
            kept += entries.len() as u64;
            assert_eq!(reply["seqId"], kept);
            if number.is_multiple_of(4) && turn == 5 {
                server.post(&format!("/tasks/{id}/release"), by("worker-1")).await.ok();
                let rows = server.ground.rows(&id).await;
                assert_eq!(rows.last().map(|row| row.1), Some(kept), "given back, it is sealed");
                server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
            }
        }
        let word = ["complete", "fail", "timeout"][number % 3];
        server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
        let task = server.task(&id).await;
        assert!(seq_ids(&task).into_iter().eq(1..=kept), "{task}");
        let rows = server.ground.rows(&id).await;
        assert_eq!(rows.last().map(|row| row.1), Some(kept));
        assert!(rows.iter().all(|(.., is_lost)| !is_lost), "{rows:?}");
        let events = server.track(&id, "").await.rest().await;
        is_whole(&events, 0, kept, task["status"].as_str().expect("a status"));
    };
    let tasks = async {
        join_all((0..12).map(one)).await;
        stop.store(true, Ordering::SeqCst);
    };
    let sealers = join_all((0..server.nodes.len()).map(|node| server.keep_sealing(node, &stop)));
    join(tasks, sealers).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_full_is_sealed_by_who_finds_it_so(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let path = format!("/tasks/{id}/progress");
    let mut live = server.track(&id, "?afterSeqId=23999").await;
    for last in [8_000, 16_000, 24_000, 34_000] {
        let entries: Vec<Value> = vec![json!({}); if last == 34_000 { 10_000 } else { 8_000 }];
        let reply = server.post(&path, json!({ "entries": entries })).await.ok();
        assert_eq!(reply["seqId"], last);
        let live = server.ground.live_entries(&id).await;
        assert!(live <= 10_001, "{live} entries in the log");
    }
    assert!(server.ground.rows(&id).await.last().expect("rows").1 >= 24_000);
    assert!(seq_ids(&server.task(&id).await).into_iter().eq(1..=34_000));
    let heard = live.take(10_001).await;
    assert!(numbers(&heard).into_iter().eq(24_000..=34_000));
    server.completed(&id).await.ok();
    is_whole(
        &server.track(&id, "?afterSeqId=30000").await.rest().await,
        30_000,
        34_000,
        "completed",
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_full_takes_no_more_and_its_task_can_end(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start_with(mode, |mut config| {
        (config.task_entries, config.task_bytes) = (10, 5000);
        config
    })
    .await;
    let id = server.started("t").await;
    let path = format!("/tasks/{id}/progress");
    server.post(&path, json!({ "entries": vec![json!({}); 7] })).await.ok();
    server.post(&path, json!({ "entries": vec![json!({}); 4] })).await.problem(409, "log_full");
    server.seal().await;
    let lines = server.post_raw(&path, "application/x-ndjson", "{}\n{}\n").await.ok();
    assert_eq!((&lines["count"], &lines["seqId"]), (&json!(2), &json!(9)));
    server.post(&path, json!({ "entries": vec![json!({}); 2] })).await.problem(409, "log_full");
    assert_eq!(server.progressed(&id, json!({})).await, 10);
    server.post(&path, json!({ "progress": {} })).await.problem(409, "log_full");
    // Another attempt of it does not begin anew.
    server.post(&format!("/tasks/{id}/release"), by("worker-1")).await.ok();
    server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
    server.post(&path, json!({ "progress": {} })).await.problem(409, "log_full");
    assert!(seq_ids(&server.task(&id).await).into_iter().eq(1..=10), "nothing of what was refused");
    server.completed(&id).await.ok();
    is_whole(&server.track(&id, "").await.rest().await, 0, 10, "completed");

    let large = server.started("t").await;
    let path = format!("/tasks/{large}/progress");
    let body = json!({ "progress": { "text": "x".repeat(2000) } });
    for _ in 0..2 {
        server.post(&path, body.clone()).await.ok();
        server.seal().await;
    }
    server.post(&path, body).await.problem(409, "log_full");
    assert_eq!(server.progressed(&large, json!({ "text": "short" })).await, 3);
    server.post(&format!("/tasks/{large}/fail"), by("worker-1")).await.ok();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_node_seals_by_itself(#[values(Embedded, Node)] mode: Mode) {
    let server = Server::start_with(mode, |mut config| {
        config.seal_every = Duration::from_millis(50);
        config
    })
    .await;
    let id = server.started("t").await;
    server.progressed(&id, json!({})).await;
    server.clock.advance(Duration::from_secs(4));
    eventually(async || (!server.ground.rows(&id).await.is_empty()).then_some(())).await;
}
