//! The options. Everything that changes a figure is here, so that the conditions printed beside it
//! can be complete.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures Task Tracker over loopback: rates, latencies, CPU per operation, memory per stream, and
/// the ratio of each to a bare axum echo endpoint measured beside it.
///
/// Embedded mode needs nothing. Node mode needs a Postgres and a Redis, given by
/// `BENCH_DATABASE_URL` (a user that may create databases; each round gets a database of its own,
/// dropped afterwards) and `BENCH_REDIS_URL` (each round gets a namespace of its own, removed
/// afterwards).
///
/// A round that loses, repeats or refuses anything voids its figure, and the exit status is then 1.
#[derive(Debug, Parser)]
#[command(name = "load", bin_name = "cargo bench --bench load --", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What this binary can be besides the driver.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How the cost of the same work grows with the tables, the logs and the time; `--only` takes tables,
    /// lists, memory, beside
    Growth(Growth),
    /// The same work by other products, on the same servers, in turn with ours; `--only` takes register,
    /// bulk, process, progress, lifecycle, fanout, idle, replay
    Peers(Peers),
    /// What one node, one Postgres and one Redis carry, computed from the costs that were measured
    Scale(Scale),
    /// The echo endpoint, in a process of its own so that its CPU time is its own.
    #[command(name = ECHO_SERVER, hide = true)]
    EchoServer,
    /// The bare writer, likewise.
    #[command(name = BARE_WRITER, hide = true)]
    BareWriter,
    /// The barest service, likewise.
    #[command(name = BARE_SERVICE, hide = true)]
    BareService,
    /// Work done by the service without HTTP, likewise.
    #[command(name = IN_PROCESS, hide = true)]
    InProcess(crate::peers::inprocess::Order),
}

/// How far tables are filled.
#[derive(Debug, Args)]
pub(crate) struct Growth {
    /// Tasks in the small table
    #[arg(long, default_value_t = 10_000, value_parser = count)]
    pub(crate) small: usize,

    /// Tasks in the large table
    #[arg(long, default_value_t = 2_000_000, value_parser = count)]
    pub(crate) large: usize,

    /// Entries in the long list
    #[arg(long, default_value_t = 100_000, value_parser = count)]
    pub(crate) long: usize,

    /// Tasks that live and end before the memory of the idle server is read, and again before it is
    /// read a second time
    #[arg(long, default_value_t = 10_000, value_parser = count)]
    pub(crate) lives: usize,

    /// Overdue tasks that are swept while others are claimed
    #[arg(long, default_value_t = 100_000, value_parser = count)]
    pub(crate) overdue_beside: usize,

    /// Tasks that are claimed meanwhile, and before; they must not run out
    #[arg(long, default_value_t = 160_000, value_parser = count)]
    pub(crate) pending_beside: usize,
}

/// Where the other products are.
#[derive(Debug, Args)]
pub(crate) struct Peers {
    /// The folder of the drivers and their modules; scripts/bench peers fills it
    #[arg(long, env = "BENCH_PEERS_DIR", value_name = "DIR")]
    pub(crate) folder: PathBuf,

    /// Nchan's nginx module; without it Nchan is left out
    #[arg(long, env = "BENCH_NCHAN_MODULE", value_name = "FILE")]
    pub(crate) nchan_module: Option<PathBuf>,
}

/// What the computation starts from.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Figures that `--json` wrote
    #[arg(long, default_value = "docs/benchmarks.json", value_name = "FILE")]
    pub(crate) figures: PathBuf,
}

