//! Append entries to a task in progress.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Error, Result, Tracker};
use crate::domain::{Caller, JsonObject, TaskId, Timestamp, Transition};
use crate::live::{Append, Appended, Fence, Grant, KEPT_AFTER_DEADLINE, KEPT_AT_LEAST, Verified};

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
}

impl Tracker {
    /// Appends entries, all or none, in order. Whoever hears `Ok` finds them in the history, however
    /// close an end came.
    ///
    /// The hot path is one call to the live log. Only where its fence does not let the caller in is the durable
    /// truth asked: at the first append of an attempt, after an end, for a wrong worker, and when something has
    /// changed that the worker is to hear. An append renews the lease without a word to the durable truth: whoever
    /// finds the lease run out there looks at the newest entry first.
    #[tracing::instrument(name = "task.progress", skip_all, fields(task.id = %id))]
    pub async fn progress(
        &self,
        id: &TaskId,
        entries: &[JsonObject],
        caller: &Caller,
    ) -> Result<Accepted> {
        let now = self.clock.now();
        let asked = Instant::now();
        let mut pause = Duration::from_millis(5);
        let mut verified = None;
        loop {
            let append = Append { entries, caller, now, verified: verified.as_ref() };
            let fence = match self.live.append(id, append).await? {
                Appended::Kept { last_seq_id, grant } => {
                    metrics::counter!("entries_appended_total").increment(entries.len() as u64);
                    return Ok(Accepted {
                        last_seq_id,
                        timestamp: now,
                        lease_expires_at: grant.lease.map(|lease| now.plus(lease)),
                        cancel_requested: grant.cancel_requested,
                    });
                }
                Appended::Unverified(fence) => fence,
            };
            let is_opening = matches!(fence, Fence::Opening { .. });
            verified = match self.verify(id, caller, fence, now).await {
                // The look has left a fence that nobody will open: it must not outlive a log that is gone.
                Err(refused @ (Error::TaskNotFound(_) | Error::Refused { .. })) if is_opening => {
                    self.look_anew(id).await;
                    return Err(refused);
                }
                verified => verified?,
            };
            if verified.is_none() {
                // An end closed the fence and is not committed yet, or died on the way.
                if asked.elapsed() >= PATIENCE {
                    let why = "the end of the task is under way";
                    return Err(Error::Unavailable(why.into()));
                }
                sleep(pause).await;
                pause *= 2;
            }
        }
    }

    /// Asks the durable truth whether entries of this caller are taken, and for which attempt.
    /// `None`: an end of this very attempt closed the fence, so it is to be seen how that goes.
    async fn verify(
        &self,
        id: &TaskId,
        caller: &Caller,
        fence: Fence,
        now: Timestamp,
    ) -> Result<Option<Verified>> {
        let task = self.existing(id).await?;
        Transition::Progress
            .check(task.status, &task.holder(), caller)
            .map_err(|refused| Error::refused(id, refused))?;
        if matches!(fence, Fence::Closed { attempt } if attempt >= task.attempt) {
            return Ok(None);
        }
        if task.stalled_at.is_some() {
            self.recover(id.clone(), task.attempt).await?;
        }
        Ok(Some(Verified {
            fence,
            grant: Grant {
                attempt: task.attempt,
                holder: task.holder(),
                lease: task.lease.as_ref().and_then(|lease| lease.length),
                cancel_requested: task.cancellation.is_some(),
            },
            last_sealed: self.storage.last_sealed(id).await?,
            // A task that is long overdue and not swept yet must not lose what it says now.
            expires_at: (task.timeout_at.plus(KEPT_AFTER_DEADLINE)).max(now.plus(KEPT_AT_LEAST)),
        }))
    }
}
