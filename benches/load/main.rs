//! The load driver: what the server does per second, how long a caller waits for it, and what it
//! costs.
//!
//! It starts the release binary as a child on a free port, drives it over loopback with raw
//! HTTP/1.1 connections, and checks every answer: a figure from a run that lost, repeated or
//! refused anything is printed as VOID.
//!
//! ```text
//! cargo bench --bench load -- --list
//! cargo bench --bench load -- --mode embedded --only progress
//! export BENCH_DATABASE_URL=postgres://… BENCH_REDIS_URL=redis://…
//! cargo bench --bench load -- --markdown
//! ```
//!
//! A shared machine drifts, so no absolute rate stands alone: after every round the same
//! connections send the same body to a bare axum echo endpoint, and each figure is also given as a
//! ratio to that.
//!
//! | Module | Holds |
//! | --- | --- |
//! | [`cli`] | the options |
//! | [`client`], [`sse`] | one connection; the frames of a stream and their order |
//! | [`drive`] | the closed loop, its window, and the sample it yields |
//! | [`echo`], [`server`], [`stores`] | what is measured, and the databases lent to it |
//! | [`procfs`] | CPU time, memory, limits and conditions as Linux tells them |
//! | [`seed`], [`wire`] | the tasks made beforehand; the parts of answers several scenarios read |
//! | [`scenarios`] | the list of what is measured, a module for each kind |
//! | [`report`], [`table`] | medians, ratios, and the tables |

mod cli;
mod client;
mod clock;
mod drive;
mod echo;
mod procfs;
mod report;
mod scenarios;
mod seed;
mod server;
mod sse;
mod stores;
mod table;
mod wire;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command, Mode, Options};
use crate::drive::{Meter, Sample, Stage};
use crate::echo::Echo;
use crate::report::{Conditions, Figure, Pair};
use crate::scenarios::Scenario;
use crate::server::Server;
use crate::stores::Stores;

fn main() -> ExitCode {
    // `cargo test --all-targets` and nextest call every benchmark too, with the arguments of a test
    // harness: minutes of load on two cores are not what they ask for.
    if !std::env::args().any(|argument| argument == "--bench" || argument == cli::ECHO_SERVER) {
        eprintln!("the load driver does nothing unless it is run by cargo bench (or with --bench)");
        return ExitCode::SUCCESS;
    }
    let mut cli = Cli::parse();
    let runtime = match cli.options.driver_threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
        }
    };
    let outcome = runtime.context("no runtime").and_then(|runtime| {
        runtime.block_on(async {
            match cli.command {
                Some(Command::EchoServer) => echo::serve().await.map(|()| true),
                None if cli.options.list => {
                    print!("{}", table::list(scenarios::ALL));
                    Ok(true)
                }
                None => {
                    cli.options.fit(procfs::open_files()?);
                    bench(&cli.options).await
                }
            }
        })
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures what was asked for and prints it; false when a figure is void or the run was
/// interrupted.
async fn bench(options: &Options) -> Result<bool> {
    let chosen: Vec<&'static Scenario> =
        scenarios::ALL.iter().filter(|scenario| options.wants(scenario.name)).collect();
    if chosen.is_empty() {
        bail!("no scenario matches --only; see --list");
    }
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures mean nothing (use cargo bench)");
    }
    std::fs::create_dir_all(&options.data_dir)
        .with_context(|| options.data_dir.display().to_string())?;
    let stores = node_stores(options).await?;
    let conditions = Conditions::gather(options, stores.as_ref());

    let mut figures = Vec::new();
    let finished = tokio::select! {
        () = measure_all(options, stores.as_ref(), &chosen, &mut figures) => true,
        () = interrupted() => {
            eprintln!("interrupted: what was measured so far follows");
            false
        }
    };
    if let Some(stores) = &stores {
        stores
            .sweep()
            .await
            .context("what this run made in Postgres and Redis could not be removed")?;
    }
    print!("{}", table::render(&conditions, &figures, options.markdown));
    Ok(finished && figures.iter().all(|figure| figure.outcome.is_ok()))
}

/// Node mode needs two servers this driver does not start; without them it is left out, and says
/// so.
async fn node_stores(options: &Options) -> Result<Option<Stores>> {
    if options.mode == Mode::Embedded {
        return Ok(None);
    }
    match (&options.database_url, &options.redis_url) {
        (Some(database), Some(redis)) => Stores::connect(database, redis, options).await.map(Some),
        _ if options.mode == Mode::Node => {
            bail!("node mode needs BENCH_DATABASE_URL and BENCH_REDIS_URL")
        }
        _ => {
            eprintln!("node mode is left out: it needs BENCH_DATABASE_URL and BENCH_REDIS_URL");
            Ok(None)
        }
    }
}

async fn measure_all(
    options: &Options,
    stores: Option<&Stores>,
    chosen: &[&'static Scenario],
    figures: &mut Vec<Figure>,
) {
    let embedded = (options.mode != Mode::Node).then_some((Mode::Embedded, None));
    let node = stores.map(|stores| (Mode::Node, Some(stores)));
    for (mode, stores) in embedded.into_iter().chain(node) {
        for &scenario in chosen {
            let outcome = measure(options, stores, mode, scenario)
                .await
                .map_err(|error| format!("{error:#}"));
            if let Err(reason) = &outcome {
                eprintln!("{mode} {}: VOID: {reason}", scenario.name);
            }
            figures.push(Figure { mode, scenario, outcome });
        }
    }
}

/// Every round of one scenario, each beside its echo. The first fault voids them all: a median over
/// the rounds that happened to go well would hide it.
async fn measure(
    options: &Options,
    stores: Option<&Stores>,
    mode: Mode,
    scenario: &'static Scenario,
) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for round in 1..=options.rounds {
        let subject = bounded(options, play(options, stores, scenario)).await;
        if let Some(stores) = stores {
            let swept = stores.sweep().await;
            swept.context("the round's database and keys could not be removed")?;
        }
        let subject = subject.with_context(|| format!("round {round}"))?;
        let echo = bounded(options, Echo::measure(options, scenario)).await;
        let echo = echo.with_context(|| format!("the echo of round {round}"))?;
        let pair = Pair { subject, echo };
        let (name, line) = (scenario.name, table::progress(scenario, &pair));
        eprintln!("{mode} {name}, round {round} of {}: {line}", options.rounds);
        pairs.push(pair);
    }
    Ok(pairs)
}

/// One round, on a server of its own over an empty store: none inherits the backlog, the caches or
/// the memory of another.
async fn play(
    options: &Options,
    stores: Option<&Stores>,
    scenario: &'static Scenario,
) -> Result<Sample> {
    let lease = match stores {
        Some(stores) => Some(stores.lend().await?),
        None => None,
    };
    let mut server = Server::start(options, lease.as_ref()).await?;
    let meter =
        Meter { server: server.id(), stores: stores.map(Stores::process_ids).unwrap_or_default() };
    let stage = Stage { address: server.address(), meter, options, seconds: options.seconds };
    let sample = scenario.run(&stage).await;
    sample.map_err(|error| server.obituary(error))
}

/// A server that hangs must not hang the run.
async fn bounded(options: &Options, round: impl Future<Output = Result<Sample>>) -> Result<Sample> {
    tokio::time::timeout(options.deadline(), round)
        .await
        .unwrap_or_else(|_| bail!("it did not finish within {:?}", options.deadline()))
}

/// The two signals that ask a process to end. Left to their default they would leave the server
/// running, and its database lent.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
