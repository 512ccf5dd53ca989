//! The server under measurement: the release binary, as a child of its own, over a directory or
//! databases of its own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::http::StatusCode;
use tempfile::TempDir;

use crate::cli::Options;
use crate::client::Connection;
use crate::clock;
use crate::sql::Place;
use crate::stores::Lease;

/// Where cargo put the binary of this package, built with the profile of this benchmark.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_task-tracker");

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills this one child, by its handle, and removes its directory.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    /// Its data and its log; removed after the process has ended.
    directory: TempDir,
    place: Place,
}

/// The tables of a database that no server is started on.
pub(crate) fn migrate(options: &Options, lease: &Lease) -> Result<()> {
    Server::prepare(options, Some(lease)).map(drop)
}

impl Server {
    /// Starts it on a free port, with the settings of the run and these, and waits until it says that it
    /// is ready.
    pub(crate) async fn start(
        options: &Options,
        lease: Option<&Lease>,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let directory = Self::prepare(options, lease)?;
        Self::start_in(options, lease, settings, directory).await
    }

    /// A directory for its data, and its tables.
    pub(crate) fn prepare(options: &Options, lease: Option<&Lease>) -> Result<TempDir> {
        let directory = tempfile::Builder::new().prefix("load-").tempdir_in(&options.data_dir)?;
        let migrated = command(options, lease, &directory)?.arg("migrate").status()?;
        ensure!(migrated.success(), "task-tracker migrate: {migrated}\n{}", tail(directory.path()));
        Ok(directory)
    }

    /// Where the tables are that were prepared.
    pub(crate) fn place(lease: Option<&Lease>, directory: &TempDir) -> Place {
        match lease {
            Some(lease) => Place::Postgres(lease.database_url.clone()),
            None => Place::Sqlite(directory.path().join("data/tracker.db")),
        }
    }

    /// Starts it over what was prepared.
    pub(crate) async fn start_in(
        options: &Options,
        lease: Option<&Lease>,
        settings: &[(&str, &str)],
        directory: TempDir,
    ) -> Result<Self> {
        let place = Self::place(lease, &directory);
        let address = free_address()?;
        let process = command(options, lease, &directory)?
            .env("TASK_TRACKER_PORT", address.port().to_string())
            .envs(settings.iter().copied())
            .arg("serve")
            .spawn()
            .with_context(|| format!("{BINARY} could not be started"))?;
        let mut server = Self { process, address, directory, place };
        server.ready().await?;
        Ok(server)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it keeps its tasks.
    pub(crate) fn at(&self) -> Place {
        self.place.clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The error of a scenario, with the server's last words if it is dead: whatever the client saw
    /// of it then is only a consequence.
    pub(crate) fn obituary(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self.process.try_wait() {
            Ok(Some(status)) => {
                let log = tail(self.directory.path());
                error.context(format!("the server ended ({status})\n{log}\n"))
            }
            _ => error,
        }
    }

    async fn ready(&mut self) -> Result<()> {
        let begun = clock::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended at its start ({status})\n{}", tail(self.directory.path()));
            }
            if readiness(self.address).await.is_ok_and(|status| status == StatusCode::OK) {
                return Ok(());
            }
            if begun.elapsed() > START_LIMIT {
                bail!(
                    "the server was not ready within {START_LIMIT:?}\n{}",
                    tail(self.directory.path())
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is thrown away with it, so it need not end gracefully; it may also have ended
        // already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The binary with the settings of this run and none of the shell's: a figure must not depend on
/// what is exported there.
fn command(options: &Options, lease: Option<&Lease>, directory: &TempDir) -> Result<Command> {
    let log =
        File::options().create(true).append(true).open(directory.path().join("server.log"))?;
    let mut command = Command::new(BINARY);
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("TASK_TRACKER_")
            || matches!(&*name, "DATABASE_URL" | "REDIS_URL" | "RUST_LOG")
        {
            command.env_remove(&key);
        }
    }
    command
        .current_dir(directory.path())
        .env("TASK_TRACKER_HOST", "127.0.0.1")
        .env("TASK_TRACKER_DATA_DIR", directory.path().join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if let Some(lease) = lease {
        command
            .env("DATABASE_URL", &lease.database_url)
            .env("REDIS_URL", &lease.redis_url)
            .env("TASK_TRACKER_NAMESPACE", &lease.namespace);
    }
    command.envs(options.server_env.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

/// A port nobody listens on now. Another process could take it before the server does, which then
/// fails to start, loudly.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

async fn readiness(address: SocketAddr) -> Result<StatusCode> {
    Ok(Connection::open(address).await?.get("/readyz").await?.status)
}

/// The last lines of the server's log, for whoever must find out why it did not start.
fn tail(directory: &Path) -> String {
    let log = fs::read_to_string(directory.join("server.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
