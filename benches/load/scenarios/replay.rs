//! A long history, read from its beginning by one reader at a time: of a running task from the live
//! log, of a finished one from the database. The rate counts from connecting to the last entry; the
//! latency is that of a whole replay. Checked: all entries, once and in order, and for the finished
//! task its end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;

use crate::client::{API, Connection};
use crate::clock;
use crate::drive::{Sample, Stage};
use crate::scenarios::progress;
use crate::seed;
use crate::sse::{Frames, Order};

const ENTRIES_PER_REQUEST: usize = 100;

pub(super) async fn run(stage: &Stage<'_>, finished: bool) -> Result<Sample> {
    let task = seed::running(stage.address, 1).await?.remove(0);
    let entries = u64::try_from(stage.options.entries)?;
    let mut connection = Connection::open(stage.address).await?;
    let mut missing = stage.options.entries;
    while missing > 0 {
        let batch = missing.min(ENTRIES_PER_REQUEST);
        let path = format!("{API}/tasks/{task}/progress");
        connection
            .post(&path, progress::request(batch))
            .await?
            .expect(StatusCode::OK, "progress")?;
        missing -= batch;
    }
    if finished {
        seed::complete(&mut connection, &task, seed::WORKER).await?;
    }

    let window = stage.window();
    while clock::now() < window.begin {
        replay(stage, &task, entries, finished).await?;
    }
    let before = stage.meter.read()?;
    let (mut replayed, mut busy, mut latencies) = (0, Duration::ZERO, Vec::new());
    while replayed == 0 || clock::now() < window.end {
        let took = replay(stage, &task, entries, finished).await?;
        replayed += entries;
        busy += took;
        latencies.push(clock::nanoseconds(took));
    }
    let cpu = stage.meter.read()?.since(before);
    Sample::of_rate(replayed, busy, &latencies, cpu)
}

/// One reader's time from connecting to the last entry.
async fn replay(stage: &Stage<'_>, task: &str, entries: u64, finished: bool) -> Result<Duration> {
    let started = clock::now();
    let mut stream = Connection::open(stage.address).await?.track(task).await?;
    let (mut frames, mut order) = (Frames::default(), Order::default());
    while order.last < entries {
        let chunk = stream.chunk().await?.with_context(|| {
            format!("a replay closed after {} of {entries} entries", order.last)
        })?;
        frames.feed(&chunk, |frame| order.admit(&frame).map(drop))?;
    }
    let took = started.elapsed();
    if finished {
        while let Some(chunk) = stream.chunk().await? {
            frames.feed(&chunk, |frame| order.admit(&frame).map(drop))?;
        }
        order.complete(entries)?;
    } else {
        ensure!(order.last == entries && !order.ended, "the stream of a running task ended");
    }
    Ok(took)
}
