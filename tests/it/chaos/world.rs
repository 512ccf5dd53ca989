//! What is killed: two nodes with a Postgres and a Redis of their own, or a cluster, or one embedded server.
//!
//! Postgres and Redis are private and on disk as in production: what they acknowledged outlives a `kill -9`. Postgres runs
//! without fsync, for it is processes that die here and not the machine. Redis has its append-only file on and writes
//! it in memory where there is a `/dev/shm`: `everysec` may put a write off for as long as the disk is busy, and what
//! it put off dies with it.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use task_tracker::database::Database;
use tempfile::TempDir;

use super::Settings;
use super::cluster;
use super::program::{Program, Recipe, User};
use crate::contract::broker;
use crate::harness::eventually;

/// What every Redis key begins with.
const NAMESPACE: &str = "chaos";
/// How often nodes look for what has passed.
const SWEEP_SECONDS: &str = "0.3";

/// How long Redis puts off a write with `everysec` while the disk is busy.
const PUT_OFF: Duration = Duration::from_secs(2);
/// How long everything may take to be ready again once it runs again.
pub const RECOVERY: Duration = Duration::from_secs(40);

/// What the live log is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    /// One Redis that keeps what it acknowledged.
    Keeps,
    /// One that comes back empty.
    Forgets,
    /// Three masters, each with a replica, which all come back empty.
    Cluster,
}

/// Something that can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// This node.
    Node(usize),
    /// The broker, or one server of its cluster.
    Redis(usize),
    /// The database.
    Postgres,
}

impl Part {
    /// What it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Redis(_) => "redis",
            Self::Postgres => "postgres",
        }
    }
}

/// Everything that runs.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: who talks to a server ends before it.
    nodes: Vec<Program>,
    stores: Option<Stores>,
    /// Where each node listens, whether it runs or not.
    pub urls: Vec<String>,
    folder: TempDir,
}

#[derive(Debug)]
struct Stores {
    redis: Vec<Program>,
    postgres: Program,
    /// Where each of its servers listens.
    redis_ports: Vec<u16>,
    broker: Broker,
    database_url: String,
    may_forget: Duration,
    _redis_folder: TempDir,
}

impl World {
    /// Two nodes and what they stand on, running and ready.
    pub async fn of_two_nodes(settings: &Settings, broker: Broker) -> Self {
        let folder = folder_in(&std::env::temp_dir());
        let stores = Stores::start(folder.path(), &settings.fsync, broker).await;
        let servers = stores.redis_ports.iter().map(|port| format!("127.0.0.1:{port}"));
        let servers = servers.collect::<Vec<_>>().join(",");
        let scheme = if broker == Broker::Cluster { "redis-cluster" } else { "redis" };
        let environment = [
            ("DATABASE_URL", stores.database_url.clone()),
            ("REDIS_URL", format!("{scheme}://{servers}")),
            ("TASK_TRACKER_NAMESPACE", NAMESPACE.to_owned()),
            ("TASK_TRACKER_DATABASE_CONNECTIONS", "8".to_owned()),
        ];
        Self::with(folder, Some(stores), 2, &environment).await
    }

    /// One embedded server, running and ready.
    pub async fn embedded() -> Self {
        let folder = folder_in(&std::env::temp_dir());
        let data = folder.path().join("data").display().to_string();
        Self::with(folder, None, 1, &[("TASK_TRACKER_DATA_DIR", data)]).await
    }

    async fn with(
        folder: TempDir,
        stores: Option<Stores>,
        count: usize,
        environment: &[(&str, String)],
    ) -> Self {
        let (mut nodes, mut urls) = (Vec::new(), Vec::new());
        for node in 0..count {
            let port = free_port();
            let mut environment = environment.to_vec();
            environment.extend([
                ("TASK_TRACKER_PORT", port.to_string()),
                ("TASK_TRACKER_THREADS", "2".to_owned()),
                ("TASK_TRACKER_SWEEP_SECONDS", SWEEP_SECONDS.to_owned()),
            ]);
            let owned = |(name, value): (&str, String)| (name.to_owned(), value);
            let recipe = Recipe {
                program: PathBuf::from(env!("CARGO_BIN_EXE_task-tracker")),
                arguments: vec!["serve".to_owned()],
                environment: environment.into_iter().map(owned).collect(),
                folder: folder.path().to_owned(),
                user: None,
            };
            nodes.push(Program::new(recipe, folder.path().join(format!("node-{node}.log"))));
            urls.push(format!("http://127.0.0.1:{port}"));
        }
        let mut world = Self { nodes, stores, urls, folder };
        for node in 0..count {
            world.program(Part::Node(node)).start();
            let ready = format!("{}/readyz", world.urls[node]);
            let is_ready = || async {
                reqwest::get(&ready).await.ok().filter(|reply| reply.status().is_success())
            };
            eventually(is_ready).await;
        }
        world
    }

