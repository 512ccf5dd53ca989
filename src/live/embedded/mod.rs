//! The live log in a SQLite file of this process.
//!
//! Entries are in the file before they are acknowledged, so they survive a `kill -9`. It is a journal: what comes is written to its
//! end, and where the entries of a task stand is known in memory, read from the file when it is opened. What is sealed leaves it, so
//! it is short. Fences and counters are in memory as well: with one process there is nobody to share them with, and after its death the
//! first append of each task finds no fence, asks the durable truth, and goes on counting behind the
//! newest entry of the file, or behind what is sealed where the file is another one. Entries of a task are appended one batch after
//! the other, under its lock, so that they are published in the order of their numbers.

mod file;
mod index;
mod log;
mod once;
mod pages;
mod room;
mod writes;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{
    Append, Appended, Closed, Ended, Error, Fence, Generation, Grant, Haste, Hub, Limits, Live,
    Memory, PAGE_ENTRIES, Page, Verified,
};
use crate::database::{self, Database};
use crate::domain::{
    Caller, Entry, Event, JsonObject, Key, Moved, Places, Receipt, StatusChange, TaskId, TaskType,
    Timestamp,
};
use crate::outliving::Outliving;
use index::{Index, Kept};
use log::{Log, TaskLog};
use writes::{Write, Writes};

/// Connections that read beside the writer.
const READERS: u32 = 4;

/// The live log of the embedded mode; cheap to clone.
#[derive(Debug, Clone)]
pub struct EmbeddedLive {
    database: Database,
    writes: Arc<Writes>,
    hub: Arc<Hub>,
    logs: Arc<Mutex<Logs>>,
    /// The first place of the file that was given to nobody.
    free: Arc<AtomicI64>,
    /// The places of entries that have left their logs, until they have left the file.
    left: Arc<Mutex<Vec<i64>>>,
    /// Appends whose callers have gone away.
    appends: TaskTracker,
    /// Of the file: it forgets nothing, but may be taken away.
    generation: Arc<str>,
}

/// The logs that have entries, and those that somebody has asked for.
#[derive(Debug, Default)]
struct Logs {
    by_task: HashMap<TaskId, Arc<TaskLog>>,
    /// How many there were when those with a fallen fence were last thrown out.
    kept: usize,
}

/// An append that outlives its caller.
struct Owned {
    entries: Vec<JsonObject>,
    caller: Caller,
    now: Timestamp,
    verified: Option<Verified>,
    key: Option<Key>,
    limits: Limits,
}

impl From<Append<'_>> for Owned {
    fn from(append: Append<'_>) -> Self {
        Self {
            entries: append.entries.to_vec(),
            caller: append.caller.clone(),
            now: append.now,
            verified: append.verified.cloned(),
            key: append.key.cloned(),
            limits: append.limits,
        }
    }
}

impl EmbeddedLive {
    /// Opens the log's file, creating it where there is none, and feeds `hub`.
    pub async fn open(file: &Path, hub: Arc<Hub>) -> Result<Self, Error> {
        let database = Database::sqlite(file, READERS).await?;
        file::prepare(&database).await?;
        let generation = file::generation(&database).await?.into();
        let (indexes, free) = file::indexes(&database).await?;
        let by_task: HashMap<_, _> =
            indexes.into_iter().map(|(task, index)| (task, Arc::new(TaskLog::of(index)))).collect();
        let logs = Logs { kept: by_task.len(), by_task };
        let writes = Arc::new(writes::gather(&database));
        let (logs, free) = (Arc::new(Mutex::new(logs)), Arc::new(AtomicI64::new(free)));
        let (left, appends) = (Arc::default(), TaskTracker::new());
        Ok(Self { database, writes, hub, logs, free, left, appends, generation })
    }

    fn log(&self, task: &TaskId, now: Timestamp) -> Arc<TaskLog> {
        let mut logs = self.lock();
        // A client may ask for tasks that are not there: what that leaves is thrown out as the map doubles.
        if logs.by_task.len() > 2 * logs.kept + 1000 {
            logs.by_task.retain(|_, log| !log.is_over(now));
            logs.kept = logs.by_task.len();
        }
        Arc::clone(logs.by_task.entry(task.clone()).or_default())
    }

