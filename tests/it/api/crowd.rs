//! Readers that all come at once: what they have in common is read once, and nobody misses anything by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use rstest::rstest;
use serde_json::{Value, json};
use task_tracker::app::App;
use task_tracker::clock::Clock;
use task_tracker::domain::{
    Entry, Event, Moved, Receipt, StatusChange, TaskId, TaskType, Timestamp,
};
use task_tracker::live::{
    Append, Appended, Closed, Ended, Error, Generation, Haste, Live, Memory, Page,
};
use tokio::sync::Semaphore;

use super::is_whole;
use crate::harness::Mode::{self, Embedded, Node};
use crate::harness::{Events, Ground, eventually};

const READERS: usize = 1000;
const ENTRIES: usize = 10;
/// What a test does at once with all of them; the server sees a thousand all the same.
const AT_ONCE: usize = 50;

/// A log that counts its reads, and keeps their answers back while the gate is closed.
#[derive(Debug)]
struct Gated {
    real: Arc<dyn Live>,
    reads: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl Live for Gated {
    async fn append(&self, task: &TaskId, append: Append<'_>) -> Result<Appended, Error> {
        self.real.append(task, append).await
    }

    async fn read(&self, task: &TaskId, after: u64, limit: usize) -> Result<Page, Error> {
        let page = self.real.read(task, after, limit).await;
        self.reads.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.acquire().await.expect("a semaphore"));
        page
    }

    async fn latest(&self, tasks: &[TaskId]) -> Result<Vec<Option<Entry>>, Error> {
        self.real.latest(tasks).await
    }

    async fn last_seq_ids(&self, tasks: &[TaskId]) -> Result<Vec<u64>, Error> {
        self.real.last_seq_ids(tasks).await
    }

    async fn close(&self, task: &TaskId, attempt: u32, now: Timestamp) -> Result<Closed, Error> {
        self.real.close(task, attempt, now).await
    }

    async fn end(
        &self,
        task: &TaskId,
        attempt: u32,
        end: &StatusChange,
        now: Timestamp,
    ) -> Result<Ended, Error> {
        self.real.end(task, attempt, end, now).await
    }

    async fn receipts(&self, task: &TaskId, now: Timestamp) -> Result<Vec<Receipt>, Error> {
        self.real.receipts(task, now).await
    }

    async fn memory(&self, task: &TaskId) -> Result<Memory, Error> {
        self.real.memory(task).await
    }

    async fn generations(&self) -> Result<Vec<Generation>, Error> {
        self.real.generations().await
    }

    async fn trim(&self, sealed: &[(TaskId, u64)], haste: Haste) -> Result<(), Error> {
        self.real.trim(sealed, haste).await
    }

    async fn announce(&self, task: &TaskId, event: &Event) -> Result<(), Error> {
        self.real.announce(task, event).await
    }

    async fn recheck(&self, task: &TaskId, attempt: Option<u32>) -> Result<(), Error> {
        self.real.recheck(task, attempt).await
    }

    async fn tell_moves(&self, moves: &[Moved]) -> Result<bool, Error> {
        self.real.tell_moves(moves).await
    }

    async fn wake(&self, types: &[TaskType]) -> Result<(), Error> {
        self.real.wake(types).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.real.ping().await
    }

    async fn shut_down(&self) {
        self.real.shut_down().await;
    }
}

/// A node over a gated log.
struct Scene {
    node: App,
    reads: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    client: reqwest::Client,
    _ground: Ground,
}

impl Scene {
    /// A node whose gate is closed.
    async fn new(mode: Mode) -> Self {
        let ground = Ground::new(mode).await;
        let (reads, gate) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
        let (counted, closed) = (Arc::clone(&reads), Arc::clone(&gate));
        let wrap = |real| Arc::new(Gated { real, reads: counted, gate: closed }) as Arc<dyn Live>;
        let node = App::start_with(ground.config(), Clock::system(), wrap).await;
        let node = node.expect("a server that starts");
        Self { node, reads, gate, client: reqwest::Client::new(), _ground: ground }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("http://{}/api/v1{path}", self.node.address());
        let answer = self.client.post(url).json(&body).send().await.expect("an answer");
        let answer = answer.error_for_status().expect("a success");
        answer.json().await.expect("JSON")
    }

