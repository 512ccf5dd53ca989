//! Why a task stands where it stands; who asks for work.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::extract::{Id, Query};
use super::problem::{Problem, problems};
use super::wire::{PAGE, PublicEntry, Standing, StatusSchema, limit};
use crate::domain::{Status, Task, TaskId, TaskType, Timestamp, WorkerId};
use crate::service::{Why, Worker};

problems!(WhyProblems: TaskNotFound);
problems!(WorkersProblems: ValidationFailed);

/// Why a task stands where it stands. Absent values are `null`, never missing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WhyResponse {
    #[schema(value_type = String)]
    task_id: TaskId,
    #[schema(value_type = StatusSchema)]
    status: Status,
    /// The reason, for programs: of a task that waits `no_worker`, `workers_busy`, `next`; of one in progress `running`,
    /// `stalled`, `lease_expired`, `cancel_requested`; of either `overdue`; of one that has ended `completed`, `failed`,
    /// `lease_exhausted`, `timed_out`, `cancelled`.
    code: &'static str,
    /// The reason, for people.
    explanation: String,
    /// Who has it, or had it.
    #[schema(value_type = Option<String>)]
    worker_id: Option<WorkerId>,
    /// How many workers have begun it.
    attempt: u32,
    /// How many lost it.
    lost_attempts: u32,
    /// How many may.
    max_attempts: u32,
    /// When its worker last claimed it or sent a heartbeat.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_heartbeat_at: Option<Timestamp>,
    /// When there last was progress.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_progress_at: Option<Timestamp>,
    /// The newest entry.
    #[schema(value_type = Option<super::wire::ProgressEntry>)]
    latest_progress: Option<PublicEntry>,
    /// When it was flagged as stalled.
    #[schema(value_type = Option<String>, format = DateTime)]
    stalled_at: Option<Timestamp>,
    /// When its worker is cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    cancel_deadline: Option<Timestamp>,
    /// When its time is over.
    #[schema(value_type = String, format = DateTime)]
    timeout_at: Timestamp,
    /// Of a task that waits: how many older ones of its type wait before it, counted to 1000.
    ahead: Option<u64>,
    /// Of a task that waits: when a worker last asked for its type, to a few seconds.
    #[schema(value_type = Option<String>, format = DateTime)]
    type_polled_at: Option<Timestamp>,
    /// And which worker.
    #[schema(value_type = Option<String>)]
    type_polled_by: Option<WorkerId>,
    #[serde(flatten)]
    standing: Standing,
}

impl WhyResponse {
    fn new(why: Why, now: Timestamp) -> Self {
        let Why { task, code, explanation, latest, ahead, polled } = why;
        let last_progress_at = latest.as_ref().map(|entry| entry.timestamp);
        let standing = Standing::of(&task, last_progress_at, now);
        let (type_polled_at, type_polled_by) = polled.unzip();
        Self {
            task_id: task.id,
            status: task.status,
            code,
            explanation,
            worker_id: task.worker_id,
            attempt: task.attempt,
            lost_attempts: task.lost_attempts,
            max_attempts: task.terms.max_attempts,
            last_heartbeat_at: task.lease.map(|lease| lease.heard_at),
            last_progress_at,
            latest_progress: latest.as_ref().map(PublicEntry::from),
            stalled_at: task.stalled_at,
            cancel_deadline: task.cancellation.and_then(|wish| wish.deadline),
            timeout_at: task.timeout_at,
            ahead,
            type_polled_at,
            type_polled_by,
            standing,
        }
    }
}

/// Explains where a task stands, in words and fields.
#[utoipa::path(get, path = "/tasks/{id}/why", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, description = "The reason", body = WhyResponse), WhyProblems))]
pub(super) async fn why(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    let why = api.tracker.why(&id).await?;
    Ok(axum::Json(WhyResponse::new(why, api.tracker.clock().now())).into_response())
}

/// Which workers to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct WorkersQuery {
    /// Workers of a page at most.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 50)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    cursor: Option<WorkerId>,
}

/// A page of workers, by name.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkersResponse {
    items: Vec<WorkerItem>,
    /// Give it as `cursor` for the next page; `null` on the last.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<WorkerId>,
}

/// A worker that asked for work in the last week.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Worker)]
struct WorkerItem {
    #[schema(value_type = String)]
    worker_id: WorkerId,
    /// The types it asked for of late.
    #[schema(value_type = Vec<String>)]
    task_types: Vec<TaskType>,
    /// When it asked last, to a few seconds.
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: Timestamp,
    /// Its tasks in progress, the oldest first.
    holds: Vec<Held>,
}

/// A task in progress of a worker.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Held {
    #[schema(value_type = String)]
    task_id: TaskId,
    #[schema(value_type = String)]
    task_type: TaskType,
    attempt: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When its lease runs out, progress since the last heartbeat aside.
    #[schema(value_type = Option<String>, format = DateTime)]
    lease_expires_at: Option<Timestamp>,
}

impl From<Task> for Held {
    fn from(task: Task) -> Self {
        Self {
            task_id: task.id,
            task_type: task.task_type,
            attempt: task.attempt,
            started_at: task.started_at,
            lease_expires_at: task.lease.and_then(|lease| lease.expires_at),
        }
    }
}

/// Lists the workers that asked for work in the last week, by name, with what they hold.
#[utoipa::path(get, path = "/workers", tag = "workers", params(WorkersQuery),
    responses((status = 200, description = "A page", body = WorkersResponse), WorkersProblems))]
pub(super) async fn workers(
    State(api): State<Api>,
    Query(query): Query<WorkersQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(PAGE.0);
    let (workers, has_more) = api.tracker.workers(query.cursor.as_ref(), limit).await?;
    let last = workers.last().map(|worker| worker.seen.worker_id.clone());
    let item = |Worker { seen, holds }| WorkerItem {
        worker_id: seen.worker_id,
        task_types: seen.task_types,
        last_seen_at: seen.at,
        holds: holds.into_iter().map(Held::from).collect(),
    };
    let items = workers.into_iter().map(item).collect();
    Ok(axum::Json(WorkersResponse { items, next_cursor: last.filter(|_| has_more) })
        .into_response())
}