    /// Everything that can be killed.
    pub fn parts(&self) -> Vec<Part> {
        let nodes = (0..self.nodes.len()).map(Part::Node);
        let stores = self
            .stores
            .iter()
            .flat_map(|stores| (0..stores.redis.len()).map(Part::Redis).chain([Part::Postgres]));
        nodes.chain(stores).collect()
    }

    /// Whether the broker may forget anything, which then must be told.
    pub fn forgets(&self) -> bool {
        self.stores.as_ref().is_some_and(|stores| stores.broker != Broker::Keeps)
    }

    /// The program of a part.
    pub fn program(&mut self, part: Part) -> &mut Program {
        match (part, &mut self.stores) {
            (Part::Node(node), _) => &mut self.nodes[node],
            (Part::Redis(server), Some(stores)) => &mut stores.redis[server],
            (Part::Postgres, Some(stores)) => &mut stores.postgres,
            (_, None) => panic!("an embedded server has no {}", part.name()),
        }
    }

    /// Starts again what ended by itself. Only Postgres may: what is left of the one before can keep it from
    /// starting for a moment. Whatever else did is told.
    pub fn revive(&mut self) -> Vec<String> {
        let mut died = Vec::new();
        for part in self.parts() {
            let program = self.program(part);
            if let Some(status) = program.has_ended() {
                if part != Part::Postgres {
                    let words = program.last_words(5);
                    died.push(format!("{part:?} ended by itself ({status}):\n{words}"));
                }
                program.start();
            }
        }
        died
    }

