//! The binary: reads the command line, runs what it says, and says in words what went wrong.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use task_tracker::app::{self, App};
use task_tracker::cli::{Cli, Command, MigrateArgs, ServeArgs};
use task_tracker::clock::Clock;
use task_tracker::config::Mode;
use task_tracker::{files, telemetry, terminal};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve(&args),
        Command::Migrate(args) => migrate(&args),
        Command::Terminal(command) => return terminal::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("task-tracker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ServeArgs) -> Result<()> {
    let config = args.config()?;
    telemetry::log(&args.log)?;
    files::raise_limit();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads.into());
    }
    runtime.enable_all().build().context("cannot start threads")?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mode = match &config.mode {
            Mode::Embedded { data_dir } => format!("embedded, data in {}", data_dir.display()),
            Mode::Node { .. } => "node, on Postgres and Redis".to_owned(),
        };
        let starting = App::start(config, Clock::system());
        let app = tokio::select! {
            app = starting => app?,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        };
        let address = app.address();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            mode,
            "listening on http://{address}, its API explained at http://{address}/docs"
        );
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("closing");
        app.shut_down().await;
        tracing::info!("closed");
        Ok(())
    })
}

fn migrate(args: &MigrateArgs) -> Result<()> {
    let mode = args.data.mode()?;
    telemetry::log(&args.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let patience = std::time::Duration::from_secs(args.data.patience_seconds);
    runtime.block_on(app::migrate(&mode, patience))?;
    println!("the database schema is up to date");
    Ok(())
}
