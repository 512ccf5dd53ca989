//! Claim the oldest task of some types; start one; release one.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::{Error, Result, Tracked, Tracker, count};
use crate::domain::{Status, StatusChange, Task, TaskId, TaskType, Transition, WorkerId};
use crate::storage::{Change, Selection};

impl Tracker {
    /// Gives the oldest pending task of `types` to `worker`, waiting up to `wait` for one to appear, but no
    /// longer than until the service closes.
    #[tracing::instrument(name = "task.claim", skip_all)]
    pub async fn claim(
        &self,
        types: &[TaskType],
        worker: &WorkerId,
        wait: Duration,
    ) -> Result<Option<Tracked>> {
        if wait.is_zero() {
            return self.claim_now(types, worker).await;
        }
        let deadline = Instant::now() + wait;
        // First in the queue, then the look: what is registered in between wakes us.
        let mut waiter = self.hub.waiters().join(types);
        loop {
            if let Some(claimed) = self.claim_now(types, worker).await? {
                waiter.served();
                return Ok(Some(claimed));
            }
            // Only the waiting is cut short: a look that has begun may already have taken a task.
            let woken = timeout_at(deadline, waiter.woken());
            if !matches!(self.closing.run_until_cancelled(woken).await, Some(Ok(()))) {
                return Ok(None);
            }
        }
    }

    /// Looks once. A task that was taken for a worker that has hung up meanwhile is given back.
    async fn claim_now(&self, types: &[TaskType], worker: &WorkerId) -> Result<Option<Tracked>> {
        let (answer, answered) = oneshot::channel();
        let (tracker, types, worker) = (self.clone(), types.to_vec(), worker.clone());
        let claim = async move {
            let claimed = tracker.take_oldest(&types, &worker).await;
            if let Err(Ok(Some(unheard))) = answer.send(claimed) {
                let given_back = tracker.release(unheard.task.id.clone(), worker).await;
                tracing::info!(task.id = %unheard.task.id, ok = given_back.is_ok(),
                    "the worker hung up before it heard of its task, which is given back");
            }
        };
        self.detached.spawn(claim.in_current_span());
        answered.await.unwrap_or_else(|gone| Err(Error::Internal(gone.into())))
    }

    async fn take_oldest(&self, types: &[TaskType], worker: &WorkerId) -> Result<Option<Tracked>> {
        let Some(task) = self.storage.claim(types, worker, self.clock.now()).await? else {
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
    pub async fn start(&self, id: TaskId, worker: Option<WorkerId>) -> Result<Task> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let now = tracker.clock.now();
            let task = tracker
                .change_one(&id, Transition::Start, None, async |mut task: Task| {
                    task.status = Status::InProgress;
                    task.worker_id = worker;
                    task.attempt += 1;
                    task.started_at = Some(now);
                    task.updated_at = now;
                    Ok(Change { task, entries: Vec::new(), loss: None })
                })
                .await?;
            tracker.announce(&task).await;
            Ok(task)
        })
        .await
    }

    /// Gives a task back for another worker. Its progress is sealed: it may lie for long.
    #[tracing::instrument(name = "task.release", skip_all, fields(task.id = %id))]
    pub async fn release(&self, id: TaskId, worker: WorkerId) -> Result<Task> {
        let tracker = self.clone();
        self.to_the_end(async move {
            tracker.know_generation().await?;
            let mut released = tracker.release_once(&id, &worker).await;
            if tracker.may_try_again(Error::is_away(&released)).await? {
                released = tracker.release_once(&id, &worker).await;
            }
            let task = released?;
            tracker.announce(&task).await;
            tracker.wake(&task);
            Ok(task)
        })
        .await
    }

    async fn release_once(&self, id: &TaskId, worker: &WorkerId) -> Result<Task> {
        let now = self.clock.now();
        self.change_one(id, Transition::Release, Some(worker), async |mut task: Task| {
            // No entry of the attempt that is given back comes after the next has begun.
            let closed = self.close_log(&task, now).await?;
            task.status = Status::Pending;
            task.worker_id = None;
            task.started_at = None;
            task.updated_at = now;
            Ok(Change { task, entries: closed.entries, loss: closed.loss })
        })
        .await
    }

    /// Locks one task, asks the lifecycle, and commits what `shape` makes of it.
    pub(super) async fn change_one<S, F>(
        &self,
        id: &TaskId,
        transition: Transition,
        worker: Option<&WorkerId>,
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
                    .check(task.status, task.worker_id.as_ref(), worker)
                    .map_err(|refused| Error::refused(id, refused))?;
                Ok(vec![shape(task).await?])
            })
            .await?;
        count(transition.rule().event);
        changed.into_iter().next().ok_or_else(|| Error::TaskNotFound(id.clone()))
    }

    /// Tells the streams where the task stands now. It may be lost: nothing depends on it.
    async fn announce(&self, task: &Task) {
        let change = StatusChange::of(task, 0);
        if let Err(error) = self.live.announce(&task.id, &change).await {
            tracing::warn!(task.id = %task.id, error = &error as &dyn std::error::Error,
                "a change of status was not announced");
        }
    }
}
