//! Leases, cancellation, and a worker that is told to stop.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use tempfile::tempdir;

use super::command::{gone, worker, written};
use crate::harness::{Mode, Server, eventually};

/// Ignores SIGTERM with all its children, and says who they are.
const DEAF: &str = r#"trap '' TERM; sleep 1000 & echo "$$ $!" > "$DIR/pids"; echo begun; while :; do sleep 1000; done"#;
/// Waits until the test wants it to end.
const PATIENT: &str =
    r#"echo $$ > "$DIR/pids"; while [ ! -e "$DIR/go" ]; do sleep 0.02; done; echo done"#;

/// Looks for leases that ran out.
async fn expired(server: &Server) {
    server.nodes[0].tracker().expire_leases().await.expect("a round");
}

async fn stands(server: &Server, id: &str, status: &str) {
    eventually(|| async { (server.task(id).await["status"] == status).then_some(()) }).await;
}

#[rstest]
#[tokio::test]
async fn a_cancelled_program_that_is_deaf_is_killed_with_all_its_children(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let folder = tempdir().expect("a folder");
    let id = server.registered("work").await;
    let options = ["--once", "--grace", "300ms", "--heartbeat", "100ms"];
    let running = worker(&server.root(""), folder.path(), &options, DEAF);
    let pids = written(folder.path(), "pids").await;
    server.post(&format!("/tasks/{id}/cancel"), json!({ "reason": "enough" })).await.ok();
    running.ended().await.with(5);
    gone(&pids).await;
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["cancelReason"]), (&json!("cancelled"), &json!("enough")));
    assert_eq!(task["progressHistory"][0]["message"], "begun");
}

#[tokio::test]
async fn a_cancelled_program_may_clean_up() {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempdir().expect("a folder");
    let id = server.registered("work").await;
    // The signal ends what it sleeps with as well, of which the shell tells on stderr, sometimes first.
    let script = r#"exec 2>/dev/null; trap 'echo cleaned up; exit 0' TERM; echo $$ > "$DIR/pids"; while :; do sleep 0.05; done"#;
    let options = ["--once", "--grace", "1h", "--heartbeat", "100ms"];
    let running = worker(&server.root(""), folder.path(), &options, script);
    written(folder.path(), "pids").await;
    server.post(&format!("/tasks/{id}/cancel"), json!({})).await.ok();
    running.ended().await.with(5);
    let task = server.task(&id).await;
    assert_eq!(task["status"], "cancelled");
    assert_eq!(task["progressHistory"][0]["message"], "cleaned up");
}

#[rstest]
#[tokio::test]
async fn a_lease_is_kept_alive_over_a_program_that_is_silent_for_longer(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let folder = tempdir().expect("a folder");
    let id = server.registered("work").await;
    let options = ["--once", "--lease", "60s", "--heartbeat", "100ms"];
    let running = worker(&server.root(""), folder.path(), &options, PATIENT);
    written(folder.path(), "pids").await;
    for _ in 0..4 {
        // Time stands still but for what we move, and it is heard of the worker after each move.
        let heard = server.task(&id).await["lastHeartbeatAt"].clone();
        server.clock.advance(Duration::from_secs(45));
        eventually(|| async { (server.task(&id).await["lastHeartbeatAt"] != heard).then_some(()) })
            .await;
        expired(&server).await;
    }
    std::fs::write(folder.path().join("go"), "").expect("a file");
    running.ended().await.with(0);
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)));
}

#[rstest]
#[tokio::test]
async fn a_program_whose_lease_is_lost_is_killed_and_says_nothing_more(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let folder = tempdir().expect("a folder");
    let id = server.registered("work").await;
    let options = ["--once", "--lease", "60s", "--heartbeat", "1s"];
    let script = format!("echo before; {DEAF}");
    let running = worker(&server.root(""), folder.path(), &options, &script);
    let pids = written(folder.path(), "pids").await;
    eventually(|| async {
        // Both lines are there, and a heartbeat that comes between the two calls saves the lease once more.
        let has_begun = server.task(&id).await["progressHistory"].as_array()?.len() == 2;
        server.clock.advance(Duration::from_secs(if has_begun { 61 } else { 0 }));
        expired(&server).await;
        (server.task(&id).await["status"] == "pending").then_some(())
    })
    .await;
    let other = json!({ "workerId": "other" });
    server.post(&format!("/tasks/{id}/start"), other).await.ok();
    let ran = running.ended().await;
    assert!(ran.err.contains("another worker may have it"), "{}", ran.err);
    ran.with(1);
    gone(&pids).await;
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["workerId"]), (&json!("in_progress"), &json!("other")));
    assert_eq!(task["progressHistory"].as_array().expect("a history").len(), 2);
}

#[rstest]
#[case("INT")]
#[case("TERM")]
#[tokio::test]
async fn a_worker_that_is_told_to_stop_finishes_what_runs_and_takes_no_more(#[case] signal: &str) {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempdir().expect("a folder");
    let id = server.registered("work").await;
    let running = worker(&server.root(""), folder.path(), &["--concurrency", "2"], PATIENT);
    written(folder.path(), "pids").await;
    running.signal(signal);
    eventually(|| async { running.err().contains("no more tasks").then_some(()) }).await;
    let later = server.registered("work").await;
    std::fs::write(folder.path().join("go"), "").expect("a file");
    running.ended().await.with(0);
    assert_eq!(server.task(&id).await["status"], "completed");
    assert_eq!(server.task(&later).await["status"], "pending");
}

#[tokio::test]
async fn a_worker_that_is_told_twice_kills_what_runs_and_gives_it_back() {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempdir().expect("a folder");
    let id = server.registered("work").await;
    let running = worker(&server.root(""), folder.path(), &[], DEAF);
    let pids = written(folder.path(), "pids").await;
    running.signal("INT");
    eventually(|| async { running.err().contains("no more tasks").then_some(()) }).await;
    running.signal("TERM");
    running.ended().await.with(143);
    gone(&pids).await;
    stands(&server, &id, "pending").await;
    let task = server.task(&id).await;
    assert_eq!(task["progressHistory"][0]["message"], "begun", "what it said is kept");
}

#[tokio::test]
async fn a_worker_waits_for_what_runs_no_longer_than_it_is_told() {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempdir().expect("a folder");
    let id = server.registered("work").await;
    let running = worker(&server.root(""), folder.path(), &["--drain", "100ms"], DEAF);
    let pids = written(folder.path(), "pids").await;
    running.signal("TERM");
    running.ended().await.with(143);
    gone(&pids).await;
    stands(&server, &id, "pending").await;
}
