//! The closed loop: each worker on its own connection does its step again as soon as the last is
//! answered. What ends inside the window counts; what ends in the warm-up before it is checked as
//! well, and not counted.
//!
//! A worker has an HTTP connection ([`Worker`]), or whatever it brought itself ([`Turn`]): the
//! baselines talk to Postgres, and what is measured in process calls the service.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::cli::Options;
use crate::client::Connection;
use crate::clock;
use crate::procfs;
use crate::profile::{Profile, Recording};
use crate::sql::Place;

/// What a scenario is played on: a running server, the means to see what it costs, and the options.
pub(crate) struct Stage<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) meter: Meter,
    /// Where the server keeps its tasks, for what is prepared behind its back.
    pub(crate) place: Option<Place>,
    pub(crate) options: &'a Options,
    /// The length of the measured window.
    pub(crate) seconds: f64,
}

/// What one worker does again and again on its own connection.
pub(crate) trait Worker: Send + 'static {
    /// One operation, checked. An error voids the figure.
    fn step(&mut self, connection: &mut Connection) -> impl Future<Output = Result<Step>> + Send;
}

/// The same of a worker that needs no connection of ours.
pub(crate) trait Turn: Send + 'static {
    /// One operation, checked. An error voids the figure.
    fn turn(&mut self) -> impl Future<Output = Result<Step>> + Send;
}

/// How a step went when it did not fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// It did this many operations.
    Did(u64),
    /// Nothing is left to do; the window closes for all workers.
    Exhausted,
}

/// The measured seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

/// Whose CPU time is read: the server's, that of the databases behind it, and the driver's own.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    pub(crate) server: u32,
    /// The roots of their process trees, where they are known.
    pub(crate) stores: Option<Behind<u32>>,
    /// Where what the server does in the window is written, if that is asked for.
    pub(crate) profile: Option<Profile>,
}

/// Something of each of the two databases.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Behind<T> {
    pub(crate) postgres: T,
    pub(crate) redis: T,
}

/// CPU time used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) server: Duration,
    pub(crate) stores: Option<Behind<Duration>>,
    pub(crate) driver: Duration,
}

/// What one round of one scenario yielded.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Operations per second; for the memory scenario KiB per stream.
    pub(crate) value: f64,
    /// Seconds, as are the next two.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// CPU-seconds of the server per 1,000 operations.
    pub(crate) server_cpu: f64,
    /// The same of Postgres and Redis.
    pub(crate) stores_cpu: Option<Behind<f64>>,
    /// Cores the driver used. Near the number of its threads, it is the driver that was measured.
    pub(crate) driver: f64,
}

/// A finished loop: its sample, and the workers with what each of them saw.
pub(crate) struct Driven<W> {
    pub(crate) sample: Sample,
    pub(crate) workers: Vec<W>,
}

/// A worker and its connection.
struct Connected<W> {
    worker: W,
    connection: Connection,
}

impl<W: Worker> Turn for Connected<W> {
    async fn turn(&mut self) -> Result<Step> {
        self.worker.step(&mut self.connection).await
    }
}

/// Runs the workers through a warm-up and the window, each on a connection of its own.
pub(crate) async fn drive<W: Worker>(stage: &Stage<'_>, workers: Vec<W>) -> Result<Driven<W>> {
    let connections = Connection::open_many(stage.address, workers.len()).await?;
    let connected = workers.into_iter().zip(connections);
    let turns =
        connected.map(|(worker, connection)| Connected { worker, connection }).collect::<Vec<_>>();
    let driven = drive_turns(stage.window(), &stage.meter, turns).await?;
    let workers = driven.workers.into_iter().map(|turn| turn.worker).collect();
    Ok(Driven { sample: driven.sample, workers })
}

/// Runs workers that need no connection.
pub(crate) async fn drive_turns<W: Turn>(
    window: Window,
    meter: &Meter,
    workers: Vec<W>,
) -> Result<Driven<W>> {
    let stop = CancellationToken::new();
    let mut crew = JoinSet::new();
    for worker in workers {
        crew.spawn(work(worker, window, stop.clone()));
    }
    let cpu = window.metered(meter, &stop).await?;

    let (mut ops, mut latencies, mut last, mut workers) = (0, Vec::new(), window.begin, Vec::new());
    while let Some(shift) = crew.join_next().await {
        let shift = shift.context("a worker panicked")??;
        ops += shift.ops;
        latencies.extend(shift.latencies);
        last = last.max(shift.last);
        workers.push(shift.worker);
    }
    let elapsed = if stop.is_cancelled() {
        ensure!(ops > 0, "the work ran out during the warm-up");
        last - window.begin
    } else {
        window.end - window.begin
    };
    Ok(Driven { sample: Sample::of_rate(ops, elapsed, &latencies, cpu)?, workers })
}

