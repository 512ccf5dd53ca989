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
//! | [`drive`], [`openloop`] | the closed loop, its window, and the sample it yields; the open loop |
//! | [`server`], [`stores`], [`sql`] | what is measured, the databases lent to it, and its tables |
//! | [`companion`], [`echo`], [`bare`] | what it is held against, in processes of their own |
//! | [`procfs`], [`profile`] | CPU time, memory, limits and conditions as Linux tells them; stacks |
//! | [`seed`], [`wire`] | the tasks made beforehand; the parts of answers several scenarios read |
//! | [`scenarios`] | the list of what is measured, a module for each kind |
//! | [`growth`] | the same work over small and large tables, short and long logs |
//! | [`peers`] | the same work by other products, and by ours without HTTP |
//! | [`scale`] | what machines carry, computed from what was measured |
//! | [`report`], [`targets`], [`bound`] | medians, ratios, and what they must be |
//! | [`table`], [`grid`], [`marks`] | the tables, and the documents they are written into |

#![allow(clippy::large_futures, reason = "what drives a load is made once")]

mod bare;
mod bound;
mod cli;
mod client;
mod clock;
mod companion;
mod drive;
mod echo;
mod grid;
mod growth;
mod marks;
mod openloop;
mod peers;
mod procfs;
mod profile;
mod report;
mod run;
mod scale;
mod scenarios;
mod seed;
mod server;
mod sql;
mod sse;
mod stores;
mod table;
mod targets;
mod wire;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::cli::{Cli, Command, Options};

/// The server's allocator: what is measured in process is to have it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // `cargo test --all-targets` and nextest call every benchmark too, with the arguments of a test
    // harness: minutes of load on two cores are not what they ask for.
    let companions = [cli::ECHO_SERVER, cli::BARE_WRITER, cli::BARE_SERVICE, cli::IN_PROCESS];
    if !std::env::args().any(|argument| argument == "--bench" || companions.contains(&&*argument)) {
        eprintln!("the load driver does nothing unless it is run by cargo bench (or with --bench)");
        return ExitCode::SUCCESS;
    }
    match start(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked for; false when a figure is void or the run was interrupted.
fn start(cli: Cli) -> Result<bool> {
    let Cli { command, mut options } = cli;
    match command {
        Some(Command::BareWriter) => return bare::writer::serve().map(|()| true),
        Some(Command::InProcess(order)) => return peers::inprocess::serve(&order).map(|()| true),
        Some(Command::Scale(from)) => {
            let text = scale::render(&from.figures)?;
            return deliver(&options, "scale", &text).map(|()| true);
        }
        None if options.list => {
            print!("{}", table::list(scenarios::ALL));
            return Ok(true);
        }
        _ => {}
    }
    let runtime = match options.driver_threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
        }
    }
    .context("no runtime")?;
    runtime.block_on(async {
        match command {
            Some(Command::EchoServer) => return echo::serve().await.map(|()| true),
            Some(Command::BareService) => return bare::service::serve().await.map(|()| true),
            _ => options.fit(procfs::open_files()?),
        }
        if cfg!(debug_assertions) {
            eprintln!("this is a debug build: its figures mean nothing (use cargo bench)");
        }
        for folder in [Some(&options.data_dir), options.profile.as_ref()].into_iter().flatten() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        match command {
            Some(Command::Growth(sizes)) => Box::pin(growth::measure(&options, &sizes)).await,
            Some(Command::Peers(peers)) => Box::pin(peers::measure(&options, &peers)).await,
            _ => Box::pin(run::bench(&options)).await,
        }
    })
}

/// Prints a part of the report, or writes it into the document that has a place for it.
fn deliver(options: &Options, name: &str, text: &str) -> Result<()> {
    let Some(path) = &options.into else {
        println!("{text}");
        return Ok(());
    };
    write_between(path, name, text)
}

fn write_between(path: &Path, name: &str, text: &str) -> Result<()> {
    let document = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let written = marks::replaced(&document, name, text)
        .with_context(|| format!("{} has no marks for {name}", path.display()))?;
    std::fs::write(path, written).with_context(|| path.display().to_string())?;
    eprintln!("{name}: written into {}", path.display());
    Ok(())
}
