//! What a real process says and does when it starts and when it is told to stop.

use rstest::rstest;
use serde_json::json;

use super::process::{Process, command, output};
use crate::harness::{Events, Ground, Mode};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn a_second_process_in_one_data_folder_is_refused() {
    let ground = Ground::new(Mode::Embedded).await;
    let first = Process::start(&ground).await;
    for subcommand in ["serve", "migrate"] {
        let mut second = command(&ground);
        second.arg(subcommand);
        let refused = output(second).await;
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("another task-tracker uses"), "{said}");
        assert!(said.contains("TASK_TRACKER_DATA_DIR"), "it says what to do: {said}");
    }
    first.get("/tasks").await;
}

#[tokio::test]
async fn a_folder_is_free_again_when_its_process_was_killed() {
    let ground = Ground::new(Mode::Embedded).await;
    Process::start(&ground).await.kill();
    Process::start(&ground).await.get("/tasks").await;
}

#[rstest]
#[tokio::test]
async fn one_url_without_the_other_is_refused(
    #[values("DATABASE_URL", "REDIS_URL")] given: &str,
    #[values("serve", "migrate")] subcommand: &str,
) {
    let ground = Ground::new(Mode::Node).await;
    let mut one = command(&ground);
    let other = if given == "DATABASE_URL" { "REDIS_URL" } else { "DATABASE_URL" };
    one.env_remove(other).arg(subcommand);
    let refused = output(one).await;
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("{given} is set and {other} is not")), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let ground = Ground::new(Mode::Embedded).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let mut second = command(&ground);
    second.env("TASK_TRACKER_PORT", &port);
    let refused = output(second).await;
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{said}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_told_to_stop_ends_its_streams_and_then_itself(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
    #[values("TERM", "INT")] signal: &str,
) {
    let ground = Ground::new(mode).await;
    let process = Process::start(&ground).await;
    let task = process.post("/tasks", &json!({ "taskType": "work" })).await;
    let id = task["taskId"].as_str().expect("an id");
    process.post(&format!("/tasks/{id}/start"), &json!({})).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let url = process.api(&format!("/tasks/{id}/track"));
        let mut events = Events::open(reqwest::Client::new().get(url)).await;
        events.opened().await;
        streams.push(events);
    }
    process.post(&format!("/tasks/{id}/progress"), &json!({ "progress": { "n": 1 } })).await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.and_then(|event| event.seq_id()), Some(1));
    }
    process.signal(signal);
    for stream in streams {
        // A clean end of the body, and no end of the task: the client resumes elsewhere.
        assert!(stream.rest().await.is_empty());
    }
    let status = process.ended().await;
    assert_eq!(status.code(), Some(0), "{}", process.said());
    assert!(!process.said().contains("still in flight"), "{}", process.said());
    let again = Process::start(&ground).await;
    let task = again.get(&format!("/tasks/{id}")).await;
    assert_eq!(task["progressHistory"], json!([{ "seqId": 1, "n": 1 }]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_waits_does_not_keep_a_process_from_stopping() {
    let ground = Ground::new(Mode::Embedded).await;
    let process = Process::start(&ground).await;
    let claim = json!({ "taskTypes": ["none"], "workerId": "w", "waitSeconds": 60 });
    let url = process.api("/tasks/claim");
    let waiting = tokio::spawn(reqwest::Client::new().post(url).json(&claim).send());
    // Once it has been answered one call that came later, the server has the other too.
    process.get("/tasks").await;
    process.signal("TERM");
    let status = process.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(!process.said().contains("still in flight"), "{}", process.said());
    if let Ok(answer) = waiting.await.expect("a task") {
        assert!(answer.status() == 200 || answer.status() == 503, "{}", answer.status());
    }
}

#[rstest]
#[tokio::test]
async fn migrate_brings_the_schema_up_to_date_and_ends(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let ground = Ground::new(mode).await;
    for _ in 0..2 {
        let mut migrate = command(&ground);
        migrate.arg("migrate");
        let ended = output(migrate).await;
        assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
        assert_eq!(text(&ended.stdout), "the database schema is up to date\n");
    }
    Process::start(&ground).await.get("/tasks").await;
}

#[tokio::test]
async fn serve_is_what_is_done_unless_said_otherwise() {
    let ground = Ground::new(Mode::Embedded).await;
    let mut serve = command(&ground);
    serve.arg("serve");
    Process::start_with(serve).await.get("/tasks").await;
    Process::start(&ground).await.get("/tasks").await;
}

#[rstest]
#[tokio::test]
async fn help_lists_every_variable(#[values(&[][..], &["serve"])] subcommand: &[&str]) {
    let ground = Ground::new(Mode::Embedded).await;
    let mut help = command(&ground);
    help.args(subcommand).arg("--help");
    let ended = output(help).await;
    assert_eq!(ended.status.code(), Some(0));
    let said = text(&ended.stdout);
    let variables = variables();
    assert!(variables.len() > 10, "{variables:?}");
    for variable in variables {
        assert!(said.contains(variable), "{variable} is missing:\n{said}");
    }
}

/// Every environment variable that the command line reads.
fn variables() -> Vec<&'static str> {
    let source = include_str!("../../../src/cli.rs");
    let behind = source.split("env = \"").skip(1);
    behind.map(|rest| rest.split_once('"').expect("a closing quote").0).collect()
}
