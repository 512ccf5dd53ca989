//! Who asks for work.
//!
//! A claim does not write that it happened: it is noted in memory, and every few seconds a duty writes
//! what was noted since, in bulk. So what is known of a worker is a few seconds old, and survives its node.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Result, Tracker};
use crate::domain::{Task, TaskType, Timestamp, WorkerId};
use crate::storage::{Polled, Seen};

/// How long it is remembered that somebody asked.
const REMEMBERED_FOR: Duration = Duration::from_hours(7 * 24);
/// Workers, and types, that are noted between two rounds at most: a client may make up names as it likes.
const MOST_NOTED: usize = 20_000;
/// Types that are noted of one worker.
const MOST_TYPES: usize = 200;

/// Who asked for what since the last round.
#[derive(Debug, Default)]
pub(super) struct Roll(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    workers: HashMap<WorkerId, BTreeSet<TaskType>>,
    types: HashMap<TaskType, WorkerId>,
}

impl Roll {
    /// Notes that `worker` asks for `types`.
    pub(super) fn note(&self, worker: &WorkerId, types: &[TaskType]) {
        let mut noted = self.lock();
        if noted.workers.len() >= MOST_NOTED && !noted.workers.contains_key(worker) {
            return;
        }
        let asked = noted.workers.entry(worker.clone()).or_default();
        asked.extend(types.iter().take(MOST_TYPES.saturating_sub(asked.len())).cloned());
        for task_type in types {
            if noted.types.len() >= MOST_NOTED && !noted.types.contains_key(task_type) {
                continue;
            }
            noted.types.insert(task_type.clone(), worker.clone());
        }
    }

    fn take(&self) -> Noted {
        std::mem::take(&mut *self.lock())
    }

    fn who_asked_for(&self, task_type: &TaskType) -> Option<WorkerId> {
        self.lock().types.get(task_type).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker, and what it holds.
#[derive(Debug)]
pub struct Worker {
    /// Who, for what, and when it was last seen.
    pub seen: Seen,
    /// Its tasks in progress, the oldest first.
    pub holds: Vec<Task>,
}

impl Tracker {
    /// Writes down who asked for work since the last round, and forgets who was not seen for a week.
    pub async fn call_roll(&self) -> Result<u64> {
        let now = self.clock.now();
        let noted = self.roll.take();
        let count = noted.workers.len() as u64;
        if count > 0 {
            let workers = noted.workers.into_iter().map(|(worker_id, types)| Seen {
                worker_id,
                task_types: types.into_iter().collect(),
                at: now,
            });
            let types = noted.types.into_iter().map(|(task_type, worker_id)| Polled {
                task_type,
                worker_id,
                at: now,
            });
            // What cannot be written is lost: whoever still asks is noted again.
            self.storage.note_polls(workers.collect(), types.collect(), now).await?;
        }
        self.storage.forget_polls(now.minus(REMEMBERED_FOR)).await?;
        Ok(count)
    }

    /// A page of the workers that asked for work in the last week, by name, each with what it holds; and
    /// whether there are more.
    #[tracing::instrument(level = "debug", name = "workers.list", skip_all)]
    pub async fn workers(
        &self,
        after: Option<&WorkerId>,
        limit: u32,
    ) -> Result<(Vec<Worker>, bool)> {
        self.call_roll().await?;
        let mut seen = self.storage.workers(after, limit + 1).await?;
        let has_more = seen.len() > limit as usize;
        seen.truncate(limit as usize);
        let names: Vec<WorkerId> = seen.iter().map(|seen| seen.worker_id.clone()).collect();
        let mut held: HashMap<WorkerId, Vec<Task>> = HashMap::new();
        for task in self.storage.held_by(&names).await? {
            if let Some(worker) = task.worker_id.clone() {
                held.entry(worker).or_default().push(task);
            }
        }
        let worker =
            |seen: Seen| Worker { holds: held.remove(&seen.worker_id).unwrap_or_default(), seen };
        Ok((seen.into_iter().map(worker).collect(), has_more))
    }

    /// The last time somebody asked for tasks of this type, here or at another node.
    pub(super) async fn last_polled(
        &self,
        task_type: &TaskType,
        now: Timestamp,
    ) -> Result<Option<Polled>> {
        if let Some(worker_id) = self.roll.who_asked_for(task_type) {
            return Ok(Some(Polled { task_type: task_type.clone(), worker_id, at: now }));
        }
        Ok(self.storage.polled(task_type).await?)
    }
}
