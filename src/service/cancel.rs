//! Somebody wants a task to end before it is done.
//!
//! A task that waits ends at once. One in progress goes on: its worker is told with its next answer, and may end it
//! in its own way, or say that it has stopped by cancelling it under its own name. If it does neither within the
//! grace, it is cut off (see `sweep`).

use std::time::Duration;

use super::{Error, Result, Tracker, count};
use crate::domain::stream::What;
use crate::domain::{
    Caller, Cancellation, Ending, Event, Notice, Reason, Status, Task, TaskId, Timestamp,
    Transition,
};
use crate::storage::{Change, Changed, Selection};

/// How a task is to be cancelled.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// Why, for people.
    pub reason: Option<Reason>,
    /// Whether the worker is given no time.
    pub force: bool,
    /// How long the worker has.
    pub grace: Duration,
}

impl Tracker {
    /// Cancels a task. Where `caller` names its worker, that is the worker's word that it has stopped.
    ///
    /// Asking again changes the reason and can only shorten the grace.
    #[tracing::instrument(level = "debug", name = "task.cancel", skip_all, fields(task.id = %id))]
    pub async fn cancel(&self, id: TaskId, caller: Caller, cancel: Cancel) -> Result<Task> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let cancel = || tracker.cancel_once(&id, &caller, &cancel);
            let changed = tracker.closing_logs(cancel).await?;
            if changed.task.status.is_terminal() {
                count(Transition::Cancel.rule().event);
                tracker.settle_or_leave(&changed).await;
            } else {
                count(Transition::RequestCancel.rule().event);
                tracker.look_anew(&changed.task.id).await;
                tracker.tell_of_cancellation(&changed.task).await;
            }
            Ok(changed.task)
        })
        .await
    }

    /// Ends a task, or notes that it is to end.
    async fn cancel_once(&self, id: &TaskId, caller: &Caller, cancel: &Cancel) -> Result<Changed> {
        let now = self.clock.now();
        let changed = self
            .storage
            .change(Selection::One(id), async |tasks: Vec<Task>| {
                let task = tasks.into_iter().next();
                let mut task = task.ok_or_else(|| Error::TaskNotFound(id.clone()))?;
                Transition::Cancel
                    .check(task.status, &task.holder(), caller)
                    .map_err(|refused| Error::refused(id, refused))?;
                let may_go_on =
                    task.status == Status::InProgress && !cancel.force && caller.is_anonymous();
                let deadline = may_go_on.then(|| now.plus(cancel.grace));
                task.cancellation =
                    Some(asked_for(task.cancellation, cancel.reason.clone(), deadline, now));
                if may_go_on {
                    return Ok::<_, Error>(vec![Change::from(task)]);
                }
                let ending = Ending::plain(Status::Cancelled, now);
                Ok(vec![self.close(task, ending).await?])
            })
            .await?;
        changed.into_iter().next().ok_or_else(|| Error::TaskNotFound(id.clone()))
    }

    async fn tell_of_cancellation(&self, task: &Task) {
        self.moved(task);
        let Some(Cancellation { reason, deadline, .. }) = task.cancellation.clone() else { return };
        let what = What::CancelRequested { reason, deadline };
        self.tell(&task.id, Event::Notice(Notice { at: self.clock.now(), what })).await;
    }
}

/// What is asked for now, after what was asked for before.
fn asked_for(
    before: Option<Cancellation>,
    reason: Option<Reason>,
    deadline: Option<Timestamp>,
    now: Timestamp,
) -> Cancellation {
    let Some(before) = before else {
        return Cancellation { requested_at: now, reason, deadline };
    };
    let earlier = match (before.deadline, deadline) {
        (Some(before), Some(now)) => Some(before.min(now)),
        (before, now) => before.or(now),
    };
    Cancellation { reason: reason.or(before.reason), deadline: earlier, ..before }
}
