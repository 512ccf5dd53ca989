//! Latency at half of what is possible: first a short closed loop finds how much that is, then requests
//! arrive at half that rate whatever becomes of them, and each counts from when it was due until the
//! *other* side has it: a reader of the stream, or a worker that waits for a task.
//!
//! Checked: every reader gets every entry of its task once, in order, and the end; every task goes to
//! one worker, and all are given out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::client::{API, Connection, EventStream};
use crate::clock;
use crate::drive::{Sample, Stage, Step, Turn, Window, drive_turns};
use crate::openloop::{self, Arrival, CONNECTIONS, Client};
use crate::seed;
use crate::sse::{Frames, Order};
use crate::wire::Appended;

const TASKS: u64 = 100;
const WORKERS: usize = 32;
/// Tasks that may wait for a worker while it is found how many a second can be handed over: a queue
/// that only grows would be measured otherwise.
const OUTSTANDING: usize = 64;
const FIND_SECONDS: f64 = 1.5;
const DRAIN_LIMIT: Duration = Duration::from_mins(1);
const TYPE: &str = "awaited";

/// What a connection sends, at its own pace to find the rate, or when it is due.
#[derive(Clone)]
enum Send {
    Append { paths: Arc<Vec<String>> },
    Register { path: String, outstanding: Option<Arc<Semaphore>> },
}

struct Unpaused {
    client: Send,
    connection: Connection,
    next: u64,
}

impl Turn for Unpaused {
    async fn turn(&mut self) -> Result<Step> {
        let arrival = Arrival { index: self.next, due: clock::now() };
        self.next += CONNECTIONS as u64;
        self.client.send(&mut self.connection, arrival).await?;
        Ok(Step::Did(1))
    }
}

impl Client for Send {
    async fn send(&self, connection: &mut Connection, arrival: Arrival) -> Result<()> {
        let stamp = clock::stamp(arrival.due);
        match self {
            Self::Append { paths } => {
                let path = &paths[usize::try_from(arrival.index % TASKS)?];
                let reply = connection.post(path, entry(stamp)).await?;
                let _: Appended = reply.expect(StatusCode::OK, "progress")?.json("progress")?;
            }
            Self::Register { path, outstanding } => {
                if let Some(outstanding) = outstanding {
                    outstanding.acquire().await?.forget();
                }
                let reply = connection.post(path, task(stamp)).await?;
                reply.expect(StatusCode::CREATED, "register")?;
            }
        }
        Ok(())
    }
}

/// The request whose body the echo is sent as well.
pub(super) fn entry(at: u64) -> Bytes {
    let entry = json!({ "at": at, "percent": 42, "message": "rows 41000 to 42000 of 100000" });
    Bytes::from(json!({ "progress": entry, "workerId": seed::WORKER }).to_string())
}

pub(super) fn task(at: u64) -> Bytes {
    let params = json!({ "at": at, "from": "s3://bucket/in.csv", "to": "s3://bucket/out.csv" });
    let metadata = json!({ "tenant": "acme", "source": "load" });
    Bytes::from(json!({ "taskType": TYPE, "metadata": metadata, "params": params }).to_string())
}

// ---- append to delivery ------------------------------------------------------------------------

pub(super) async fn appends(stage: &Stage<'_>) -> Result<Sample> {
    let tasks = seed::running(stage.address, TASKS).await?;
    let mut readers = JoinSet::new();
    for task in &tasks {
        let stream = Connection::open(stage.address).await?.track(task).await?;
        readers.spawn(follow(stream));
    }
    let paths = tasks.iter().map(|task| format!("{API}/tasks/{task}/progress")).collect();
    let client = Send::Append { paths: Arc::new(paths) };
    let rate = found(stage, &client).await?.rate / 2.0;
    let window = stage.window();
    let connections = Connection::open_many(stage.address, CONNECTIONS).await?;
    let never = CancellationToken::new();
    let ((_, sent), cpu) = tokio::try_join!(
        openloop::run(connections, rate, window, client),
        window.metered(&stage.meter, &never)
    )?;
    let mut connection = Connection::open(stage.address).await?;
    let mut acknowledged = 0;
    for task in &tasks {
        seed::complete(&mut connection, task, seed::WORKER).await?;
        acknowledged += newest(&mut connection, task).await?;
    }
    let (mut delivered, mut latencies) = (0, Vec::new());
    let limit = (clock::now() + DRAIN_LIMIT).into();
    while let Some(reader) =
        timeout_at(limit, readers.join_next()).await.context("a reader did not see the end")?
    {
        let (entries, seen) = reader.context("a reader panicked")??;
        delivered += entries;
        let counted = |(due, after): &(u64, u64)| window_holds(window, *due).then_some(*after);
        latencies.extend(seen.iter().filter_map(counted));
    }
    ensure!(delivered == acknowledged, "{delivered} of {acknowledged} entries were delivered");
    ensure!(sent > 0, "nothing was sent");
    Sample::of_rate(u64::try_from(latencies.len())?, window.end - window.begin, &latencies, cpu)
}

fn window_holds(window: Window, stamp: u64) -> bool {
    (clock::stamp(window.begin)..=clock::stamp(window.end)).contains(&stamp)
}

