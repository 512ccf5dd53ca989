//! The shapes on the wire that several handlers share.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::problem::problems;
use crate::domain::{Entry, JsonObject, Status, Task, TaskId, TaskType, Timestamp, WorkerId};
use crate::service::Tracked;

problems!(
    /// Of a call that anybody may make to change a task.
    ChangeProblems: MalformedBody, TaskNotFound, InvalidTransition, BodyTooLarge,
    UnsupportedMediaType, ValidationFailed);
problems!(
    /// Of a call that must come from the worker that holds the task.
    HolderProblems: MalformedBody, NotTheWorker, TaskNotFound, InvalidTransition, BodyTooLarge,
    UnsupportedMediaType, ValidationFailed);

/// Where a task stands. `completed`, `failed` and `timeout` are terminal: nothing leaves them.
#[derive(ToSchema)]
#[schema(as = Status)]
#[expect(
    dead_code,
    reason = "describes `domain::Status`, which knows nothing of the wire's document"
)]
pub(super) enum StatusSchema {
    #[schema(rename = "pending")]
    Pending,
    #[schema(rename = "in_progress")]
    InProgress,
    #[schema(rename = "completed")]
    Completed,
    #[schema(rename = "failed")]
    Failed,
    #[schema(rename = "timeout")]
    Timeout,
}

/// A task with its history. Absent values are `null`, never missing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Task)]
pub(super) struct TaskResponse {
    #[serde(flatten)]
    task: TaskFields,
    /// Every entry so far, in order, each with its `seqId`.
    #[schema(value_type = Vec<ProgressEntry>)]
    progress_history: Vec<PublicEntry>,
    /// Only there while the live log is away, and then `false`: entries that are not sealed yet are missing from
    /// the history, and come back with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_history_complete: Option<bool>,
}

/// A task without its history. Absent values are `null`, never missing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TaskFields)]
pub(super) struct TaskFields {
    /// Its name for ever.
    #[schema(value_type = String, example = "tz4a98xxat96iws9zmbrgj3a")]
    id: TaskId,
    /// What workers claim it by.
    #[schema(value_type = String, example = "report.build")]
    task_type: TaskType,
    #[schema(value_type = StatusSchema)]
    status: Status,
    /// What the registering service wants to find again.
    #[schema(value_type = Option<Object>)]
    metadata: Option<JsonObject>,
    /// What the worker needs.
    #[schema(value_type = Option<Object>)]
    params: Option<JsonObject>,
    /// What the worker made; only of a completed task.
    #[schema(value_type = Option<Object>)]
    result: Option<JsonObject>,
    /// What went wrong; only of a failed task.
    #[schema(value_type = Option<Object>)]
    error: Option<JsonObject>,
    /// How long it may take, from registration.
    timeout_seconds: u64,
    /// Who holds it, or held it at its end.
    #[schema(value_type = Option<String>)]
    worker_id: Option<WorkerId>,
    /// The first task of the chain of retries it is in.
    #[schema(value_type = Option<String>)]
    original_task_id: Option<TaskId>,
    /// How many retries lie before it.
    retry_count: u32,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
    /// When its time is over.
    #[schema(value_type = String, format = DateTime)]
    timeout_at: Timestamp,
}

impl From<Tracked> for TaskResponse {
    fn from(Tracked { task, history, is_complete }: Tracked) -> Self {
        let progress_history = history.iter().map(PublicEntry::from).collect();
        let progress_history_complete = (!is_complete).then_some(false);
        Self { task: task.into(), progress_history, progress_history_complete }
    }
}

impl From<Task> for TaskFields {
    fn from(task: Task) -> Self {
        Self {
            id: task.id,
            task_type: task.task_type,
            status: task.status,
            metadata: task.metadata,
            params: task.params,
            result: task.result,
            error: task.error,
            timeout_seconds: task.timeout.as_secs(),
            worker_id: task.worker_id,
            original_task_id: task.original_task_id,
            retry_count: task.retry_count,
            created_at: task.created_at,
            updated_at: task.updated_at,
            started_at: task.started_at,
            completed_at: task.completed_at,
            timeout_at: task.timeout_at,
        }
    }
}

/// An entry as clients see it: what the worker sent, with the server's `seqId`.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct PublicEntry(Box<RawValue>);

impl From<&Entry> for PublicEntry {
    fn from(entry: &Entry) -> Self {
        // What was taken was checked; `null` would show that the store was tampered with.
        Self(RawValue::from_string(entry.public()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

/// A progress entry: what the worker sent, with the server's `seqId`.
#[derive(ToSchema)]
#[schema(as = ProgressEntry, example = json!({ "seqId": 6, "percent": 40 }))]
#[expect(dead_code, reason = "describes `PublicEntry`")]
pub(super) struct ProgressEntry {
    /// Its place in the history: 1, 2, 3 …
    #[schema(rename = "seqId")]
    seq_id: u64,
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    #[serde(flatten)]
    rest: std::collections::HashMap<String, serde_json::Value>,
}

/// A task stands somewhere else now.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChangedResponse {
    #[schema(value_type = String, example = "tz4a98xxat96iws9zmbrgj3a")]
    task_id: TaskId,
    #[schema(value_type = StatusSchema)]
    status: Status,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<Task> for ChangedResponse {
    fn from(task: Task) -> Self {
        Self { task_id: task.id, status: task.status, updated_at: task.updated_at }
    }
}

/// The worker that speaks, if it says so.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkerRequest {
    /// Where the task has a worker, `complete`, `fail` and `release` must name that one.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$", example = "worker-7")]
    pub(super) worker_id: Option<WorkerId>,
}

/// An error, as RFC 9457 has it, with a stable `code`.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes `problem::Problem`")]
pub(super) struct ProblemSchema {
    /// A URN that ends with the code.
    #[schema(rename = "type", example = "urn:task-tracker:problem:task_not_found")]
    kind: String,
    /// What the code means, for people.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened here, for people.
    detail: String,
    /// What happened, for programs.
    code: String,
    /// Of `validation_failed`: what is wrong where.
    errors: Option<Vec<FieldError>>,
    /// Of `invalid_transition`: the present status.
    from: Option<String>,
    /// Of `invalid_transition`: the word of what was asked.
    attempted: Option<String>,
    /// Of a stream of entries that was cut off: how many were kept.
    count: Option<u64>,
    /// Of a stream of entries that was cut off: the number of the last that was kept.
    #[schema(rename = "seqId")]
    seq_id: Option<u64>,
}

/// A field that is missing or wrong.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a member of `problem::Problem`")]
pub(super) struct FieldError {
    /// Where it is; empty for the body or the query as a whole.
    path: String,
    /// What is wrong.
    message: String,
}
