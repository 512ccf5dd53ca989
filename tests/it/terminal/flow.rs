//! What is shown of everything that runs and comes.

use rstest::rstest;
use serde_json::json;

use super::command::{Running, command, run};
use super::screen::Drawn;
use crate::harness::{Mode, Server};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_and_what_comes_is_watched_by_its_type(
    #[values(Mode::Embedded, Mode::TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let runs = server.started("seen").await;
    server.progressed(&runs, json!({ "percent": 7 })).await;
    let unseen = server.started("unseen").await;
    let watch = ["watch", "--type", "seen", "--type", "other", "--until-idle"];
    let running = Running::start(command(&server.root(""), &watch));
    running.says(&format!("{runs}  in_progress")).await;
    server.progressed(&runs, json!({ "percent": 8 })).await;
    running.says(&format!("{runs}  8%")).await;
    let comes = server.registered("other").await;
    running.says(&format!("{comes}  pending")).await;
    server.completed(&runs).await.ok();
    running.says(&format!("{runs}  completed")).await;
    let start = json!({ "workerId": "worker-1" });
    server.post(&format!("/tasks/{comes}/start"), start).await.ok();
    running.says(&format!("{comes}  in_progress")).await;
    let fail = json!({ "workerId": "worker-1", "error": { "message": "no disk" } });
    server.post(&format!("/tasks/{comes}/fail"), fail).await.ok();
    let out = running.ended().await.with(1);
    assert!(out.contains(&format!("{comes}  failed: no disk")), "{out}");
    assert!(!out.contains(&unseen), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_watched_as_json_until_a_signal() {
    let server = Server::start(Mode::Embedded).await;
    let runs = server.started("t").await;
    let running = Running::start(command(&server.root(""), &["watch", "--all", "--json"]));
    running.says(&runs).await;
    let comes = server.registered("u").await;
    running.says(&comes).await;
    running.signal("INT");
    let ran = running.ended().await;
    let first = &ran.lines()[0];
    assert_eq!((&first["event"], &first["data"]["id"]), (&json!("task"), &json!(runs)));
    ran.with(130);
}

#[tokio::test]
async fn nothing_to_watch_is_idle() {
    let server = Server::start(Mode::Embedded).await;
    assert_eq!(run(&server, &["watch", "--all", "--until-idle"]).await.with(0), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_of_all_that_runs_stand_above_a_summary() {
    let server = Server::start(Mode::Embedded).await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(server.started("t").await);
    }
    let drawn = Drawn::start(command(&server.root(""), &["watch", "--all"]), 100);
    drawn.shows("and 9 more · 30 running").await;
    server.completed(&ids[0]).await.ok();
    drawn.shows(&format!("✓ {}  completed", ids[0])).await;
    drawn.shows("and 8 more · 29 running · 1 completed").await;
}
