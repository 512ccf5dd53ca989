//! A real process of the server, which can be killed for real.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use task_tracker::config::Mode as ConfigMode;

use crate::harness::{Ground, PATIENCE, eventually};

/// A process that serves.
#[derive(Debug)]
pub struct Process {
    child: Mutex<Child>,
    said: Arc<Mutex<String>>,
    address: SocketAddr,
    client: reqwest::Client,
}

/// The binary, with nothing of our environment but what says where `ground` is.
pub fn command(ground: &Ground) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_task-tracker"));
    command.env_clear().env("TASK_TRACKER_PORT", "0");
    let config = ground.config();
    match config.mode {
        ConfigMode::Embedded { data_dir } => {
            command.env("TASK_TRACKER_DATA_DIR", data_dir);
        }
        ConfigMode::Node { database_url, redis_url, .. } => {
            command.env("DATABASE_URL", database_url).env("REDIS_URL", redis_url);
            command.env("TASK_TRACKER_NAMESPACE", config.namespace);
            command.env("TASK_TRACKER_DATABASE_CONNECTIONS", "6");
        }
    }
    command
}

/// Runs a command to its end, which must come.
pub async fn output(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = tokio::time::timeout(PATIENCE, ended).await.expect("an end in time");
    output.expect("a thread").expect("an output")
}

impl Process {
    /// Starts one on `ground` and waits until it listens.
    pub async fn start(ground: &Ground) -> Self {
        Self::start_with(command(ground)).await
    }

    /// The same from a command of the caller's own.
    pub async fn start_with(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("a process");
        let lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let said = Arc::<Mutex<String>>::default();
        let heard = Arc::clone(&said);
        // It must be read, or the process stops when the pipe is full.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut said = heard.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&line);
                said.push('\n');
            }
        });
        let address = eventually(|| async { listening(&said.lock().unwrap()) }).await;
        let client = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        Self { child: Mutex::new(child), said, address, client }
    }

    /// What it logged.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path below the API's base.
    pub fn api(&self, path: &str) -> String {
        format!("http://{}/api/v1{path}", self.address)
    }

    /// GET, answered with success.
    pub async fn get(&self, path: &str) -> Value {
        let request = self.client.get(self.api(path));
        answer(request).await.expect("an answer")
    }

    /// POST, answered with success.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(self.api(path)).json(body);
        answer(request).await.expect("an answer")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().expect("a signal");
        child.wait().expect("its end");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(sent.success());
    }

    /// Waits for its end.
    pub async fn ended(&self) -> ExitStatus {
        eventually(|| async { self.child.lock().unwrap().try_wait().expect("a child") }).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It fails only where the process has ended.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The JSON of a success; anything else is none.
pub async fn answer(request: reqwest::RequestBuilder) -> Option<Value> {
    let response = request.send().await.ok()?;
    let response = response.error_for_status().ok()?;
    response.json().await.ok()
}

/// A figure of a process, summed over its labels; 0 where it is not there yet.
pub async fn figure(process: &Process, name: &str) -> usize {
    let url = format!("http://{}/metrics", process.address);
    let Ok(answer) = reqwest::get(url).await else { return 0 };
    let text = answer.text().await.unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit(' ').next());
    lines.filter_map(|value| value.parse::<usize>().ok()).sum()
}

/// A line of `/proc/<pid>/status`, in kibibytes.
pub fn memory(process: &Process, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

fn listening(said: &str) -> Option<SocketAddr> {
    let (_, rest) = said.split_once("listening on http://")?;
    rest.split_once(',')?.0.parse().ok()
}
