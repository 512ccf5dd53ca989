//! A Redis cluster of a test's own: its masters may die and its slots may move, and no other test sees it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex as StdMutex;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, cmd};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::broker::{self, Keeps};
use crate::harness::eventually;

/// Slots of a cluster.
const SLOTS: u32 = 16384;

/// Its servers end with the test.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    masters: usize,
    _folder: TempDir,
}

#[derive(Debug)]
struct Server {
    process: Child,
    port: u16,
    bus: u16,
    folder: PathBuf,
    keeps: Keeps,
}

impl Cluster {
    /// Masters that share the slots evenly, and a replica of the first.
    pub async fn with_replica(masters: usize) -> Self {
        let mut cluster = Self::start(masters, masters + 1, Keeps::Nothing).await;
        let (first, replica) = (cluster.id(0).await, cluster.servers.len() - 1);
        cluster.ask(replica, &["CLUSTER", "REPLICATE", &first]).await;
        cluster.masters = masters;
        eventually(async || {
            let link = cluster.text(replica, &["INFO", "replication"]).await;
            link.contains("master_link_status:up").then_some(())
        })
        .await;
        // The others know of it, or it would not be elected.
        for server in 0..masters {
            eventually(async || {
                let nodes = cluster.text(server, &["CLUSTER", "NODES"]).await;
                nodes.contains(&format!("slave {first}")).then_some(())
            })
            .await;
        }
        cluster
    }

    /// Masters that share the slots evenly.
    pub async fn of(masters: usize) -> Self {
        Self::that(Keeps::Nothing, masters).await
    }

    /// The same, of masters that keep something when they are killed.
    pub async fn that(keeps: Keeps, masters: usize) -> Self {
        Self::start(masters, masters, keeps).await
    }

    async fn start(masters: usize, count: usize, keeps: Keeps) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Server::start(&folder, keeps).await);
        }
        let cluster = Self { servers, masters, _folder: folder };
        let (each, mut first) = (SLOTS / u32::try_from(masters).unwrap(), 0);
        for server in 0..count {
            if server < masters {
                let last = if server + 1 == masters { SLOTS - 1 } else { first + each - 1 };
                let range = [first.to_string(), last.to_string()];
                cluster.ask(server, &["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await;
                first = last + 1;
            }
            let epoch = (server + 1).to_string();
            cluster.ask(server, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            for other in &cluster.servers[..server] {
                let (port, bus) = (other.port.to_string(), other.bus.to_string());
                cluster.ask(server, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
            }
        }
        cluster.is_whole().await;
        cluster
    }

    /// Waits until every server says that everybody is there and serves.
    async fn is_whole(&self) {
        for server in 0..self.servers.len() {
            eventually(async || {
                let mut connection = self.connection(server).await.ok()?;
                let asked = command(&["CLUSTER", "INFO"]).query_async(&mut connection).await;
                let said: String = asked.ok()?;
                let facts = [
                    "cluster_state:ok".to_owned(),
                    "cluster_slots_ok:16384".to_owned(),
                    format!("cluster_known_nodes:{}\r", self.servers.len()),
                ];
                facts.iter().all(|fact| said.contains(fact)).then_some(())
            })
            .await;
        }
    }

    /// Its URL, with one server only: the others are found through it. It is the last master, which no test kills.
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.servers[self.masters - 1].port)
    }

    /// The server whose slot a key is in; it answers for it now.
    pub async fn owner(&self, key: &str) -> usize {
        for server in 0..self.servers.len() {
            let exists = cmd("EXISTS").arg(key).take();
            if let Ok(mut connection) = self.connection(server).await
                && exists.exec_async(&mut connection).await.is_ok()
            {
                return server;
            }
        }
        panic!("nobody has the slot of {key}")
    }

    /// `kill -9` of a server.
    pub fn kill(&mut self, server: usize) {
        let process = &mut self.servers[server].process;
        process.kill().expect("a signal");
        process.wait().expect("its end");
    }

    /// Starts servers again after [`Cluster::kill`], with what they kept, and waits until all serve.
    pub async fn start_again(&mut self, servers: std::ops::Range<usize>) {
        for server in &mut self.servers[servers] {
            server.process = server.spawn();
        }
        self.is_whole().await;
    }

    /// Has a server stand still, or go on as if no time had passed.
    pub fn stands_still(&self, server: usize, still: bool) {
        let signal = if still { "STOP" } else { "CONT" };
        let process = self.servers[server].process.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &process]).status();
        assert!(sent.expect("a signal").success());
    }

    /// The name of a server within the cluster.
    pub async fn id(&self, server: usize) -> String {
        self.text(server, &["CLUSTER", "MYID"]).await
    }

    /// The address of a server's port.
    pub fn port(&self, server: usize) -> u16 {
        self.servers[server].port
    }

    /// Says a command to a server, which does it.
    pub async fn ask(&self, server: usize, words: &[&str]) -> redis::Value {
        let mut connection = self.connection(server).await.expect("a connection");
        command(words).query_async(&mut connection).await.expect("an answer")
    }

    /// Waits until a replica has all that a server acknowledged: behind a write of this connection, which `WAIT` is about.
    /// `key` is one of the server's slots.
    pub async fn replicated(&self, server: usize, key: &str) {
        let mut connection = self.connection(server).await.expect("a connection");
        let mut both = redis::pipe();
        both.cmd("SET").arg(key).arg("written").ignore().cmd("DEL").arg(key).ignore();
        both.cmd("WAIT").arg(1).arg(10_000);
        let (replicas,): (u64,) = both.query_async(&mut connection).await.expect("an answer");
        assert_eq!(replicas, 1);
    }

    /// Says a command to a server, which answers with a text.
    pub async fn text(&self, server: usize, words: &[&str]) -> String {
        redis::from_redis_value(self.ask(server, words).await).expect("a text")
    }

    async fn connection(&self, server: usize) -> redis::RedisResult<MultiplexedConnection> {
        broker::connect(&format!("redis://127.0.0.1:{}", self.servers[server].port)).await
    }
}

