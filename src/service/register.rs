//! Register a task; retry an ended one.

use super::{Error, Result, Said, Tracker, count};
use crate::domain::lifecycle::Refused;
use crate::domain::{
    Caller, JsonObject, Keyed, NewTask, Task, TaskId, TaskType, Terms, Transition,
};
use crate::storage::Outcome;

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
    /// How it is to be run.
    pub terms: Terms,
}

impl From<Registration> for NewTask {
    fn from(registration: Registration) -> Self {
        let Registration { id, task_type, metadata, params, terms } = registration;
        Self { id: id.unwrap_or_default(), task_type, metadata, params, terms }
    }
}

impl Tracker {
    /// Registers a task and wakes a worker that waits for one of its type.
    #[tracing::instrument(level = "debug", name = "task.register", skip_all)]
    pub async fn register(
        &self,
        registration: Registration,
        keyed: Option<Keyed<Task>>,
    ) -> Result<Said<Task>> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let (new, now) = (NewTask::from(registration), tracker.clock.now());
            let id = new.id.clone();
            let outcome = if let Some(keyed) = keyed {
                Box::pin(tracker.storage.insert_once(&new, keyed, now)).await?
            } else {
                let task = new.registered(now);
                let is_new = tracker.batches.registering.call(task.clone()).await??;
                Outcome::Now(is_new.then_some(task))
            };
            Said::of(outcome)?.try_map(|task| tracker.registered(task, id))
        })
        .await
    }

    fn registered(&self, task: Option<Task>, id: TaskId) -> Result<Task> {
        let task = task.ok_or(Error::TaskExists(id))?;
        count("registered");
        self.wake(&task);
        self.moved(&task);
        Ok(task)
    }

    /// Registers many tasks in one commit, each as if it came alone: for each in its order the task, or `None` where
    /// its id is taken. With a key it is done once for all requests of it.
    #[tracing::instrument(level = "debug", name = "tasks.register", skip_all)]
    pub async fn register_many(
        &self,
        registrations: Vec<Registration>,
        keyed: Option<Keyed<Vec<Option<Task>>>>,
    ) -> Result<Said<Vec<Option<Task>>>> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let new: Vec<NewTask> = registrations.into_iter().map(NewTask::from).collect();
            let now = tracker.clock.now();
            let said = match keyed {
                Some(keyed) => Said::of(tracker.storage.insert_many_once(new, keyed, now).await?)?,
                None => Said::Now(tracker.storage.insert_many(new, now).await?),
            };
            if let Said::Now(tasks) = &said {
                // Each wakes a worker of its own; surplus wakes find nobody.
                for task in tasks.iter().flatten() {
                    count("registered");
                    tracker.wake(task);
                    tracker.moved(task);
                }
            }
            Ok(said)
        })
        .await
    }

    /// Makes a new pending task of one that failed, timed out or was cancelled. Of several callers one makes the child.
    #[tracing::instrument(level = "debug", name = "task.retry", skip_all, fields(task.id = %id))]
    pub async fn retry(&self, id: TaskId, keyed: Option<Keyed<Task>>) -> Result<Said<Task>> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let parent = tracker.retriable(&id).await?;
            let (storage, child, now) = (&tracker.storage, TaskId::new(), tracker.clock.now());
            let outcome = match keyed {
                Some(keyed) => storage.insert_retry_once(&parent, child, keyed, now).await?,
                None => Outcome::Now(storage.insert_retry(&parent, child, now).await?),
            };
            Said::of(outcome)?.try_map(|child| tracker.retried(child, &parent))
        })
        .await
    }

    /// The task, if it has ended in a way that may be tried again. Then it does not change any more.
    async fn retriable(&self, id: &TaskId) -> Result<Task> {
        let parent = self.existing(id).await?;
        let checked = Transition::Retry.check(parent.status, &parent.holder(), &Caller::default());
        checked.map_err(|refused| Error::refused(id, refused))?;
        Ok(parent)
    }

    fn retried(&self, child: Option<Task>, parent: &Task) -> Result<Task> {
        let rule = Transition::Retry.rule();
        // Ended tasks do not change, so this can only be another retry of the same.
        let child = child.ok_or_else(|| {
            let refused = Refused::InvalidTransition { from: parent.status, attempted: rule.word };
            Error::refused(&parent.id, refused)
        })?;
        count(rule.event);
        self.wake(&child);
        self.moved(&child);
        Ok(child)
    }

    /// Tells one waiting worker on every node that `task` waits, and waits for nobody. It is a hint: waiting
    /// workers look for themselves every few seconds as well, so a lost one delays and loses nothing.
    pub(super) fn wake(&self, task: &Task) {
        self.batches.waking.send(task.task_type.clone());
    }

    /// The task, or that there is none.
    pub(super) async fn existing(&self, id: &TaskId) -> Result<Task> {
        let task = self.batches.reading.call(id.clone()).await??;
        task.ok_or_else(|| Error::TaskNotFound(id.clone()))
    }
}
