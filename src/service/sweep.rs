//! What passes without anybody's word: deadlines, leases, the grace of the cancelled, and progress that does not come.
//!
//! Each round takes the tasks for which something has passed, in bounded batches under row locks, and
//! leaves those that another node has taken: nodes that sweep at once share the work.

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, join_all};

use super::claim::taken_back;
use super::{Error, Result, Tracker, count};
use crate::domain::stream::What;
use crate::domain::{
    Ending, Entry, Event, JsonObject, Notice, Status, Task, TaskId, Timestamp, Transition,
};
use crate::storage::{Change, Changed, Due, Selection};

/// Tasks that are changed in one transaction: row locks are held while their logs are read.
const BATCH: u32 = 100;
/// Batches of a backlog that are under way at the same time: while one is made durable the other's logs are closed.
const LANES: usize = 2;
/// Batches of one round and lane at most; the next round goes on.
const BATCHES: usize = 10;
/// Logs that are read, closed or ended at once.
const CONCURRENCY: usize = 16;

/// What is to become of one task.
struct Outcome {
    change: Change,
    /// By which transition; `None` where it only is to be looked at later.
    by: Option<Transition>,
}

impl Outcome {
    /// It goes on, and is looked at again.
    fn later(task: Task) -> Self {
        Self { change: Change::from(task), by: None }
    }
}

/// What came of some batches.
struct Swept {
    /// How many tasks made a transition.
    made: u64,
    /// Whether more may be due.
    is_backlog: bool,
}

/// Decides what is to become of one task whose row is locked.
type Decide = fn(Tracker, Task, Timestamp) -> BoxFuture<'static, Result<Outcome>>;

impl Tracker {
    /// Ends every overdue task; says how many.
    #[tracing::instrument(level = "debug", name = "tasks.sweep", skip_all)]
    pub async fn sweep(&self) -> Result<u64> {
        self.change_all(Due::Deadline, |tracker, task, now| {
            let ending = Ending::plain(Status::Timeout, now);
            async move { tracker.ended(task, ending, Transition::Timeout).await }.boxed()
        })
        .await
    }

    /// Ends every cancelled task whose worker has had its time to end it; says how many.
    #[tracing::instrument(level = "debug", name = "tasks.cut_off", skip_all)]
    pub async fn cut_off(&self) -> Result<u64> {
        self.change_all(Due::Grace, |tracker, task, now| {
            let ending = Ending::plain(Status::Cancelled, now);
            async move { tracker.ended(task, ending, Transition::Cancel).await }.boxed()
        })
        .await
    }

    /// Takes tasks from workers that have fallen silent, for the next ones, or ends them where that has happened
    /// too often; says how many.
    #[tracing::instrument(level = "debug", name = "tasks.expire_leases", skip_all)]
    pub async fn expire_leases(&self) -> Result<u64> {
        self.change_all(Due::Lease, |tracker, task, now| {
            async move { tracker.expire(task, now).await }.boxed()
        })
        .await
    }

    /// Flags tasks that run without progress for longer than their terms allow; says how many.
    #[tracing::instrument(level = "debug", name = "tasks.find_stalls", skip_all)]
    pub async fn find_stalls(&self) -> Result<u64> {
        self.change_all(Due::StallCheck, |tracker, task, now| {
            async move { tracker.look_for_progress(task, now).await }.boxed()
        })
        .await
    }

