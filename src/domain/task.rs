//! A task and what registers one.

use std::time::Duration;

use super::json::JsonObject;
use super::lease::{Caller, Lease};
use super::lifecycle::Status;
use super::name::{Reason, TaskId, TaskType, WorkerId};
use super::time::Timestamp;

/// A task without its history, which may be long and lives elsewhere.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its name for ever.
    pub id: TaskId,
    /// What workers claim it by.
    pub task_type: TaskType,
    /// Where it stands.
    pub status: Status,
    /// What the registering service wants to find again.
    pub metadata: Option<JsonObject>,
    /// What the worker needs.
    pub params: Option<JsonObject>,
    /// What the worker made; only of a completed task.
    pub result: Option<JsonObject>,
    /// What went wrong; only of a failed task.
    pub error: Option<JsonObject>,
    /// The terms it was registered on.
    pub terms: Terms,
    /// Who holds it, or held it at the end.
    pub worker_id: Option<WorkerId>,
    /// The first task of the chain of retries it is in.
    pub original_task_id: Option<TaskId>,
    /// How many retries lie before it.
    pub retry_count: u32,
    /// How many workers have begun it. It fences the live log: what one attempt opened, the next does not use.
    pub attempt: u32,
    /// How many of them were lost: their lease ran out.
    pub lost_attempts: u32,
    /// The hold of the present attempt, or of the last one of a task that has ended.
    pub lease: Option<Lease>,
    /// When it was found without progress for longer than its terms allow; `None` once there is some again.
    pub stalled_at: Option<Timestamp>,
    /// When it is to be looked whether there was progress.
    pub stall_check_at: Option<Timestamp>,
    /// That somebody wants it to end.
    pub cancellation: Option<Cancellation>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed, progress aside.
    pub updated_at: Timestamp,
    /// When its present worker began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When its time is over.
    pub timeout_at: Timestamp,
}

/// How a task is to be run, said when it is registered and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How long it may take, from registration.
    pub timeout: Duration,
    /// How many workers may lose it, each by a lease that ran out, before it fails. Giving it back costs nothing.
    pub max_attempts: u32,
    /// How long it may run without progress before it is flagged as stalled.
    pub stall: Option<Duration>,
}

impl Terms {
    /// A day; three attempts; no flag.
    pub const DEFAULT: Self =
        Self { timeout: Duration::from_hours(24), max_attempts: 3, stall: None };
}

/// That a task in progress shall end before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancellation {
    /// When it was first asked for.
    pub requested_at: Timestamp,
    /// Why, in the words of whoever asked.
    pub reason: Option<Reason>,
    /// When the worker is cut off if it has not ended by then; `None` where it had none.
    pub deadline: Option<Timestamp>,
}

/// What registers a task.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// The client's id or a made one.
    pub id: TaskId,
    /// What workers claim it by.
    pub task_type: TaskType,
    /// What the registering service wants to find again.
    pub metadata: Option<JsonObject>,
    /// What the worker needs.
    pub params: Option<JsonObject>,
    /// How it is to be run.
    pub terms: Terms,
}

impl NewTask {
    /// The task, registered at an instant.
    pub fn registered(self, at: Timestamp) -> Task {
        let Self { id, task_type, metadata, params, terms } = self;
        Task {
            id,
            task_type,
            status: Status::Pending,
            metadata,
            params,
            result: None,
            error: None,
            worker_id: None,
            original_task_id: None,
            retry_count: 0,
            attempt: 0,
            lost_attempts: 0,
            lease: None,
            stalled_at: None,
            stall_check_at: None,
            cancellation: None,
            created_at: at,
            updated_at: at,
            started_at: None,
            completed_at: None,
            timeout_at: at.plus(terms.timeout),
            terms,
        }
    }
}

/// How a task ends.
#[derive(Debug, Clone)]
pub struct Ending {
    /// A terminal status.
    pub status: Status,
    /// Of a completed task.
    pub result: Option<JsonObject>,
    /// Of a failed task.
    pub error: Option<JsonObject>,
    /// When.
    pub at: Timestamp,
}

impl Ending {
    /// An end in `status` that says nothing else.
    pub fn plain(status: Status, at: Timestamp) -> Self {
        Self { status, result: None, error: None, at }
    }
}

impl Task {
    /// A new task that tries once more what this one failed to do.
    #[must_use]
    pub fn retry(&self, id: TaskId, at: Timestamp) -> Self {
        let (task_type, terms) = (self.task_type.clone(), self.terms.clone());
        let (metadata, params) = (self.metadata.clone(), self.params.clone());
        Self {
            original_task_id: Some(self.original_task_id.as_ref().unwrap_or(&self.id).clone()),
            retry_count: self.retry_count + 1,
            ..NewTask { id, task_type, metadata, params, terms }.registered(at)
        }
    }

    /// Who has it.
    pub fn holder(&self) -> Caller {
        Caller {
            worker: self.worker_id.clone(),
            token: self.lease.as_ref().map(|lease| lease.token.clone()),
        }
    }

    /// How it ended; `None` while it has not.
    pub fn ending(&self) -> Option<Ending> {
        self.completed_at.map(|at| Ending {
            status: self.status,
            result: self.result.clone(),
            error: self.error.clone(),
            at,
        })
    }
}