    /// The log of a task, if it has entries or somebody has asked for it.
    fn known(&self, task: &TaskId) -> Option<Arc<TaskLog>> {
        self.lock().by_task.get(task).map(Arc::clone)
    }

    fn forget(&self, task: &TaskId) {
        self.lock().by_task.remove(task);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, write: Write) -> Result<(), Error> {
        self.writes.call(write).await.map_err(|error| Error::Failed(error.into()))?
    }

    /// Looks into the file where it is not known what it has of a log, which is locked.
    async fn settle(&self, task: &TaskId, kept: &TaskLog, log: &mut Log) -> Result<(), Error> {
        if log.is_in_doubt {
            let index = file::index(&self.database, task).await?;
            *kept.index() = index;
            log.is_in_doubt = false;
        }
        Ok(())
    }

    /// Numbers, keeps and publishes entries, the log being locked.
    async fn keep(
        &self,
        task: &TaskId,
        (kept, log): (&TaskLog, &mut Log),
        entries: Vec<JsonObject>,
        now: Timestamp,
        limits: Limits,
        (key, grant): (Option<Key>, Grant),
    ) -> Result<Appended, Error> {
        let before = kept.index().newest().max(log.room.last_sealed);
        let numbered: Vec<Entry> = (before + 1..)
            .zip(entries)
            .map(|(seq_id, progress)| Entry { seq_id, timestamp: now, progress })
            .collect();
        let last_seq_id = before + numbered.len() as u64;
        let lines: Vec<String> = numbered.iter().map(Entry::line).collect();
        let bytes = lines.iter().map(|line| line.len() as u64).sum();
        if let Some(refused) = log.room.refuses(before, last_seq_id, bytes, limits) {
            return Ok(refused);
        }
        let receipt = key.map(|key| once::receipt(key, last_seq_id, &grant, now));
        let count = i64::try_from(lines.len()).unwrap_or(i64::MAX);
        let first_place = self.free.fetch_add(count, Ordering::Relaxed);
        let entries: Vec<(Kept, String)> = (before + 1..)
            .zip(first_place..)
            .zip(lines)
            .map(|((seq_id, place), line)| (Kept { seq_id, place, bytes: line.len() as u64 }, line))
            .collect();
        let places: Vec<Kept> = entries.iter().map(|(kept, _)| *kept).collect();
        self.write(Write::Keep { task: task.clone(), entries, receipt })
            .await
            // Whether it was kept is not known: the file is asked before the next.
            .inspect_err(|_| log.is_in_doubt = true)?;
        kept.index().extend(places);
        log.room.take(bytes);
        for entry in numbered {
            self.hub.deliver(task, Event::Progress(entry));
        }
        Ok(Appended::Kept { last_seq_id, grant })
    }

    /// What is remembered of a log whose newest entry has this number.
    fn remembered(&self, last_seq_id: u64) -> Memory {
        let present = self.generation.to_string();
        // Its newest entry stays until its end, so a log of this file has one.
        let log = (last_seq_id > 0).then(|| present.clone());
        Memory { present, place: 0, log, is_moved: false, last_seq_id }
    }

    async fn append_owned(self, task: TaskId, append: Owned) -> Result<Appended, Error> {
        let Owned { entries, caller, now, verified, key, limits } = append;
        let kept = self.log(&task, now);
        let mut log = kept.log.lock().await;
        self.settle(&task, &kept, &mut log).await?;
        if let Some(key) = &key
            && let Some(before) = self.before(&task, key, now).await?
        {
            return Ok(before);
        }
        let grant = match log.admit(&caller, now, verified.as_ref()) {
            Ok(grant) => grant,
            Err(fence) => {
                let memory = Some(self.remembered(kept.index().newest()));
                return Ok(Appended::Unverified { fence, memory });
            }
        };
        if let Some(verified) = verified {
            self.measure(&kept, &mut log, &verified).await?;
        }
        self.keep(&task, (&kept, &mut log), entries, now, limits, (key, grant)).await
    }
}

#[async_trait]
impl Live for EmbeddedLive {
    async fn append(&self, task: &TaskId, append: Append<'_>) -> Result<Appended, Error> {
        // A caller that hangs up must not leave a number half used.
        let append = self.clone().append_owned(task.clone(), append.into());
        let done = Outliving::new(append, &self.appends).await;
        done.map_err(|panicked| Error::Failed(panicked.into()))?
    }

