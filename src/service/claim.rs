//! Claim the oldest task of some types; start one; release one.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use super::finish::ClosedLog;
use super::{Error, Result, Said, Tracked, Tracker, count};
use crate::domain::{
    Caller, Ending, Event, Keyed, Lease, Status, StatusChange, Task, TaskId, TaskType, Timestamp,
    Transition, WorkerId,
};
use crate::outliving::{Outliving, leave};
use crate::storage::{Change, Changed, Claim, Outcome, Selection};

/// How long a claim waits until its streams have heard of it.
const ANNOUNCE_PATIENCE: Duration = Duration::from_millis(500);

impl Tracker {
    /// Gives the oldest pending task of `types` to `worker`, waiting up to `wait` for one to appear, but no
    /// longer than until the service closes.
    #[tracing::instrument(level = "debug", name = "task.claim", skip_all)]
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
        let waiter = self.hub.waiters().join(types, self.bounds.room);
        let mut waiter = waiter.ok_or(Error::TooManyClaims)?;
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
        let (tracker, types, worker) = (self.clone(), types.to_vec(), worker.clone());
        let claim = async move {
            let claimed = tracker.take_oldest(&types, &worker, lease).await?;
            Ok(Handover { tracker, claimed })
        };
        self.to_the_end(claim).await.map(Handover::heard)
    }

    async fn take_oldest(
        &self,
        types: &[TaskType],
        worker: &WorkerId,
        lease: Option<Duration>,
    ) -> Result<Option<Tracked>> {
        let now = self.clock.now();
        let (types, worker, lease) = (types.to_vec(), worker.clone(), Lease::new(lease, now));
        let claim = Claim { types, worker, lease, at: now };
        let Some(task) = self.batches.claiming.call(claim).await?? else {
            return Ok(None);
        };
        count(Transition::Claim.rule().event);
        self.announce(&task).await;
        // A first attempt has no history to read.
        if task.attempt == 1 {
            return Ok(Some(Tracked { task, history: Vec::new(), is_complete: true }));
        }
        Box::pin(self.with_history(task)).await.map(Some)
    }

    /// Begins this very task.
    #[tracing::instrument(level = "debug", name = "task.start", skip_all, fields(task.id = %id))]
    pub async fn start(
        &self,
        id: TaskId,
        worker: Option<WorkerId>,
        lease: Option<Duration>,
        keyed: Option<Keyed<Task>>,
    ) -> Result<Said<Task>> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let now = tracker.clock.now();
            let caller = Caller::default();
            let said = tracker
                .change_one(&id, Transition::Start, &caller, keyed, async |mut task: Task| {
                    task.status = Status::InProgress;
                    task.worker_id = worker;
                    task.attempt += 1;
                    task.lease = Some(Lease::new(lease, now));
                    task.stall_check_at = task.terms.stall.map(|stall| now.plus(stall));
                    task.started_at = Some(now);
                    task.updated_at = now;
                    Ok(Change::from(task))
                })
                .await?;
            if let Said::Now(Changed { task, .. }) = &said {
                tracker.announce(task).await;
            }
            said.try_map(|started| Ok(started.task))
        })
        .await
    }

    /// Gives a task back for another worker. Its progress is sealed: it may lie for long. One that somebody wants to
    /// end ends by it.
    #[tracing::instrument(level = "debug", name = "task.release", skip_all, fields(task.id = %id))]
    pub async fn release(
        &self,
        id: TaskId,
        caller: Caller,
        keyed: Option<Keyed<Task>>,
    ) -> Result<Said<Task>> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let release = || tracker.release_once(&id, &caller, keyed.clone());
            let said = tracker.closing_logs(release).await?;
            if let Said::Now(released) = &said {
                tracker.after_an_attempt(released).await;
            }
            said.try_map(|released| Ok(released.task))
        })
        .await
    }

    async fn release_once(
        &self,
        id: &TaskId,
        caller: &Caller,
        keyed: Option<Keyed<Task>>,
    ) -> Result<Said<Changed>> {
        let now = self.clock.now();
        self.change_one(id, Transition::Release, caller, keyed, async |task: Task| {
            if task.cancellation.is_some() {
                return self.close(task, Ending::plain(Status::Cancelled, now)).await;
            }
            // No entry of the attempt that is given back comes after the next has begun.
            let closed = self.close_log(&task, now).await?;
            Ok(taken_back(task, closed, now))
        })
        .await
    }

    /// Tells whoever is to know that an attempt is over: the end, or that the task waits again.
    pub(super) async fn after_an_attempt(&self, changed: &Changed) {
        let task = &changed.task;
        if task.status.is_terminal() {
            self.settle_or_leave(changed).await;
        } else {
            // A commit that took longer than a fence stays closed: the attempt that is over may have opened it again.
            self.look_anew(&task.id).await;
            self.announce(task).await;
            self.wake(task);
        }
    }

    /// Locks one task, asks the lifecycle, and commits what `shape` makes of it. With a key it is done once for all
    /// requests of it: the key is looked up first, so what the task has become since plays no part.
    pub(super) async fn change_one<S, F>(
        &self,
        id: &TaskId,
        transition: Transition,
        caller: &Caller,
        keyed: Option<Keyed<Task>>,
        shape: S,
    ) -> Result<Said<Changed>>
    where
        S: FnOnce(Task) -> F,
        F: Future<Output = Result<Change>>,
    {
        let decide = async |tasks: Vec<Task>| {
            let Some(task) = tasks.into_iter().next() else {
                return Err(Error::TaskNotFound(id.clone()));
            };
            transition
                .check(task.status, &task.holder(), caller)
                .map_err(|refused| Error::refused(id, refused))?;
            Ok(vec![shape(task).await?])
        };
        let outcome = match keyed {
            Some(keyed) => self.storage.change_once(id, keyed, self.clock.now(), decide).await?,
            None => Outcome::Now(self.storage.change(Selection::One(id), decide).await?),
        };
        Said::of(outcome)?.try_map(|changed| {
            count(transition.rule().event);
            changed.into_iter().next().ok_or_else(|| Error::TaskNotFound(id.clone()))
        })
    }

    /// Tells the streams where the task stands now. It may be lost: nothing depends on it. It is waited for a moment,
    /// so that it comes before the worker's first entry; a broker that is away keeps nobody longer.
    pub(super) async fn announce(&self, task: &Task) {
        self.moved(task);
        self.tell(&task.id, Event::Status(StatusChange::of(task, 0))).await;
    }

    /// Tells the streams of a task, likewise.
    pub(super) async fn tell(&self, id: &TaskId, event: Event) {
        let (tracker, id) = (self.clone(), id.clone());
        let announce = async move {
            let announced = tracker.live.announce(&id, &event).await;
            tracker.hints.heard(&announced, "events are not announced");
        };
        // It goes on by itself.
        let _ = timeout(ANNOUNCE_PATIENCE, Outliving::new(announce, &self.detached)).await;
    }
}

