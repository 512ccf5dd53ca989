//! A task and what registers one.

use std::time::Duration;

use super::json::JsonObject;
use super::lifecycle::Status;
use super::name::{TaskId, TaskType, WorkerId};
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
    /// How long it may take, from registration.
    pub timeout: Duration,
    /// Who holds it, or held it at the end.
    pub worker_id: Option<WorkerId>,
    /// The first task of the chain of retries it is in.
    pub original_task_id: Option<TaskId>,
    /// How many retries lie before it.
    pub retry_count: u32,
    /// How many workers have begun it. It fences the live log: what one attempt opened, the next does not use.
    pub attempt: u32,
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
    /// How long it may take, from registration.
    pub timeout: Duration,
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

impl Task {
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