    async fn read(&self, task: &TaskId, after: u64, limit: usize) -> Result<Page, Error> {
        self.page(task, after, limit).await
    }

    async fn latest(&self, tasks: &[TaskId]) -> Result<Vec<Option<Entry>>, Error> {
        self.newest_of(tasks).await
    }

    async fn last_seq_ids(&self, tasks: &[TaskId]) -> Result<Vec<u64>, Error> {
        Ok(tasks.iter().map(|task| self.look(task, Index::newest)).collect())
    }

    async fn close(&self, task: &TaskId, attempt: u32, now: Timestamp) -> Result<Closed, Error> {
        let kept = self.log(task, now);
        let mut log = kept.log.lock().await;
        self.settle(task, &kept, &mut log).await?;
        if log.fence.as_ref().and_then(Fence::attempt).is_some_and(|present| present > attempt) {
            return Err(Error::Failed("a later attempt has the log".into()));
        }
        log.close(attempt, now);
        let (behind, newest) = kept.index().bounds();
        let memory = self.remembered(newest);
        if newest == 0 {
            return Ok(Closed { memory, page: Page::default(), receipts: Vec::new() });
        }
        let page = self.page(task, behind, PAGE_ENTRIES).await?;
        Ok(Closed { memory, page, receipts: self.all_receipts(task).await? })
    }

    async fn receipts(&self, task: &TaskId, _now: Timestamp) -> Result<Vec<Receipt>, Error> {
        self.all_receipts(task).await
    }

    async fn memory(&self, task: &TaskId) -> Result<Memory, Error> {
        Ok(self.remembered(self.look(task, Index::newest)))
    }

    async fn generations(&self) -> Result<Vec<Generation>, Error> {
        Ok(vec![Generation { name: self.generation.to_string(), places: Places::all() }])
    }

    async fn trim(&self, sealed: &[(TaskId, u64)], haste: Haste) -> Result<(), Error> {
        self.let_go(sealed, haste).await
    }

    async fn end(
        &self,
        task: &TaskId,
        attempt: u32,
        end: &StatusChange,
        now: Timestamp,
    ) -> Result<Ended, Error> {
        let kept = self.log(task, now);
        let mut log = kept.log.lock().await;
        self.settle(task, &kept, &mut log).await?;
        if kept.index().newest() > end.last_seq_id {
            log.close(attempt, now);
            return Ok(Ended::Unsealed);
        }
        let places = kept.index().all();
        self.write(Write::Forget { task: task.clone(), places })
            .await
            .inspect_err(|_| log.is_in_doubt = true)?;
        *kept.index() = Index::default();
        *log = Log::default();
        self.forget(task);
        self.hub.deliver(task, Event::Status(end.clone()));
        Ok(Ended::Gone)
    }

    async fn recheck(&self, task: &TaskId, closed: Option<u32>) -> Result<(), Error> {
        // A log that nobody has asked for has no fence.
        let Some(kept) = self.known(task) else { return Ok(()) };
        let mut log = kept.log.lock().await;
        match &log.fence {
            Some(Fence::Closed { attempt }) if Some(*attempt) != closed => {}
            _ => (log.fence, log.fence_expires_at) = (None, None),
        }
        Ok(())
    }

    async fn announce(&self, task: &TaskId, event: &Event) -> Result<(), Error> {
        self.hub.deliver(task, event.clone());
        Ok(())
    }

    async fn wake(&self, types: &[TaskType]) -> Result<(), Error> {
        for task_type in types {
            self.hub.waiters().wake(task_type);
        }
        Ok(())
    }

    async fn tell_moves(&self, moves: &[Moved]) -> Result<bool, Error> {
        Ok(self.hub.deliver_moves(moves))
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(self.database.ping().await?)
    }

    async fn shut_down(&self) {
        self.appends.close();
        self.appends.wait().await;
        self.database.close().await;
    }
}

/// One error, for several whose writes were one commit.
impl From<Arc<database::Error>> for Error {
    fn from(error: Arc<database::Error>) -> Self {
        match &*error {
            database::Error::Unavailable(_) => Self::Unavailable(error.into()),
            database::Error::Failed(_) => Self::Failed(error.into()),
        }
    }
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        match error {
            database::Error::Unavailable(source) => Self::Unavailable(source.into()),
            database::Error::Failed(source) => Self::Failed(source.into()),
        }
    }
}
