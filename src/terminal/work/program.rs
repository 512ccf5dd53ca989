//! A program that runs: a process group of its own, which ends as a whole.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::client::wire::Claimed;
use crate::domain::WorkerId;

/// Bytes of JSON that go into the environment at most; the system takes 128 KiB of one variable.
const LONGEST_VARIABLE: usize = 100_000;

/// A program that was started.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    /// `None` once nothing is left of it.
    group: Option<Pid>,
}

impl Program {
    /// Starts `command` for a task.
    pub(super) fn start(
        command: &[OsString],
        task: &Claimed,
        worker: &WorkerId,
        url: &str,
    ) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        let [program, arguments @ ..] = command else {
            return Err(io::Error::other("there is no command"));
        };
        let json = |value: &Option<Box<serde_json::value::RawValue>>| {
            value.as_ref().map_or_else(|| "null".to_owned(), |value| value.get().to_owned())
        };
        let (params, metadata) = (json(&task.params), json(&task.metadata));
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("TASK_ID", task.id.as_str()).env("TASK_TYPE", &task.task_type);
        command.env("TASK_ATTEMPT", task.attempt.to_string());
        command.env("TASK_RETRY_COUNT", task.retry_count.to_string());
        command.env("TASK_TIMEOUT_AT", task.timeout_at.to_string());
        command.env("TASK_WORKER_ID", worker.as_str()).env("TASK_TRACKER_URL", url);
        if let Some(token) = &task.lease_token {
            command.env("TASK_LEASE_TOKEN", token.as_str());
        }
        for (name, text) in [("TASK_PARAMS", &params), ("TASK_METADATA", &metadata)] {
            command.env_remove(name);
            if text.len() <= LONGEST_VARIABLE {
                command.env(name, text);
            }
        }
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("a pipe is missing"));
        };
        // Whoever does not read its params closes the pipe, and means it.
        tokio::spawn(async move {
            let _ = stdin.write_all(params.as_bytes()).await;
            let _ = stdin.shutdown().await;
        });
        Ok((Self { child, group }, stdout, stderr))
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It fails where the group has ended.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Waits for its end, and then ends what it left running.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.kill();
        self.group = None;
        status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
