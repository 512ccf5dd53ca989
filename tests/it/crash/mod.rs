//! What becomes of tasks, entries and streams when a node dies or the broker forgets.
//!
//! | module | tests |
//! | --- | --- |
//! | `arrows` | a node that dies after any arrow of a task's end |
//! | `late` | an entry that is acknowledged while the end is being committed |
//! | `closing` | a node that is told to stop while it has work in flight |
//! | `lost` | publications and wakes that never arrive |
//! | `sealing` | a node that dies while it seals the log of a running task |
//! | `memory` | a live log that comes back empty or older |
//! | `masters` | a master of a cluster that comes back empty, and slots that move |
//! | `kill` | real processes, killed for real |
//! | `repeats` | clients that ask again under the same key while processes are killed |
//! | `command` | what a real process says and does when it starts and when it is told to stop |
//! | `failover` | a master of a cluster that dies, and its replica |
//! | `tls` | servers that speak TLS |
//! | `together` | calls that share a commit |
//! | `crowd` | ten thousand readers whose server is killed, and what a stream costs it |
//! | `exhaustion` | a real process whose clients take all of something |
//! | `told` | what a reader was told, gaps and all |
//! | `faulty` | a live log that stops where a test says |
//! | `process` | a real process, and what the system says of it |
//! | `tap` | a reader of a stream that costs next to nothing |

mod arrows;
mod closing;
mod command;
mod crowd;
mod exhaustion;
mod failover;
mod faulty;
mod kill;
mod late;
mod lost;
mod masters;
mod memory;
pub mod process;
mod repeats;
mod sealing;
mod tap;
mod tls;
mod together;
mod told;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use task_tracker::app::App;
use task_tracker::clock::Clock;
use task_tracker::config::Mode as ConfigMode;
use task_tracker::database::{Database, Statement};
use task_tracker::domain::{JsonObject, Task, TaskId, TaskType, Terms, WorkerId};
use task_tracker::live::CLOSED_FOR;
use task_tracker::service::{Registration, Tracker};
use task_tracker::storage::Storage;

use crate::contract::broker;
use crate::harness::{Event, Events, Ground, Mode, eventually};
use faulty::{Fault, Faulty};

/// Longer than an end may stay unsettled before another node takes it for abandoned.
const ABANDONED: Duration = Duration::from_secs(11);

/// What several nodes stand on, one after the other or beside each other, by one clock.
struct Scene {
    ground: Ground,
    clock: Clock,
}

impl Scene {
    async fn new(mode: Mode) -> Self {
        Self { ground: Ground::new(mode).await, clock: Clock::system() }
    }

    fn is_embedded(&self) -> bool {
        self.ground.database_url().is_none()
    }

    /// A node that works.
    async fn node(&self) -> App {
        // A process that another test starts in this moment may hold a copy of the folder's lock until
        // it has become itself.
        eventually(|| async { App::start(self.ground.config(), self.clock.clone()).await.ok() })
            .await
    }

    /// A node with a fault between it and its live log.
    async fn faulty(&self, fault: Fault) -> (App, Arc<Faulty>) {
        let mut faulty = None;
        let app = App::start_with(self.ground.config(), self.clock.clone(), |real| {
            let live = Arc::new(Faulty::new(real, fault));
            faulty = Some(Arc::clone(&live));
            live
        });
        (app.await.expect("a node"), faulty.expect("its live log"))
    }

    /// Ends that are committed and not settled.
    async fn unsettled(&self) -> Vec<TaskId> {
        let storage = Storage::new(self.database("tracker.db").await);
        let ever = self.clock.now().plus(Duration::from_secs(1_000_000));
        let tasks = storage.unsettled(ever, 100).await.expect("an answer");
        storage.close().await;
        tasks.into_iter().map(|task| task.id).collect()
    }

    /// How many keys or rows live logs have.
    async fn live_traces(&self) -> usize {
        if self.is_embedded() {
            let database = self.database("live.db").await;
            let count =
                "SELECT (SELECT count(*) FROM live_journal) + (SELECT count(*) FROM live_receipts)";
            let rows = counted(&database, count).await;
            database.close().await;
            return rows;
        }
        let keys =
            broker::keys(self.ground.redis_url().expect("a node"), self.ground.namespace()).await;
        // What says which memory this is belongs to no task.
        keys.iter().filter(|key| !key.contains(":generation")).count()
    }

