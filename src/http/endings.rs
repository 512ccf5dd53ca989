//! Complete, fail, time out, cancel; sweep.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::extract::{Id, Json};
use super::idempotency::{KeyHeader, Sent, say};
use super::problem::{Problem, problems};
use super::wire::{
    ChangeProblems, ChangedResponse, HolderProblems, Standing, StatusSchema, seconds,
};
use crate::domain::{
    Caller, JsonObject, LeaseToken, Reason, Status, Task, TaskId, Timestamp, WorkerId,
};
use crate::service::Cancel;

problems!(SweepProblems:);

/// A worker is done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "workerId": "worker-7", "result": { "rows": 42 } }))]
pub(super) struct CompleteRequest {
    /// Where the task has a worker, that one.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
    /// What the claim or the start gave: refused with `lease_lost` once its attempt is over.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9]+$")]
    lease_token: Option<LeaseToken>,
    /// What it made.
    #[schema(value_type = Option<Object>)]
    result: Option<JsonObject>,
}

/// Ends a task well.
#[utoipa::path(post, path = "/tasks/{id}/complete", tag = "workers", request_body = Option<CompleteRequest>,
    params(("id" = String, Path, description = "The task's id"), KeyHeader),
    responses((status = 200, description = "Completed", body = ChangedResponse), HolderProblems))]
pub(super) async fn complete(
    State(api): State<Api>,
    Id(id): Id,
    Sent { request, key }: Sent<CompleteRequest>,
) -> Result<Response, Problem> {
    let caller = Caller { worker: request.worker_id, token: request.lease_token };
    let now = api.tracker.clock().now();
    let answer = move |task: &Task| ChangedResponse::answer(task, now);
    let keyed = key.keyed("complete", Some(&id), answer);
    say(api.tracker.complete(id, caller, request.result, keyed).await?, answer)
}

/// A worker gives up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "workerId": "worker-7", "error": { "message": "the disk is full" } }))]
pub(super) struct FailRequest {
    /// Where the task has a worker, that one.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
    /// What the claim or the start gave: refused with `lease_lost` once its attempt is over.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9]+$")]
    lease_token: Option<LeaseToken>,
    /// What went wrong.
    #[schema(value_type = Option<Object>)]
    error: Option<JsonObject>,
}

/// Ends a task badly.
#[utoipa::path(post, path = "/tasks/{id}/fail", tag = "workers", request_body = Option<FailRequest>,
    params(("id" = String, Path, description = "The task's id"), KeyHeader),
    responses((status = 200, description = "Failed", body = ChangedResponse), HolderProblems))]
pub(super) async fn fail(
    State(api): State<Api>,
    Id(id): Id,
    Sent { request, key }: Sent<FailRequest>,
) -> Result<Response, Problem> {
    let caller = Caller { worker: request.worker_id, token: request.lease_token };
    let now = api.tracker.clock().now();
    let answer = move |task: &Task| ChangedResponse::answer(task, now);
    let keyed = key.keyed("fail", Some(&id), answer);
    say(api.tracker.fail(id, caller, request.error, keyed).await?, answer)
}

/// Somebody says that a task's time is over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read so that a wrong one is refused; whoever calls may end any task")]
pub(super) struct TimeoutRequest {
    /// Who says so.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
}

/// Ends a task because its time is over, whether or not it is.
#[utoipa::path(post, path = "/tasks/{id}/timeout", tag = "tasks", request_body = Option<TimeoutRequest>,
    params(("id" = String, Path, description = "The task's id"), KeyHeader),
    responses((status = 200, description = "Timed out", body = ChangedResponse), ChangeProblems))]
pub(super) async fn time_out(
    State(api): State<Api>,
    Id(id): Id,
    Sent { request: TimeoutRequest { .. }, key }: Sent<TimeoutRequest>,
) -> Result<Response, Problem> {
    let now = api.tracker.clock().now();
    let answer = move |task: &Task| ChangedResponse::answer(task, now);
    let keyed = key.keyed("timeout", Some(&id), answer);
    say(api.tracker.time_out(id, keyed).await?, answer)
}

/// Seconds a worker has to end a cancelled task when nothing is said.
pub(super) const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// Seconds it may be given at most.
pub(super) const LONGEST_GRACE: u64 = 86_400;

/// How a task is to be cancelled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "reason": "the month was reopened", "graceSeconds": 10 }))]
pub(super) struct CancelRequest {
    /// Named by its worker alone, as its word that it has stopped.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
    /// What the claim or the start gave: refused with `lease_lost` once its attempt is over.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9]+$")]
    lease_token: Option<LeaseToken>,
    /// Why, for people.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 1000)]
    reason: Option<Reason>,
    /// Whether the worker is given no time to end it.
    force: Option<bool>,
    /// How long it is given.
    #[serde(default, deserialize_with = "seconds::<0, LONGEST_GRACE, _>")]
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 86_400, default = 30)]
    grace_seconds: Option<Duration>,
}

/// A task has ended, or is to end.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CancelResponse {
    #[schema(value_type = String, example = "tz4a98xxat96iws9zmbrgj3a")]
    task_id: TaskId,
    /// `cancelled`, or `in_progress` while its worker is given time.
    #[schema(value_type = StatusSchema)]
    status: Status,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When its worker is cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    cancel_deadline: Option<Timestamp>,
    #[serde(flatten)]
    standing: Standing,
}

/// Cancels a task.
///
/// One that waits ends at once. The worker of one in progress is told with its next answer and on the stream: it
/// may finish as if nothing had happened, or acknowledge by this very call under its own `workerId` or `leaseToken`,
/// and is cut off after the grace. Asking again can only shorten that.
#[utoipa::path(post, path = "/tasks/{id}/cancel", tag = "tasks", request_body = Option<CancelRequest>,
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, description = "Cancelled, or to be cancelled", body = CancelResponse), HolderProblems))]
pub(super) async fn cancel(
    State(api): State<Api>,
    Id(id): Id,
    Json(request): Json<CancelRequest>,
) -> Result<Response, Problem> {
    let cancel = Cancel {
        reason: request.reason,
        force: request.force.unwrap_or(false),
        grace: request.grace_seconds.unwrap_or(DEFAULT_GRACE),
    };
    let caller = Caller { worker: request.worker_id, token: request.lease_token };
    let task = api.tracker.cancel(id, caller, cancel).await?;
    let standing = Standing::of(&task, None, api.tracker.clock().now());
    let cancel_deadline = task.cancellation.as_ref().and_then(|wish| wish.deadline);
    let Task { id: task_id, status, updated_at, .. } = task;
    let body = CancelResponse { task_id, status, updated_at, cancel_deadline, standing };
    Ok(axum::Json(body).into_response())
}

/// What a sweep did.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SweepResponse {
    /// How many tasks timed out by it.
    processed_count: u64,
}

/// Ends every overdue task now.
///
/// The service does the same by itself, every few seconds.
#[utoipa::path(post, path = "/tasks/timeouts/process", tag = "tasks",
    responses((status = 200, description = "Swept", body = SweepResponse), SweepProblems))]
pub(super) async fn process_timeouts(State(api): State<Api>) -> Result<Response, Problem> {
    let processed_count = api.tracker.sweep().await?;
    Ok(axum::Json(SweepResponse { processed_count }).into_response())
}
