//! One task, many readers. Each entry carries the moment it was sent, so a reader knows how long it
//! was under way. Checked: every reader gets every entry once and in order, then the end, and then
//! its stream closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::client::{API, Connection, EventStream};
use crate::clock;
use crate::drive::{Cpu, Sample, Stage, Window};
use crate::seed;
use crate::sse::{Frames, Order};
use crate::wire::Appended;

/// Ten entries a second.
const STEADY: Duration = Duration::from_millis(100);

/// How long readers may take to reach the end after the task has ended.
const DRAIN_LIMIT: Duration = Duration::from_mins(1);

/// What one reader saw: how much inside the window, and the last entry of all.
struct Followed {
    deliveries: u64,
    latencies: Vec<u64>,
    entries: u64,
}

/// The worker of the watched task.
struct Appender {
    connection: Connection,
    path: String,
    entries: usize,
    sent: u64,
}

/// How fast it may go.
#[derive(Clone)]
enum Pace {
    /// A request every tenth of a second.
    Steady,
    /// One request after the other, unless that would be `lead` deliveries ahead of the readers: a
    /// queue that only grows would be measured otherwise, and emptying it could take longer than
    /// the round.
    Unpaused { delivered: Arc<AtomicU64>, readers: u64, lead: u64 },
}

pub(super) async fn run(stage: &Stage<'_>, paced: bool, entries: usize) -> Result<Sample> {
    let readers = stage.options.readers;
    let task = seed::running(stage.address, 1).await?.remove(0);
    let mut streams = Vec::with_capacity(readers);
    for connection in Connection::open_many(stage.address, readers).await? {
        streams.push(connection.track(&task).await?);
    }

    let window = stage.window();
    let delivered = Arc::new(AtomicU64::new(0));
    let mut crew = JoinSet::new();
    for stream in streams {
        crew.spawn(follow(stream, window, Arc::clone(&delivered)));
    }
    let pace = if paced {
        Pace::Steady
    } else {
        Pace::Unpaused {
            delivered,
            readers: u64::try_from(readers)?,
            lead: u64::try_from(stage.options.ahead * readers)?,
        }
    };
    let path = format!("{API}/tasks/{task}/progress");
    let sent = append_apart(stage.address, path, entries, pace, window.end);
    let never = CancellationToken::new();
    let (cpu, sent) = tokio::try_join!(window.metered(&stage.meter, &never), sent)?;
    let mut connection = Connection::open(stage.address).await?;
    seed::complete(&mut connection, &task, seed::WORKER).await?;
    gather(crew, window, sent, cpu).await
}

/// Appends until `until`, on a thread of its own: among the readers it would get its turn only
/// after a thousand of them, and never be ahead of anybody. The number of entries sent is returned.
async fn append_apart(
    address: SocketAddr,
    path: String,
    entries: usize,
    pace: Pace,
    until: Instant,
) -> Result<u64> {
    let appending = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let connection = Connection::open(address).await?;
            let mut appender = Appender { connection, path, entries, sent: 0 };
            appender.run(&pace, until).await?;
            anyhow::Ok(appender.sent)
        })
    });
    appending.await.context("the appender panicked")?
}

impl Appender {
    async fn run(&mut self, pace: &Pace, until: Instant) -> Result<()> {
        let mut ticks = interval(STEADY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while clock::now() < until {
            match pace {
                Pace::Steady => {
                    ticks.tick().await;
                }
                Pace::Unpaused { delivered, readers, lead } => {
                    if self.sent * readers > delivered.load(Ordering::Relaxed) + lead {
                        sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                }
            }
            self.append().await?;
        }
        Ok(())
    }

    async fn append(&mut self) -> Result<()> {
        let body = self.request(clock::stamp(clock::now()));
        let reply = self.connection.post(&self.path, body).await?;
        let appended: Appended = reply.expect(StatusCode::OK, "progress")?.json("progress")?;
        self.sent += u64::try_from(self.entries)?;
        ensure!(
            appended.seq_id == self.sent,
            "entry {} became number {}",
            self.sent,
            appended.seq_id
        );
        Ok(())
    }

    fn request(&self, at: u64) -> Bytes {
        const MESSAGE: &str = "rows 41000 to 42000 of 100000";
        let entry = json!({ "at": at, "percent": 42, "message": MESSAGE });
        let body = match self.entries {
            1 => json!({ "progress": entry, "workerId": seed::WORKER }),
            _ => json!({ "entries": vec![entry; self.entries], "workerId": seed::WORKER }),
        };
        Bytes::from(body.to_string())
    }
}

/// Reads one stream to its end.
async fn follow(
    mut stream: EventStream,
    window: Window,
    delivered: Arc<AtomicU64>,
) -> Result<Followed> {
    let (mut frames, mut order) = (Frames::default(), Order::default());
    let mut followed = Followed { deliveries: 0, latencies: Vec::new(), entries: 0 };
    while let Some(chunk) = stream.chunk().await? {
        let received = clock::now();
        let (stamp, counted, before) = (clock::stamp(received), window.holds(received), order.last);
        frames.feed(&chunk, |frame| {
            if order.admit(&frame)? && counted {
                followed.latencies.push(stamp.saturating_sub(frame.stamp()?));
            }
            Ok(())
        })?;
        delivered.fetch_add(order.last - before, Ordering::Relaxed);
    }
    ensure!(order.ended, "a stream closed without its end, after entry {}", order.last);
    followed.deliveries = u64::try_from(followed.latencies.len())?;
    followed.entries = order.last;
    Ok(followed)
}

/// Waits for every reader to reach the end, and makes sure that none missed anything on the way.
async fn gather(
    mut crew: JoinSet<Result<Followed>>,
    window: Window,
    sent: u64,
    cpu: Cpu,
) -> Result<Sample> {
    let (mut deliveries, mut latencies) = (0, Vec::new());
    let limit = (clock::now() + DRAIN_LIMIT).into();
    loop {
        let Ok(joined) = timeout_at(limit, crew.join_next()).await else {
            bail!("{} readers did not see the end within {DRAIN_LIMIT:?}", crew.len());
        };
        let Some(joined) = joined else { break };
        let followed = joined.context("a reader panicked")??;
        ensure!(followed.entries == sent, "a reader got {} of {sent} entries", followed.entries);
        deliveries += followed.deliveries;
        latencies.extend(followed.latencies);
    }
    Sample::of_rate(deliveries, window.end - window.begin, &latencies, cpu)
}
