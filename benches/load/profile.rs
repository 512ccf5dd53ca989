//! Where the time of the server goes in the measured window: its stacks, as `perf` samples them by
//! the clock. Hardware counters are not needed, which virtual machines seldom have.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Samples a second of each thread; odd, so that it does not beat with timers.
const FREQUENCY: &str = "997";

/// How many lines of the report are kept.
const LINES: usize = 60;
const WIDTH: usize = 160;

/// A running `perf record`.
pub(crate) struct Recording {
    process: Child,
    file: std::path::PathBuf,
}

impl Recording {
    /// Begins to sample the process into `file`.
    pub(crate) fn start(pid: u32, file: &Path) -> Result<Self> {
        let process = Command::new("perf")
            .args(["record", "--quiet", "--event", "cpu-clock", "--freq", FREQUENCY, "-g"])
            .args(["--pid", &pid.to_string(), "--output"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("perf could not be started (Debian: apt-get install linux-perf)")?;
        Ok(Self { process, file: file.to_owned() })
    }

    /// Ends the sampling and writes what was found beside it, as text: the functions the time was
    /// spent in, and those it was spent below.
    pub(crate) fn finish(mut self) -> Result<()> {
        // SIGINT makes it write what it has; the standard library only knows how to kill.
        let told = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status()?;
        ensure!(told.success(), "perf could not be told to end");
        self.process.wait()?;
        let own = report(&self.file, &["--no-children"])?;
        let below = report(&self.file, &["--children"])?;
        let text = format!("In the function itself\n\n{own}\nBelow the function\n\n{below}");
        let path = self.file.with_extension("txt");
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        eprintln!("profile: {}", path.display());
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
