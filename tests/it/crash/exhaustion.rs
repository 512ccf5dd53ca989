//! A real process whose clients take all of something: its files, or nothing of what it sends.

use std::process::Command;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::process::{Process, command, figure, memory};
use crate::harness::{Events, Ground, Mode, eventually};

/// The processor time a process has used, in clock ticks of a hundredth of a second.
fn ticks(process: &Process) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("Linux");
    // Behind the name, which may hold anything: state, then ten others, then user and system time.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_nothing_cost_little_slow_nobody_and_are_dropped() {
    const STALLED: usize = 30;
    const BODIES: u64 = 16;
    let ground = Ground::new(Mode::Embedded).await;
    let mut server = command(&ground);
    server.env("TASK_TRACKER_STALL_SECONDS", "2");
    let process = Process::start_with(server).await;
    let task = process.post("/tasks", &json!({ "taskType": "t" })).await;
    let id = task["taskId"].as_str().expect("an id").to_owned();
    process.post(&format!("/tasks/{id}/start"), &json!({})).await;
    let entry = json!({ "fill": "x".repeat(125_000) });
    let body = json!({ "entries": vec![entry; 8] });
    let appended = async |count: u64| {
        for _ in 0..count {
            process.post(&format!("/tasks/{id}/progress"), &body).await;
        }
    };
    // A megabyte each, far more in all than the sockets hold.
    appended(BODIES / 2).await;
    let url = process.api(&format!("/tasks/{id}/track"));
    let mut reader = Events::open(reqwest::Client::new().get(&url)).await;
    reader.take(8 * usize::try_from(BODIES / 2).expect("a count")).await;
    let before = memory(&process, "VmRSS");
    let stalled: Vec<TcpStream> = join_all((0..STALLED).map(|_| async {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut stream = socket.connect(process.address()).await.expect("a connection");
        let request = format!("GET /api/v1/tasks/{id}/track HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a server that reads");
        stream
    }))
    .await;
    let open = STALLED + 1;
    let are_open = async || (figure(&process, "streams_opened_total ").await >= open).then_some(());
    eventually(are_open).await;
    // Beside them somebody appends, and somebody reads everything.
    let more = async { appended(BODIES / 2).await };
    let read = async { reader.take(8 * usize::try_from(BODIES / 2).expect("a count")).await };
    let ((), read) = futures::join!(more, read);
    assert_eq!(read.last().and_then(crate::harness::Event::seq_id), Some(8 * BODIES));
    let dropped = async || {
        let dropped = figure(&process, r#"streams_closed_total{reason="stalled"}"#).await;
        (dropped >= STALLED).then_some(dropped)
    };
    assert_eq!(eventually(dropped).await, STALLED, "and no other");
    let grown = memory(&process, "VmHWM").saturating_sub(before) / 1024;
    // Each may hold a page of the log and what the buffers have; the whole history of each would be
    // half a gigabyte.
    let bound = 4 * STALLED as u64;
    assert!(grown < bound, "grown by {grown} MiB, {STALLED} readers");
    assert_eq!(figure(&process, "streams_open ").await, 1, "who reads is still there");
    drop(stalled);
    // One that leaves, and one that sees the end: each is counted as what it is.
    let mut leaves =
        Events::open(reqwest::Client::new().get(format!("{url}?ignoreHistory=true"))).await;
    leaves.opened().await;
    drop(leaves);
    process.post(&format!("/tasks/{id}/complete"), &json!({})).await;
    assert!(reader.rest().await.last().expect("an end").is_end());
    for reason in ["gone", "end"] {
        let line = format!(r#"streams_closed_total{{reason="{reason}"}}"#);
        let counted =
            async || (figure(&process, &line).await >= 1).then_some(figure(&process, &line).await);
        assert_eq!(eventually(counted).await, 1, "{reason}");
    }
    assert_eq!(figure(&process, "streams_open ").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_files_serves_on_and_accepts_again() {
    let ground = Ground::new(Mode::Embedded).await;
    let binary = env!("CARGO_BIN_EXE_task-tracker");
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -n 80 && exec \"$0\"", binary]).env_clear();
    for (name, value) in command(&ground).get_envs() {
        limited.env(name, value.expect("a value"));
    }
    limited.env("TASK_TRACKER_HEADER_SECONDS", "3");
    let process = Process::start_with(limited).await;
    // On a connection that is there already, it is served on.
    let client = reqwest::Client::new();
    let registered = async || {
        let request = client.post(process.api("/tasks")).json(&json!({ "taskType": "t" }));
        super::process::answer(request).await
    };
    registered().await.expect("a task");
    let used = ticks(&process);
    let begun = std::time::Instant::now();
    // More than it has files for; they say nothing, and are closed in their time.
    let _silent: Vec<TcpStream> =
        join_all((0..150).map(|_| async {
            TcpStream::connect(process.address()).await.expect("a place to wait")
        }))
        .await;
    let said =
        async || process.said().contains("no connection can be accepted for now").then_some(());
    eventually(said).await;
    assert!(registered().await.is_some(), "who is connected is served");
    let accepts = async || {
        let fresh =
            reqwest::Client::builder().timeout(Duration::from_secs(2)).build().expect("a client");
        let answer = fresh.get(process.api("/tasks")).send().await.ok()?;
        (answer.status() == 200).then_some(())
    };
    eventually(accepts).await;
    let (used, took) = (ticks(&process) - used, begun.elapsed());
    assert!(u128::from(used) * 10 < took.as_millis() / 2, "{used} ticks in {took:?}: it spins");
    assert!(figure(&process, "accept_errors_total").await >= 1);
    let tasks: Value = process.get("/tasks").await;
    assert_eq!(tasks["items"].as_array().map(Vec::len), Some(2));
}
