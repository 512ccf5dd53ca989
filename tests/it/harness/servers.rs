//! A Redis of a test's own, which keeps what it is told and can be killed, stopped in its tracks and started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;
use crate::contract::broker::connect;

/// A private Redis with an append-only file: what it has acknowledged outlives its process.
#[derive(Debug)]
pub struct DurableRedis {
    folder: TempDir,
    address: SocketAddr,
    process: Child,
}

impl DurableRedis {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        // Another process may take the port before Redis does: then another is tried.
        for _ in 0..10 {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let address = port.local_addr().expect("an address");
            drop(port);
            let process = spawn(&folder, address);
            let mut redis = Self { folder, address, process };
            if redis.answers().await {
                return redis;
            }
        }
        panic!("no port is free");
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill().expect("a signal");
        self.process.wait().expect("its end");
    }

    /// Starts it after [`DurableRedis::kill`]: at the same address, with all that it had acknowledged.
    pub async fn start_again(&mut self) {
        self.process = spawn(&self.folder, self.address);
        assert!(self.answers().await, "the port was taken meanwhile");
    }

    /// Stops it in its tracks: the kernel accepts connections and what is said on them, and nothing answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`DurableRedis::freeze`].
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(sent.success());
    }

    /// Waits until it answers; `false` where it has ended.
    async fn answers(&mut self) -> bool {
        let (url, process) = (self.url(), std::sync::Mutex::new(&mut self.process));
        eventually(|| async {
            if process.lock().expect("a process").try_wait().expect("a child").is_some() {
                return Some(false);
            }
            let mut connection = connect(&url).await.ok()?;
            redis::cmd("PING").query_async::<()>(&mut connection).await.ok().map(|()| true)
        })
        .await
    }
}

impl Drop for DurableRedis {
    fn drop(&mut self) {
        // It fails only where the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &TempDir, address: SocketAddr) -> Child {
    let program = ["redis-server", "valkey-server"].into_iter().find(|program| {
        Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
    });
    Command::new(program.expect("redis-server or valkey-server on PATH"))
        .current_dir(folder.path())
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"])
        .stdout(Stdio::null())
        .spawn()
        .expect("a Redis")
}
