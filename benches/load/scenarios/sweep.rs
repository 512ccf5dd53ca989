//! Ending tasks whose time is over, each with ten entries that are sealed already, as those of a
//! worker that fell silent are. The rate counts from the first request to sweep to the answer of the last.
//! Checked: every task ended once, by its deadline, with its entries.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{API, Connection};
use crate::clock;
use crate::drive::{Sample, Stage};
use crate::scenarios::progress;
use crate::seed;

/// The server is to sweep when it is told, not before the clock runs.
pub(super) const SERVER_ENV: &[(&str, &str)] = &[("TASK_TRACKER_SWEEP_SECONDS", "3600")];

const ENTRIES: usize = 10;

const SEAL_LIMIT: Duration = Duration::from_mins(2);

/// How many tasks are looked at one by one afterwards.
const SAMPLE: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Processed {
    processed_count: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ended {
    status: String,
    progress_history: Vec<Value>,
}

pub(super) async fn run(stage: &Stage<'_>) -> Result<Sample> {
    let count = u64::try_from(stage.options.overdue)?;
    let tasks = seed::running(stage.address, count).await?;
    seed::entries(stage.address, count, progress::request(ENTRIES)).await?;
    let mut sql = stage.place.as_ref().context("the tables are out of reach")?.open().await?;
    let sealed =
        "SELECT CAST(coalesce(sum(last_seq - first_seq + 1), 0) AS bigint) FROM tracker_entries";
    let wanted = i64::try_from(count)? * i64::try_from(ENTRIES)?;
    let begun = clock::now();
    while sql.number(sealed).await? < wanted {
        ensure!(begun.elapsed() < SEAL_LIMIT, "the entries were not sealed within {SEAL_LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let past = "UPDATE tracker_tasks SET timeout_at =";
    sql.run_either(&format!("{past} now() - interval '1 minute'"), &format!("{past} 1")).await?;

    let mut connection = Connection::open(stage.address).await?;
    let (mut ended, mut latencies) = (0, Vec::new());
    let recording = stage.meter.record().await?;
    let (begun, before) = (clock::now(), stage.meter.read()?);
    while ended < count {
        let asked = clock::now();
        let reply = connection.post(&format!("{API}/tasks/timeouts/process"), Bytes::new()).await?;
        let swept: Processed = reply.expect(StatusCode::OK, "the sweep")?.json("the sweep")?;
        if swept.processed_count == 0 {
            bail!("the sweep found nothing after {ended} of {count} tasks");
        }
        ended += swept.processed_count;
        latencies.push(clock::nanoseconds(asked.elapsed()));
    }
    let (elapsed, cpu) = (begun.elapsed(), stage.meter.read()?.since(before));
    if let Some(recording) = recording {
        recording.finish().await?;
    }

    ensure!(ended == count, "{ended} ends of {count} tasks");
    let left = "SELECT count(*) FROM tracker_tasks WHERE status <> 'timeout'";
    ensure!(sql.number(left).await? == 0, "not every task has timed out");
    ensure!(sql.number(sealed).await? == wanted, "the histories are not what was appended");
    for task in tasks.iter().step_by((tasks.len() / SAMPLE).max(1)) {
        let reply = connection.get(&format!("{API}/tasks/{task}")).await?;
        let reply = reply.expect(StatusCode::OK, "a swept task")?;
        let task: Ended = reply.json("a swept task")?;
        ensure!(
            task.status == "timeout" && task.progress_history.len() == ENTRIES,
            "a swept task is {} with {} entries",
            task.status,
            task.progress_history.len()
        );
    }
    Sample::of_rate(count, elapsed, &latencies, cpu)
}