    async fn database(&self, file: &str) -> Database {
        let database = match self.ground.config().mode {
            ConfigMode::Embedded { data_dir } => Database::sqlite(&data_dir.join(file), 1).await,
            ConfigMode::Node { database_url, .. } => Database::postgres(&database_url, 1),
        };
        database.expect("a database")
    }

    /// Has a closed fence stand as long as it may, without our waiting for it.
    async fn let_the_closed_fence_fall(&self, task: &TaskId) {
        self.clock.advance(CLOSED_FOR);
        if self.is_embedded() {
            return;
        }
        let key = format!("{}:fence:{{{task}}}", self.ground.namespace());
        let url = self.ground.redis_url().expect("a node");
        let mut redis = broker::connect_for(url, &key).await;
        redis::cmd("PEXPIRE").arg(&key).arg(1).exec_async(&mut redis).await.unwrap();
        eventually(|| async {
            let mut redis = redis.clone();
            let is_there: bool =
                redis::cmd("EXISTS").arg(&key).query_async(&mut redis).await.unwrap();
            (!is_there).then_some(())
        })
        .await;
    }
}

/// The number a statement answers with.
async fn counted(database: &Database, sql: &'static str) -> usize {
    #[derive(sqlx::FromRow)]
    struct Row(i64);
    let rows: Vec<Row> = Statement::new(sql).fetch_all(database.reader()).await.expect("a count");
    usize::try_from(rows[0].0).expect("a count")
}

fn worker() -> WorkerId {
    "worker-1".parse().expect("a name")
}

/// Registers a task and begins it for [`worker`].
async fn started(tracker: &Tracker) -> TaskId {
    let task = registered(tracker, "work").await;
    tracker.start(task.id.clone(), Some(worker()), None, None).await.expect("a start");
    task.id
}

async fn registered(tracker: &Tracker, task_type: &str) -> Task {
    let (metadata, params, terms) = (None, None, Terms::DEFAULT);
    let task_type: TaskType = task_type.parse().expect("a name");
    let registration = Registration { id: None, task_type, metadata, params, terms };
    tracker.register(registration, None).await.expect("an answer").now().expect("a task")
}

/// Appends entries, one by one; the number of the last.
async fn progressed(tracker: &Tracker, task: &TaskId, count: usize) -> u64 {
    let mut last = 0;
    for _ in 0..count {
        let entries = [JsonObject::from_stored(json!({ "percent": 40 }).to_string())];
        let accepted = tracker.progress(task, &entries, &worker().into(), None).await;
        last = accepted.expect("an acknowledgement").last_seq_id;
    }
    last
}

async fn complete(tracker: &Tracker, task: &TaskId) -> task_tracker::service::Result<Task> {
    let said = tracker.complete(task.clone(), worker().into(), None, None).await?;
    Ok(said.now().expect("an end without a key"))
}

/// The numbers of a task's history.
async fn history(tracker: &Tracker, task: &TaskId) -> Vec<u64> {
    let read = tracker.get(task).await.expect("the task");
    read.history.into_iter().map(|entry| entry.seq_id).collect()
}

/// A stream of a task, its subscription standing.
async fn watched(app: &App, task: &TaskId) -> Events {
    let url = format!("http://{}/api/v1/tasks/{task}/track", app.address());
    let mut events = Events::open(reqwest::Client::new().get(url)).await;
    events.opened().await;
    events
}

/// Checks that a stream had every entry once, in order, and then its end.
#[track_caller]
fn assert_whole(events: &[Event], entries: u64) {
    let (end, rest) = events.split_last().expect("events");
    assert!(end.is_end(), "{end:?}");
    assert_eq!(end.id.as_deref(), Some(&*format!("{entries}-end")));
    let progress = rest.iter().filter_map(Event::seq_id);
    assert!(progress.eq(1..=entries), "{rest:?}");
    assert!(!rest.iter().any(Event::is_end), "it ends once");
}
