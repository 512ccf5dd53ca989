//! What is shown of named tasks, and how a watch ends.

use rstest::rstest;
use serde_json::{Value, json};

use super::command::{Ran, Running, command, run};
use crate::harness::{Mode, Server};

fn watching(server: &Server, arguments: &[&str]) -> Running {
    Running::start(command(&server.root(""), &[&["watch"], arguments].concat()))
}

/// The numbers of the entries that were printed as JSON.
fn numbers(ran: &Ran) -> Vec<u64> {
    ran.lines().iter().filter_map(|event| event["data"]["seqId"].as_u64()).collect()
}

async fn end(server: &Server, id: &str, word: &str, body: Value) {
    server.post(&format!("/tasks/{id}/{word}"), body).await.ok();
}

#[rstest]
#[tokio::test]
async fn a_watch_shows_every_entry_and_ends_as_its_task_does(
    #[values(Mode::Embedded, Mode::TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let by = |more: Value| {
        let mut body = json!({ "workerId": "worker-1" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let failure = by(json!({ "error": { "message": "no\u{7} disk" } }));
    for (word, body, code, said) in [
        ("complete", by(json!({ "result": { "rows": 1 } })), 0, "completed"),
        ("fail", failure, 1, "failed: no  disk"),
        ("timeout", json!({}), 1, "timeout"),
        ("cancel", json!({ "force": true, "reason": "enough" }), 5, "cancelled: enough"),
    ] {
        let id = server.started("t").await;
        server.progressed(&id, json!({ "percent": 20, "stage": "load", "message": "early" })).await;
        let running = watching(&server, &[&id]);
        running.says("20%  load  early").await;
        server.progressed(&id, json!({ "current": 3, "total": 4 })).await;
        running.says("3/4").await;
        server.progressed(&id, json!({ "odd": [1] })).await;
        end(&server, &id, word, body).await;
        let out = running.ended().await.with(code);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 4, "{out}");
        assert!(lines.iter().all(|line| line.contains(&format!("Z  {id}  "))), "{out}");
        assert!(lines[2].ends_with(r#"{"seqId":3,"odd":[1]}"#), "{out}");
        assert!(lines[3].ends_with(said), "{out}");
    }
}

#[tokio::test]
async fn of_several_tasks_the_worst_end_counts() {
    let server = Server::start(Mode::Embedded).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(server.started("t").await);
    }
    let names: Vec<&str> = ids.iter().chain(&ids[..1]).map(String::as_str).collect();
    let running = watching(&server, &names);
    server.completed(&ids[0]).await.ok();
    end(&server, &ids[1], "cancel", json!({ "force": true })).await;
    running.says("cancelled").await;
    assert!(!running.out().contains(&ids[2]), "it waits for the third");
    server.completed(&ids[2]).await.ok();
    let out = running.ended().await.with(5);
    assert_eq!(out.lines().count(), 3, "each once, though one was named twice: {out}");
}

#[tokio::test]
async fn json_is_the_events_and_begins_where_it_is_told() {
    let server = Server::start(Mode::Embedded).await;
    let id = server.started("t").await;
    for n in 0..10 {
        server.progressed(&id, json!({ "n": n })).await;
    }
    server.completed(&id).await.ok();
    let all = run(&server, &["watch", "--json", &id]).await;
    assert_eq!(numbers(&all), (1..=10).collect::<Vec<_>>());
    let last = all.lines().pop().expect("an end");
    assert_eq!(last["data"], json!({ "status": "completed", "result": { "ok": true } }));
    assert_eq!(last["taskId"], json!(id));
    let last = run(&server, &["watch", "--json", "--last", "3", &id]).await;
    assert_eq!(numbers(&last), [8, 9, 10]);
}

#[tokio::test]
async fn a_task_can_be_registered_and_watched_at_once() {
    let server = Server::start(Mode::Embedded).await;
    let register = ["register", "--type", "t", "--id", "a", "--watch"];
    let running = Running::start(command(&server.root(""), &register));
    running.says("a\n").await;
    end(&server, "a", "start", json!({ "workerId": "worker-1" })).await;
    server.progressed("a", json!({ "percent": 1 })).await;
    end(&server, "a", "fail", json!({ "workerId": "worker-1" })).await;
    let out = running.ended().await.with(1);
    assert!(out.contains("1%\n") && out.ends_with("failed\n"), "{out}");
}

#[tokio::test]
async fn a_watch_of_no_task_is_refused_and_one_of_no_server_gives_up() {
    let server = Server::start(Mode::Embedded).await;
    let ran = run(&server, &["watch", "none"]).await;
    assert!(ran.err.contains("there is no task none"), "{}", ran.err);
    ran.with(1);
    let nobody = command("http://127.0.0.1:9", &["watch", "a", "--retry-for", "100ms"]);
    Running::start(nobody).ended().await.with(4);
}

#[rstest]
#[case("INT", 130)]
#[case("TERM", 143)]
#[tokio::test]
async fn a_watch_ends_at_a_signal(#[case] signal: &str, #[case] code: i32) {
    let server = Server::start(Mode::Embedded).await;
    let id = server.started("t").await;
    server.progressed(&id, json!({ "percent": 1 })).await;
    let running = watching(&server, &[&id]);
    running.says("1%").await;
    running.signal(signal);
    running.ended().await.with(code);
}
