//! The binary as a client.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::harness::{PATIENCE, Server, eventually};

/// The binary as a client of `url`, with nothing else of our environment but where programs are.
pub fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_task-tracker"));
    command.env_clear().env("TASK_TRACKER_URL", url);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A client that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

/// How a client ended and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        let (out, err) = <(Arc<Mutex<Vec<u8>>>, Arc<Mutex<Vec<u8>>>)>::default();
        let stdout = child.stdout.take().expect("its stdout");
        let stderr = child.stderr.take().expect("its stderr");
        let readers = vec![
            tokio::spawn(read(stdout, Arc::clone(&out))),
            tokio::spawn(read(stderr, Arc::clone(&err))),
        ];
        Self { child, out, err, readers }
    }

    /// What it said on stdout so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().unwrap()).into_owned()
    }

    /// And on stderr.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.err.lock().unwrap()).into_owned()
    }

    /// Waits until it has said this on stdout.
    pub async fn says(&self, text: &str) {
        eventually(|| async { self.out().contains(text).then_some(()) }).await;
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Ran {
        let status = tokio::time::timeout(PATIENCE * 2, self.child.wait()).await;
        let Ok(status) = status else {
            panic!("it does not end; it said {:?} and {:?}", self.out(), self.err());
        };
        for reader in std::mem::take(&mut self.readers) {
            reader.await.expect("a reader");
        }
        Ran { code: status.expect("a status").code(), out: self.out(), err: self.err() }
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin, into: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        into.lock().unwrap().extend_from_slice(&buffer[..length]);
    }
}

impl Ran {
    /// Its stdout, having ended with `code`.
    #[track_caller]
    pub fn with(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{} {}", self.out, self.err);
        self.out
    }

    /// The lines of its stdout as JSON.
    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// Runs a client to its end.
pub async fn run(server: &Server, arguments: &[&str]) -> Ran {
    Running::start(command(&server.root(""), arguments)).ended().await
}

/// Runs a client to its end that reads this.
pub async fn run_with(server: &Server, arguments: &[&str], stdin: &str) -> Ran {
    let mut command = command(&server.root(""), arguments);
    let mut running = Running::start({
        command.stdin(Stdio::piped());
        command
    });
    let mut pipe = running.child.stdin.take().expect("its stdin");
    pipe.write_all(stdin.as_bytes()).await.expect("a reader");
    drop(pipe);
    running.ended().await
}

/// Starts a worker for tasks of type `work` that runs a script, in which `$DIR` is a folder of the test.
pub fn worker(url: &str, folder: &Path, options: &[&str], script: &str) -> Running {
    let arguments = [&["work", "--type", "work"], options, &["--", "sh", "-c", script]].concat();
    let mut command = command(url, &arguments);
    command.env("DIR", folder);
    Running::start(command)
}

/// The text of a file that a script wrote, once it ends with a line break.
pub async fn written(folder: &Path, name: impl AsRef<OsStr>) -> String {
    let path = folder.join(name.as_ref());
    let read = || async { std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')) };
    eventually(read).await.trim().to_owned()
}

/// Waits until none of these processes runs. One that nobody has asked how it ended runs no more.
pub async fn gone(ids: &str) {
    let runs = |id: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        !(state.is_empty() || state.starts_with('Z'))
    };
    eventually(|| async { (!ids.split_whitespace().any(runs)).then_some(()) }).await;
}
