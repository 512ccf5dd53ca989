//! How a task ends, by its worker's word or by its deadline.
//!
//! ```text
//!   lock the row ─► close the fence ─► read the log ─► commit: status, sealed history, "unsettled"
//!                                                        │
//!                  "unsettled" is deleted ◄─ publish the end, delete the log (one script) ◄┘
//! ```
//!
//! A crash after any arrow is repaired: before the commit nothing has happened but a closed fence, which
//! falls by itself; after it the note "unsettled" has any node publish the end and delete the log.

use std::time::Duration;

use futures::StreamExt;

use super::query::PAGE;
use super::{Error, Result, Tracker, count};
use crate::domain::{
    Ending, JsonObject, Status, StatusChange, Task, TaskId, Timestamp, Transition, WorkerId,
};
use crate::live::Ended;
use crate::storage::{Change, Selection};

/// Tasks that are swept in one transaction: row locks are held while their logs are read.
const SWEEP_BATCH: u32 = 100;
/// Batches of one round at most; the next round goes on.
const SWEEP_BATCHES: usize = 20;
/// Logs that are closed or ended at once.
const CONCURRENCY: usize = 16;
/// How long an end may stay unsettled before another node takes it for abandoned.
const SETTLE_AFTER: Duration = Duration::from_secs(10);

impl Tracker {
    /// Ends a task well.
    #[tracing::instrument(name = "task.complete", skip_all, fields(task.id = %id))]
    pub async fn complete(
        &self,
        id: TaskId,
        worker: Option<WorkerId>,
        result: Option<JsonObject>,
    ) -> Result<Task> {
        self.finish(id, Transition::Complete, worker, result, None).await
    }

    /// Ends a task badly.
    #[tracing::instrument(name = "task.fail", skip_all, fields(task.id = %id))]
    pub async fn fail(
        &self,
        id: TaskId,
        worker: Option<WorkerId>,
        error: Option<JsonObject>,
    ) -> Result<Task> {
        self.finish(id, Transition::Fail, worker, None, error).await
    }

    /// Ends a task because its time is over, whether or not it is.
    #[tracing::instrument(name = "task.timeout", skip_all, fields(task.id = %id))]
    pub async fn time_out(&self, id: TaskId) -> Result<Task> {
        self.finish(id, Transition::Timeout, None, None, None).await
    }

