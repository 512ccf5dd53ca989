//! Where the time of the server goes in the measured window: its stacks, as `perf` samples them by
//! the clock, and what tokio says of its threads. Hardware counters are not needed, which virtual
//! machines seldom have.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;

use crate::client::Connection;
use crate::clock;

/// Samples a second of each thread; odd, so that it does not beat with timers.
const FREQUENCY: &str = "997";

/// How many lines of the report are kept.
const LINES: usize = 60;
const WIDTH: usize = 160;

/// What is to be written of a server, and where it answers.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) file: PathBuf,
    pub(crate) address: SocketAddr,
}

/// What tokio says of the threads of a server, at a moment.
struct Runtime {
    at: Instant,
    threads: f64,
    busy_seconds: f64,
    parks: f64,
    tasks: f64,
}

/// A running `perf record`.
pub(crate) struct Recording {
    process: Child,
    profile: Profile,
    before: Runtime,
}

impl Runtime {
    async fn of(address: SocketAddr) -> Result<Self> {
        let reply = Connection::open(address).await?.get("/metrics").await?;
        let figures = reply.expect(StatusCode::OK, "the figures")?.body;
        let figures = std::str::from_utf8(&figures)?;
        let figure = |name: &str| {
            let said = figures.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let said = said.with_context(|| format!("the server tells no {name}"))?;
            anyhow::Ok(said.parse::<f64>()?)
        };
        Ok(Self {
            at: clock::now(),
            threads: figure("runtime_workers")?,
            busy_seconds: figure("runtime_busy_seconds")?,
            parks: figure("runtime_parks_total")?,
            tasks: figure("runtime_tasks_alive")?,
        })
    }

    fn since(&self, before: &Self) -> String {
        let seconds = (self.at - before.at).as_secs_f64();
        let busy = (self.busy_seconds - before.busy_seconds) / seconds;
        let parks = (self.parks - before.parks) / seconds;
        format!(
            "tokio: of {} threads {busy:.2} were busy, which parked {parks:.0} times a second, with {} tasks at the end",
            self.threads, self.tasks
        )
    }
}

impl Recording {
    /// Begins to sample the process.
    pub(crate) async fn start(pid: u32, profile: &Profile) -> Result<Self> {
        let before = Runtime::of(profile.address).await?;
        let process = Command::new("perf")
            .args(["record", "--quiet", "--event", "cpu-clock", "--freq", FREQUENCY, "-g"])
            .args(["--pid", &pid.to_string(), "--output"])
            .arg(&profile.file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("perf could not be started (Debian: apt-get install linux-perf)")?;
        Ok(Self { process, profile: profile.clone(), before })
    }

    /// Ends the sampling and writes what was found beside it, as text: how busy the threads were, the
    /// functions the time was spent in, and those it was spent below.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let threads = Runtime::of(self.profile.address).await?.since(&self.before);
        // SIGINT makes it write what it has; the standard library only knows how to kill.
        let told = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status()?;
        ensure!(told.success(), "perf could not be told to end");
        self.process.wait()?;
        let own = report(&self.profile.file, &["--no-children"])?;
        let below = report(&self.profile.file, &["--children"])?;
        let text =
            format!("{threads}\n\nIn the function itself\n\n{own}\nBelow the function\n\n{below}");
        let path = self.profile.file.with_extension("txt");
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        eprintln!("profile: {}; {threads}", path.display());
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // After `finish` it has ended, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn report(file: &Path, how: &[&str]) -> Result<String> {
    let output = Command::new("perf")
        .args(["report", "--stdio", "--call-graph", "none", "--percent-limit", "0.4"])
        .args(["--sort", "symbol"])
        .args(how)
        .arg("--input")
        .arg(file)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("perf report")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    // The whole name of a generic function is a page of its own.
    let short = |line: &str| line.trim_end().chars().take(WIDTH).collect::<String>();
    Ok(lines.take(LINES).map(short).collect::<Vec<_>>().join("\n") + "\n")
}