/// One worker's part of the round.
struct Shift<W> {
    worker: W,
    ops: u64,
    latencies: Vec<u64>,
    last: Instant,
}

async fn work<W: Turn>(worker: W, window: Window, stop: CancellationToken) -> Result<Shift<W>> {
    let mut shift = Shift { worker, ops: 0, latencies: Vec::new(), last: window.begin };
    loop {
        let started = clock::now();
        if started >= window.end || stop.is_cancelled() {
            return Ok(shift);
        }
        // A fault ends the round at once: nothing that follows it could be used.
        match shift.worker.turn().await.inspect_err(|_| stop.cancel())? {
            Step::Did(ops) => {
                let ended = clock::now();
                if window.holds(ended) {
                    shift.ops += ops;
                    shift.latencies.push(clock::nanoseconds(ended - started));
                    shift.last = ended;
                }
            }
            Step::Exhausted => stop.cancel(),
        }
    }
}

impl Stage<'_> {
    /// A window that begins after the warm-up.
    pub(crate) fn window(&self) -> Window {
        Window::after_warmup(self.options, self.seconds)
    }
}

impl Window {
    /// `seconds` that begin after the warm-up of a run.
    pub(crate) fn after_warmup(options: &Options, seconds: f64) -> Self {
        let begin = clock::now() + Duration::from_secs_f64(options.warmup);
        Self { begin, end: begin + Duration::from_secs_f64(seconds) }
    }

    pub(crate) fn holds(&self, instant: Instant) -> bool {
        (self.begin..=self.end).contains(&instant)
    }

    /// Waits for the window to pass, or for `stop`, and tells the CPU time used in it.
    pub(crate) async fn metered(&self, meter: &Meter, stop: &CancellationToken) -> Result<Cpu> {
        tokio::select! {
            () = sleep_until(self.begin.into()) => {}
            () = stop.cancelled() => {}
        }
        let recording = meter.record().await?;
        let before = meter.read()?;
        tokio::select! {
            () = sleep_until(self.end.into()) => {}
            () = stop.cancelled() => {}
        }
        let used = meter.read()?.since(before);
        if let Some(recording) = recording {
            recording.finish().await?;
        }
        Ok(used)
    }
}

impl Meter {
    pub(crate) fn read(&self) -> Result<Cpu> {
        let server = procfs::cpu(self.server).context("the server is gone")?;
        let driver = procfs::cpu(std::process::id())?;
        let stores = match self.stores {
            Some(Behind { postgres, redis }) => Some(Behind {
                postgres: procfs::tree_cpu(postgres)?,
                redis: procfs::tree_cpu(redis)?,
            }),
            None => None,
        };
        Ok(Cpu { server, stores, driver })
    }

    /// Begins to record where the server's time goes, if that is asked for.
    pub(crate) async fn record(&self) -> Result<Option<Recording>> {
        match &self.profile {
            Some(profile) => Recording::start(self.server, profile).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            stores: self.stores.zip(before.stores).map(|(after, before)| Behind {
                postgres: after.postgres.saturating_sub(before.postgres),
                redis: after.redis.saturating_sub(before.redis),
            }),
            driver: self.driver.saturating_sub(before.driver),
        }
    }
}

impl Sample {
    /// `ops` in `elapsed`, with the latency of each in nanoseconds.
    pub(crate) fn of_rate(
        ops: u64,
        elapsed: Duration,
        latencies: &[u64],
        cpu: Cpu,
    ) -> Result<Self> {
        ensure!(
            ops > 0 && !elapsed.is_zero(),
            "nothing ended inside the window: more --seconds are needed"
        );
        Self::of(float(ops) / elapsed.as_secs_f64(), ops, elapsed, latencies, cpu)
    }

    /// `value` of any unit, beside the latency and the cost of the `ops` that led to it.
    pub(crate) fn of(
        value: f64,
        ops: u64,
        elapsed: Duration,
        latencies: &[u64],
        cpu: Cpu,
    ) -> Result<Self> {
        let mut histogram = Histogram::<u64>::new(3)?;
        for &latency in latencies {
            histogram.record(latency)?;
        }
        let quantile =
            |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile)).as_secs_f64();
        let per_thousand = |used: Duration| used.as_secs_f64() * 1_000.0 / float(ops);
        Ok(Self {
            value,
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            server_cpu: per_thousand(cpu.server),
            stores_cpu: cpu.stores.map(|stores| Behind {
                postgres: per_thousand(stores.postgres),
                redis: per_thousand(stores.redis),
            }),
            driver: cpu.driver.as_secs_f64() / elapsed.as_secs_f64(),
        })
    }
}

impl Sample {
    /// CPU of all servers together.
    pub(crate) fn all_cpu(&self) -> f64 {
        self.server_cpu + self.stores_cpu.map_or(0.0, |stores| stores.postgres + stores.redis)
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts of a bounded run are far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
