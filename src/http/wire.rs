//! The shapes on the wire that several handlers share.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::idempotency::Answer;
use super::problem::problems;
use crate::domain::{
    Entry, JsonObject, Reason, Status, Task, TaskId, TaskType, Timestamp, WorkerId,
};
use crate::service::Tracked;

problems!(
    /// Of a call that anybody may make to change a task.
    ChangeProblems: MalformedBody, TaskNotFound, InvalidTransition, BodyTooLarge,
    UnsupportedMediaType, ValidationFailed, IdempotencyKeyReused);
problems!(
    /// Of a call that must come from the worker that holds the task.
    HolderProblems: MalformedBody, NotTheWorker, TaskNotFound, InvalidTransition, LeaseLost,
    BodyTooLarge, UnsupportedMediaType, ValidationFailed, IdempotencyKeyReused);

/// Where a task stands. `completed`, `failed`, `timeout` and `cancelled` are terminal: nothing leaves them.
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
    #[schema(rename = "cancelled")]
    Cancelled,
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

/// A task without its history. Absent values are `null`, never missing; `metadata`, `params` and `result` are missing where a
/// list was asked for without them.
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
    #[serde(skip_serializing_if = "Large::is_left_out")]
    #[schema(value_type = Option<Object>)]
    metadata: Large,
    /// What the worker needs.
    #[serde(skip_serializing_if = "Large::is_left_out")]
    #[schema(value_type = Option<Object>)]
    params: Large,
    /// What the worker made; only of a completed task.
    #[serde(skip_serializing_if = "Large::is_left_out")]
    #[schema(value_type = Option<Object>)]
    result: Large,
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
    /// How many workers have begun it.
    attempt: u32,
    /// How many of them may lose it, each by a lease that ran out, before it fails.
    max_attempts: u32,
    /// How many have.
    lost_attempts: u32,
    /// How long its worker may be silent; `null`: until the deadline.
    lease_seconds: Option<u64>,
    /// When its lease runs out if nothing more is heard of its worker.
    #[schema(value_type = Option<String>, format = DateTime)]
    lease_expires_at: Option<Timestamp>,
    /// When its worker last claimed it or sent a heartbeat.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_heartbeat_at: Option<Timestamp>,
    /// How long it may run without progress before it is flagged.
    stall_seconds: Option<u64>,
    /// When it was flagged; `null` again once there is progress.
    #[schema(value_type = Option<String>, format = DateTime)]
    stalled_at: Option<Timestamp>,
    /// When somebody first wanted it to end.
    #[schema(value_type = Option<String>, format = DateTime)]
    cancel_requested_at: Option<Timestamp>,
    /// Why.
    #[schema(value_type = Option<String>)]
    cancel_reason: Option<Reason>,
    /// When its worker is cut off if it has not ended it by then.
    #[schema(value_type = Option<String>, format = DateTime)]
    cancel_deadline: Option<Timestamp>,
}

impl From<Tracked> for TaskResponse {
    fn from(Tracked { task, history, is_complete }: Tracked) -> Self {
        let progress_history = history.iter().map(PublicEntry::from).collect();
        let progress_history_complete = (!is_complete).then_some(false);
        let task = TaskFields::new(task, history.last());
        Self { task, progress_history, progress_history_complete }
    }
}

