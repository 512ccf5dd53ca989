//! The memory of streams on which nothing happens, ten to a task. The figure is the growth of the
//! server's resident memory; the latency is that of opening one, to its first comment; the cost is
//! that of opening a thousand. Checked: afterwards an entry reaches every one of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;

use crate::client::{API, Connection, EventStream};
use crate::clock;
use crate::drive::{Sample, Stage, float};
use crate::procfs;
use crate::scenarios::progress;
use crate::seed;
use crate::sse::{Frames, Order};

const STREAMS_PER_TASK: usize = 10;

/// For what the server allocates once, and for memory it gives back after a burst.
const SETTLE: Duration = Duration::from_secs(1);

const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn run(stage: &Stage<'_>) -> Result<Sample> {
    let count = stage.options.streams;
    let tasks = seed::running(stage.address, u64::try_from(count / STREAMS_PER_TASK)?).await?;
    drop(open(stage, &tasks[0]).await?);
    tokio::time::sleep(SETTLE).await;

    let (before, cpu_before) = (procfs::resident_kib(stage.meter.server)?, stage.meter.read()?);
    let (mut streams, mut latencies) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let begun = clock::now();
    for task in tasks.iter().cycle().take(count) {
        let started = clock::now();
        streams.push(open(stage, task).await?);
        latencies.push(clock::nanoseconds(started.elapsed()));
    }
    let (elapsed, cpu) = (begun.elapsed(), stage.meter.read()?.since(cpu_before));
    tokio::time::sleep(SETTLE).await;
    let grown = procfs::resident_kib(stage.meter.server)?.saturating_sub(before);

    let mut connection = Connection::open(stage.address).await?;
    for task in &tasks {
        let path = format!("{API}/tasks/{task}/progress");
        connection.post(&path, progress::request(1)).await?.expect(StatusCode::OK, "progress")?;
    }
    for stream in streams {
        let arrived = tokio::time::timeout(ARRIVAL_LIMIT, first_entry(stream)).await;
        arrived.context("an idle stream never got the entry that followed")??;
    }
    let count = u64::try_from(count)?;
    Sample::of(float(grown) / float(count), count, elapsed, &latencies, cpu)
}

/// A stream that has sent its first bytes, so that the server has done all that opening it takes.
async fn open(stage: &Stage<'_>, task: &str) -> Result<EventStream> {
    let mut stream = Connection::open(stage.address).await?.track(task).await?;
    ensure!(stream.chunk().await?.is_some(), "a stream of a running task closed at once");
    Ok(stream)
}

async fn first_entry(mut stream: EventStream) -> Result<()> {
    let (mut frames, mut order) = (Frames::default(), Order::default());
    while order.last == 0 {
        let chunk = stream.chunk().await?.context("an idle stream was closed")?;
        frames.feed(&chunk, |frame| order.admit(&frame).map(drop))?;
    }
    Ok(())
}
