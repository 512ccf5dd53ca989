//! How a task ends.
//!
//! ```text
//!   lock the row ─► close the fence and read the log ─► commit: status, sealed history, "unsettled"
//!                                                         │
//!                   "unsettled" is deleted ◄─ publish the end, delete the log (one script) ◄┘
//! ```
//!
//! A crash after any arrow is repaired: before the commit nothing has happened but a closed fence, which
//! falls by itself; after it the note "unsettled" has any node publish the end and delete the log.

use std::time::Duration;

use super::ends::{End, EndJob};
use super::query::PAGE;
use super::{Result, Said, Tracker};
use crate::domain::{
    Caller, Ending, Entry, JsonObject, Keyed, Receipt, StatusChange, Task, TaskId, Timestamp,
    Transition,
};
use crate::live::{Closed, Ended};
use crate::storage::{Change, Changed, Loss};

/// Ends that are settled in one round.
const SETTLE_BATCH: u32 = 100;
/// How long an end may stay unsettled before another node takes it for abandoned.
const SETTLE_AFTER: Duration = Duration::from_secs(10);

/// A log that takes no more entries of an attempt.
#[derive(Debug)]
pub(super) struct ClosedLog {
    /// What is in it, sealed or not.
    pub(super) entries: Vec<Entry>,
    /// What may be missing from it.
    pub(super) loss: Option<Loss>,
    /// What its appends with a key were told.
    receipts: Vec<Receipt>,
}

impl Tracker {
    /// Ends a task well.
    #[tracing::instrument(level = "debug", name = "task.complete", skip_all, fields(task.id = %id))]
    pub async fn complete(
        &self,
        id: TaskId,
        caller: Caller,
        result: Option<JsonObject>,
        keyed: Option<Keyed<Task>>,
    ) -> Result<Said<Task>> {
        self.finish(id, Transition::Complete, caller, result, None, keyed).await
    }

    /// Ends a task badly.
    #[tracing::instrument(level = "debug", name = "task.fail", skip_all, fields(task.id = %id))]
    pub async fn fail(
        &self,
        id: TaskId,
        caller: Caller,
        error: Option<JsonObject>,
        keyed: Option<Keyed<Task>>,
    ) -> Result<Said<Task>> {
        self.finish(id, Transition::Fail, caller, None, error, keyed).await
    }

    /// Ends a task because its time is over, whether or not it is.
    #[tracing::instrument(level = "debug", name = "task.timeout", skip_all, fields(task.id = %id))]
    pub async fn time_out(&self, id: TaskId, keyed: Option<Keyed<Task>>) -> Result<Said<Task>> {
        self.finish(id, Transition::Timeout, Caller::default(), None, None, keyed).await
    }

