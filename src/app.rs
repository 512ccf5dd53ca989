//! The composition root: the only place that builds stores, service, router and duties.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::database::Database;
use crate::http::{self, Api, Readers, Shared};
use crate::live::embedded::EmbeddedLive;
use crate::live::redis::RedisLive;
use crate::live::{Hub, Live};
use crate::service::{Bounds, Identity, LogLimits, Room, Tracker};
use crate::storage::{Storage, migrations};
use crate::{background, telemetry};

/// Connections that read the embedded database beside its writer.
const SQLITE_READERS: u32 = 4;

/// A running server.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    tracker: Tracker,
    duties: TaskTracker,
    server: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    grace: Duration,
    /// Held while the process uses the data folder.
    _lock: Option<File>,
}

/// The stores of a mode.
struct Stores {
    database: Database,
    live: Arc<dyn Live>,
    hub: Arc<Hub>,
    lock: Option<File>,
}

impl App {
    /// Opens the stores, brings the schema up to date, and listens.
    pub async fn start(config: Config, clock: Clock) -> Result<Self> {
        Self::start_with(config, clock, |live| live).await
    }

    /// The same, with `wrap` around the live log: tests put a fault between the service and the real one.
    pub async fn start_with(
        config: Config,
        clock: Clock,
        wrap: impl FnOnce(Arc<dyn Live>) -> Arc<dyn Live>,
    ) -> Result<Self> {
        let (api, lock) = compose(&config, clock, wrap).await?;
        let (tracker, front) = (api.tracker.clone(), Arc::clone(&api.front));
        let upkeep = tokio::spawn(telemetry::upkeep(api.figures.clone()));
        let listener = http::server::listen((config.host, config.port).into())
            .with_context(|| format!("cannot listen on {}:{}", config.host, config.port))?;
        let address = listener.local_addr()?;
        let closing = tracker.closing().clone();
        let server = http::server::serve(listener, http::site(api), front, closing);
        let server = tokio::spawn(server);
        let duties = TaskTracker::new();
        background::start(&tracker, config.sweep_every, config.seal_every, &duties);
        let grace = config.shutdown_grace;
        Ok(Self { address, tracker, duties, server, upkeep, grace, _lock: lock })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The use cases behind it.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Stops accepting, ends the streams so that their clients resume elsewhere, lets what is in flight
    /// finish within the grace, and lets go of files and connections.
    pub async fn shut_down(mut self) {
        self.tracker.closing().cancel();
        self.duties.close();
        let in_flight = async {
            let served = (&mut self.server).await;
            self.duties.wait().await;
            self.tracker.shut_down().await;
            served
        };
        if tokio::time::timeout(self.grace, in_flight).await.is_err() {
            tracing::warn!(grace = ?self.grace, "closing with requests still in flight");
            self.server.abort();
        }
        self.upkeep.abort();
    }

    /// Dies as by `kill -9`, as far as a part of a process can: nothing is finished, nothing is told.
    pub fn abort(self) {
        self.server.abort();
        self.upkeep.abort();
        self.tracker.closing().cancel();
    }
}

/// Opens the stores, brings the schema up to date, and builds all that stands above them but the server; the file is
/// held while the data folder is used.
async fn compose(
    config: &Config,
    clock: Clock,
    wrap: impl FnOnce(Arc<dyn Live>) -> Arc<dyn Live>,
) -> Result<(Api, Option<File>)> {
    let stores = Stores::open(config).await?;
    migrations::run(&stores.database, config.patience).await?;
    let storage = Storage::new(stores.database);
    let front = Arc::new(config.front.clone());
    let bounds = Bounds {
        room: Room { waiters: front.waiting_claims, types: front.waiting_types },
        log: LogLimits { entries: config.task_entries, bytes: config.task_bytes },
    };
    let readers = Readers::new(&front);
    let mode = match &config.mode {
        Mode::Embedded { .. } => "embedded",
        Mode::Node { .. } => "node",
    };
    let identity = Identity::new(mode, host_name(), clock.now(), readers.count());
    let tracker = Tracker::new(storage, wrap(stores.live), stores.hub, clock, bounds, identity);
    let api = Shared {
        tracker,
        limits: config.limits,
        readers: Arc::new(readers),
        front,
        figures: telemetry::figures().context("the figures cannot be recorded")?,
        cors: config.cors_origins.clone(),
    };
    Ok((api.into(), stores.lock))
}

/// The service without a socket and without duties: requests are handed to its router.
#[cfg(any(test, fuzzing))]
#[derive(Debug)]
pub(crate) struct Unserved {
    pub(crate) site: http::Site,
    pub(crate) tracker: Tracker,
    _lock: Option<File>,
}

#[cfg(any(test, fuzzing))]
impl Unserved {
    pub(crate) async fn open(config: &Config, clock: Clock) -> Result<Self> {
        let (api, lock) = compose(config, clock, |live| live).await?;
        let tracker = api.tracker.clone();
        Ok(Self { site: http::site(api), tracker, _lock: lock })
    }
}

impl Stores {
    async fn open(config: &Config) -> Result<Self> {
        match &config.mode {
            Mode::Embedded { data_dir } => {
                let lock = lock(data_dir)?;
                let database = Database::sqlite(&data_dir.join("tracker.db"), SQLITE_READERS)
                    .await
                    .with_context(|| {
                        format!("cannot open the database in {}", data_dir.display())
                    })?;
                let hub = Hub::local();
                let live = EmbeddedLive::open(&data_dir.join("live.db"), Arc::clone(&hub))
                    .await
                    .with_context(|| {
                        format!("cannot open the live log in {}", data_dir.display())
                    })?;
                Ok(Self { database, live: Arc::new(live), hub, lock: Some(lock) })
            }
            Mode::Node { database_url, redis_url, database_connections } => {
                let database = Database::postgres(database_url, *database_connections)
                    .context("DATABASE_URL cannot be used")?;
                let (hub, interests) = Hub::remote();
                let live = RedisLive::connect(
                    redis_url,
                    &config.redis_tls,
                    &config.namespace,
                    &hub,
                    interests,
                )
                .context("REDIS_URL cannot be used")?;
                Ok(Self { database, live: Arc::new(live), hub, lock: None })
            }
        }
    }
}

/// What the machine is called, as `hostname` says it.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Two processes in one folder would each keep fences of their own: the second is refused.
fn lock(data_dir: &Path) -> Result<File> {
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot make the data folder {}", data_dir.display()))?;
    let file = File::create(data_dir.join("lock"))
        .with_context(|| format!("cannot write in the data folder {}", data_dir.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => bail!(
            "another task-tracker uses {}: stop it, or set TASK_TRACKER_DATA_DIR to another folder",
            data_dir.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => Err(error)
            .with_context(|| format!("cannot lock the data folder {}", data_dir.display())),
    }
}

/// Brings the schema up to date, and ends.
pub async fn migrate(mode: &Mode, patience: Duration) -> Result<()> {
    // Held until the end: no server may start in the folder meanwhile.
    let (database, _lock) = match mode {
        Mode::Embedded { data_dir } => {
            let lock = lock(data_dir)?;
            (Database::sqlite(&data_dir.join("tracker.db"), 1).await?, Some(lock))
        }
        Mode::Node { database_url, .. } => (Database::postgres(database_url, 2)?, None),
    };
    migrations::run(&database, patience).await?;
    database.close().await;
    Ok(())
}
