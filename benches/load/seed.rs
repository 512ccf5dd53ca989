//! What must be there before the clock runs: tasks, registered or started, under ids the driver
//! chooses so that it can tell them apart without a table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{API, Connection};

/// Enough to let a server that groups its writes show it, few enough for one that does not.
const CONNECTIONS: usize = 64;

/// The type of every task that needs no other.
pub(crate) const TASK_TYPE: &str = "load";

/// The worker of every task that has only one.
pub(crate) const WORKER: &str = "load-worker";

/// The body that registers a task, with what a small job usually carries; without an id the server
/// makes one.
pub(crate) fn registration(id: Option<&str>, task_type: &str) -> Bytes {
    let mut body = json!({
        "taskType": task_type,
        "metadata": { "tenant": "acme", "source": "load" },
        "params": { "rows": 1_000, "from": "s3://bucket/in.csv", "to": "s3://bucket/out.csv" },
    });
    if let Some(id) = id {
        body["taskId"] = id.into();
    }
    Bytes::from(body.to_string())
}

/// Registers `count` tasks; `describe` gives the id and the type of each.
pub(crate) async fn pending<F>(address: SocketAddr, count: u64, describe: F) -> Result<()>
where
    F: Fn(u64) -> (String, String) + Send + Sync + 'static,
{
    let path = format!("{API}/tasks");
    post_all(address, count, StatusCode::CREATED, move |index| {
        let (id, task_type) = describe(index);
        (path.clone(), registration(Some(&id), &task_type))
    })
    .await
    .context("registering the tasks to work on")
}

/// Registers and starts `count` tasks and gives their ids.
pub(crate) async fn running(address: SocketAddr, count: u64) -> Result<Vec<String>> {
    pending(address, count, |index| (running_id(index), TASK_TYPE.to_owned())).await?;
    let start = Bytes::from(json!({ "workerId": WORKER }).to_string());
    post_all(address, count, StatusCode::OK, move |index| {
        (format!("{API}/tasks/{}/start", running_id(index)), start.clone())
    })
    .await
    .context("starting the tasks to work on")?;
    Ok((0..count).map(running_id).collect())
}

/// Appends the same request to each of the `count` tasks that [`running`] has started.
pub(crate) async fn entries(address: SocketAddr, count: u64, request: Bytes) -> Result<()> {
    post_all(address, count, StatusCode::OK, move |index| {
        (format!("{API}/tasks/{}/progress", running_id(index)), request.clone())
    })
    .await
    .context("appending to the tasks to work on")
}

/// Ends a running task well.
pub(crate) async fn complete(connection: &mut Connection, task: &str, worker: &str) -> Result<()> {
    let body = Bytes::from(json!({ "workerId": worker, "result": { "rows": 1_000 } }).to_string());
    connection
        .post(&format!("{API}/tasks/{task}/complete"), body)
        .await?
        .expect(StatusCode::OK, "complete")?;
    Ok(())
}

fn running_id(index: u64) -> String {
    format!("running-{index}")
}

async fn post_all<F>(address: SocketAddr, count: u64, status: StatusCode, request: F) -> Result<()>
where
    F: Fn(u64) -> (String, Bytes) + Send + Sync + 'static,
{
    let shared = Arc::new((AtomicU64::new(0), request));
    let mut crew = JoinSet::new();
    for mut connection in
        Connection::open_many(address, CONNECTIONS.min(usize::try_from(count)?)).await?
    {
        let shared = Arc::clone(&shared);
        crew.spawn(async move {
            let (next, request) = &*shared;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return anyhow::Ok(());
                }
                let (path, body) = request(index);
                connection.post(&path, body).await?.expect(status, &path)?;
            }
        });
    }
    while let Some(done) = crew.join_next().await {
        done.context("a preparing connection panicked")??;
    }
    Ok(())
}
