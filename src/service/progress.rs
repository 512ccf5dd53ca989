//! Append entries to a task in progress.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Error, Result, Tracker};
use crate::domain::{Caller, JsonObject, Key, Receipt, TaskId, Timestamp, Transition};
use crate::live::{
    Append, Appended, Fence, Grant, KEPT_AFTER_DEADLINE, KEPT_AT_LEAST, Memory, Verified,
};
use crate::storage::Measured;

/// How long an append waits for an end in flight to become visible.
const PATIENCE: Duration = Duration::from_secs(2);

/// Entries were kept.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The number of the last of them.
    pub last_seq_id: u64,
    /// When.
    pub timestamp: Timestamp,
    /// When the worker's lease runs out if nothing more is heard of it.
    pub lease_expires_at: Option<Timestamp>,
    /// Whether somebody wants the task to end.
    pub cancel_requested: bool,
    /// Whether that was at an earlier request of the same key; then all of it is as of then.
    pub is_repeated: bool,
}

impl From<Receipt> for Accepted {
    fn from(Receipt { last_seq_id, at, lease, cancel_requested, .. }: Receipt) -> Self {
        let lease_expires_at = lease.map(|lease| at.plus(lease));
        let (timestamp, is_repeated) = (at, true);
        Self { last_seq_id, timestamp, lease_expires_at, cancel_requested, is_repeated }
    }
}

impl Tracker {
    /// Appends entries, all or none, in order. Whoever hears `Ok` finds them in the history, however
    /// close an end came.
    ///
    /// The hot path is one call to the live log. Only where its fence does not let the caller in is the durable
    /// truth asked: at the first append of an attempt, after an end, for a wrong worker, and when something has
    /// changed that the worker is to hear. An append renews the lease without a word to the durable truth: whoever
    /// finds the lease run out there looks at the newest entry first. With a key the entries are appended once for
    /// all requests of it, whatever becomes of the task in between.
    #[tracing::instrument(level = "debug", name = "task.progress", skip_all, fields(task.id = %id))]
    pub async fn progress(
        &self,
        id: &TaskId,
        entries: &[JsonObject],
        caller: &Caller,
        key: Option<&Key>,
    ) -> Result<Accepted> {
        let now = self.clock.now();
        let asked = Instant::now();
        let mut pause = Duration::from_millis(5);
        let mut verified = None;
        loop {
            let verified_by = verified.as_ref();
            let append = Append {
                entries,
                caller,
                now,
                verified: verified_by,
                key,
                limits: self.bounds.log,
            };
            let (may_go_on, why) = match self.live.append(id, append).await? {
                Appended::Kept { last_seq_id, grant } => {
                    self.took(id, entries, last_seq_id, now);
                    return Ok(Accepted {
                        last_seq_id,
                        timestamp: now,
                        lease_expires_at: grant.lease.map(|lease| now.plus(lease)),
                        cancel_requested: grant.cancel_requested,
                        is_repeated: false,
                    });
                }
                Appended::Before(receipt) => return Ok(receipt.into()),
                Appended::Reused => return Err(Error::KeyReused),
                Appended::TooLong => return Err(Error::LogFull(id.clone())),
                // Somebody else may be sealing it.
                Appended::Full => {
                    (Box::pin(self.seal_one(id)).await?, "the log of the task is being sealed")
                }
                Appended::Unverified { fence, memory } => {
                    let is_opening = matches!(fence, Fence::Opening { .. });
                    let verdict = Box::pin(self.verify(id, caller, (fence, memory), now)).await;
                    let is_refused =
                        matches!(verdict, Err(Error::TaskNotFound(_) | Error::Refused { .. }));
                    if is_refused && is_opening {
                        // The look has left a fence that nobody will open: it must not outlive a log that is gone.
                        Box::pin(self.look_anew(id)).await;
                    }
                    verified = match (verdict, key) {
                        // Nothing is taken now, but it may have been before: an end took the receipts with it.
                        (Err(refused @ Error::Refused { .. }), Some(key)) => {
                            let receipt = Box::pin(self.receipt(key, now)).await?;
                            return receipt.map(Accepted::from).ok_or(refused);
                        }
                        (verdict, _) => verdict?,
                    };
                    // An end closed the fence and is not committed yet, or died on the way.
                    (verified.is_some(), "the end of the task is under way")
                }
            };
            // Even who gets on each time may be overtaken by others for ever.
            let patience = if may_go_on { 5 * PATIENCE } else { PATIENCE };
            if asked.elapsed() >= patience {
                return Err(Error::Unavailable(why.into()));
            }
            if !may_go_on {
                sleep(pause).await;
                pause *= 2;
            }
        }
    }

    /// Entries were kept: they will be sealed, soon where they are many.
    fn took(&self, id: &TaskId, entries: &[JsonObject], last_seq_id: u64, now: Timestamp) {
        metrics::counter!("entries_appended_total").increment(entries.len() as u64);
        if self.unsealed.took(id, entries, last_seq_id, now) {
            self.seal_soon(id);
        }
    }

    /// Asks the durable truth whether entries of this caller are taken, and for which attempt.
    /// `None`: an end of this very attempt closed the fence, so it is to be seen how that goes.
    async fn verify(
        &self,
        id: &TaskId,
        caller: &Caller,
        (fence, memory): (Fence, Option<Memory>),
        now: Timestamp,
    ) -> Result<Option<Verified>> {
        let measured = self.batches.measuring.call(id.clone()).await??;
        let Measured { task, sealed } = measured.ok_or_else(|| Error::TaskNotFound(id.clone()))?;
        Transition::Progress
            .check(task.status, &task.holder(), caller)
            .map_err(|refused| Error::refused(id, refused))?;
        if matches!(fence, Fence::Closed { attempt } if attempt >= task.attempt) {
            return Ok(None);
        }
        if task.stalled_at.is_some() {
            self.recover(id.clone(), task.attempt).await?;
        }
        let memory = match memory {
            Some(memory) => memory,
            None => self.live.memory(id).await?,
        };
        let (last_sealed, sealed_bytes) = self.sealed_after_loss(&task, sealed, &memory).await?;
        Ok(Some(Verified {
            fence,
            grant: Grant {
                attempt: task.attempt,
                holder: task.holder(),
                lease: task.lease.as_ref().and_then(|lease| lease.length),
                cancel_requested: task.cancellation.is_some(),
            },
            last_sealed,
            sealed_bytes,
            memory,
            // A task that is long overdue and not swept yet must not lose what it says now.
            expires_at: (task.timeout_at.plus(KEPT_AFTER_DEADLINE)).max(now.plus(KEPT_AT_LEAST)),
        }))
    }
}
