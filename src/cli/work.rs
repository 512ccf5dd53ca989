//! Of `work`, which makes a worker of any program.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::terminal::ConnectArgs;
use super::values::{duration, seconds};
use crate::domain::{TaskType, WorkerId};

/// Behind the help: the contract with the program.
const CONTRACT: &str = "\
The program gets
  stdin              params as JSON
  TASK_ID, TASK_TYPE, TASK_PARAMS, TASK_METADATA, TASK_ATTEMPT, TASK_RETRY_COUNT, TASK_TIMEOUT_AT,
  TASK_WORKER_ID, TASK_LEASE_TOKEN, TASK_TRACKER_URL
                     in its environment; TASK_PARAMS and TASK_METADATA only up to 100 kB each
It is a process group of its own. What it leaves running when it ends is killed.

What it prints becomes progress, each line an entry of the task's history
  42%                {\"percent\":42}                also [ 42%] with a message behind it
  3/10               {\"current\":3,\"total\":10}     also [3/10] with a message behind it
  {…}                the JSON object, as it is
  result: {…}        no entry: the task's result, once the program ends with 0
  anything else      {\"message\":…,\"level\":\"info\",\"stream\":\"stdout\"}, of stderr level error

Exit status 0 completes the task. Any other fails it with an error that says the exit status or the signal, and the last lines.
When somebody cancels the task the program gets SIGTERM, after --grace SIGKILL, and the task is cancelled. When its lease is
lost, another worker may have the task: the program is killed at once and nothing more is reported.

Ctrl-C or SIGTERM: no more tasks are claimed, and what runs may finish, for as long as --drain says. Once more: programs are
killed and their tasks given back. A third time: it ends at once. While the server is away it tries again and loses nothing.

Exit status: 0 stopped when nothing ran any more; 1 refused, or the program cannot be started; 2 wrong usage; 130 or 143
tasks were given back. With --once: 0 completed; 1 failed, or lost; 5 cancelled";

/// Of `work`.
#[derive(Debug, Clone, Args)]
#[command(after_help = CONTRACT)]
pub struct WorkArgs {
    /// Which tasks; may be repeated
    #[arg(long = "type", value_name = "TYPE", required = true)]
    pub types: Vec<TaskType>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Programs at once
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub concurrency: u32,
    /// End after one task
    #[arg(long, conflicts_with = "concurrency")]
    pub once: bool,
    /// Who works; host and process unless given
    #[arg(long, value_name = "NAME")]
    pub worker_id: Option<WorkerId>,
    /// How long the server waits for a sign of life before another worker gets a task
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = lease)]
    pub lease: u64,
    /// How often a sign of life is sent where there is no progress; with it comes the word of a cancellation
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = heartbeat)]
    pub heartbeat: Duration,
    /// How long a program has to end between SIGTERM and SIGKILL
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub grace: Duration,
    /// How long running programs may take when the worker is told to stop; as long as they like unless given
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub drain: Option<Duration>,
    /// Say nothing of what goes well
    #[arg(long)]
    pub quiet: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its own fields say what they are")]
    pub connect: ConnectArgs,
}

fn lease(text: &str) -> Result<u64, String> {
    match seconds(text)? {
        seconds @ 1..=86_400 => Ok(seconds),
        _ => Err("must be between 1s and 1d".to_owned()),
    }
}

fn heartbeat(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        every if every >= Duration::from_millis(100) => Ok(every),
        _ => Err("must be 100ms or more".to_owned()),
    }
}