    async fn started(&self) -> String {
        let task = self.post("/tasks", json!({ "taskType": "t" })).await;
        let id = task["taskId"].as_str().expect("an id").to_owned();
        self.post(&format!("/tasks/{id}/start"), json!({})).await;
        id
    }

    /// Opens a stream: its head has come, so the reader has subscribed.
    async fn track(&self, id: &str) -> Events {
        let url = format!("http://{}/api/v1/tasks/{id}/track", self.node.address());
        let mut stream = Events::open(self.client.get(url)).await;
        stream.opened().await;
        stream
    }

    fn open_the_gate(&self) {
        self.gate.add_permits(READERS);
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readers_that_come_at_once_share_their_reads(
    #[values(Embedded, Node)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    let id = scene.started().await;
    let entries: Vec<Value> = (0..ENTRIES).map(|n| json!({ "n": n })).collect();
    scene.post(&format!("/tasks/{id}/progress"), json!({ "entries": entries })).await;
    let open = (0..READERS).map(|_| scene.track(&id));
    let mut streams: Vec<Events> = stream::iter(open).buffer_unordered(AT_ONCE).collect().await;
    // They are all here, and none has been given anything: the first read has not answered.
    eventually(async || (scene.reads() >= 1).then_some(())).await;
    assert_eq!(scene.reads(), 1, "one is under way, and the others wait for the next");
    scene.open_the_gate();
    for stream in &mut streams {
        let read = stream.take(ENTRIES).await;
        assert_eq!(super::numbers(&read), (1..=ENTRIES as u64).collect::<Vec<_>>());
    }
    // Two to give all of them the page; a few to see, each at its own moment, that nothing comes behind it.
    let most = READERS / 10;
    assert!(scene.reads() <= most, "{} reads for {READERS} readers", scene.reads());
    scene.post(&format!("/tasks/{id}/progress"), json!({ "progress": {} })).await;
    scene.post(&format!("/tasks/{id}/complete"), json!({})).await;
    for stream in streams {
        is_whole(&stream.rest().await, ENTRIES as u64, ENTRIES as u64 + 1, "completed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_never_given_what_was_read_before_it_subscribed(
    #[values(Embedded, Node)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    let id = scene.started().await;
    let mut early = scene.track(&id).await;
    // The first reader's read has looked, found nothing, and keeps its answer back.
    eventually(async || (scene.reads() == 1).then_some(())).await;
    scene.post(&format!("/tasks/{id}/progress"), json!({ "progress": { "n": 1 } })).await;
    // Whoever subscribes now has missed the entry, and finds it in the log; that read would not show it.
    let mut late = join_all((0..10).map(|_| scene.track(&id))).await;
    assert_eq!(scene.reads(), 1, "their read has not begun");
    scene.open_the_gate();
    for stream in late.iter_mut().chain([&mut early]) {
        assert_eq!(super::numbers(&stream.take(1).await), [1]);
    }
    scene.post(&format!("/tasks/{id}/complete"), json!({})).await;
    for stream in late {
        is_whole(&stream.rest().await, 1, 1, "completed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_crowd_that_comes_and_goes_hears_every_entry(
    #[values(Embedded, Node)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    scene.open_the_gate();
    let id = scene.started().await;
    let come = async |many: usize| -> Vec<Events> {
        let open = (0..many).map(|_| scene.track(&id));
        stream::iter(open).buffer_unordered(AT_ONCE).collect().await
    };
    let mut streams = come(300).await;
    let append = async {
        for n in 1..=ENTRIES * ENTRIES {
            scene.post(&format!("/tasks/{id}/progress"), json!({ "progress": { "n": n } })).await;
        }
    };
    let come_and_go = async {
        for _ in 0..3 {
            drop(streams.drain(..70));
            streams.extend(come(60).await);
        }
    };
    tokio::join!(append, come_and_go);
    scene.post(&format!("/tasks/{id}/complete"), json!({})).await;
    for stream in streams {
        is_whole(&stream.rest().await, 0, (ENTRIES * ENTRIES) as u64, "completed");
    }
}
