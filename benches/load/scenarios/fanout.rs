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

use crate::cli::Options;
use crate::client::{API, Connection, EventStream};
use crate::clock;
use crate::drive::{Cpu, Meter, Sample, Stage, Window};
use crate::seed;
use crate::sse::{Dialect, Frames, Order};
use crate::wire::Appended;

/// Ten entries a second.
const STEADY: Duration = Duration::from_millis(100);

/// How long readers may take to reach the end after the task has ended.
const DRAIN_LIMIT: Duration = Duration::from_mins(1);

/// How long they may take before.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(20);

const MESSAGE: &str = "rows 41000 to 42000 of 100000";

/// What one reader saw: how much inside the window, and the last entry of all.
pub(crate) struct Followed {
    deliveries: u64,
    latencies: Vec<u64>,
    pub(crate) entries: u64,
}

/// The worker of the watched task.
struct Appender {
    connection: Connection,
    path: String,
    dialect: Dialect,
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

/// What is fed, and from where.
pub(crate) struct Fan {
    pub(crate) address: SocketAddr,
    pub(crate) streams: Vec<EventStream>,
    /// Where entries are posted to.
    pub(crate) path: String,
    pub(crate) dialect: Dialect,
}

pub(super) async fn run(stage: &Stage<'_>, paced: bool, entries: usize) -> Result<Sample> {
    let task = seed::running(stage.address, 1).await?.remove(0);
    let mut streams = Vec::with_capacity(stage.options.readers);
    for connection in Connection::open_many(stage.address, stage.options.readers).await? {
        streams.push(connection.track(&task).await?);
    }
    let path = format!("{API}/tasks/{task}/progress");
    let fan = Fan { address: stage.address, streams, path, dialect: Dialect::Ours };
    fan.feed(stage.options, &stage.meter, paced, entries, async {
        let mut connection = Connection::open(stage.address).await?;
        seed::complete(&mut connection, &task, seed::WORKER).await
    })
    .await
}

impl Fan {
    /// Feeds all streams through the warm-up and the window, has them ended, and gathers what they got.
    pub(crate) async fn feed(
        self,
        options: &Options,
        meter: &Meter,
        paced: bool,
        entries: usize,
        end: impl Future<Output = Result<()>>,
    ) -> Result<Sample> {
        let window = Window::after_warmup(options, options.seconds);
        let readers = self.streams.len();
        let following = Following::new(window, self.dialect);
        let delivered = Arc::clone(&following.delivered);
        let reached = following.clone();
        let mut crew = JoinSet::new();
        for stream in self.streams {
            crew.spawn(following.clone().follow(stream));
        }
        let pace = if paced {
            Pace::Steady
        } else {
            Pace::Unpaused {
                delivered,
                readers: u64::try_from(readers)?,
                lead: u64::try_from(options.ahead * readers)?,
            }
        };
        let sent = append_apart(self.address, self.path, self.dialect, entries, pace, window.end);
        let never = CancellationToken::new();
        let (cpu, sent) = tokio::try_join!(window.metered(meter, &never), sent)?;
        reached.caught_up(sent * u64::try_from(readers)?).await;
        end.await?;
        gather(crew, window, sent, cpu).await
    }
}

/// Appends until `until`, on a thread of its own: among the readers it would get its turn only
/// after a thousand of them, and never be ahead of anybody. The number of entries sent is returned.
async fn append_apart(
    address: SocketAddr,
    path: String,
    dialect: Dialect,
    entries: usize,
    pace: Pace,
    until: Instant,
) -> Result<u64> {
    let appending = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let connection = Connection::open(address).await?;
            let mut appender = Appender { connection, path, dialect, entries, sent: 0 };
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
        let at = clock::stamp(clock::now());
        self.sent += u64::try_from(self.entries)?;
        if self.dialect == Dialect::Plain {
            let reply = self.connection.post(&self.path, message(self.sent, at)).await?;
            ensure!(reply.status.is_success(), "publishing answered {}", reply.status);
            return Ok(());
        }
        let reply = self.connection.post(&self.path, self.request(at)).await?;
        let appended: Appended = reply.expect(StatusCode::OK, "progress")?.json("progress")?;
        ensure!(
            appended.seq_id == self.sent,
            "entry {} became number {}",
            self.sent,
            appended.seq_id
        );
        Ok(())
    }

    fn request(&self, at: u64) -> Bytes {
        let entry = json!({ "at": at, "percent": 42, "message": MESSAGE });
        let body = match self.entries {
            1 => json!({ "progress": entry, "workerId": seed::WORKER }),
            _ => json!({ "entries": vec![entry; self.entries], "workerId": seed::WORKER }),
        };
        Bytes::from(body.to_string())
    }
}

/// The same entry for a server that passes on what it gets; number 0 is the end.
pub(crate) fn message(number: u64, at: u64) -> Bytes {
    let timestamp = "2026-11-20T12:00:00.123Z";
    let data = json!({ "n": number, "at": at, "percent": 42, "message": MESSAGE });
    let whole =
        json!({ "event": "progress", "data": data, "taskId": "running-0", "timestamp": timestamp });
    Bytes::from(whole.to_string())
}

/// How a reader reads.
#[derive(Clone)]
pub(crate) struct Following {
    window: Window,
    dialect: Dialect,
    /// Of all readers together, whenever.
    pub(crate) delivered: Arc<AtomicU64>,
}

impl Following {
    pub(crate) fn new(window: Window, dialect: Dialect) -> Self {
        Self { window, dialect, delivered: Arc::default() }
    }

    /// Waits until all readers together have so many entries, where the end is a message like any other and
    /// may overtake those before it. Not for ever: whoever counts them then finds what is missing.
    pub(crate) async fn caught_up(&self, entries: u64) {
        let limit = clock::now() + CATCH_UP_LIMIT;
        while self.dialect == Dialect::Plain
            && self.delivered.load(Ordering::Relaxed) < entries
            && clock::now() < limit
        {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads one stream to its end.
    pub(crate) async fn follow(self, mut stream: EventStream) -> Result<Followed> {
        let (mut frames, mut order) = (Frames::default(), Order::default());
        let mut followed = Followed { deliveries: 0, latencies: Vec::new(), entries: 0 };
        while let Some(chunk) = stream.chunk().await? {
            let received = clock::now();
            let (stamp, counted) = (clock::stamp(received), self.window.holds(received));
            let before = order.last;
            frames.feed(&chunk, |frame| {
                if order.admit_as(self.dialect, &frame)? && counted {
                    followed.latencies.push(stamp.saturating_sub(frame.stamp()?));
                }
                Ok(())
            })?;
            self.delivered.fetch_add(order.last - before, Ordering::Relaxed);
            if order.ended && self.dialect == Dialect::Plain {
                // Nothing closes there.
                break;
            }
        }
        ensure!(order.ended, "a stream closed without its end, after entry {}", order.last);
        followed.deliveries = u64::try_from(followed.latencies.len())?;
        followed.entries = order.last;
        Ok(followed)
    }
}

/// Waits for every reader to reach the end, and makes sure that none missed anything on the way.
pub(crate) async fn gather(
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