    async fn finish(
        &self,
        id: TaskId,
        transition: Transition,
        worker: Option<WorkerId>,
        result: Option<JsonObject>,
        error: Option<JsonObject>,
    ) -> Result<Task> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let mut last_seq_id = 0;
            let ended = tracker
                .change_one(&id, transition, worker.as_ref(), async |task: Task| {
                    let status = transition.rule().to.unwrap_or(task.status);
                    let ending = Ending { status, result, error, at: tracker.clock.now() };
                    let change = tracker.close(task, ending).await?;
                    last_seq_id = newest(&change);
                    Ok(change)
                })
                .await?;
            tracker.settle_or_leave(&ended, last_seq_id).await;
            Ok(ended)
        })
        .await
    }

    /// Ends every overdue task, in bounded batches; says how many. Nodes that sweep at once share the work.
    #[tracing::instrument(name = "tasks.sweep", skip_all)]
    pub async fn sweep(&self) -> Result<u64> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let mut swept = 0;
            for _ in 0..SWEEP_BATCHES {
                let batch = tracker.sweep_batch(tracker.clock.now()).await?;
                swept += batch;
                if batch < u64::from(SWEEP_BATCH) {
                    break;
                }
            }
            Ok(swept)
        })
        .await
    }

    async fn sweep_batch(&self, now: Timestamp) -> Result<u64> {
        let mut newest_of = std::collections::HashMap::new();
        let overdue = Selection::Overdue { now, limit: SWEEP_BATCH };
        let ended = self
            .storage
            .change(overdue, async |tasks: Vec<Task>| {
                // Their rows are locked: a log that is away must not be asked about each of them.
                if !tasks.is_empty() {
                    self.live.ping().await?;
                }
                let changes: Vec<Result<Change>> = futures::stream::iter(tasks)
                    .map(|task| self.close(task, Ending::timeout(now)))
                    .buffer_unordered(CONCURRENCY)
                    .collect()
                    .await;
                let changes = closable(changes)?;
                newest_of
                    .extend(changes.iter().map(|change| (change.task.id.clone(), newest(change))));
                Ok::<_, Error>(changes)
            })
            .await?;
        let rule = Transition::Timeout.rule();
        futures::stream::iter(&ended)
            .for_each_concurrent(CONCURRENCY, async |task| {
                count(rule.event);
                self.settle_or_leave(task, newest_of.get(&task.id).copied().unwrap_or(0)).await;
            })
            .await;
        Ok(ended.len() as u64)
    }

    /// Closes the log of a task that is about to end and takes its entries.
    async fn close(&self, mut task: Task, ending: Ending) -> Result<Change> {
        let newest = self.live.close(&task.id, task.attempt, ending.at).await?;
        let mut entries = Vec::new();
        let mut after = 0;
        while after < newest {
            let page = self.live.read(&task.id, after, PAGE).await?;
            let Some(last) = page.entries.last() else {
                tracing::error!(task.id = %task.id, after, newest, "entries are missing from the live log");
                break;
            };
            after = last.seq_id;
            entries.extend(page.entries);
        }
        task.status = ending.status;
        task.result = ending.result;
        task.error = ending.error;
        task.updated_at = ending.at;
        task.completed_at = Some(ending.at);
        Ok(Change { task, entries })
    }

    /// Publishes the end and deletes the log; where that fails the end stands all the same, and
    /// [`Tracker::settle_abandoned`] comes back to it.
    async fn settle_or_leave(&self, task: &Task, last_seq_id: u64) {
        if let Err(error) = self.settle(task, last_seq_id).await {
            tracing::warn!(task.id = %task.id, error = &error as &dyn std::error::Error,
                "the end is committed and will be published later");
        }
    }

    async fn settle(&self, task: &Task, mut last_seq_id: u64) -> Result<()> {
        loop {
            let end = StatusChange::of(task, last_seq_id);
            match self.live.end(&task.id, task.attempt, &end, self.clock.now()).await? {
                Ended::Gone => return Ok(self.storage.settled(&task.id).await?),
                // Acknowledged while the commit was under way for longer than a fence stays closed.
                Ended::Unsealed => {
                    let page = self.live.read(&task.id, last_seq_id, PAGE).await?;
                    self.storage.seal(&task.id, &page.entries).await?;
                    last_seq_id =
                        page.entries.last().map_or(page.last_seq_id, |newest| newest.seq_id);
                }
            }
        }
    }

    /// Publishes ends that are committed and were left before they were settled: their node died, or
    /// the live log was away. Says how many. One that cannot be settled keeps no other waiting.
    pub async fn settle_abandoned(&self) -> Result<u64> {
        let before = self.clock.now().minus(SETTLE_AFTER);
        let (mut settled, mut failed) = (0, None);
        let unsettled = self.storage.unsettled(before, SWEEP_BATCH).await?;
        // A log that is away is not asked about each of them.
        if !unsettled.is_empty() {
            self.live.ping().await?;
        }
        for task in unsettled {
            let last_sealed = self.storage.last_sealed(&task.id).await?;
            match self.settle(&task, last_sealed).await {
                Ok(()) => settled += 1,
                Err(error) => {
                    self.storage.settle_later(&task.id, self.clock.now()).await?;
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(settled), Err)
    }
}

impl Ending {
    fn timeout(at: Timestamp) -> Self {
        Self { status: Status::Timeout, result: None, error: None, at }
    }
}

fn newest(change: &Change) -> u64 {
    change.entries.last().map_or(0, |entry| entry.seq_id)
}

/// The changes that could be made. One log that cannot be closed does not keep the others from ending;
/// if none could, that is the answer.
fn closable(changes: Vec<Result<Change>>) -> Result<Vec<Change>> {
    let (mut made, mut failed) = (Vec::with_capacity(changes.len()), None);
    for change in changes {
        match change {
            Ok(change) => made.push(change),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an overdue task was not swept"
                );
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if made.is_empty() => Err(error),
        _ => Ok(made),
    }
}
