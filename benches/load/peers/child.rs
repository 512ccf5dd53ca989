//! A measured program of another making: it says `begin` and `end` around its window, when CPU time is
//! read, and last its figure, or why there is none.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::inprocess::Work;
use crate::cli::{self, Options};
use crate::drive::{Behind, Meter, Sample, float};
use crate::procfs;
use crate::stores::{Lease, Stores};

/// The last line.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    ops: u64,
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    p50: f64,
    #[serde(default)]
    p99: f64,
    #[serde(default)]
    p999: f64,
    void: Option<String>,
}

/// Runs a driver of another product, on a database and with a prefix of its own.
pub(super) fn node(
    options: &Options,
    stores: &Stores,
    lease: &Lease,
    script: &Path,
    work: &str,
) -> Result<Sample> {
    let with = json!({
        "database": lease.database_url,
        "redis": lease.redis_url,
        "prefix": lease.namespace,
        "seconds": options.seconds,
        "warmup": options.warmup,
        "backlog": options.backlog,
    });
    let mut process = bounded(options, "node")
        .arg(script)
        .args([work, &with.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("node could not be started")?;
    let output = process.stdout.take().context("it has no output")?;
    let meter = Tree { root: process.id(), stores: stores.process_ids() };
    let (mut before, mut used, mut last) = (None, None, String::new());
    for line in BufReader::new(output).lines() {
        let line = line?;
        match &*line {
            "begin" => before = Some(meter.read()?),
            "end" => used = before.map(|before| meter.since(before)).transpose()?,
            _ => last = line,
        }
    }
    process.wait()?;
    let told: Told = serde_json::from_str(&last)
        .with_context(|| format!("{} {work} said no figure: {last:?}", script.display()))?;
    if let Some(reason) = told.void {
        bail!("{reason}");
    }
    let (server, behind) = used.context("it said no begin or no end")?;
    let per_thousand = |used: Duration| used.as_secs_f64() * 1_000.0 / float(told.ops);
    Ok(Sample {
        value: float(told.ops) / told.seconds,
        p50: told.p50,
        p99: told.p99,
        p999: told.p999,
        server_cpu: per_thousand(server),
        stores_cpu: behind.map(|behind| Behind {
            postgres: per_thousand(behind.postgres),
            redis: per_thousand(behind.redis),
        }),
        driver: 0.0,
    })
}

/// Runs our own service without HTTP.
pub(super) fn in_process(
    options: &Options,
    stores: &Stores,
    lease: &Lease,
    work: Work,
) -> Result<Sample> {
    let program = std::env::current_exe()?;
    let mut command = bounded(options, program.to_str().context("an odd path")?);
    let work = clap::ValueEnum::to_possible_value(&work).context("a hidden work")?;
    command.arg(cli::IN_PROCESS).arg(work.get_name());
    let settings = [
        ("--on-database", lease.database_url.clone()),
        ("--on-redis", lease.redis_url.clone()),
        ("--namespace", lease.namespace.clone()),
        ("--for-seconds", options.seconds.to_string()),
        ("--after-warmup", options.warmup.to_string()),
        ("--of-backlog", options.backlog.to_string()),
    ];
    command.args(settings.iter().flat_map(|(name, value)| [*name, value.as_str()]));
    if let Some(Behind { postgres, redis }) = stores.process_ids() {
        command.args(["--count-postgres", &postgres.to_string()]);
        command.args(["--count-redis", &redis.to_string()]);
    }
    let output = command.stdin(Stdio::null()).output().context("it could not be started")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        format!("in process, it ended with {}: {}", output.status, complaint.trim())
    })
}

/// A program that cannot outlive the deadline of a round, whatever becomes of this one.
fn bounded(options: &Options, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(options.deadline.to_string()).arg(program);
    command
}

/// CPU time of a process with its children, and of the servers.
struct Tree {
    root: u32,
    stores: Option<Behind<u32>>,
}

type Used = (Duration, Option<Behind<Duration>>);

impl Tree {
    fn read(&self) -> Result<Used> {
        // The driver's own part is of no interest; reading it costs nothing.
        let stores = Meter { server: std::process::id(), stores: self.stores, profile: None };
        Ok((procfs::tree_cpu(self.root)?, stores.read()?.stores))
    }

    fn since(&self, (tree, behind): Used) -> Result<Used> {
        let (tree_now, behind_now) = self.read()?;
        let behind = behind_now.zip(behind).map(|(now, before)| Behind {
            postgres: now.postgres.saturating_sub(before.postgres),
            redis: now.redis.saturating_sub(before.redis),
        });
        Ok((tree_now.saturating_sub(tree), behind))
    }
}