async fn newest(connection: &mut Connection, task: &str) -> Result<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Newest {
        progress_history: Vec<Numbered>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Numbered {
        seq_id: u64,
    }
    let reply = connection.get(&format!("{API}/tasks/{task}")).await?;
    let newest: Newest = reply.expect(StatusCode::OK, "a task")?.json("a task")?;
    Ok(newest.progress_history.last().map_or(0, |entry| entry.seq_id))
}

/// Every entry of a stream: when it was due, and how long after that it was here.
async fn follow(mut stream: EventStream) -> Result<(u64, Vec<(u64, u64)>)> {
    let (mut frames, mut order, mut seen) = (Frames::default(), Order::default(), Vec::new());
    while let Some(chunk) = stream.chunk().await? {
        let received = clock::stamp(clock::now());
        frames.feed(&chunk, |frame| {
            if order.admit(&frame)? {
                let due = frame.stamp()?;
                seen.push((due, received.saturating_sub(due)));
            }
            Ok(())
        })?;
    }
    ensure!(order.ended, "a stream closed without its end, after entry {}", order.last);
    Ok((order.last, seen))
}

/// What a closed loop of as many connections reaches, and how much it did.
struct Found {
    rate: f64,
    sent: u64,
}

async fn found(stage: &Stage<'_>, client: &Send) -> Result<Found> {
    let mut crew = Vec::new();
    for (next, connection) in
        Connection::open_many(stage.address, CONNECTIONS).await?.into_iter().enumerate()
    {
        crew.push(Unpaused { client: client.clone(), connection, next: u64::try_from(next)? });
    }
    let meter = crate::drive::Meter { profile: None, ..stage.meter.clone() };
    let driven =
        drive_turns(Window::after_warmup(stage.options, FIND_SECONDS), &meter, crew).await?;
    let turns = |worker: &Unpaused| worker.next / CONNECTIONS as u64;
    Ok(Found { rate: driven.sample.value, sent: driven.workers.iter().map(turns).sum() })
}

// ---- register to claimed -------------------------------------------------------------------------

/// What the waiting workers were given: ids, and when each was due and how long after that it was here.
#[derive(Default)]
struct Given {
    ids: HashSet<String>,
    seen: Vec<(u64, u64)>,
}

#[derive(Deserialize)]
struct Awaited {
    id: String,
    params: Stamped,
}

#[derive(Deserialize)]
struct Stamped {
    at: u64,
}

pub(super) async fn claims(stage: &Stage<'_>) -> Result<Sample> {
    let given = Arc::new(Mutex::new(Given::default()));
    let outstanding = Arc::new(Semaphore::new(OUTSTANDING));
    let mut workers = JoinSet::new();
    for (index, connection) in
        Connection::open_many(stage.address, WORKERS).await?.into_iter().enumerate()
    {
        workers.spawn(await_tasks(connection, index, Arc::clone(&given), Arc::clone(&outstanding)));
    }
    let path = format!("{API}/tasks");
    let bounded = Send::Register { path: path.clone(), outstanding: Some(outstanding) };
    let found = found(stage, &bounded).await?;
    given_out(&given, found.sent, &mut workers).await?;

    let window = stage.window();
    let connections = Connection::open_many(stage.address, CONNECTIONS).await?;
    let client = Send::Register { path, outstanding: None };
    let never = CancellationToken::new();
    let ((_, sent), cpu) = tokio::try_join!(
        openloop::run(connections, found.rate / 2.0, window, client),
        window.metered(&stage.meter, &never)
    )?;
    given_out(&given, found.sent + sent, &mut workers).await?;
    workers.shutdown().await;
    let given = given.lock().await;
    let counted = |(due, after): &(u64, u64)| window_holds(window, *due).then_some(*after);
    let latencies: Vec<u64> = given.seen.iter().filter_map(counted).collect();
    Sample::of_rate(u64::try_from(latencies.len())?, window.end - window.begin, &latencies, cpu)
}

/// A worker that asks for the next task as soon as it has one.
async fn await_tasks(
    mut connection: Connection,
    index: usize,
    given: Arc<Mutex<Given>>,
    outstanding: Arc<Semaphore>,
) -> Result<()> {
    let worker = format!("{}-{index}", seed::WORKER);
    let request = json!({ "taskTypes": [TYPE], "workerId": worker, "waitSeconds": 30 });
    let body = Bytes::from(request.to_string());
    loop {
        let reply = connection.post(&format!("{API}/tasks/claim"), body.clone()).await?;
        let received = clock::stamp(clock::now());
        let reply = reply.expect(StatusCode::OK, "claim")?;
        let Some(Awaited { id, params }) = reply.json("claim")? else { continue };
        outstanding.add_permits(1);
        let mut given = given.lock().await;
        given.seen.push((params.at, received.saturating_sub(params.at)));
        if let Some(twice) = given.ids.replace(id) {
            bail!("task {twice} went to two workers");
        }
    }
}

/// Waits until as many tasks have been given out as were registered.
async fn given_out(
    given: &Mutex<Given>,
    registered: u64,
    workers: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let limit: Instant = clock::now() + DRAIN_LIMIT;
    loop {
        if let Some(ended) = workers.try_join_next() {
            // They go on for ever, unless something is wrong.
            ended.context("a worker panicked")??;
        }
        let count = u64::try_from(given.lock().await.ids.len())?;
        if count == registered {
            return Ok(());
        }
        ensure!(
            count < registered && clock::now() < limit,
            "{count} tasks were given out of {registered}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}
