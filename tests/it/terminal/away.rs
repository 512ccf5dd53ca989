//! Servers that are killed while somebody watches or works.

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::tempdir;

use super::command::{Running, command, worker, written};
use crate::crash::process::{self, Process};
use crate::harness::{Ground, Mode, eventually, seq_ids};

/// Starts a server where another one was.
async fn again(ground: &Ground, port: u16) -> Process {
    let mut command = process::command(ground);
    command.env("TASK_TRACKER_PORT", port.to_string());
    Process::start_with(command).await
}

async fn started(process: &Process) -> String {
    let task = process.post("/tasks", &json!({ "taskType": "t" })).await;
    let id = task["taskId"].as_str().expect("an id").to_owned();
    process.post(&format!("/tasks/{id}/start"), &json!({ "workerId": "w" })).await;
    id
}

async fn append(process: &Process, id: &str, from: u64) {
    let entries: Vec<Value> = (from..from + 100).map(|n| json!({ "n": n })).collect();
    process.post(&format!("/tasks/{id}/progress"), &json!({ "entries": entries })).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_where_it_was_when_its_server_was_killed(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let ground = Ground::new(mode).await;
    let mut server = Process::start(&ground).await;
    let port = server.address().port();
    let id = started(&server).await;
    let url = format!("http://127.0.0.1:{port}");
    let running = Running::start(command(&url, &["watch", "--json", &id]));
    for round in 0..3 {
        append(&server, &id, round * 100 + 1).await;
        running.says(&format!("\"n\":{}", round * 100 + 1)).await;
        server.kill();
        server = again(&ground, port).await;
    }
    let end = json!({ "workerId": "w", "error": { "message": "no disk" } });
    server.post(&format!("/tasks/{id}/fail"), &end).await;
    let ran = running.ended().await;
    let events = ran.lines();
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["data"]["n"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(1..=300), "{numbers:?}");
    assert_eq!(events.last().expect("an end")["data"]["status"], "failed");
    ran.with(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_everything_hears_what_ended_while_its_server_was_away() {
    let ground = Ground::new(Mode::Embedded).await;
    let server = Process::start(&ground).await;
    let port = server.address().port();
    let (ends, stays) = (started(&server).await, started(&server).await);
    let url = format!("http://127.0.0.1:{port}");
    let running = Running::start(command(&url, &["watch", "--type", "t", "--until-idle"]));
    running.says(&format!("{ends}  in_progress")).await;
    running.says(&format!("{stays}  in_progress")).await;
    server.kill();
    // It ends at a server that the watch does not know.
    let elsewhere = Process::start(&ground).await;
    elsewhere.post(&format!("/tasks/{ends}/complete"), &json!({ "workerId": "w" })).await;
    elsewhere.kill();
    let server = again(&ground, port).await;
    running.says(&format!("{ends}  completed")).await;
    server.post(&format!("/tasks/{stays}/complete"), &json!({ "workerId": "w" })).await;
    let out = running.ended().await.with(0);
    assert!(out.contains(&format!("{stays}  completed")), "{out}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_server_is_killed_loses_no_line_and_says_none_twice(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let ground = Ground::new(mode).await;
    let server = Process::start(&ground).await;
    let port = server.address().port();
    let folder = tempdir().expect("a folder");
    let task = server.post("/tasks", &json!({ "taskType": "work" })).await;
    let id = task["taskId"].as_str().expect("an id").to_owned();
    // The server is killed while lines come, and goes on being away while more do.
    let script = r#"seq 1 3000; echo half > "$DIR/half"; while [ ! -e "$DIR/go" ]; do sleep 0.02; done
        seq 3001 6000; echo 'result: {"rows": 6000}'; echo all > "$DIR/all""#;
    let url = format!("http://127.0.0.1:{port}");
    let running = worker(&url, folder.path(), &["--once", "--heartbeat", "100ms"], script);
    let path = format!("/tasks/{id}");
    eventually(|| async {
        let task = server.get(&path).await;
        (!seq_ids(&task).is_empty()).then_some(())
    })
    .await;
    server.kill();
    written(folder.path(), "half").await;
    std::fs::write(folder.path().join("go"), "").expect("a file");
    written(folder.path(), "all").await;
    eventually(|| async { running.err().contains("trying again").then_some(()) }).await;
    let server = again(&ground, port).await;
    let ran = running.ended().await;
    assert!(ran.err.contains("the server is back"), "{}", ran.err);
    ran.with(0);
    let task = server.get(&path).await;
    assert_eq!((&task["status"], &task["result"]), (&json!("completed"), &json!({ "rows": 6000 })));
    let history = task["progressHistory"].as_array().expect("a history");
    assert_eq!(history.len(), 6000);
    for (number, entry) in (1..).zip(history) {
        assert_eq!(entry["message"], number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_a_server_that_is_not_there_yet() {
    let ground = Ground::new(Mode::Embedded).await;
    let server = Process::start(&ground).await;
    let port = server.address().port();
    server.post("/tasks", &json!({ "taskType": "work", "taskId": "a" })).await;
    server.kill();
    let folder = tempdir().expect("a folder");
    let url = format!("http://127.0.0.1:{port}");
    let running = worker(&url, folder.path(), &["--once"], "true");
    eventually(|| async { running.err().contains("trying again").then_some(()) }).await;
    let server = again(&ground, port).await;
    running.ended().await.with(0);
    assert_eq!(server.get("/tasks/a").await["status"], "completed");
}
