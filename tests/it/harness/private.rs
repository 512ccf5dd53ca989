//! Servers of a test's own, which keep what they are told: a Redis and a Postgres that can be killed and started again, and
//! a Redis that can be stopped in its tracks.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::eventually;
use crate::contract::broker::{self, connect};

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
            let address = free_address();
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
        signal(&self.process, name);
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
    broker::program()
        .current_dir(folder.path())
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        // With `everysec` it may put off what it has acknowledged while the disk is busy, and die with it.
        .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
        .stdout(Stdio::null())
        .spawn()
        .expect("a Redis")
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

fn free_address() -> SocketAddr {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    port.local_addr().expect("an address")
}

/// A private Postgres.
#[derive(Debug)]
pub struct PrivatePostgres {
    folder: TempDir,
    address: SocketAddr,
    process: Child,
}

impl PrivatePostgres {
    /// Makes one, empty, and waits until it answers.
    pub async fn start() -> Self {
        let (folder, address) = (tempfile::tempdir().expect("a temporary folder"), free_address());
        if is_root() {
            let owned = Command::new("chown").arg("nobody").arg(folder.path()).status();
            assert!(owned.expect("chown").success());
        }
        let mut initdb = postgres("initdb", &folder);
        initdb.args(["--pgdata=pg", "--username=postgres", "--auth=trust", "--no-sync"]);
        let made = initdb.args(["--encoding=UTF8", "--locale=C"]).output().expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let process = served(&folder, address);
        let postgres = Self { folder, address, process };
        postgres.answers().await;
        postgres
    }

    /// Has it end at once, without a word to anybody: it recovers when it is started again.
    pub fn stop(&mut self) {
        signal(&self.process, "QUIT");
        self.process.wait().expect("its end");
    }

    /// Starts it after [`PrivatePostgres::stop`].
    pub async fn start_again(&mut self) {
        self.process = served(&self.folder, self.address);
        self.answers().await;
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    async fn answers(&self) {
        let url = self.url();
        eventually(|| async { PgConnection::connect(&url).await.ok()?.ping().await.ok() }).await;
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

fn served(folder: &TempDir, address: SocketAddr) -> Child {
    let mut server = postgres("postgres", folder);
    server.args([
        "-D",
        "pg",
        "-p",
        &address.port().to_string(),
        "-c",
        "listen_addresses=127.0.0.1",
    ]);
    server.args(["-c", "unix_socket_directories=", "-c", "shared_buffers=16MB"]);
    // What is written outlives the process without it, and a machine that loses power is not tested.
    server.args(["-c", "fsync=off"]).stderr(Stdio::null()).spawn().expect("a Postgres")
}

/// A program of Postgres, which refuses to run as root.
fn postgres(program: &str, folder: &TempDir) -> Command {
    let program = postgres_folder().join(program);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder.path()).env("HOME", folder.path()).env("LC_ALL", "C");
    command.stdout(Stdio::null());
    command
}

/// Where the programs of Postgres are: on PATH, or where Debian keeps them.
fn postgres_folder() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let mut folders = std::env::split_paths(&path).chain(debian);
    let found =
        folders.find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    found.expect("initdb and postgres on PATH or below /usr/lib/postgresql")
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.trim_ascii() == b"0"
}
