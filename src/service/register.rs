//! Register a task; retry an ended one.

use std::time::Duration;

use super::{Error, Result, Tracker, count};
use crate::domain::lifecycle::Refused;
use crate::domain::{JsonObject, NewTask, Task, TaskId, TaskType, Transition};

/// What a client says of a task it registers.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Its own id for it; one is made where there is none.
    pub id: Option<TaskId>,
    /// What workers claim it by.
    pub task_type: TaskType,
    /// What the client wants to find again.
    pub metadata: Option<JsonObject>,
    /// What the worker needs.
    pub params: Option<JsonObject>,
    /// How long it may take from now on.
    pub timeout: Duration,
}

impl Tracker {
    /// Registers a task and wakes a worker that waits for one of its type.
    #[tracing::instrument(name = "task.register", skip_all)]
    pub async fn register(&self, registration: Registration) -> Result<Task> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let Registration { id, task_type, metadata, params, timeout } = registration;
            let new = NewTask { id: id.unwrap_or_default(), task_type, metadata, params, timeout };
            let task = tracker
                .storage
                .insert(&new, tracker.clock.now())
                .await?
                .ok_or(Error::TaskExists(new.id))?;
            count("registered");
            tracker.wake(&task);
            Ok(task)
        })
        .await
    }

    /// Makes a new pending task of one that failed or timed out. Of several callers one makes the child.
    #[tracing::instrument(name = "task.retry", skip_all, fields(task.id = %id))]
    pub async fn retry(&self, id: TaskId) -> Result<Task> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let parent = tracker.existing(&id).await?;
            Transition::Retry
                .check(parent.status, None, None)
                .map_err(|refused| Error::refused(&id, refused))?;
            let rule = Transition::Retry.rule();
            let child = tracker
                .storage
                .insert_retry(&parent, TaskId::new(), tracker.clock.now())
                .await?
                // Ended tasks do not change, so this can only be another retry of the same.
                .ok_or_else(|| {
                    let refused =
                        Refused::InvalidTransition { from: parent.status, attempted: rule.word };
                    Error::refused(&id, refused)
                })?;
            count(rule.event);
            tracker.wake(&child);
            Ok(child)
        })
        .await
    }

    /// Tells one waiting worker on every node that `task` waits, and waits for nobody. It is a hint: waiting
    /// workers look for themselves every few seconds as well, so a lost one delays and loses nothing.
    pub(super) fn wake(&self, task: &Task) {
        let (tracker, task_type) = (self.clone(), task.task_type.clone());
        self.detached.spawn(async move {
            let woken = tracker.live.wake(&task_type).await;
            tracker.hints.heard(&woken, "waiting workers are not woken");
        });
    }

    /// The task, or that there is none.
    pub(super) async fn existing(&self, id: &TaskId) -> Result<Task> {
        self.storage.get(id).await?.ok_or_else(|| Error::TaskNotFound(id.clone()))
    }
}
