//! Ends that come at the same moment, committed together.
//!
//! Each is decided by itself, as if it had come alone: the commit alone is shared. What somebody else holds just
//! now is not waited for, or everybody would wait: it goes alone, and so does a second word on the same task.

use std::collections::HashMap;

use futures::StreamExt;

use super::batches::{for_all, weight};
use super::{Error, Result, Tracker, count};
use crate::coalescer::Answers;
use crate::domain::{Caller, Ending, JsonObject, Task, TaskId, Transition};
use crate::storage::{Change, Changed, Selection};

/// How a task is to end: by which word, by whom, and what it leaves.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) by: Transition,
    pub(super) caller: Caller,
    pub(super) result: Option<JsonObject>,
    pub(super) error: Option<JsonObject>,
}

/// One of several ends.
#[derive(Debug)]
pub(super) struct EndJob {
    pub(super) tracker: Tracker,
    pub(super) id: TaskId,
    pub(super) end: End,
}

/// What came of it; `None`: it is to go alone.
pub(super) type Together = Option<Result<Changed>>;

impl EndJob {
    pub(super) fn weight(&self) -> usize {
        weight(self.end.result.as_ref()) + weight(self.end.error.as_ref())
    }
}

/// Ends tasks in one commit.
pub(super) async fn end_together(jobs: Vec<EndJob>) -> Answers<Together> {
    let Some(tracker) = jobs.first().map(|job| job.tracker.clone()) else { return Ok(Vec::new()) };
    let mut said: Vec<Together> = jobs.iter().map(|_| None).collect();
    if jobs.len() == 1 {
        // Alone it waits for whoever holds its task.
        return Ok(said);
    }
    let mut places = HashMap::new();
    for (place, job) in jobs.iter().enumerate() {
        places.entry(&job.id).or_insert(place);
    }
    let ids: Vec<TaskId> = places.keys().map(|id| (*id).clone()).collect();
    let changed = tracker
        .storage
        .change(Selection::Free(&ids), async |tasks: Vec<Task>| {
            let (many, jobs, places, tracker) = (tasks.len().max(1), &jobs, &places, &tracker);
            let decided: Vec<(usize, Result<Change>)> = futures::stream::iter(tasks)
                .map(|task| async move {
                    let place = places[&task.id];
                    (place, tracker.end_one(task, jobs[place].end.clone()).await)
                })
                .buffer_unordered(many)
                .collect()
                .await;
            let mut changes = Vec::new();
            for (place, decided) in decided {
                match decided {
                    Ok(change) => changes.push(change),
                    Err(refused) => said[place] = Some(Err(refused)),
                }
            }
            Ok::<_, Error>(changes)
        })
        .await;
    match changed {
        Ok(changed) => {
            for ended in changed {
                let place = places[&ended.task.id];
                count(jobs[place].end.by.rule().event);
                said[place] = Some(Ok(ended));
            }
        }
        // What one of them says cannot be written, perhaps: the others are not to blame.
        Err(Error::Internal(error)) => {
            tracing::warn!(error, "ends could not be committed together, and go alone");
        }
        Err(error) => {
            let refuse = for_all(error);
            return Err(Box::new(move || Some(refuse())));
        }
    }
    Ok(said)
}

impl Tracker {
    /// What becomes of a task whose row is locked and that is to end.
    pub(super) async fn end_one(&self, task: Task, end: End) -> Result<Change> {
        let End { by, caller, result, error } = end;
        by.check(task.status, &task.holder(), &caller)
            .map_err(|refused| Error::refused(&task.id, refused))?;
        let status = by.rule().to.unwrap_or(task.status);
        self.close(task, Ending { status, result, error, at: self.clock.now() }).await
    }
}
