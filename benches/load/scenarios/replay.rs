//! A long history, read from its beginning by one reader at a time: of a running task from the live
//! log, of a finished one from the database. The rate counts from connecting to the last entry; the
//! latency is that of a whole replay. Checked: all entries, once and in order, and for the finished
//! task its end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;

use crate::client::{API, Connection, EventStream};
use crate::clock;
use crate::drive::{Meter, Sample, Stage, Window};
use crate::scenarios::progress;
use crate::seed;
use crate::sse::{Dialect, Frames, Order};

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

    let open = async || Connection::open(stage.address).await?.track(&task).await;
    let sample = replays(stage.window(), &stage.meter, entries, Dialect::Ours, open).await?;
    check_end(open().await?, entries, finished).await?;
    Ok(sample)
}

/// One replay after the other, through the warm-up and the window.
pub(crate) async fn replays(
    window: Window,
    meter: &Meter,
    entries: u64,
    dialect: Dialect,
    open: impl AsyncFn() -> Result<EventStream>,
) -> Result<Sample> {
    while clock::now() < window.begin {
        replay(entries, dialect, &open).await?;
    }
    let recording = meter.record().await?;
    let before = meter.read()?;
    let (mut replayed, mut busy, mut latencies) = (0, Duration::ZERO, Vec::new());
    while replayed == 0 || clock::now() < window.end {
        let took = replay(entries, dialect, &open).await?;
        replayed += entries;
        busy += took;
        latencies.push(clock::nanoseconds(took));
    }
    let cpu = meter.read()?.since(before);
    if let Some(recording) = recording {
        recording.finish().await?;
    }
    Sample::of_rate(replayed, busy, &latencies, cpu)
}

/// One reader's time from connecting to the last entry.
async fn replay(
    entries: u64,
    dialect: Dialect,
    open: &impl AsyncFn() -> Result<EventStream>,
) -> Result<Duration> {
    let started = clock::now();
    let mut stream = open().await?;
    let (mut frames, mut order) = (Frames::default(), Order::default());
    while order.last < entries {
        let chunk = stream.chunk().await?.with_context(|| {
            format!("a replay closed after {} of {entries} entries", order.last)
        })?;
        frames.feed(&chunk, |frame| order.admit_as(dialect, &frame).map(drop))?;
    }
    Ok(started.elapsed())
}

/// Of a finished task the stream has an end, and of a running one none.
async fn check_end(mut stream: EventStream, entries: u64, finished: bool) -> Result<()> {
    let (mut frames, mut order) = (Frames::default(), Order::default());
    while order.last < entries || finished {
        let Some(chunk) = stream.chunk().await? else { break };
        frames.feed(&chunk, |frame| order.admit(&frame).map(drop))?;
    }
    if finished {
        return order.complete(entries);
    }
    ensure!(order.last == entries && !order.ended, "the stream of a running task ended");
    Ok(())
}