/// A task on its way to its worker: one that nobody hears of is given back.
struct Handover {
    tracker: Tracker,
    claimed: Option<Tracked>,
}

impl Handover {
    /// Whoever waits for it has it.
    fn heard(mut self) -> Option<Tracked> {
        self.claimed.take()
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        let Some(Tracked { task, .. }) = self.claimed.take() else { return };
        let tracker = self.tracker.clone();
        let give_back = async move {
            let given_back = tracker.release(task.id.clone(), task.holder(), None).await;
            tracing::info!(task.id = %task.id, ok = given_back.is_ok(),
                "the worker hung up before it heard of its task, which is given back");
        };
        leave(give_back.in_current_span(), &self.tracker.detached);
    }
}

/// What becomes of a task that goes on without its worker.
pub(super) fn taken_back(task: Task, closed: ClosedLog, now: Timestamp) -> Change {
    let ClosedLog { entries, loss, .. } = closed;
    Change { entries, loss, ..Change::from(given_back(task, now)) }
}

/// `task` without its worker, waiting for the next.
fn given_back(mut task: Task, now: Timestamp) -> Task {
    task.status = Status::Pending;
    task.worker_id = None;
    task.started_at = None;
    task.lease = None;
    task.stalled_at = None;
    task.stall_check_at = None;
    task.updated_at = now;
    task
}
