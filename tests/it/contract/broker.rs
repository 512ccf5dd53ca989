//! A Redis (or Valkey) server of a test's own: what happens to it happens to no other test.

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
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut broker = Self { folder, process: None, keeps };
        broker.start_again().await;
        broker
    }

    /// Starts it after [`Broker::stop`]: at the same address, with what it kept.
    pub async fn start_again(&mut self) {
        let program = ["redis-server", "valkey-server"].into_iter().find(|program| {
            let mut asked = Command::new(program);
            asked.arg("--version").stdout(Stdio::null()).status().is_ok()
        });
        let mut command = Command::new(program.expect("redis-server or valkey-server on PATH"));
        let appendonly = if self.keeps == Keeps::Everything { "yes" } else { "no" };
        command
            .current_dir(self.folder.path())
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", ""])
            .args(["--appendonly", appendonly, "--appendfsync", "always"])
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

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection for what no log does: looking at keys, and breaking things.
pub async fn connect(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    Client::open(url.into_connection_info()?)?.get_multiplexed_async_connection().await
}
