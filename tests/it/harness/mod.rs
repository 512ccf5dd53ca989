//! How a test starts a server, calls it and watches a stream.
//!
//! Each test has a server of its own on a free port, in a folder, a Postgres schema and a Redis namespace of its
//! own, with a clock it can move. A test waits on facts: [`eventually`], never a sleep. What goes wrong between a node and
//! its servers, a [`Proxy`] has go wrong; servers that are stopped are a test's own ([`servers`]).

mod events;
pub mod private;
mod proxy;
pub mod raw;
mod sealed;
mod servers;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use task_tracker::app::App;
use task_tracker::clock::Clock;
use task_tracker::config::{Config, Mode as ConfigMode, RedisTls};
use task_tracker::domain::TaskId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use events::{Event, Events, Frames};
pub use proxy::{Fault, Lost, Proxies, Proxy};
pub use sealed::{Row, rows_in};
pub use servers::{certificate, cluster_url, redis_url};

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the server under test stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One process with its files.
    Embedded,
    /// One node on Postgres and Redis.
    Node,
    /// Two nodes on the same Postgres and Redis; requests go to them in turn.
    TwoNodes,
    /// Two nodes on the same Postgres and a Redis cluster of three masters.
    Cluster,
    /// One node on a Postgres and a Redis that speak TLS only.
    Tls,
}

/// A Postgres schema and a Redis namespace, or a folder, that outlives a server: for tests that
/// start another one on what the first left.
#[derive(Debug)]
pub struct Ground {
    mode: Mode,
    config: ConfigMode,
    redis_tls: RedisTls,
    namespace: String,
    _folder: tempfile::TempDir,
}

impl Ground {
    /// Fresh ground for `mode`.
    pub async fn new(mode: Mode) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let namespace = format!("test-{}", TaskId::new());
        let name = namespace.replace('-', "_");
        let node = async |database_url: String, redis_url: String| ConfigMode::Node {
            database_url: schema(&database_url, &name).await,
            redis_url,
            database_connections: 6,
        };
        let mut redis_tls = RedisTls::default();
        let config = match mode {
            Mode::Embedded => ConfigMode::Embedded { data_dir: folder.path().join("data") },
            Mode::Node | Mode::TwoNodes => node(needed("TEST_DATABASE_URL"), redis_url()).await,
            Mode::Cluster => node(needed("TEST_DATABASE_URL"), cluster_url()).await,
            Mode::Tls => {
                redis_tls.ca = Some(certificate("ca.pem"));
                node(needed("TEST_TLS_DATABASE_URL"), needed("TEST_TLS_REDIS_URL")).await
            }
        };
        Self { mode, config, redis_tls, namespace, _folder: folder }
    }

    /// The configuration of a server on it. Overdue tasks are swept and logs sealed on request only.
    pub fn config(&self) -> Config {
        Config {
            namespace: self.namespace.clone(),
            redis_tls: self.redis_tls.clone(),
            sweep_every: Duration::from_hours(1),
            seal_every: Duration::from_hours(1),
            ..Config::local(self.config.clone())
        }
    }

    /// What every Redis key of it begins with.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Postgres URL, its schema chosen; `None` where it is embedded.
    pub fn database_url(&self) -> Option<&str> {
        match &self.config {
            ConfigMode::Embedded { .. } => None,
            ConfigMode::Node { database_url, .. } => Some(database_url),
        }
    }
}

fn needed(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run scripts/test, which starts the servers the tests need")
    })
}

/// A new schema in a Postgres of the tests, as a URL that chooses it.
async fn schema(url: &str, name: &str) -> String {
    let mut connection = PgConnection::connect(url).await.expect("the Postgres of the tests");
    let create = format!("CREATE SCHEMA {name}");
    sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await.expect("a schema");
    connection.close().await.expect("a closed connection");
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20search_path%3D{name}")
}

/// One server, or two nodes that look like one.
#[derive(Debug)]
pub struct Server {
    /// The nodes.
    pub nodes: Vec<App>,
    /// The clock of all nodes.
    pub clock: Clock,
    /// What they stand on.
    pub ground: Ground,
    client: reqwest::Client,
    turn: AtomicUsize,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: reqwest::header::HeaderMap,
    /// Its body as text.
    pub text: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {:?}", self.text))
    }

    /// The body as JSON, the answer being a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        self.json()
    }

    /// Checks that the answer is a problem as RFC 9457 has it, with this status and code, and gives its body.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        assert!(!self.header("x-correlation-id").is_empty());
        let body = self.json();
        assert_eq!((&body["code"], &body["status"]), (&code.into(), &status.into()), "{body}");
        for member in ["type", "title", "detail"] {
            assert!(body[member].is_string(), "{member} in {body}");
        }
        body
    }

    /// A header as text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("(not text)"))
    }
}

impl Server {
    /// A fresh server.
    pub async fn start(mode: Mode) -> Self {
        Self::start_with(mode, |config| config).await
    }

    /// A fresh server, configured otherwise.
    pub async fn start_with(mode: Mode, configure: impl Fn(Config) -> Config) -> Self {
        Self::start_on(Ground::new(mode).await, configure).await
    }

    /// A server on what another left.
    pub async fn start_on(ground: Ground, configure: impl Fn(Config) -> Config) -> Self {
        let clock = Clock::system();
        let count = if matches!(ground.mode, Mode::TwoNodes | Mode::Cluster) { 2 } else { 1 };
        let mut nodes = Vec::new();
        for _ in 0..count {
            let node = App::start(configure(ground.config()), clock.clone()).await;
            nodes.push(node.expect("a server that starts"));
        }
        let client = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        Self { nodes, clock, ground, client, turn: AtomicUsize::new(0) }
    }

