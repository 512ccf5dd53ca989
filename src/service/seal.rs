//! Seals the logs of running tasks: what is live moves to the durable truth every few seconds, many tasks in
//! one transaction, and leaves the log.
//!
//! ```text
//!   take what is here, or read the log ─► hold the rows of the tasks ─► add what is not sealed, commit
//!      ▲                                                                      │
//!      └── a few logs at a time, and a pause ◄────────────────────────────────┴──► trim the logs, many at once
//! ```
//!
//! A crash after any arrow leaves entries in the log that are sealed: whoever seals next passes them over, and
//! trims. Each node remembers in memory for which tasks it took entries (`unsealed`), and seals those; what a
//! node forgot when it died is found by a slower round over all tasks in progress. A log that is too full
//! to take more is sealed by whoever finds it so.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::sleep;

use super::query::PAGE;
use super::unsealed::{DUE_AFTER, Due};
use super::{Error, Result, Tracker};
use crate::domain::{Entry, Status, TaskId};
use crate::live::Haste;
use crate::storage::{Cursor, Filter};

/// Tasks that are sealed in one transaction: their rows are held meanwhile.
const BATCH: usize = 100;
/// Entries that are sealed in one transaction, at about most: a core does nothing else meanwhile.
const BATCH_ENTRIES: usize = 500;
/// Bytes that are, likewise.
const BATCH_BYTES: u64 = 8 << 20;
/// Entries and bytes that are read of one log at once; the rest is due again.
const LOG_ENTRIES: usize = 5000;
const LOG_BYTES: u64 = 4 << 20;
/// Logs that are read at once.
const READ_AT_ONCE: usize = 8;
/// Logs that are trimmed at once, at most.
const TRIMMED_AT_ONCE: usize = 1000;
/// For how long the slower round pauses for each log it sealed.
const PACE_OF_LEFT: Duration = Duration::from_millis(10);
/// Tasks of a page of the slower round, and pages of one round.
const LEFT_PAGE: u32 = 100;
const LEFT_PAGES: usize = 10;

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

/// How many of `due` are read at once: few, and of few entries, but one at least.
fn portion(due: &[Due]) -> usize {
    let mut entries = 0_u64;
    let fits = |due: &&Due| {
        entries = entries.saturating_add(due.entries);
        entries <= BATCH_ENTRIES as u64
    };
    due.iter().take(READ_AT_ONCE).take_while(fits).count().max(1)
}

fn bytes_of(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.progress.as_str().len() as u64).sum()
}

/// Where the slower round goes on.
#[derive(Debug, Default)]
pub(super) struct Rounds(Mutex<Option<Cursor>>);

/// Logs that are sealed and not trimmed, each with how far.
#[derive(Debug, Default)]
pub(super) struct Untrimmed(Mutex<Vec<(TaskId, u64)>>);

impl Untrimmed {
    /// Adds some; gives all that are there once there are `together` or more.
    fn add(&self, sealed: Vec<(TaskId, u64)>, together: usize) -> Vec<(TaskId, u64)> {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.extend(sealed);
        if logs.len() >= together { std::mem::take(&mut *logs) } else { Vec::new() }
    }
}

/// What became of some logs that were to be sealed: those that are, each with how far, and why others are not.
type Outcome = (Vec<(TaskId, u64)>, Result<()>);

impl Tracker {
    /// Seals what is due of the tasks that this node took entries for, spread over as long as entries wait, so that who
    /// appends does not wait for all of it at once; says how many tasks it sealed.
    ///
    /// Logs are trimmed when about all that are remembered have been sealed: entries of many tasks lie beside each other.
    #[tracing::instrument(level = "debug", name = "tasks.seal", skip_all)]
    pub async fn seal(&self) -> Result<u64> {
        let (due, remembered) = self.unsealed.due(self.clock.now());
        let pace = DUE_AFTER / u32::try_from(remembered.max(1)).unwrap_or(u32::MAX);
        let together = remembered.min(TRIMMED_AT_ONCE);
        let (mut count, mut outcome) = (0, Ok(()));
        for some in due.chunks(TRIMMED_AT_ONCE) {
            let (sealed, done) = self.seal_tasks(some, pace).await;
            count += sealed.len() as u64;
            let trimmed = self.live.trim(&self.untrimmed.add(sealed, together), Haste::Aside).await;
            outcome = outcome.and(done).and(trimmed.map_err(Error::from));
        }
        if due.is_empty() {
            self.live.trim(&self.untrimmed.add(Vec::new(), together), Haste::Aside).await?;
        }
        outcome.map(|()| count)
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
            let left = page.iter().zip(newest).filter_map(|(listed, newest)| {
                let sealed = listed.latest.as_ref().map_or(0, |latest| latest.seq_id);
                let entries = newest.saturating_sub(sealed);
                (entries > 0).then(|| Due { task: listed.task.id.clone(), entries })
            });
            sealed += self.seal_now(&left.collect::<Vec<_>>()).await?;
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
        let due = Due { task: task.clone(), entries: u64::MAX };
        Ok(self.seal_now(&[due]).await? > 0)
    }

    /// Seals and trims; says how many tasks.
    async fn seal_now(&self, due: &[Due]) -> Result<u64> {
        let (sealed, done) = self.seal_tasks(due, PACE_OF_LEFT).await;
        let trimmed = self.live.trim(&sealed, Haste::AtOnce).await;
        done.and(trimmed.map_err(Error::from)).map(|()| sealed.len() as u64)
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

    /// Seals tasks, a few at a time, and pauses after each few for `pace` for each of them.
    async fn seal_tasks(&self, due: &[Due], pace: Duration) -> Outcome {
        let (mut sealed, mut outcome, mut batch) = (Vec::new(), Ok(()), Batch::default());
        let mut rest = due;
        while !rest.is_empty() {
            let (portion, behind) = rest.split_at(portion(rest));
            rest = behind;
            let reads =
                portion.iter().map(async |due| (&due.task, self.unsealed_of(&due.task).await));
            // All of them, before anything else is awaited: a read that nobody goes on with would keep its connection.
            for (task, read) in join_all(reads).await {
                match read {
                    Ok(entries) => batch.add(task.clone(), entries),
                    Err(error) => outcome = Err(error),
                }
            }
            if batch.is_full() || (rest.is_empty() && !batch.logs.is_empty()) {
                let Batch { logs, .. } = std::mem::take(&mut batch);
                match self.seal_batch(&logs).await {
                    Ok(some) => sealed.extend(some),
                    Err(error) => outcome = Err(error),
                }
                if !rest.is_empty() {
                    let share = u32::try_from(logs.len()).unwrap_or(u32::MAX);
                    self.closing.run_until_cancelled(sleep(pace * share)).await;
                }
            }
        }
        (sealed, outcome)
    }

    /// The oldest entries of a log, some of which may be sealed already: those that are here, else the log is read.
    async fn unsealed_of(&self, task: &TaskId) -> Result<Vec<Entry>> {
        let mut entries = self.unsealed.take(task);
        if !entries.is_empty() {
            return Ok(entries);
        }
        let (mut after, mut bytes) = (0, 0);
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
