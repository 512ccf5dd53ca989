//! The embedded mode: a database that another process has locked, a disk that is full.

use std::process::Command;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use task_tracker::config::Mode as ConfigMode;

use super::{by_worker, in_time, is_unavailable, posts};
use crate::crash::process::{Process, command};
use crate::harness::{Ground, Mode, PATIENCE, Server, eventually, seq_ids};

/// How long a caller waits for a lock that another process has, behind others that do.
const IN_TIME: Duration = Duration::from_secs(15);
/// After how long everything that makes room has been tried.
const SETTLED: Duration = Duration::from_secs(6);

/// Locks a database file, as a backup that does not know better would.
async fn locked(server: &Server, file: &str) -> SqliteConnection {
    let ConfigMode::Embedded { data_dir } = server.ground.config().mode else {
        panic!("an embedded ground");
    };
    let options = SqliteConnectOptions::new().filename(data_dir.join(file));
    let mut connection = options.connect().await.expect("a connection");
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock");
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_refuses_what_is_written_and_goes_on_otherwise() {
    let server = Server::start(Mode::Embedded).await;
    let id = server.started("work").await;
    server.progressed(&id, json!({ "percent": 1 })).await;
    server.registered("waits").await;
    let mut stream = server.track(&id, "").await;
    stream.opened().await;
    let lock = locked(&server, "tracker.db").await;
    let refused = [
        ("/tasks".to_owned(), json!({ "taskType": "work" })),
        (format!("/tasks/{id}/complete"), by_worker()),
        ("/tasks/claim".to_owned(), json!({ "taskTypes": ["waits"], "workerId": "worker-1" })),
    ];
    let goes_on = async {
        let entry = json!({ "progress": { "percent": 2 } });
        server.post(&format!("/tasks/{id}/progress"), entry).await.ok();
        let task = server.task(&id).await;
        assert!(seq_ids(&task).starts_with(&[1, 2]) && task["status"] == "in_progress", "{task}");
        server.get("/tasks").await.ok();
    };
    let (replies, ()) = futures::join!(posts(&server, IN_TIME, &refused), goes_on);
    for ((path, _), reply) in refused.iter().zip(&replies) {
        is_unavailable(path, reply);
    }
    lock.close().await.expect("a lock that is given up");
    eventually(|| async { (server.completed(&id).await.status == 200).then_some(()) }).await;
    super::assert_whole(&stream.rest().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_live_log_refuses_entries_and_nothing_else() {
    let server = Server::start(Mode::Embedded).await;
    let (id, ending) = (server.started("work").await, server.started("work").await);
    for id in [&id, &ending] {
        server.progressed(id, json!({ "percent": 1 })).await;
    }
    let lock = locked(&server, "live.db").await;
    let entries = vec![(format!("/tasks/{id}/progress"), json!({ "progress": {} })); 3];
    let path = format!("/tasks/{ending}/complete");
    let ended = in_time(IN_TIME, &path, server.post(&path, by_worker()));
    let (replies, ended) = futures::join!(posts(&server, IN_TIME, &entries), ended);
    for reply in &replies {
        is_unavailable("an entry", reply);
    }
    // Its history is sealed; what is left of its log is deleted when that can be.
    assert_eq!(ended.ok()["status"], "completed");
    assert_eq!(seq_ids(&server.task(&ending).await), [1]);
    server.registered("work").await;
    lock.close().await.expect("a lock that is given up");
    let back = super::takes_entries(&server, &id).await;
    assert_eq!(back["seqId"], 2, "what was refused is not there");
    assert_eq!(seq_ids(&server.task(&id).await), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing() {
    let ground = Ground::new(Mode::Embedded).await;
    let serve = command(&ground);
    // No file may grow beyond the limit: to SQLite that is a disk on which nothing more can be written.
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"trap "" XFSZ; ulimit -S -f 2048; exec "$0""#]).arg(serve.get_program());
    limited.env_clear().env("PATH", std::env::var_os("PATH").expect("PATH"));
    for (name, value) in serve.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let process = Process::start_with(limited).await;
    let task = process.post("/tasks", &json!({ "taskType": "work" })).await;
    let id = task["taskId"].as_str().expect("an id").to_owned();
    process.post(&format!("/tasks/{id}/start"), &by_worker()).await;
    let client = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
    let append = async |n: usize| {
        let body = json!({ "progress": { "n": n, "text": "x".repeat(50_000) } });
        let url = process.api(&format!("/tasks/{id}/progress"));
        let response = client.post(url).json(&body).send().await.expect("an answer");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
    };
    let mut acknowledged = Vec::new();
    // What is folded back into the file, or sealed, makes room again: it is full when neither does any more.
    let mut refused_since = None;
    loop {
        let (status, body) = append(acknowledged.len()).await;
        if status == 200 {
            acknowledged.push(body["seqId"].as_u64().expect("a number"));
            refused_since = None;
        } else {
            assert_eq!((status, &body["code"]), (503, &json!("unavailable")));
            let since = *refused_since.get_or_insert_with(Instant::now);
            if since.elapsed() > SETTLED {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(acknowledged.len() < 1000, "the disk is not full");
    }
    assert!(
        !acknowledged.is_empty() && acknowledged.iter().copied().eq(1..=acknowledged.len() as u64)
    );
    // What is there can be read, and is all that was acknowledged.
    let read = process.get(&format!("/tasks/{id}")).await;
    assert_eq!(seq_ids(&read), acknowledged);
    for reply in join_all((0..5).map(append)).await {
        assert_eq!(reply.0, 503, "{}", reply.1);
    }
    let mut free = Command::new("prlimit");
    free.args(["--pid", &process.id().to_string(), "--fsize=unlimited:"]);
    assert!(free.status().expect("prlimit").success());
    let (status, body) = append(0).await;
    assert_eq!((status, &body["seqId"]), (200, &json!(acknowledged.len() + 1)), "{body}");
    process.post(&format!("/tasks/{id}/complete"), &by_worker()).await;
    let sealed = process.get(&format!("/tasks/{id}")).await;
    assert!(seq_ids(&sealed).into_iter().eq(1..=acknowledged.len() as u64 + 1));
}