    /// Shuts every node down and gives back the ground.
    pub async fn stop(self) -> Ground {
        for node in self.nodes {
            node.shut_down().await;
        }
        self.ground
    }

    /// The client, for requests the methods below cannot make.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The URL of a path below `/`, at the node whose turn it is.
    pub fn root(&self, path: &str) -> String {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.nodes.len();
        self.root_at(turn, path)
    }

    /// The URL of a path below `/`, at this node.
    pub fn root_at(&self, node: usize, path: &str) -> String {
        format!("http://{}{path}", self.nodes[node].address())
    }

    /// The URL of a path below the API's base, at the node whose turn it is.
    pub fn api(&self, path: &str) -> String {
        self.root(&format!("/api/v1{path}"))
    }

    /// The URL of a path below the API's base, at this node.
    pub fn api_at(&self, node: usize, path: &str) -> String {
        self.root_at(node, &format!("/api/v1{path}"))
    }

    /// The node that is not the first, where there is one.
    pub fn last_node(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Sends a request and reads the answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a whole body");
        Reply { status, headers, text }
    }

    /// GET below the API's base.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.client.get(self.api(path))).await
    }

    /// POST of a JSON body below the API's base.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(self.client.post(self.api(path)).json(&body)).await
    }

    /// GET below the API's base, at this node.
    pub async fn get_at(&self, node: usize, path: &str) -> Reply {
        self.send(self.client.get(self.api_at(node, path))).await
    }

    /// POST of a JSON body below the API's base, at this node.
    pub async fn post_at(&self, node: usize, path: &str, body: Value) -> Reply {
        self.send(self.client.post(self.api_at(node, path)).json(&body)).await
    }

    /// POST without a body and without a content type.
    pub async fn post_nothing(&self, path: &str) -> Reply {
        self.send(self.client.post(self.api(path))).await
    }

    /// POST of any bytes with a content type.
    pub async fn post_raw(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Reply {
        let request =
            self.client.post(self.api(path)).header("content-type", content_type).body(body);
        self.send(request).await
    }

    /// Opens the stream of a task; `query` is empty or begins with `?`.
    pub async fn track(&self, id: &str, query: &str) -> Events {
        let url = self.api(&format!("/tasks/{id}/track{query}"));
        Events::open(reqwest::Client::new().get(url)).await
    }

    /// Opens the stream of a task at this node.
    pub async fn track_at(&self, node: usize, id: &str, query: &str) -> Events {
        let url = self.api_at(node, &format!("/tasks/{id}/track{query}"));
        Events::open(reqwest::Client::new().get(url)).await
    }

    /// Opens the stream of a task with headers.
    pub async fn track_with(&self, id: &str, query: &str, headers: &[(&str, &str)]) -> Events {
        let url = self.api(&format!("/tasks/{id}/track{query}"));
        let request = reqwest::Client::new().get(url);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Events::open(request).await
    }

    /// Sends bytes as they are to this node and reads everything until it closes.
    pub async fn raw_at(&self, node: usize, request: &[u8]) -> String {
        let talk = async {
            let mut stream =
                TcpStream::connect(self.nodes[node].address()).await.expect("a connection");
            stream.write_all(request).await.expect("a server that reads");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
            String::from_utf8_lossy(&answer).into_owned()
        };
        tokio::time::timeout(PATIENCE, talk).await.expect("an answer in time")
    }

    /// Registers a task of `task_type` and gives its id.
    pub async fn registered(&self, task_type: &str) -> String {
        let task = self.post("/tasks", serde_json::json!({ "taskType": task_type })).await.ok();
        task["taskId"].as_str().expect("an id").to_owned()
    }

    /// Registers a task and starts it for `worker-1`.
    pub async fn started(&self, task_type: &str) -> String {
        let id = self.registered(task_type).await;
        let worker = serde_json::json!({ "workerId": "worker-1" });
        self.post(&format!("/tasks/{id}/start"), worker).await.ok();
        id
    }

    /// Appends one entry and gives its number.
    pub async fn progressed(&self, id: &str, entry: Value) -> u64 {
        let body = serde_json::json!({ "progress": entry });
        let reply = self.post(&format!("/tasks/{id}/progress"), body).await.ok();
        reply["seqId"].as_u64().expect("a number")
    }

    /// Completes a task of `worker-1`.
    pub async fn completed(&self, id: &str) -> Reply {
        let body = serde_json::json!({ "workerId": "worker-1", "result": { "ok": true } });
        self.post(&format!("/tasks/{id}/complete"), body).await
    }

    /// Reads a task.
    pub async fn task(&self, id: &str) -> Value {
        self.get(&format!("/tasks/{id}")).await.ok()
    }
}

/// The numbers of a task's history.
pub fn seq_ids(task: &Value) -> Vec<u64> {
    let history = task["progressHistory"].as_array().expect("a history");
    history.iter().map(|entry| entry["seqId"].as_u64().expect("a number")).collect()
}

/// Waits until `fact` is there.
#[track_caller]
pub fn eventually<T, F, Fut>(fact: F) -> impl Future<Output = T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let asked = Instant::now();
        loop {
            if let Some(value) = fact().await {
                return value;
            }
            assert!(asked.elapsed() < PATIENCE, "not within {PATIENCE:?}: {caller}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
