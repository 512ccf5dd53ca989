//! What was acknowledged is in the history, however close the end came; what was refused is not.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, is_whole};
use crate::harness::Mode::{self, Cluster, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server, eventually, seq_ids};

const ROUNDS: u64 = 15;
const APPENDERS: usize = 8;

/// Appends until it is refused; gives what was acknowledged, with its numbers.
async fn until_refused(
    server: &Server,
    id: &str,
    appender: usize,
    acknowledged: &AtomicU64,
) -> (Vec<(u64, Value)>, Reply) {
    let path = format!("/tasks/{id}/progress");
    let mut kept = Vec::new();
    for step in 0.. {
        // Half of them append one at a time, the others three.
        let size = if appender.is_multiple_of(2) { 1 } else { 3 };
        let entries: Vec<Value> =
            (0..size).map(|part| json!({ "by": appender, "step": step, "part": part })).collect();
        let body = match size {
            1 => json!({ "progress": entries[0] }),
            _ => json!({ "entries": entries, "workerId": "worker-1" }),
        };
        let node = (appender + step) % server.nodes.len();
        let reply = server.post_at(node, &path, body).await;
        if reply.status != 200 {
            return (kept, reply);
        }
        let last = reply.json()["seqId"].as_u64().expect("a number");
        kept.extend((last + 1 - size..).zip(entries));
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    unreachable!("a task that never ends")
}

/// One round: an end in the middle of appends from everywhere.
async fn round(server: &Server, number: u64) {
    let id = server.started("t").await;
    let stream = server.track_at(server.last_node(), &id, "").await;
    let acknowledged = AtomicU64::new(0);
    let appenders = join_all(
        (0..APPENDERS).map(|appender| until_refused(server, &id, appender, &acknowledged)),
    );
    let end = async {
        // The end comes after some appends, each round after a few more.
        eventually(async || (acknowledged.load(Ordering::Relaxed) > number * 3).then_some(()))
            .await;
        let word = ["complete", "fail", "timeout"][usize::try_from(number % 3).expect("few")];
        server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok()
    };
    let (outcomes, end) = futures::join!(appenders, end);

    let mut kept = Vec::new();
    for (mine, refused) in outcomes {
        kept.extend(mine);
        let problem = refused.problem(409, "invalid_transition");
        assert_eq!((&problem["from"], &problem["attempted"]), (&end["status"], &json!("progress")));
    }
    kept.sort_by_key(|(number, _)| *number);
    let task = server.task(&id).await;
    let history: Vec<Value> = kept
        .into_iter()
        .map(|(number, mut entry)| {
            entry["seqId"] = number.into();
            entry
        })
        .collect();
    assert_eq!(task["progressHistory"], json!(history), "just what was acknowledged");
    let last = history.len() as u64;
    assert_eq!(seq_ids(&task), (1..=last).collect::<Vec<_>>());
    let status = end["status"].as_str().expect("a status");
    is_whole(&stream.rest().await, 0, last, status);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_history(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for number in 0..ROUNDS {
        round(&server, number).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_first_entry_beside_the_end_is_kept_or_refused(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for number in 0..30 {
        let id = server.started("t").await;
        let [path, complete] = ["progress", "complete"].map(|word| format!("/tasks/{id}/{word}"));
        let (entry, end) = futures::join!(
            server.post_at(0, &path, json!({ "progress": { "number": number } })),
            server.post_at(server.last_node(), &complete, by("worker-1")),
        );
        end.ok();
        let history = server.task(&id).await["progressHistory"].clone();
        if entry.status == 200 {
            assert_eq!(history, json!([{ "seqId": 1, "number": number }]));
        } else {
            entry.problem(409, "invalid_transition");
            assert_eq!(history, json!([]));
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn entries_beside_a_release_belong_to_the_attempt_that_was_given_back(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let mut expected = 0;
    for attempt in 0..8_u64 {
        let worker = by("worker-1");
        server.post(&format!("/tasks/{id}/start"), worker.clone()).await.ok();
        let acknowledged = AtomicU64::new(0);
        let appenders =
            join_all((0..4).map(|appender| until_refused(&server, &id, appender, &acknowledged)));
        let release = async {
            eventually(async || (acknowledged.load(Ordering::Relaxed) > attempt).then_some(()))
                .await;
            server.post(&format!("/tasks/{id}/release"), worker).await.ok()
        };
        let (outcomes, _) = futures::join!(appenders, release);
        for (kept, refused) in outcomes {
            expected += kept.len() as u64;
            assert_eq!(refused.problem(409, "invalid_transition")["from"], "pending");
        }
        assert_eq!(seq_ids(&server.task(&id).await), (1..=expected).collect::<Vec<_>>());
    }
}
