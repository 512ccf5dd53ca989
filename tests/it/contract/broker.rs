//! A Redis (or Valkey) server of a test's own: what happens to it happens to no other test.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use redis::aio::MultiplexedConnection;
use redis::{Client, IntoConnectionInfo};
use tempfile::TempDir;

use crate::harness::eventually;

/// A private server on a socket in a folder of its own; it ends with the test.
#[derive(Debug)]
pub struct Broker {
    folder: TempDir,
    process: Option<Child>,
    options: Vec<OsString>,
    tls_port: u16,
    keeps: Keeps,
}

/// What a server keeps when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// It comes back empty.
    Nothing,
    /// What was there at the last [`Broker::save`].
    Snapshots,
    /// An append-only file.
    Everything,
}

impl Broker {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        Self::start_that(Keeps::Nothing).await
    }

    /// The same, of one that keeps something.
    pub async fn start_that(keeps: Keeps) -> Self {
        Self::start_with(0, Vec::new(), keeps).await
    }

    /// Starts one that also speaks TLS, with whoever shows a certificate of `ca`.
    pub async fn start_with_tls(ca: &Path, certificate: &Path, key: &Path) -> Self {
        let port = free_port();
        let mut options: Vec<OsString> = vec!["--tls-port".into(), port.to_string().into()];
        let files = [("ca-cert", ca), ("cert", certificate), ("key", key)];
        for (what, file) in files {
            options.extend([format!("--tls-{what}-file").into(), file.into()]);
        }
        Self::start_with(port, options, Keeps::Nothing).await
    }

    async fn start_with(tls_port: u16, options: Vec<OsString>, keeps: Keeps) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut broker = Self { folder, process: None, options, tls_port, keeps };
        broker.start_again().await;
        broker
    }

    /// Starts it after [`Broker::stop`]: at the same address, with what it kept.
    pub async fn start_again(&mut self) {
        let mut command = program();
        let appendonly = if self.keeps == Keeps::Everything { "yes" } else { "no" };
        command
            .current_dir(self.folder.path())
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", ""])
            .args(["--appendonly", appendonly, "--appendfsync", "always"])
            .args(&self.options)
            .stdout(Stdio::null());
        self.process = Some(command.spawn().expect("a broker"));
        eventually(|| async {
            let mut connection = connect(&self.url()).await.ok()?;
            redis::cmd("PING").query_async::<()>(&mut connection).await.ok()
        })
        .await;
    }

    /// Forgets everything, as by an operator's mistake.
    pub async fn flush(&self) {
        let mut connection = connect(&self.url()).await.expect("the broker");
        redis::cmd("FLUSHALL").exec_async(&mut connection).await.expect("an empty broker");
    }

    /// Writes a snapshot of what is there now.
    pub async fn save(&self) {
        let mut connection = connect(&self.url()).await.expect("the broker");
        redis::cmd("SAVE").exec_async(&mut connection).await.expect("a snapshot");
    }

    /// Kills it: what it does not keep is lost.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a signal");
            process.wait().expect("its end");
        }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("redis.sock").display())
    }
}

impl Broker {
    /// Where it listens with TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls_port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// A connection for what no log does: looking at keys, and breaking things.
pub async fn connect(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    Client::open(url.into_connection_info()?)?.get_multiplexed_async_connection().await
}

/// The program of a server: the one that `scripts/test` chose, else any.
pub fn program() -> Command {
    if let Ok(chosen) = std::env::var("TEST_REDIS_SERVER") {
        return Command::new(chosen);
    }
    let program = ["redis-server", "valkey-server"].into_iter().find(|program| {
        let mut asked = Command::new(program);
        asked.arg("--version").stdout(Stdio::null()).status().is_ok()
    });
    Command::new(program.expect("redis-server or valkey-server on PATH"))
}

/// Connections to every server of a URL: one, or the masters of a cluster.
pub async fn connect_all(url: &str) -> Vec<MultiplexedConnection> {
    let servers = match url.split_once("://") {
        Some(("redis-cluster", servers)) => {
            servers.split(',').map(|server| format!("redis://{server}")).collect()
        }
        _ => vec![url.to_owned()],
    };
    let mut connections = Vec::new();
    for server in servers {
        connections.push(connect(&server).await.expect("the Redis of the tests"));
    }
    connections
}

/// A connection to the server that has a key.
pub async fn connect_for(url: &str, key: &str) -> MultiplexedConnection {
    for mut connection in connect_all(url).await {
        // Any other refuses with MOVED.
        if redis::cmd("EXISTS").arg(key).exec_async(&mut connection).await.is_ok() {
            return connection;
        }
    }
    panic!("nobody has the slot of {key}")
}

/// Every key that begins like this, on all servers of a URL.
pub async fn keys(url: &str, begin: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for mut connection in connect_all(url).await {
        let asked = redis::cmd("KEYS").arg(format!("{begin}*")).query_async(&mut connection).await;
        keys.append(&mut asked.expect("keys"));
    }
    keys
}