    async fn finish(
        &self,
        id: TaskId,
        transition: Transition,
        caller: Caller,
        result: Option<JsonObject>,
        error: Option<JsonObject>,
        keyed: Option<Keyed<Task>>,
    ) -> Result<Said<Task>> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let end = End { by: transition, caller, result, error };
            let finish = || tracker.finish_once(&id, end.clone(), keyed.clone());
            let said = tracker.closing_logs(finish).await?;
            if let Said::Now(ended) = &said {
                tracker.settle_or_leave(ended).await;
            }
            said.try_map(|ended| Ok(ended.task))
        })
        .await
    }

    /// Ends a task, together with others that end now.
    async fn finish_once(
        &self,
        id: &TaskId,
        end: End,
        keyed: Option<Keyed<Task>>,
    ) -> Result<Said<Changed>> {
        if keyed.is_none() {
            let (tracker, id, end) = (self.clone(), id.clone(), end.clone());
            let said = self.batches.ending.call(EndJob { tracker, id, end }).await?;
            if let Some(said) = said {
                return said.map(Said::Now);
            }
        }
        let caller = end.caller.clone();
        let by = end.by;
        let ended = self
            .change_one(id, by, &caller, keyed, async |task: Task| self.end_one(task, end).await);
        Box::pin(ended).await
    }

    /// Closes the log of a task that is about to end and takes its entries and receipts.
    pub(super) async fn close(&self, task: Task, ending: Ending) -> Result<Change> {
        let closed = self.close_log(&task, ending.at).await?;
        Ok(Self::end_closed(task, ending, closed))
    }

    /// The same of a task whose log is closed.
    pub(super) fn end_closed(mut task: Task, ending: Ending, closed: ClosedLog) -> Change {
        task.status = ending.status;
        task.result = ending.result;
        task.error = ending.error;
        task.updated_at = ending.at;
        task.completed_at = Some(ending.at);
        task.stall_check_at = None;
        let ClosedLog { entries, loss, mut receipts } = closed;
        receipts.retain(|receipt| receipt.is_kept(ending.at));
        Change { task, entries, loss, receipts }
    }

    /// Closes the log of an attempt that is over and takes its entries.
    pub(super) async fn close_log(&self, task: &Task, now: Timestamp) -> Result<ClosedLog> {
        let Closed { memory, page, receipts } =
            self.live.close(&task.id, task.attempt, now).await?;
        if task.attempt == 0 {
            return Ok(ClosedLog { entries: Vec::new(), loss: None, receipts });
        }
        let loss = self.loss(task, &memory)?;
        let entries = self.log_of(&task.id, page, memory.last_seq_id).await?;
        Ok(ClosedLog { entries, loss, receipts })
    }

    /// Publishes the end and deletes the log; where that fails the end stands all the same, and
    /// [`Tracker::settle_abandoned`] comes back to it.
    pub(super) async fn settle_or_leave(&self, Changed { task, last_seq_id }: &Changed) {
        self.moved(task);
        self.unsealed.forget(&task.id);
        match self.settle(task, *last_seq_id).await {
            // Nobody waits for it: where it is lost, the end is settled once more.
            Ok(()) => self.batches.settling.send(task.id.clone()),
            Err(error) => tracing::warn!(task.id = %task.id,
                error = &error as &dyn std::error::Error,
                "the end is committed and will be published later"),
        }
    }

    /// Publishes the end and deletes the log. That it is settled is not noted yet.
    async fn settle(&self, task: &Task, mut last_seq_id: u64) -> Result<()> {
        loop {
            let end = StatusChange::of(task, last_seq_id);
            match self.live.end(&task.id, task.attempt, &end, self.clock.now()).await? {
                Ended::Gone => return Ok(()),
                Ended::Unsealed => {
                    last_seq_id = Box::pin(self.seal_late(task, last_seq_id)).await?;
                }
            }
        }
    }

    /// Seals what was acknowledged while the commit was under way for longer than a fence stays closed. Says the newest number.
    async fn seal_late(&self, task: &Task, after: u64) -> Result<u64> {
        let page = self.live.read(&task.id, after, PAGE).await?;
        // Receipts first: once the entries are sealed, nothing says any more that there were some.
        self.keep_receipts(&task.id).await?;
        self.storage.seal(&task.id, &page.entries, None).await?;
        Ok(page.entries.last().map_or(page.last_seq_id, |newest| newest.seq_id))
    }

    /// Settles an end that another began to settle, perhaps.
    async fn settle_left(&self, task: &Task) -> Result<()> {
        self.keep_receipts(&task.id).await?;
        self.settle(task, self.storage.last_sealed(&task.id).await?).await?;
        self.batches.settling.call(task.id.clone()).await?
    }

    /// Publishes ends that are committed and were left before they were settled: their node died, or
    /// the live log was away. Says how many. One that cannot be settled keeps no other waiting.
    pub async fn settle_abandoned(&self) -> Result<u64> {
        let before = self.clock.now().minus(SETTLE_AFTER);
        let (mut settled, mut failed) = (0, None);
        let unsettled = self.storage.unsettled(before, SETTLE_BATCH).await?;
        // A log that is away is not asked about each of them.
        if !unsettled.is_empty() {
            self.live.ping().await?;
        }
        for task in unsettled {
            match self.settle_left(&task).await {
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
