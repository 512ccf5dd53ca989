//! Seals the logs of running tasks: what is live moves to the durable truth every few seconds, many tasks in
//! one transaction, and leaves the log.
//!
//! ```text
//!   read the logs ─► hold the rows of the tasks ─► add what is not sealed yet, commit ─► trim the logs
//!          ▲                                                         │
//!          └────────────── a few logs at a time, and a pause ◄───────┘
//! ```
//!
//! A crash after any arrow leaves entries in the log that are sealed: whoever seals next passes them over, and
//! trims. Each node remembers in memory for which tasks it took entries, and seals those; what a
//! node forgot when it died is found by a slower round over all tasks in progress. A log that is too full
//! to take more is sealed by whoever finds it so.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::sleep;

use super::query::PAGE;
use super::{Result, Tracker};
use crate::domain::{Entry, Status, TaskId, Timestamp};
use crate::storage::{Cursor, Filter};

/// How long an entry waits to be sealed.
const DUE_AFTER: Duration = Duration::from_secs(3);
/// Entries of a task that do not wait so long.
const DUE_ENTRIES: u64 = 2000;
/// Bytes of a task that do not.
const DUE_BYTES: u64 = 2 << 20;
/// Tasks that are sealed in one transaction: their rows are held meanwhile.
const BATCH: usize = 100;
/// Entries that are sealed in one transaction, at about most: a core does nothing else meanwhile.
const BATCH_ENTRIES: usize = 2000;
/// Bytes that are, likewise.
const BATCH_BYTES: u64 = 8 << 20;
/// Over how long the transactions of a round are spread: who appends is not to wait for all of them.
const SPREAD: Duration = Duration::from_secs(1);
/// Entries and bytes that are read of one log at once; the rest is due again.
const LOG_ENTRIES: usize = 5000;
const LOG_BYTES: u64 = 4 << 20;
/// Logs that are trimmed at once, however few were sealed at once: entries of many tasks lie beside each other.
const TRIMMED_AT_ONCE: usize = 1000;
/// Logs that are read at once.
const READ_AT_ONCE: usize = 8;
/// Tasks that a node remembers at most; those beyond are left to the slower round.
const REMEMBERED: usize = 200_000;
/// How often a task is passed over, for somebody else holds it or it has ended, before it is forgotten.
const TRIES: u32 = 3;
/// Tasks of a page of the slower round, and pages of one round.
const LEFT_PAGE: u32 = 100;
const LEFT_PAGES: usize = 10;

/// For which tasks this node took entries that it has not sealed.
#[derive(Debug, Default)]
pub(super) struct Unsealed(Mutex<HashMap<TaskId, Pending>>);

#[derive(Debug, Clone, Copy)]
struct Pending {
    since: Timestamp,
    newest: u64,
    entries: u64,
    bytes: u64,
    tries: u32,
}

impl Pending {
    fn is_much(&self) -> bool {
        self.entries >= DUE_ENTRIES || self.bytes >= DUE_BYTES
    }
}

impl Unsealed {
    /// Remembers entries that were taken; says whether there are by now so many that they are due at once.
    pub(super) fn took(
        &self,
        task: &TaskId,
        newest: u64,
        entries: u64,
        bytes: u64,
        now: Timestamp,
    ) -> bool {
        let mut tasks = self.lock();
        if let Some(pending) = tasks.get_mut(task) {
            let was_much = pending.is_much();
            pending.newest = pending.newest.max(newest);
            pending.entries += entries;
            pending.bytes += bytes;
            return pending.is_much() && !was_much;
        }
        if tasks.len() >= REMEMBERED {
            return false;
        }
        let pending = Pending { since: now, newest, entries, bytes, tries: 0 };
        tasks.insert(task.clone(), pending);
        pending.is_much()
    }

    fn due(&self, now: Timestamp) -> Vec<TaskId> {
        let is_due = |pending: &Pending| now.since(pending.since) >= DUE_AFTER || pending.is_much();
        let tasks = self.lock();
        tasks.iter().filter(|(_, pending)| is_due(pending)).map(|(task, _)| task.clone()).collect()
    }

    /// A task is sealed up to entry `sealed`.
    fn sealed(&self, task: &TaskId, sealed: u64, now: Timestamp) {
        let mut tasks = self.lock();
        let Some(pending) = tasks.get_mut(task) else {
            return;
        };
        if pending.newest <= sealed {
            tasks.remove(task);
        } else {
            let entries = pending.newest - sealed;
            let bytes = pending.bytes / pending.entries.max(1) * entries;
            *pending = Pending { since: now, entries, bytes, tries: 0, ..*pending };
        }
    }

    /// A task could not be sealed.
    fn passed_over(&self, task: &TaskId) {
        let mut tasks = self.lock();
        if let Some(pending) = tasks.get_mut(task) {
            pending.tries += 1;
            if pending.tries >= TRIES {
                tasks.remove(task);
            }
        }
    }

    /// A task has ended.
    pub(super) fn forget(&self, task: &TaskId) {
        self.lock().remove(task);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs that are sealed in one transaction.
#[derive(Default)]
struct Batch {
    logs: Vec<(TaskId, Vec<Entry>)>,
    entries: usize,
    bytes: u64,
}

impl Batch {
    fn add(&mut self, task: TaskId, entries: Vec<Entry>) {
        self.entries += entries.len();
        self.bytes += bytes_of(&entries);
        self.logs.push((task, entries));
    }

    fn is_full(&self) -> bool {
        self.logs.len() >= BATCH || self.entries >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES
    }
}

fn bytes_of(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.progress.as_str().len() as u64).sum()
}

/// Where the slower round goes on.
#[derive(Debug, Default)]
pub(super) struct Rounds(Mutex<Option<Cursor>>);

impl Tracker {
    /// Seals what is due of the tasks that this node took entries for; says how many tasks it sealed.
    /// It also notices here that the live log lost a memory, if nobody has yet.
    #[tracing::instrument(level = "debug", name = "tasks.seal", skip_all)]
    pub async fn seal(&self) -> Result<u64> {
        self.note_generations().await?;
        let due = self.unsealed.due(self.clock.now());
        self.seal_tasks(due).await
    }

