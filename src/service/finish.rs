//! How a task ends, by its worker's word or by its deadline.
//!
//! ```text
//!   lock the row ─► close the fence ─► read the log ─► commit: status, rest of the history, "unsettled"
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
    Ending, Entry, JsonObject, Status, StatusChange, Task, TaskId, Timestamp, Transition, WorkerId,
};
use crate::live::Ended;
use crate::storage::{Change, Loss, Selection};

/// Tasks that are swept in one transaction: row locks are held while their logs are read.
const SWEEP_BATCH: u32 = 100;
/// Batches of one round at most; the next round goes on.
const SWEEP_BATCHES: usize = 20;
/// Logs that are closed or ended at once.
const CONCURRENCY: usize = 16;
/// How long an end may stay unsettled before another node takes it for abandoned.
const SETTLE_AFTER: Duration = Duration::from_secs(10);

/// How a task is to end: by which word, by whom, and what it leaves.
type End = (Transition, Option<WorkerId>, Option<JsonObject>, Option<JsonObject>);

/// A log that takes no more entries of an attempt.
#[derive(Debug)]
pub(super) struct ClosedLog {
    /// What is in it, sealed or not.
    pub(super) entries: Vec<Entry>,
    /// What may be missing from it.
    pub(super) loss: Option<Loss>,
    /// The number of the newest entry; `None` where only the sealed history knows.
    newest: Option<u64>,
}

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
            tracker.know_generation().await?;
            let end = (transition, worker, result, error);
            let mut ended = tracker.finish_once(&id, end.clone()).await;
            if tracker.may_try_again(Error::is_away(&ended)).await? {
                ended = tracker.finish_once(&id, end).await;
            }
            let (ended, newest) = ended?;
            tracker.settle_or_leave(&ended, newest).await;
            Ok(ended)
        })
        .await
    }

    /// Ends a task; says the number of its newest entry, where the log knows it.
    async fn finish_once(
        &self,
        id: &TaskId,
        (transition, worker, result, error): End,
    ) -> Result<(Task, Option<u64>)> {
        let mut newest = None;
        let ended = self
            .change_one(id, transition, worker.as_ref(), async |task: Task| {
                let status = transition.rule().to.unwrap_or(task.status);
                let ending = Ending { status, result, error, at: self.clock.now() };
                let (change, last) = self.close(task, ending).await?;
                newest = last;
                Ok(change)
            })
            .await?;
        Ok((ended, newest))
    }

    /// Ends every overdue task, in bounded batches; says how many. Nodes that sweep at once share the work.
    #[tracing::instrument(name = "tasks.sweep", skip_all)]
    pub async fn sweep(&self) -> Result<u64> {
        let tracker = self.clone();
        self.to_the_end(async move {
            tracker.know_generation().await?;
            let mut swept = 0;
            for _ in 0..SWEEP_BATCHES {
                let mut batch = tracker.sweep_batch(tracker.clock.now()).await;
                if tracker.may_try_again(Error::is_away(&batch)).await? {
                    batch = tracker.sweep_batch(tracker.clock.now()).await;
                }
                let batch = batch?;
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
                let changes: Vec<Result<(Change, Option<u64>)>> = futures::stream::iter(tasks)
                    .map(|task| self.close(task, Ending::timeout(now)))
                    .buffer_unordered(CONCURRENCY)
                    .collect()
                    .await;
                let changes = closable(changes)?;
                newest_of.extend(
                    changes.iter().map(|(change, newest)| (change.task.id.clone(), *newest)),
                );
                Ok::<_, Error>(changes.into_iter().map(|(change, _)| change).collect())
            })
            .await?;
        let rule = Transition::Timeout.rule();
        futures::stream::iter(&ended)
            .for_each_concurrent(CONCURRENCY, async |task| {
                count(rule.event);
                self.settle_or_leave(task, newest_of.get(&task.id).copied().flatten()).await;
            })
            .await;
        Ok(ended.len() as u64)
    }

    /// Closes the log of a task that is about to end and takes its entries. Says the number of the newest
    /// entry, where the log knows it.
    async fn close(&self, mut task: Task, ending: Ending) -> Result<(Change, Option<u64>)> {
        let closed = self.close_log(&task, ending.at).await?;
        task.status = ending.status;
        task.result = ending.result;
        task.error = ending.error;
        task.updated_at = ending.at;
        task.completed_at = Some(ending.at);
        let change = Change { task, entries: closed.entries, loss: closed.loss };
        Ok((change, closed.newest))
    }

    /// Closes the log of an attempt that is over and takes its entries.
    pub(super) async fn close_log(&self, task: &Task, now: Timestamp) -> Result<ClosedLog> {
        let newest = self.live.close(&task.id, task.attempt, now).await?;
        if task.attempt == 0 {
            return Ok(ClosedLog { entries: Vec::new(), loss: None, newest: None });
        }
        let memory = self.live.memory(&task.id).await?;
        let loss = self.loss(task, &memory)?;
        let entries = self.log_of(&task.id, newest).await?;
        let is_known = loss.is_none() && newest > 0;
        Ok(ClosedLog { entries, loss, newest: is_known.then_some(newest) })
    }

    /// Publishes the end and deletes the log; where that fails the end stands all the same, and
    /// [`Tracker::settle_abandoned`] comes back to it.
    async fn settle_or_leave(&self, task: &Task, newest: Option<u64>) {
        self.unsealed.forget(&task.id);
        let settle = async {
            let last_seq_id = match newest {
                Some(newest) => newest,
                None => self.storage.last_sealed(&task.id).await?,
            };
            self.settle(task, last_seq_id).await
        };
        if let Err(error) = settle.await {
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
                    self.storage.seal(&task.id, &page.entries, None).await?;
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
        for task in self.storage.unsettled(before, SWEEP_BATCH).await? {
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

/// The changes that could be made. One log that cannot be closed does not keep the others from ending;
/// if none could, that is the answer.
fn closable<T>(changes: Vec<Result<T>>) -> Result<Vec<T>> {
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