    /// What nodes logged as an error: somebody being away is none.
    pub fn errors(&self) -> Vec<String> {
        let is_error =
            |line: &&str| line.contains(r#""level":"ERROR""#) || line.contains("panicked at");
        let said = self.nodes.iter().map(Program::said);
        said.flat_map(|said| said.lines().filter(is_error).map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    /// The durable truth.
    pub async fn truth(&self) -> Database {
        let database = match &self.stores {
            Some(stores) => Database::postgres(&stores.database_url, 1),
            None => Database::sqlite(&self.folder.path().join("data/tracker.db"), 1).await,
        };
        database.expect("a database")
    }

    /// What is left of live logs: keys, or rows.
    pub async fn live_traces(&self) -> Vec<String> {
        if let Some(stores) = &self.stores {
            let mut traces = Vec::new();
            for port in &stores.redis_ports {
                traces.extend(stores.traces(*port).await);
            }
            return traces;
        }
        let file = self.folder.path().join("data/live.db");
        let live = Database::sqlite(&file, 1).await.expect("a database");
        let sql = "SELECT DISTINCT task_id FROM live_journal";
        super::verdict::column(&live, sql).await
    }

    /// How much the broker may forget when it is killed.
    pub fn may_forget(&self) -> Duration {
        self.stores.as_ref().map_or(Duration::ZERO, |stores| stores.may_forget)
    }

    /// Keeps the folder with everything that was logged, and says where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

impl Stores {
    async fn start(folder: &Path, fsync: &str, broker: Broker) -> Self {
        let user = User::for_servers();
        let shared_memory = Path::new("/dev/shm");
        let place = std::env::temp_dir();
        let in_memory = shared_memory.is_dir();
        let redis_folder = folder_in(if in_memory { shared_memory } else { &place });
        let postgres_folder = folder.join("postgres");
        std::fs::create_dir(&postgres_folder).expect("a folder");
        if let Some(User { id, group }) = user {
            for theirs in [folder, &postgres_folder, redis_folder.path()] {
                chown(theirs, Some(id), Some(group)).expect("root");
            }
        }

        let bin = postgres_bin();
        let environment = vec![("LC_ALL".to_owned(), "C".to_owned())];
        let of = |program: PathBuf, arguments: &[&str], folder: &Path| Recipe {
            program,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: environment.clone(),
            folder: folder.to_owned(),
            user,
        };
        let initdb = ["--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8"];
        let initdb = [&initdb[..], &["--locale=C", "--no-sync"]].concat();
        of(bin.join("initdb"), &initdb, &postgres_folder).run();

        let port = free_port().to_string();
        let sockets = format!("unix_socket_directories={}", postgres_folder.display());
        let postgres = [
            &["-D", "data", "-p", &port][..],
            &["-c", "listen_addresses=127.0.0.1", "-c", &sockets, "-c", "fsync=off"],
            &["-c", "log_min_messages=warning", "-c", "shared_buffers=32MB"],
            // In its folder, which goes with it however it ends.
            &["-c", "dynamic_shared_memory_type=mmap"],
        ];
        let postgres = of(bin.join("postgres"), &postgres.concat(), &postgres_folder);
        let count = if broker == Broker::Cluster { 2 * cluster::MASTERS } else { 1 };
        let ports = std::iter::repeat_with(free_port);
        let ports: std::collections::BTreeSet<u16> = ports.take(4 * count).collect();
        let mut ports = ports.into_iter();
        let redis_ports: Vec<u16> = ports.by_ref().take(count).collect();
        let buses: Vec<u16> = ports.take(count).collect();
        let keeps = if broker == Broker::Keeps { "yes" } else { "no" };
        let redis = redis_ports.iter().zip(&buses).enumerate().map(|(server, (port, bus))| {
            let (port, bus) = (port.to_string(), bus.to_string());
            let mut words = vec!["--bind", "127.0.0.1", "--port", &port, "--save", ""];
            words.extend(["--appendonly", keeps, "--appendfsync", fsync]);
            let (config, snapshot) = (format!("{port}.conf"), format!("{port}.rdb"));
            if broker == Broker::Cluster {
                words.extend(["--cluster-port", &bus, "--cluster-config-file", &config]);
                words.extend(["--dbfilename", &snapshot]);
                words.extend(cluster::OPTIONS);
            }
            let redis = of(broker::program().get_program().into(), &words, redis_folder.path());
            Program::new(redis, folder.join(format!("redis-{server}.log")))
        });
        let redis = redis.collect();

        let mut stores = Self {
            postgres: Program::new(postgres, folder.join("postgres.log")),
            redis,
            redis_ports,
            broker,
            database_url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            may_forget: if fsync == "everysec" && !in_memory { PUT_OFF } else { Duration::ZERO },
            _redis_folder: redis_folder,
        };
        stores.postgres.start();
        stores.redis.iter_mut().for_each(Program::start);
        let database = Database::postgres(&stores.database_url, 1).expect("a URL");
        eventually(|| async { database.ping().await.ok() }).await;
        for port in &stores.redis_ports {
            eventually(|| async { cluster::connect(*port).await.ok() }).await;
        }
        if broker == Broker::Cluster {
            cluster::form(&stores.redis_ports, &buses).await;
        }
        stores
    }

    /// Keys of tasks at one server, if it is a master.
    async fn traces(&self, port: u16) -> Vec<String> {
        let Ok(mut redis) = cluster::connect(port).await else { return Vec::new() };
        let role: redis::Value = redis::cmd("ROLE").query_async(&mut redis).await.expect("a role");
        let is_master = matches!(&role, redis::Value::Array(words)
            if words.first() == Some(&redis::Value::BulkString(b"master".to_vec())));
        if !is_master {
            return Vec::new();
        }
        let pattern = format!("{NAMESPACE}:*:{{*");
        let keys = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await;
        let mut keys: Vec<String> = keys.expect("keys");
        keys.retain(|key| !key.contains(":generation:"));
        if self.broker == Broker::Cluster {
            // A replica that was promoted may have keys whose deletion it did not hear of. They expire.
            let mut left = Vec::new();
            for key in keys {
                let expires = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await;
                let millis: i64 = expires.expect("an answer");
                if millis == -1 {
                    left.push(key);
                }
            }
            keys = left;
        }
        keys
    }
}

fn folder_in(place: &Path) -> TempDir {
    tempfile::Builder::new().prefix("task-tracker.").tempdir_in(place).expect("a folder")
}

/// A port nobody listens on now, below those that outgoing connections are given: it must be free again whenever
/// its owner comes back.
fn free_port() -> u16 {
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// The folder of the newest Postgres; Debian keeps it off the path.
fn postgres_bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    debian.sort_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        std::cmp::Reverse(version.and_then(|version| version.parse::<u32>().ok()))
    });
    // What is on the path may be a link to where the others are, too.
    let on_path = on_path("postgres").and_then(|program| program.canonicalize().ok());
    let on_path = on_path.and_then(|program| Some(program.parent()?.to_owned()));
    let all_there =
        |bin: &PathBuf| ["postgres", "initdb"].iter().all(|name| bin.join(name).exists());
    let found = on_path.into_iter().chain(debian).find(all_there);
    found.expect("Postgres is not installed: run scripts/test, which installs what the tests need")
}

fn on_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|file| file.is_file())
}
