//! The commands that talk to a service from a terminal or a script.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use reqwest::Url;
use reqwest::header::HeaderMap;

use super::values::{HERE, Header, When, base, duration, header, seconds, when};
pub use super::work::WorkArgs;
use crate::domain::{Status, TaskId, TaskType, WorkerId};

/// Behind the help of each command.
const EXITS: &str = "Exit status: 0 done; 1 refused; 2 wrong usage; 4 the server cannot be reached";
const WATCH_EXITS: &str = "\
Exit status: 0 all completed; 1 one failed or timed out, or the call was refused; 2 wrong usage; 4 the server cannot be \
reached; 5 none failed, but one was cancelled; 130 on Ctrl-C";
const CLAIM_EXITS: &str = "\
Exit status: 0 claimed; 1 refused; 2 wrong usage; 3 there was no task; 4 the server cannot be reached";

/// What to do with a service.
#[derive(Debug, Subcommand)]
pub enum TerminalCommand {
    /// Show live what becomes of tasks
    #[command(after_help = WATCH_EXITS)]
    Watch(WatchArgs),
    /// List tasks
    #[command(after_help = EXITS)]
    Tasks(TasksArgs),
    /// Register a task, and print its id
    #[command(after_help = EXITS)]
    Register(RegisterArgs),
    /// Claim a task, and print it as JSON
    #[command(after_help = CLAIM_EXITS)]
    Claim(ClaimArgs),
    /// Cancel tasks
    #[command(after_help = EXITS)]
    Cancel(CancelArgs),
    /// Try ended tasks once more, and print the ids of the new ones
    #[command(after_help = EXITS)]
    Retry(RetryArgs),
    /// Make a worker of a program: it runs once for each task
    Work(WorkArgs),
    /// Print the completions of a shell
    Completions {
        /// Which
        shell: Shell,
    },
}

/// Which service, and how to get there.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Where the service is
    #[arg(
        long,
        env = "TASK_TRACKER_URL",
        hide_env_values = true,
        default_value = HERE,
        value_name = "URL",
        value_parser = base
    )]
    pub url: Url,
    /// A header for every request, as 'Authorization: Bearer …'; may be repeated. In the variable one a line
    #[arg(
        long = "header",
        env = "TASK_TRACKER_HEADERS",
        hide_env_values = true,
        value_delimiter = '\n',
        value_name = "NAME: VALUE",
        value_parser = header
    )]
    pub headers: Vec<Header>,
    /// How long a request is repeated while the server is away
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = duration)]
    pub retry_for: Duration,
}

impl ConnectArgs {
    /// The headers as a map; of one name may be several.
    pub fn header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in self.headers.iter().filter_map(|header| header.0.as_ref()) {
            map.append(name, value.clone());
        }
        map
    }
}

/// Of `watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Tasks to watch until they have ended
    #[arg(value_name = "ID", required_unless_present_any = ["types", "all"],
          conflicts_with_all = ["types", "all"])]
    pub ids: Vec<TaskId>,
    /// Watch what runs of this type, and what comes; may be repeated
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "all")]
    pub types: Vec<TaskType>,
    /// Watch what runs, and what comes
    #[arg(long)]
    pub all: bool,
    /// With --type and --all: end when nothing waits or runs
    #[arg(long, conflicts_with = "ids")]
    pub until_idle: bool,
    /// Begin with so many of the newest entries; in a pipe with all of them unless given
    #[arg(long, value_name = "N", conflicts_with_all = ["types", "all"])]
    pub last: Option<u64>,
    /// Print each event as a line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its own fields say what they are")]
    pub connect: ConnectArgs,
}

/// Of `tasks`.
#[derive(Debug, Clone, Args)]
pub struct TasksArgs {
    /// Of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// Of this status, or of one of these, separated by commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = status)]
    pub status: Vec<Status>,
    /// Held by this worker, now or at their end
    #[arg(long, value_name = "NAME")]
    pub worker: Option<WorkerId>,
    /// Whose id begins with this text, or whose type, worker, metadata, params or error holds it
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Registered after this instant, or this long ago at most (2h)
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub since: Option<When>,
    /// Registered before this instant, or this long ago at least
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub before: Option<When>,
    /// By which time they are sorted
    #[arg(long, value_enum, value_name = "TIME")]
    pub sort: Option<Sort>,
    /// The oldest first
    #[arg(long)]
    pub reverse: bool,
    /// Tasks at most
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: usize,
    /// Print each task as a line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub connect: ConnectArgs,
}

/// By which time a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// When they were registered
    Created,
    /// When they ended
    Completed,
}

/// Of `register`.
#[derive(Debug, Clone, Args)]
pub struct RegisterArgs {
    /// What workers claim it by
    #[arg(long = "type", value_name = "TYPE")]
    pub task_type: TaskType,
    /// An id of your own
    #[arg(long, value_name = "ID")]
    pub id: Option<TaskId>,
    /// What the worker needs: a JSON object, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub params: Option<String>,
    /// What you want to find again: a JSON object, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub metadata: Option<String>,
    /// How long it may take (90s, 15m, 2h, 1d); a day unless given
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub timeout: Option<u64>,
    /// How many workers may lose it before it fails; 3 unless given
    #[arg(long, value_name = "N")]
    pub max_attempts: Option<u32>,
    /// How long it may run without progress before it is flagged
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub stall: Option<u64>,
    /// Registers it once, however often this is called with the same key within 24 hours
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Watch it until it has ended, and end with its exit status
    #[arg(long)]
    pub watch: bool,
    /// Print the answer as JSON; with --watch the events, too
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub connect: ConnectArgs,
}

/// Of `claim`.
#[derive(Debug, Clone, Args)]
pub struct ClaimArgs {
    /// Of this type; may be repeated
    #[arg(long = "type", value_name = "TYPE", required = true)]
    pub types: Vec<TaskType>,
    /// Who claims; host and process unless given
    #[arg(long, value_name = "NAME")]
    pub worker: Option<WorkerId>,
    /// How long to wait for one to appear
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub wait: Duration,
    /// How long you may be silent before another worker gets it
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub lease: Option<u64>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub connect: ConnectArgs,
}

/// Of `cancel`.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// Which
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<TaskId>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// How long a worker has to end it; 30s unless given
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub grace: Option<u64>,
    /// Give a worker no time
    #[arg(long, conflicts_with = "grace")]
    pub force: bool,
    /// Print each answer as a line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub connect: ConnectArgs,
}

/// Of `retry`.
#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// Which
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<TaskId>,
    /// Print each answer as a line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub connect: ConnectArgs,
}

fn status(text: &str) -> Result<Status, String> {
    let all = || Status::ALL.map(Status::as_str).join(", ");
    Status::parse(text).ok_or_else(|| format!("must be one of {}", all()))
}
