//! The contract of [`Storage`]: every statement, on both databases.
//!
//! | module | says |
//! | --- | --- |
//! | `tasks` | registering, claiming, reading |
//! | `together` | the same for many callers at once |
//! | `change` | the one way a status changes, and what it leaves to settle |
//! | `entries` | sealed history |
//! | `idempotency` | answers that are remembered; batches |
//! | `sealing` | how histories grow while tasks run, and what is gone for good |
//! | `lists` | pages and counts |
//! | `overview` | what an overview is made of; which nodes there are |
//! | `schema` | what the databases themselves refuse; migrations |

mod change;
mod entries;
mod idempotency;
mod lists;
mod overview;
mod schema;
mod sealing;
mod tasks;
mod together;

use std::time::Duration;

use task_tracker::config::Mode as ConfigMode;
use task_tracker::database::{Database, Kind, Statement};
use task_tracker::domain::{
    Entry, JsonObject, Lease, NewTask, Status, Task, TaskId, TaskType, Terms, Timestamp, WorkerId,
};
use task_tracker::storage::{Change, Changed, Error, Selection, Storage, migrations};

use crate::harness::{Ground, Mode, PATIENCE};

/// A storage on a database of its own.
#[derive(Debug)]
pub struct Store {
    /// The storage.
    pub storage: Storage,
    /// The database below it.
    pub database: Database,
    _ground: Ground,
}

impl Store {
    /// An empty one.
    pub async fn open(kind: Kind) -> Self {
        let (ground, database) = empty(kind).await;
        migrations::run(&database, PATIENCE).await.expect("a schema");
        Self { storage: Storage::new(database.clone()), database, _ground: ground }
    }

    /// Runs SQL that has no parameters; says how many rows it touched.
    pub async fn run(&self, sql: impl Into<String>) -> Result<u64, Error> {
        // What fills a table with a million rows takes longer than any request.
        let statement = Statement::new(sql.into()).within(Duration::from_mins(2));
        statement.execute(self.database.writer()).await
    }

    /// Registers a task `seconds` after the beginning of time.
    async fn pending(&self, task_type: &str, seconds: i64) -> Task {
        let new = new_task(task_type);
        self.storage.insert(&new, at(seconds)).await.expect("an answer").expect("a free id")
    }

    /// Registers a task and claims it.
    async fn running(&self, task_type: &str, seconds: i64) -> Task {
        let task = self.pending(task_type, seconds).await;
        let types = [task.task_type];
        let claimed = self
            .storage
            .claim(&types, &worker(), &lease(seconds), at(seconds))
            .await
            .expect("an answer");
        claimed.expect("the task just registered")
    }

    /// Registers a task, claims it and ends it.
    async fn ended(&self, task_type: &str, seconds: i64, entries: Vec<Entry>) -> Task {
        let task = self.running(task_type, seconds).await;
        self.end(&task.id, Status::Failed, seconds, entries).await
    }

    async fn end(&self, id: &TaskId, status: Status, seconds: i64, entries: Vec<Entry>) -> Task {
        let changed = self.storage.change(Selection::One(id), async |tasks: Vec<Task>| {
            let changes =
                tasks.into_iter().map(|task| ending(task, status, seconds, entries.clone()));
            Ok::<_, Error>(changes.collect())
        });
        changed.await.expect("a change").remove(0).task
    }

    async fn get(&self, id: &TaskId) -> Task {
        self.storage.get(id).await.expect("an answer").expect("the task")
    }
}

/// A database without a schema, and what it stands on.
async fn empty(kind: Kind) -> (Ground, Database) {
    let mode = match kind {
        Kind::Postgres => Mode::Node,
        Kind::Sqlite => Mode::Embedded,
    };
    let ground = Ground::new(mode).await;
    let database = match ground.config().mode {
        ConfigMode::Node { database_url, .. } => Database::postgres(&database_url, 10),
        ConfigMode::Embedded { data_dir } => {
            std::fs::create_dir_all(&data_dir).expect("a folder");
            Database::sqlite(&data_dir.join("tracker.db"), 4).await
        }
    };
    (ground, database.expect("a database"))
}

/// An instant `seconds` after midnight of some day, and some microseconds.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_763_596_800_000_000 + seconds * 1_000_000 + 123_456)
        .expect("an instant")
}

/// A hold without an end, `seconds` after the beginning of time.
fn lease(seconds: i64) -> Lease {
    Lease::new(None, at(seconds))
}

fn new_task(task_type: &str) -> NewTask {
    NewTask {
        id: TaskId::new(),
        task_type: task_type.parse().expect("a name"),
        metadata: None,
        params: None,
        terms: Terms { timeout: Duration::from_hours(1), ..Terms::DEFAULT },
    }
}

/// `task` as it is to stand at its end.
fn ending(mut task: Task, status: Status, seconds: i64, entries: Vec<Entry>) -> Change {
    task.status = status;
    task.updated_at = at(seconds);
    task.completed_at = Some(at(seconds));
    Change { task, entries, loss: None, receipts: Vec::new() }
}

/// Entries `from` to `to`, each of about `bytes`.
fn entries(from: u64, to: u64, bytes: usize) -> Vec<Entry> {
    let text = "x".repeat(bytes);
    let entry = |seq_id| Entry {
        seq_id,
        // To the millisecond: so an entry keeps its time.
        timestamp: "2025-11-20T12:00:00.123Z".parse().expect("an instant"),
        progress: JsonObject::from_stored(format!(r#"{{"n":{seq_id},"text":"{text}"}}"#)),
    };
    (from..=to).map(entry).collect()
}

fn worker() -> WorkerId {
    "worker".parse().expect("a name")
}

fn types(names: &[&str]) -> Vec<TaskType> {
    names.iter().map(|name| name.parse().expect("a name")).collect()
}

fn of_changed(changed: &[Changed]) -> Vec<TaskId> {
    changed.iter().map(|changed| changed.task.id.clone()).collect()
}

fn ids(tasks: &[Task]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id.clone()).collect()
}
