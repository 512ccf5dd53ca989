//! Appending to a hundred running tasks. Checked: the numbers acknowledged for a task are 1, 2, 3 …
//! with none missing and none twice, and its history holds exactly them, in order; where there are
//! listeners, one to a task, each gets them all.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{API, Connection};
use crate::drive::{Sample, Stage, Step, Worker, drive};
use crate::scenarios::fanout::Following;
use crate::seed;
use crate::sse::Dialect;
use crate::wire::Appended;

const TASKS: usize = 100;

/// What is read of a task.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct History {
    progress_history: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    seq_id: u64,
}

struct Append {
    paths: Arc<Vec<String>>,
    next: usize,
    body: Bytes,
    entries: u64,
    /// Per request the task and the first and last number given.
    acknowledged: Vec<(usize, u64, u64)>,
}

impl Worker for Append {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let task = self.next % self.paths.len();
        self.next += 1;
        let reply = connection
            .post(&self.paths[task], self.body.clone())
            .await?
            .expect(StatusCode::OK, "progress")?;
        let appended: Appended = reply.json("progress")?;
        let count = appended.count.unwrap_or(1);
        ensure!(
            count == self.entries && appended.seq_id >= count,
            "{count} of {} entries were appended",
            self.entries
        );
        self.acknowledged.push((task, appended.seq_id + 1 - count, appended.seq_id));
        Ok(Step::Did(count))
    }
}

pub(super) async fn run(
    stage: &Stage<'_>,
    connections: usize,
    entries: usize,
    listened: bool,
) -> Result<Sample> {
    let tasks = seed::running(stage.address, u64::try_from(TASKS)?).await?;
    let mut readers = Vec::new();
    if listened {
        let following = Following::new(stage.window(), Dialect::Ours);
        for task in &tasks {
            let stream = Connection::open(stage.address).await?.track(task).await?;
            readers.push(tokio::spawn(following.clone().follow(stream)));
        }
    }
    let paths = Arc::new(
        tasks.iter().map(|task| format!("{API}/tasks/{task}/progress")).collect::<Vec<_>>(),
    );
    let count = u64::try_from(entries)?;
    let worker = |index: usize| Append {
        paths: Arc::clone(&paths),
        // Spread over the tasks, so that the connections meet on one now and then and not all the
        // time.
        next: index * TASKS / connections,
        body: request(entries),
        entries: count,
        acknowledged: Vec::new(),
    };
    let driven = drive(stage, (0..connections).map(worker).collect()).await?;

    let mut ranges = vec![Vec::new(); TASKS];
    for (task, first, last) in driven.workers.into_iter().flat_map(|worker| worker.acknowledged) {
        ranges[task].push((first, last));
    }
    let mut connection = Connection::open(stage.address).await?;
    let mut readers = readers.into_iter();
    for (task, mut ranges) in tasks.iter().zip(ranges) {
        ranges.sort_unstable();
        let acknowledged =
            contiguous(&ranges).with_context(|| format!("the answers for {task}"))?;
        let reply = connection
            .get(&format!("{API}/tasks/{task}"))
            .await?
            .expect(StatusCode::OK, "a running task")?;
        let history: History = reply.json("a running task")?;
        let kept: Vec<_> =
            history.progress_history.iter().map(|entry| (entry.seq_id, entry.seq_id)).collect();
        let kept = contiguous(&kept).with_context(|| format!("the history of {task}"))?;
        ensure!(kept == acknowledged, "{task} acknowledged {acknowledged} entries and kept {kept}");
        if let Some(reader) = readers.next() {
            seed::complete(&mut connection, task, seed::WORKER).await?;
            let followed = reader.await.context("a reader panicked")??;
            ensure!(followed.entries == kept, "a reader got {} of {kept}", followed.entries);
        }
    }
    Ok(driven.sample)
}

/// The last number, if the ranges, one after the other, are 1 to it without a gap or a repeat.
fn contiguous(ranges: &[(u64, u64)]) -> Result<u64> {
    let mut reached = 0;
    for &(first, last) in ranges {
        ensure!(first == reached + 1, "entry {first} follows {reached}");
        reached = last;
    }
    Ok(reached)
}

/// A request with this many entries, as a worker would send it: it names itself, so the fence is in
/// the measurement.
pub(crate) fn request(entries: usize) -> Bytes {
    const MESSAGE: &str = "rows 41000 to 42000 of 100000";
    let entry = |number: usize| json!({ "at": number, "percent": 42, "message": MESSAGE });
    let body: Value = match entries {
        1 => json!({ "progress": entry(42), "workerId": seed::WORKER }),
        _ => {
            json!({ "entries": (0..entries).map(entry).collect::<Vec<_>>(), "workerId": seed::WORKER })
        }
    };
    Bytes::from(body.to_string())
}
