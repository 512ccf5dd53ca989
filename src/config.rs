//! What the service needs to know before it starts, checked as a whole.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;

use crate::http::{Front, Limits};
pub use crate::live::redis::target::{CLUSTER_SCHEMES, SERVER_SCHEMES, Tls as RedisTls};

/// Where truth and the live log are.
#[derive(Debug, Clone)]
pub enum Mode {
    /// In files of this process.
    Embedded {
        /// The folder of the files.
        data_dir: PathBuf,
    },
    /// On servers that several nodes share.
    Node {
        /// Postgres.
        database_url: String,
        /// Redis or Valkey, one server or a cluster.
        redis_url: String,
        /// Connections to Postgres at most.
        database_connections: u32,
    },
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub host: IpAddr,
    /// On which port; 0 chooses a free one.
    pub port: u16,
    /// Where truth and the live log are.
    pub mode: Mode,
    /// Whom to trust behind a Redis URL that speaks TLS.
    pub redis_tls: RedisTls,
    /// What every Redis key begins with.
    pub namespace: String,
    /// What a client may send.
    pub limits: Limits,
    /// What a client may cost.
    pub front: Front,
    /// The largest number an entry of a task may get.
    pub task_entries: u64,
    /// Bytes of all entries of a task at most.
    pub task_bytes: u64,
    /// How often overdue tasks are looked for.
    pub sweep_every: Duration,
    /// How long after a round the next one looks for entries of running tasks that are to be sealed.
    pub seal_every: Duration,
    /// How long requests in flight have when the node closes.
    pub shutdown_grace: Duration,
    /// How long a start waits for the database.
    pub patience: Duration,
    /// Origins whose pages may read and write; none: every page may read.
    pub cors_origins: Vec<HeaderValue>,
}

/// Bytes of a body unless said otherwise.
pub const BODY_BYTES: usize = 1 << 20;
/// Bytes of a progress entry unless said otherwise.
pub const ENTRY_BYTES: usize = 256 << 10;
/// Entries of a task unless said otherwise.
pub const TASK_ENTRIES: u64 = 1_000_000;
/// Bytes of all entries of a task unless said otherwise.
pub const TASK_BYTES: u64 = 256 << 20;

impl Config {
    /// Defaults around a mode, on a free port of the loopback.
    pub fn local(mode: Mode) -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            mode,
            redis_tls: RedisTls::default(),
            namespace: "tracker".to_owned(),
            limits: Limits { body_bytes: BODY_BYTES, entry_bytes: ENTRY_BYTES },
            front: Front::default(),
            task_entries: TASK_ENTRIES,
            task_bytes: TASK_BYTES,
            sweep_every: Duration::from_secs(2),
            seal_every: Duration::from_millis(250),
            shutdown_grace: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            cors_origins: Vec::new(),
        }
    }
}