/// What to measure, for how long, and against which servers.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which form of the server to measure
    #[arg(long, global = true, value_enum, default_value_t = Mode::Both)]
    pub(crate) mode: Mode,

    /// Only scenarios whose name contains this; may be repeated or separated by commas
    #[arg(long, global = true, value_name = "SUBSTRING", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Name the scenarios and stop
    #[arg(long, global = true)]
    pub(crate) list: bool,

    /// Print the tables as Markdown, ready for docs/benchmarks.md
    #[arg(long, global = true)]
    pub(crate) markdown: bool,

    /// Write the tables between the marks of this document, or of docs/scale.md, instead of printing them
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) into: Option<PathBuf>,

    /// Write the medians as JSON too, for the computation of scale
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Sample the server's stacks in every measured window with perf, and write them into this folder
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) profile: Option<PathBuf>,

    /// Rounds of each scenario; the median is reported
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Seconds measured in each round; the echo beside it gets a third, at least one
    #[arg(long, global = true, default_value_t = 3.0, value_parser = positive)]
    pub(crate) seconds: f64,

    /// Seconds of the same load before the measured ones
    #[arg(long, global = true, default_value_t = 0.5, value_parser = positive)]
    pub(crate) warmup: f64,

    /// Seconds after which a round, with its preparation and its checks, is given up as void
    #[arg(long, global = true, default_value_t = 180.0, value_parser = positive)]
    pub(crate) deadline: f64,

    /// Tasks registered before a claim scenario; the round ends early when they run out
    #[arg(long, global = true, default_value_t = 40_000, value_parser = count)]
    pub(crate) backlog: usize,

    /// Readers of the fan-out scenarios
    #[arg(long, global = true, default_value_t = 1_000, value_parser = count)]
    pub(crate) readers: usize,

    /// Entries the saturated fan-out may be ahead of the average reader, so that it measures
    /// delivery and not a backlog
    #[arg(long, global = true, default_value_t = 256, value_parser = count)]
    pub(crate) ahead: usize,

    /// Idle streams whose memory is measured, ten to a task
    #[arg(long, global = true, default_value_t = 10_000, value_parser = count)]
    pub(crate) streams: usize,

    /// Entries of a replay
    #[arg(long, global = true, default_value_t = 10_000, value_parser = count)]
    pub(crate) entries: usize,

    /// Tasks of the sweep, ten entries each
    #[arg(long, global = true, default_value_t = 20_000, value_parser = count)]
    pub(crate) overdue: usize,

    /// Threads of the driver; the appender of a fan-out has one more. One leaves the other cores to
    /// the server; see the driver's own share in the table
    #[arg(long, global = true, default_value_t = 1, value_parser = count)]
    pub(crate) driver_threads: usize,

    /// A setting for the server, as KEY=VALUE; may be repeated. `TASK_TRACKER_*` variables of the
    /// shell are not passed on
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) server_env: Vec<(String, String)>,

    /// Where the embedded server's data directories are made: a real disk, since a memory file
    /// system hides what fsync costs
    #[arg(long, global = true, value_name = "DIR", default_value = TARGET_DIRECTORY, hide_default_value = true)]
    pub(crate) data_dir: PathBuf,

    /// Postgres for node mode, as a user that may create databases
    #[arg(
        long,
        global = true,
        env = "BENCH_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) database_url: Option<String>,

    /// Redis for node mode
    #[arg(
        long,
        global = true,
        env = "BENCH_REDIS_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) redis_url: Option<String>,

    /// The postmaster, whose processes' CPU time is counted; found by itself when it runs on this
    /// machine
    #[arg(long, global = true, env = "BENCH_POSTGRES_PID", value_name = "PID")]
    pub(crate) postgres_pid: Option<u32>,

    /// The Redis process, likewise
    #[arg(long, global = true, env = "BENCH_REDIS_PID", value_name = "PID")]
    pub(crate) redis_pid: Option<u32>,

    /// `cargo bench` adds this to what every benchmark is given
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

impl Options {
    /// Whether `--only` asks for the scenario; without it all are wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Lowers what needs more sockets than this process, or the server it starts, may open. Raising
    /// the limit is the caller's to do (`ulimit -n`).
    pub(crate) fn fit(&mut self, open_files: u64) {
        const OTHERS: usize = 200;
        let most = usize::try_from(open_files).unwrap_or(usize::MAX).saturating_sub(OTHERS).max(10);
        for (name, wanted) in [("--readers", &mut self.readers), ("--streams", &mut self.streams)] {
            if *wanted > most {
                eprintln!(
                    "{name} is lowered from {wanted} to {most}: \
                     no more than {open_files} files may be open (ulimit -n)"
                );
                *wanted = most;
            }
        }
        // Ten streams to a task: fewer than ten would be no task.
        self.streams = self.streams.max(10);
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs_f64(self.deadline)
    }

    /// The echo steadies far sooner than the server, so a third of the time is enough for it.
    pub(crate) fn echo_seconds(&self) -> f64 {
        (self.seconds / 3.0).max(1.0)
    }
}

/// How the driver calls itself for its yardsticks.
pub(crate) const ECHO_SERVER: &str = "echo-server";
pub(crate) const BARE_WRITER: &str = "bare-writer";
pub(crate) const BARE_SERVICE: &str = "bare-service";
pub(crate) const IN_PROCESS: &str = "in-process";

/// Cargo's own directory for what tests and benchmarks leave behind.
const TARGET_DIRECTORY: &str = env!("CARGO_TARGET_TMPDIR");

/// The two forms of the server, and how to ask for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// One process with SQLite in its data directory
    Embedded,
    /// Stateless, over Postgres and Redis
    Node,
    /// One after the other
    Both,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Embedded => "embedded",
            Self::Node => "node",
            Self::Both => "both",
        })
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3_600.0 => Ok(seconds),
        _ => Err("seconds, more than 0 and at most 3600".to_owned()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if (1..=10_000_000).contains(&count) => Ok(count),
        _ => Err("a number from 1 to 10000000".to_owned()),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE".to_owned()),
    }
}
