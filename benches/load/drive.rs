//! The closed loop: each worker on its own connection does its step again as soon as the last is
//! answered. What ends inside the window counts; what ends in the warm-up before it is checked as
//! well, and not counted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::cli::Options;
use crate::client::Connection;
use crate::clock;
use crate::procfs;

/// What a scenario is played on: a running server, the means to see what it costs, and the options.
pub(crate) struct Stage<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) meter: Meter,
    pub(crate) options: &'a Options,
    /// The length of the measured window.
    pub(crate) seconds: f64,
}

/// What one worker does again and again on its own connection.
pub(crate) trait Worker: Send + 'static {
    /// One operation, checked. An error voids the figure.
    fn step(&mut self, connection: &mut Connection) -> impl Future<Output = Result<Step>> + Send;
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
    /// The roots of their process trees; empty when they are not known.
    pub(crate) stores: Vec<u32>,
}

/// CPU time used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) server: Duration,
    pub(crate) stores: Option<Duration>,
    pub(crate) driver: Duration,
}

/// What one round of one scenario yielded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Operations per second; for the memory scenario KiB per stream.
    pub(crate) value: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// CPU-seconds of the server per 1,000 operations.
    pub(crate) server_cpu: f64,
    /// The same of Postgres and Redis.
    pub(crate) stores_cpu: Option<f64>,
    /// Cores the driver used. Near the number of its threads, it is the driver that was measured.
    pub(crate) driver: f64,
}

/// A finished loop: its sample, and the workers with what each of them saw.
pub(crate) struct Driven<W> {
    pub(crate) sample: Sample,
    pub(crate) workers: Vec<W>,
}

/// Runs the workers through a warm-up and the window.
pub(crate) async fn drive<W: Worker>(stage: &Stage<'_>, workers: Vec<W>) -> Result<Driven<W>> {
    let connections = Connection::open_many(stage.address, workers.len()).await?;
    let window = stage.window();
    let stop = CancellationToken::new();
    let mut crew = JoinSet::new();
    for (worker, connection) in workers.into_iter().zip(connections) {
        crew.spawn(work(worker, connection, window, stop.clone()));
    }
    let cpu = window.metered(&stage.meter, &stop).await?;

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

async fn work<W: Worker>(
    worker: W,
    mut connection: Connection,
    window: Window,
    stop: CancellationToken,
) -> Result<Shift<W>> {
    let mut shift = Shift { worker, ops: 0, latencies: Vec::new(), last: window.begin };
    loop {
        let started = clock::now();
        if started >= window.end || stop.is_cancelled() {
            return Ok(shift);
        }
        // A fault ends the round at once: nothing that follows it could be used.
        match shift.worker.step(&mut connection).await.inspect_err(|_| stop.cancel())? {
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
        let begin = clock::now() + Duration::from_secs_f64(self.options.warmup);
        Window { begin, end: begin + Duration::from_secs_f64(self.seconds) }
    }
}

impl Window {
    pub(crate) fn holds(&self, instant: Instant) -> bool {
        (self.begin..=self.end).contains(&instant)
    }

    /// Waits for the window to pass, or for `stop`, and tells the CPU time used in it.
    pub(crate) async fn metered(&self, meter: &Meter, stop: &CancellationToken) -> Result<Cpu> {
        tokio::select! {
            () = sleep_until(self.begin.into()) => {}
            () = stop.cancelled() => {}
        }
        let before = meter.read()?;
        tokio::select! {
            () = sleep_until(self.end.into()) => {}
            () = stop.cancelled() => {}
        }
        Ok(meter.read()?.since(before))
    }
}

impl Meter {
    pub(crate) fn read(&self) -> Result<Cpu> {
        let server = procfs::cpu(self.server).context("the server is gone")?;
        let driver = procfs::cpu(std::process::id())?;
        let mut stores = (!self.stores.is_empty()).then_some(Duration::ZERO);
        for &root in &self.stores {
            let tree = procfs::tree_cpu(root)?;
            stores = stores.map(|sum| sum + tree);
        }
        Ok(Cpu { server, stores, driver })
    }
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            stores: self
                .stores
                .zip(before.stores)
                .map(|(after, before)| after.saturating_sub(before)),
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
        let quantile = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        let per_thousand = |used: Duration| used.as_secs_f64() * 1_000.0 / float(ops);
        Ok(Self {
            value,
            p50: quantile(0.5),
            p99: quantile(0.99),
            server_cpu: per_thousand(cpu.server),
            stores_cpu: cpu.stores.map(per_thousand),
            driver: cpu.driver.as_secs_f64() / elapsed.as_secs_f64(),
        })
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts of a bounded run are far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