    async fn change_all(&self, due: Due, decide: Decide) -> Result<u64> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let first = tracker.change_some(due, decide, 1).await?;
            if !first.is_backlog {
                return Ok(first.made);
            }
            let lanes = (0..LANES).map(|_| tracker.change_some(due, decide, BATCHES));
            // To the end of each, whatever becomes of the others.
            let rest: Result<u64> =
                join_all(lanes).await.into_iter().map(|swept| Ok(swept?.made)).sum();
            Ok(first.made + rest?)
        })
        .await
    }

    /// So many batches at most, one after the other.
    async fn change_some(&self, due: Due, decide: Decide, batches: usize) -> Result<Swept> {
        let mut swept = Swept { made: 0, is_backlog: true };
        for _ in 0..batches {
            let batch = || self.change_batch(due, decide);
            let (looked_at, made) = self.closing_logs(batch).await?;
            swept.made += made;
            swept.is_backlog = looked_at == BATCH as usize;
            if !swept.is_backlog {
                break;
            }
        }
        Ok(swept)
    }

    /// One batch: how many tasks were looked at and written, and how many made a transition.
    async fn change_batch(&self, due: Due, decide: Decide) -> Result<(usize, u64)> {
        let now = self.clock.now();
        let mut made = std::collections::HashMap::new();
        let selection = Selection::Due { due, now, limit: BATCH };
        let changed = self
            .storage
            .change(selection, async |tasks: Vec<Task>| {
                // Their rows are locked: a log that is away must not be asked about each of them.
                if !tasks.is_empty() {
                    self.live.ping().await?;
                }
                let outcomes: Vec<Result<Outcome>> = futures::stream::iter(tasks)
                    .map(|task| decide(self.clone(), task, now))
                    .buffer_unordered(CONCURRENCY)
                    .collect()
                    .await;
                let mut changes = Vec::new();
                for Outcome { change, by } in possible(outcomes)? {
                    if let Some(by) = by {
                        made.insert(change.task.id.clone(), by);
                    }
                    changes.push(change);
                }
                Ok::<_, Error>(changes)
            })
            .await?;
        futures::stream::iter(&changed)
            .for_each_concurrent(CONCURRENCY, async |changed| {
                let Some(by) = made.get(&changed.task.id) else { return };
                count(by.rule().event);
                match by {
                    Transition::Stall => self.tell_stalled(&changed.task, now).await,
                    _ => self.after_an_attempt(changed).await,
                }
            })
            .await;
        Ok((changed.len(), made.len() as u64))
    }

    async fn ended(&self, task: Task, ending: Ending, by: Transition) -> Result<Outcome> {
        Ok(Outcome { change: self.close(task, ending).await?, by: Some(by) })
    }

    /// What becomes of a task whose lease has run out as far as the durable truth knows.
    async fn expire(&self, task: Task, now: Timestamp) -> Result<Outcome> {
        let before = self.newest_entry(&task.id).await?;
        if let Some(renewed) = renewed_by_progress(&task, before.as_ref(), now) {
            return Ok(Outcome::later(renewed));
        }
        let closed = self.close_log(&task, now).await?;
        // It may have spoken between the look and the close, and was promised that the lease is renewed.
        if let Some(renewed) = renewed_by_progress(&task, closed.entries.last(), now) {
            self.live.recheck(&task.id, Some(task.attempt)).await?;
            return Ok(Outcome::later(renewed));
        }
        tracing::info!(task.id = %task.id, attempt = task.attempt, worker = ?task.worker_id,
            "the lease ran out: the worker has fallen silent");
        if task.cancellation.is_some() {
            let ending = Ending::plain(Status::Cancelled, now);
            let change = Self::end_closed(task, ending, closed);
            return Ok(Outcome { change, by: Some(Transition::Cancel) });
        }
        let task = Task { lost_attempts: task.lost_attempts + 1, ..task };
        if task.lost_attempts >= task.terms.max_attempts {
            let ending =
                Ending { error: Some(exhausted(&task)), ..Ending::plain(Status::Failed, now) };
            let change = Self::end_closed(task, ending, closed);
            return Ok(Outcome { change, by: Some(Transition::Exhaust) });
        }
        Ok(Outcome { change: taken_back(task, closed, now), by: Some(Transition::Expire) })
    }

    /// What becomes of a task for which it is time to look whether there was progress.
    async fn look_for_progress(&self, mut task: Task, now: Timestamp) -> Result<Outcome> {
        let progressed = self.newest_entry(&task.id).await?.map(|entry| entry.timestamp);
        let since = progressed.max(task.started_at).unwrap_or(now);
        let due = task.terms.stall.map(|stall| since.plus(stall));
        // The next entry takes the flag away, and has it looked for anew.
        task.stall_check_at = due.filter(|due| *due > now);
        let by = if task.stall_check_at.is_none() && due.is_some() {
            task.stalled_at = Some(now);
            Some(Transition::Stall)
        } else {
            None
        };
        Ok(Outcome { by, ..Outcome::later(task) })
    }

    async fn tell_stalled(&self, task: &Task, now: Timestamp) {
        self.moved(task);
        // Or the next entry would not be noticed.
        self.look_anew(&task.id).await;
        let since = now.minus(task.terms.stall.unwrap_or_default());
        let what = What::Stalled { since };
        self.tell(&task.id, Event::Notice(Notice { at: now, what })).await;
    }

    /// Takes the flag of a stall away: `attempt` reports again.
    pub(super) async fn recover(&self, id: TaskId, attempt: u32) -> Result<()> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let now = tracker.clock.now();
            let recovered = tracker
                .storage
                .change(Selection::One(&id), async |tasks: Vec<Task>| {
                    let stalled =
                        |task: &Task| task.attempt == attempt && task.stalled_at.is_some();
                    let recovered = tasks.into_iter().filter(stalled).map(|mut task| {
                        task.stalled_at = None;
                        task.stall_check_at = task.terms.stall.map(|stall| now.plus(stall));
                        Change::from(task)
                    });
                    Ok::<_, Error>(recovered.collect())
                })
                .await?;
            if let Some(Changed { task, .. }) = recovered.first() {
                count("recovered");
                tracker.moved(task);
                let notice = Notice { at: now, what: What::Recovered };
                tracker.tell(&id, Event::Notice(notice)).await;
            }
            Ok(())
        })
        .await
    }

    async fn newest_entry(&self, id: &TaskId) -> Result<Option<Entry>> {
        Ok(self.live.latest(std::slice::from_ref(id)).await?.into_iter().next().flatten())
    }
}

/// The task with its lease counted from its newest entry, if that is of this attempt and keeps it.
fn renewed_by_progress(task: &Task, newest: Option<&Entry>, now: Timestamp) -> Option<Task> {
    let progressed = newest.map(|entry| entry.timestamp).filter(|at| Some(*at) >= task.started_at);
    let mut task = task.clone();
    let lease = task.lease.as_mut()?;
    lease.expires_at = lease.expires_after(progressed);
    let is_kept = lease.expires_at.is_none_or(|at| at > now);
    is_kept.then_some(task)
}

/// Why a task failed over which too many workers fell silent.
fn exhausted(task: &Task) -> JsonObject {
    let attempts = task.lost_attempts;
    let error = serde_json::json!({
        "code": "lease_expired",
        "message": format!("{attempts} of {attempts} attempts were lost: each time the worker fell silent until its lease ran out"),
        "lostAttempts": attempts,
        "lastWorkerId": task.worker_id,
    });
    JsonObject::from_stored(error.to_string())
}

/// What could be decided. One log that cannot be closed does not keep the others from ending; if none
/// could, that is the answer.
fn possible(outcomes: Vec<Result<Outcome>>) -> Result<Vec<Outcome>> {
    let (mut made, mut failed) = (Vec::with_capacity(outcomes.len()), None);
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => made.push(outcome),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a task was not swept, and will be tried again"
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
