//! Claim the oldest task of some types; start one; release one.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::finish::newest;
use super::{Error, Result, Tracked, Tracker, count};
use crate::domain::{
    Caller, Ending, Event, Lease, Status, StatusChange, Task, TaskId, TaskType, Timestamp,
    Transition, WorkerId,
};
use crate::storage::{Change, Selection};

impl Tracker {
    /// Gives the oldest pending task of `types` to `worker`, waiting up to `wait` for one to appear, but no
    /// longer than until the service closes.
    #[tracing::instrument(name = "task.claim", skip_all)]
    pub async fn claim(
        &self,
        types: &[TaskType],
        worker: &WorkerId,
        lease: Option<Duration>,
        wait: Duration,
    ) -> Result<Option<Tracked>> {
        self.roll.note(worker, types);
        if wait.is_zero() {
            return self.claim_now(types, worker, lease).await;
        }
        let deadline = Instant::now() + wait;
        // First in the queue, then the look: what is registered in between wakes us.
        let mut waiter = self.hub.waiters().join(types);
        loop {
            if let Some(claimed) = self.claim_now(types, worker, lease).await? {
                waiter.served();
                return Ok(Some(claimed));
            }
            // Only the waiting is cut short: a look that has begun may already have taken a task.
            let woken = timeout_at(deadline, waiter.woken());
            if !matches!(self.closing.run_until_cancelled(woken).await, Some(Ok(()))) {
                // It was here all the time.
                self.roll.note(worker, types);
                return Ok(None);
            }
        }
    }

    /// Looks once. A task that was taken for a worker that has hung up meanwhile is given back.
    async fn claim_now(
        &self,
        types: &[TaskType],
        worker: &WorkerId,
        lease: Option<Duration>,
    ) -> Result<Option<Tracked>> {
        let (answer, answered) = oneshot::channel();
        let (tracker, types, worker) = (self.clone(), types.to_vec(), worker.clone());
        let claim = async move {
            let claimed = tracker.take_oldest(&types, &worker, lease).await;
            if let Err(Ok(Some(unheard))) = answer.send(claimed) {
                let holder = unheard.task.holder();
                let given_back = tracker.release(unheard.task.id.clone(), holder).await;
                tracing::info!(task.id = %unheard.task.id, ok = given_back.is_ok(),
                    "the worker hung up before it heard of its task, which is given back");
            }
        };
        self.detached.spawn(claim.in_current_span());
        answered.await.unwrap_or_else(|gone| Err(Error::Internal(gone.into())))
    }

    async fn take_oldest(
        &self,
        types: &[TaskType],
        worker: &WorkerId,
        lease: Option<Duration>,
    ) -> Result<Option<Tracked>> {
        let now = self.clock.now();
        let lease = Lease::new(lease, now);
        let Some(task) = self.storage.claim(types, worker, &lease, now).await? else {
            return Ok(None);
        };
        count(Transition::Claim.rule().event);
        self.announce(&task).await;
        // A first attempt has no history to read.
        if task.attempt == 1 {
            return Ok(Some(Tracked { task, history: Vec::new() }));
        }
        self.with_history(task).await.map(Some)
    }

    /// Begins this very task.
    #[tracing::instrument(name = "task.start", skip_all, fields(task.id = %id))]
    pub async fn start(
        &self,
        id: TaskId,
        worker: Option<WorkerId>,
        lease: Option<Duration>,
    ) -> Result<Task> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let now = tracker.clock.now();
            let task = tracker
                .change_one(&id, Transition::Start, &Caller::default(), async |mut task: Task| {
                    task.status = Status::InProgress;
                    task.worker_id = worker;
                    task.attempt += 1;
                    task.lease = Some(Lease::new(lease, now));
                    task.stall_check_at = task.terms.stall.map(|stall| now.plus(stall));
                    task.started_at = Some(now);
                    task.updated_at = now;
                    Ok(Change { task, entries: Vec::new() })
                })
                .await?;
            tracker.announce(&task).await;
            Ok(task)
        })
        .await
    }

    /// Gives a task back for another worker. Its progress stays where it is. One that somebody wants to end
    /// ends by it.
    #[tracing::instrument(name = "task.release", skip_all, fields(task.id = %id))]
    pub async fn release(&self, id: TaskId, caller: Caller) -> Result<Task> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let now = tracker.clock.now();
            let mut last_seq_id = 0;
            let task = tracker
                .change_one(&id, Transition::Release, &caller, async |task: Task| {
                    let change = match &task.cancellation {
                        Some(_) => tracker.close(task, Ending::plain(Status::Cancelled, now)).await,
                        // No entry of the attempt that is given back comes after the next has begun.
                        None => tracker
                            .live
                            .close(&task.id, task.attempt, now)
                            .await
                            .map(|_| Change { task: given_back(task, now), entries: Vec::new() })
                            .map_err(Error::from),
                    }?;
                    last_seq_id = newest(&change);
                    Ok(change)
                })
                .await?;
            tracker.after_an_attempt(&task, last_seq_id).await;
            Ok(task)
        })
        .await
    }

    /// Tells whoever is to know that an attempt is over: the end, or that the task waits again.
    pub(super) async fn after_an_attempt(&self, task: &Task, last_seq_id: u64) {
        if task.status.is_terminal() {
            self.settle_or_leave(task, last_seq_id).await;
        } else {
            // A commit that took longer than a fence stays closed: the attempt that is over may have opened it again.
            self.look_anew(&task.id).await;
            self.announce(task).await;
            self.wake(task);
        }
    }

    /// Locks one task, asks the lifecycle, and commits what `shape` makes of it.
    pub(super) async fn change_one<S, F>(
        &self,
        id: &TaskId,
        transition: Transition,
        caller: &Caller,
        shape: S,
    ) -> Result<Task>
    where
        S: FnOnce(Task) -> F,
        F: Future<Output = Result<Change>>,
    {
        let changed = self
            .storage
            .change(Selection::One(id), async |tasks: Vec<Task>| {
                let Some(task) = tasks.into_iter().next() else {
                    return Err(Error::TaskNotFound(id.clone()));
                };
                transition
                    .check(task.status, &task.holder(), caller)
                    .map_err(|refused| Error::refused(id, refused))?;
                Ok(vec![shape(task).await?])
            })
            .await?;
        count(transition.rule().event);
        changed.into_iter().next().ok_or_else(|| Error::TaskNotFound(id.clone()))
    }

    /// Tells the streams where the task stands now. It may be lost: nothing depends on it.
    pub(super) async fn announce(&self, task: &Task) {
        self.tell(&task.id, Event::Status(StatusChange::of(task, 0))).await;
    }

    /// Tells the streams of a task. It may be lost: nothing depends on it.
    pub(super) async fn tell(&self, id: &TaskId, event: Event) {
        if let Err(error) = self.live.announce(id, &event).await {
            tracing::warn!(task.id = %id, error = &error as &dyn std::error::Error,
                "an event was not announced");
        }
    }
}

/// `task` without its worker, waiting for the next.
pub(super) fn given_back(mut task: Task, now: Timestamp) -> Task {
    task.status = Status::Pending;
    task.worker_id = None;
    task.started_at = None;
    task.lease = None;
    task.stalled_at = None;
    task.stall_check_at = None;
    task.updated_at = now;
    task
}