    /// Seals what other nodes left unsealed, of some tasks in progress: the next round goes on with others.
    #[tracing::instrument(level = "debug", name = "tasks.seal_left", skip_all)]
    pub async fn seal_left(&self) -> Result<u64> {
        let mut sealed = 0;
        for _ in 0..LEFT_PAGES {
            let cursor = self.rounds.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let statuses = vec![Status::InProgress];
            let filter = Filter { statuses, cursor, ..Filter::default() };
            // An index carries that: nothing is looked at in vain.
            let page = self.storage.list(&filter, LEFT_PAGE, LEFT_PAGE).await?;
            let (page, cursor) = (page.items, page.next);
            let tasks: Vec<TaskId> = page.iter().map(|listed| listed.task.id.clone()).collect();
            let newest = self.live.last_seq_ids(&tasks).await?;
            let is_left = |newest: u64, latest: Option<&Entry>| {
                newest > latest.map_or(0, |latest| latest.seq_id)
            };
            let left = page
                .iter()
                .zip(newest)
                .filter(|(listed, newest)| is_left(*newest, listed.latest.as_ref()));
            let left = left.map(|(listed, _)| listed.task.id.clone()).collect();
            sealed += self.seal_tasks(left).await?;
            let is_last = cursor.is_none();
            *self.rounds.0.lock().unwrap_or_else(PoisonError::into_inner) = cursor;
            if is_last {
                break;
            }
        }
        Ok(sealed)
    }

    /// Seals one task whose log is full; says whether that made room.
    pub(super) async fn seal_one(&self, task: &TaskId) -> Result<bool> {
        Ok(self.seal_tasks(vec![task.clone()]).await? > 0)
    }

    /// Seals a task when nobody waits for it.
    pub(super) fn seal_soon(&self, task: &TaskId) {
        let (tracker, task) = (self.clone(), task.clone());
        self.detached.spawn(async move {
            if let Err(error) = tracker.seal_one(&task).await {
                tracing::warn!(task.id = %task, error = &error as &dyn std::error::Error,
                    "a log was not sealed, and will be tried again");
            }
        });
    }

    async fn seal_tasks(&self, tasks: Vec<TaskId>) -> Result<u64> {
        let pause = SPREAD / u32::try_from(tasks.len().max(1)).unwrap_or(u32::MAX);
        let (mut done, mut failed) = (0, None);
        let (mut batch, mut sealed) = (Batch::default(), Vec::new());
        let mut portions = tasks.chunks(READ_AT_ONCE).peekable();
        while let Some(portion) = portions.next() {
            let reads = portion.iter().map(async |task| (task, self.unsealed_of(task).await));
            // All of them, before anything else is awaited: a read that nobody goes on with would keep its connection.
            for (task, read) in join_all(reads).await {
                match read {
                    Ok(entries) => batch.add(task.clone(), entries),
                    Err(error) => failed = Some(error),
                }
            }
            let is_over = portions.peek().is_none();
            if batch.is_full() || (is_over && !batch.logs.is_empty()) {
                let Batch { logs, .. } = std::mem::take(&mut batch);
                match self.seal_batch(&logs).await {
                    Ok(some) => sealed.extend(some),
                    Err(error) => failed = Some(error),
                }
                if !is_over {
                    let share = u32::try_from(logs.len()).unwrap_or(u32::MAX);
                    self.closing.run_until_cancelled(sleep(pause * share)).await;
                }
            }
            if is_over || sealed.len() >= TRIMMED_AT_ONCE {
                done += sealed.len() as u64;
                if let Err(error) = self.live.trim(&std::mem::take(&mut sealed)).await {
                    failed = Some(error.into());
                }
            }
        }
        failed.map_or(Ok(done), Err)
    }

    /// The oldest entries of a log, some of which may be sealed already.
    async fn unsealed_of(&self, task: &TaskId) -> Result<Vec<Entry>> {
        let (mut entries, mut after, mut bytes) = (Vec::new(), 0, 0);
        while entries.len() < LOG_ENTRIES && bytes < LOG_BYTES {
            let page = self.live.read(task, after, PAGE).await?;
            match page.entries.last() {
                Some(last) => after = last.seq_id,
                None if after < page.behind => after = page.behind,
                None => break,
            }
            bytes += bytes_of(&page.entries);
            entries.extend(page.entries);
        }
        Ok(entries)
    }

    /// Says how far each task is sealed now; one that somebody else holds is left out.
    async fn seal_batch(&self, logs: &[(TaskId, Vec<Entry>)]) -> Result<Vec<(TaskId, u64)>> {
        let sealed = self.storage.seal_running(logs).await?;
        let up_to: HashMap<&TaskId, u64> =
            sealed.iter().map(|(task, up_to)| (task, *up_to)).collect();
        let now = self.clock.now();
        for (task, _) in logs {
            match up_to.get(task) {
                Some(up_to) => self.unsealed.sealed(task, *up_to, now),
                None => self.unsealed.passed_over(task),
            }
        }
        metrics::counter!("tasks_sealed_early_total").increment(sealed.len() as u64);
        Ok(sealed)
    }
}