impl TaskFields {
    /// Of a task whose newest entry is `latest`: progress renews a lease, and the task does not know of it.
    pub(super) fn new(task: Task, latest: Option<&Entry>) -> Self {
        let progressed = latest.map(|entry| entry.timestamp);
        let standing = Standing::of(&task, progressed, task.updated_at);
        let cancellation = task.cancellation.as_ref();
        Self {
            id: task.id,
            task_type: task.task_type,
            status: task.status,
            metadata: Large::Read(task.metadata),
            params: Large::Read(task.params),
            result: Large::Read(task.result),
            error: task.error,
            timeout_seconds: task.terms.timeout.as_secs(),
            worker_id: task.worker_id,
            original_task_id: task.original_task_id,
            retry_count: task.retry_count,
            created_at: task.created_at,
            updated_at: task.updated_at,
            started_at: task.started_at,
            completed_at: task.completed_at,
            timeout_at: task.timeout_at,
            attempt: task.attempt,
            max_attempts: task.terms.max_attempts,
            lost_attempts: task.lost_attempts,
            lease_seconds: task.lease.as_ref().and_then(|lease| lease.length).map(in_seconds),
            lease_expires_at: standing.lease_expires_at,
            last_heartbeat_at: task.lease.as_ref().map(|lease| lease.heard_at),
            stall_seconds: task.terms.stall.map(in_seconds),
            stalled_at: task.stalled_at,
            cancel_requested_at: cancellation.map(|wish| wish.requested_at),
            cancel_reason: cancellation.and_then(|wish| wish.reason.clone()),
            cancel_deadline: cancellation.and_then(|wish| wish.deadline),
        }
    }

    /// The same without what may be large.
    pub(super) fn brief(self) -> Self {
        Self { metadata: Large::LeftOut, params: Large::LeftOut, result: Large::LeftOut, ..self }
    }
}

/// What a client or a worker put in, which may be large.
#[derive(Serialize)]
#[serde(untagged)]
enum Large {
    /// There is it, or `null`.
    Read(Option<JsonObject>),
    /// It was not read, and is not there.
    LeftOut,
}

impl Large {
    fn is_left_out(&self) -> bool {
        matches!(self, Self::LeftOut)
    }
}

fn in_seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

/// What every answer to a worker says, so that it needs no other channel.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Standing)]
pub(super) struct Standing {
    /// When its lease runs out if nothing more is heard of it; `null` where it has none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) lease_expires_at: Option<Timestamp>,
    /// Whether somebody wants the task to end: finish it soon, or `cancel` it under your own name.
    pub(super) cancel_requested: bool,
    /// The server's clock.
    #[schema(value_type = String, format = DateTime)]
    pub(super) server_time: Timestamp,
}

impl Standing {
    /// Of a task whose newest entry is of `progressed`.
    pub(super) fn of(task: &Task, progressed: Option<Timestamp>, now: Timestamp) -> Self {
        let lease = task.lease.as_ref().filter(|_| task.status == Status::InProgress);
        Self {
            lease_expires_at: lease.and_then(|lease| lease.expires_after(progressed)),
            cancel_requested: task.cancellation.is_some(),
            server_time: now,
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
    #[serde(flatten)]
    standing: Standing,
}

impl ChangedResponse {
    pub(super) fn new(task: Task, now: Timestamp) -> Self {
        let standing = Standing::of(&task, None, now);
        Self { task_id: task.id, status: task.status, updated_at: task.updated_at, standing }
    }

    /// The answer to a change of `task` that was asked for at `now`.
    pub(super) fn answer(task: &Task, now: Timestamp) -> Answer {
        Answer::ok(&Self::new(task.clone(), now))
    }
}

/// Items of a page when nothing is said, and at most.
pub(super) const PAGE: (u32, u32) = (50, 100);

/// How many items a page is to have.
pub(super) fn limit<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    let limit = u32::deserialize(deserializer)?;
    if (1..=PAGE.1).contains(&limit) {
        return Ok(Some(limit));
    }
    Err(serde::de::Error::custom(format!("must be between 1 and {}", PAGE.1)))
}

/// Seconds of the longest lease: a day. Who may be silent for longer needs none.
pub(super) const LONGEST_LEASE: u64 = 86_400;

/// A whole number of seconds in `LEAST..=MOST`, or nothing.
pub(super) fn seconds<'de, const LEAST: u64, const MOST: u64, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    match Option::<u64>::deserialize(deserializer)? {
        Some(seconds) if !(LEAST..=MOST).contains(&seconds) => {
            Err(serde::de::Error::custom(format!("must be between {LEAST} and {MOST}")))
        }
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
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