/// A slot that moves from one master to the next, step by step, as `redis-cli` moves it.
pub struct Move<'a> {
    cluster: &'a Cluster,
    slot: String,
    from: usize,
    pub to: usize,
}

impl<'a> Move<'a> {
    /// Of the slot that a hash tag is in.
    pub async fn of(cluster: &'a Cluster, tag: &str) -> Self {
        let slot: i64 = {
            let value = cluster.ask(0, &["CLUSTER", "KEYSLOT", tag]).await;
            redis::from_redis_value(value).expect("a slot")
        };
        Self::of_slot(cluster, slot, cluster.owner(&format!("{{{tag}}}")).await)
    }

    /// Of a slot that a master owns.
    pub fn of_slot(cluster: &'a Cluster, slot: i64, from: usize) -> Self {
        Self { cluster, slot: slot.to_string(), from, to: (from + 1) % cluster.masters }
    }

    pub async fn begin(&self) {
        let (from, to) = (self.cluster.id(self.from).await, self.cluster.id(self.to).await);
        self.cluster.ask(self.to, &["CLUSTER", "SETSLOT", &self.slot, "IMPORTING", &from]).await;
        self.cluster.ask(self.from, &["CLUSTER", "SETSLOT", &self.slot, "MIGRATING", &to]).await;
    }

    pub async fn key(&self, key: &str) {
        let port = self.cluster.port(self.to).to_string();
        self.cluster.ask(self.from, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
    }

    pub async fn end(&self) {
        let to = self.cluster.id(self.to).await;
        for server in [self.to, self.from] {
            self.cluster.ask(server, &["CLUSTER", "SETSLOT", &self.slot, "NODE", &to]).await;
        }
    }

    /// All of it.
    pub async fn whole(self) -> usize {
        self.begin().await;
        let words = ["CLUSTER", "GETKEYSINSLOT", &self.slot, "1000"];
        let asked = self.cluster.ask(self.from, &words).await;
        let keys: Vec<String> = redis::from_redis_value(asked).expect("keys");
        for key in keys {
            self.key(&key).await;
        }
        self.end().await;
        self.to
    }
}

impl Server {
    /// Starts one, on other ports where somebody took them in between, and waits until it listens.
    async fn start(folder: &TempDir, keeps: Keeps) -> Self {
        let server = StdMutex::new(Self::spawned(folder, keeps));
        eventually(async || {
            let port = server.lock().unwrap().port;
            let answers = TcpStream::connect(("127.0.0.1", port)).await.is_ok();
            let mut server = server.lock().unwrap();
            if server.process.try_wait().expect("a child").is_some() {
                *server = Self::spawned(folder, keeps);
                return None;
            }
            answers.then_some(())
        })
        .await;
        server.into_inner().unwrap()
    }

    fn spawned(folder: &TempDir, keeps: Keeps) -> Self {
        let (port, bus, folder) = (free_port(), free_port(), folder.path().to_owned());
        Self { process: spawn(port, bus, &folder, keeps), port, bus, folder, keeps }
    }

    fn spawn(&self) -> Child {
        spawn(self.port, self.bus, &self.folder, self.keeps)
    }
}

fn spawn(port: u16, bus: u16, folder: &Path, keeps: Keeps) -> Child {
    let (port, bus) = (port.to_string(), bus.to_string());
    let appendonly = if keeps == Keeps::Everything { "yes" } else { "no" };
    let mut command = broker::program();
    command.current_dir(folder).stdout(Stdio::null());
    command.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]);
    command.args(["--appendonly", appendonly, "--appendfsync", "always"]);
    command.args(["--appenddirname", &format!("{port}.aof")]);
    command.args(["--dbfilename", &format!("{port}.rdb")]);
    command.args(["--cluster-enabled", "yes", "--cluster-port", &bus]);
    command.args(["--cluster-config-file", &format!("{port}.conf")]);
    // Silent so long, a master is dead: long enough for a busy machine, short enough to wait for.
    command.args(["--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"]);
    command.args(["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"]);
    command.spawn().expect("a server")
}

/// A port nobody listens on now, below those that outgoing connections are given: it is to be free again when its server
/// comes back.
fn free_port() -> u16 {
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only where the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(words: &[&str]) -> Cmd {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    command
}
