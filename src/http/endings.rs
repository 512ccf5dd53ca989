//! Complete, fail, time out; sweep.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::extract::Id;
use super::idempotency::{KeyHeader, Sent, say};
use super::problem::{Problem, problems};
use super::wire::{ChangeProblems, ChangedResponse, HolderProblems, WorkerRequest};
use crate::domain::{JsonObject, WorkerId};

problems!(SweepProblems:);

/// A worker is done.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "workerId": "worker-7", "result": { "rows": 42 } }))]
pub(super) struct CompleteRequest {
    /// Where the task has a worker, that one.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
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
    let keyed = key.keyed("complete", Some(&id), ChangedResponse::answer);
    let said = api.tracker.complete(id, request.worker_id, request.result, keyed).await?;
    say(said, ChangedResponse::answer)
}

/// A worker gives up.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "workerId": "worker-7", "error": { "message": "the disk is full" } }))]
pub(super) struct FailRequest {
    /// Where the task has a worker, that one.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
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
    let keyed = key.keyed("fail", Some(&id), ChangedResponse::answer);
    let said = api.tracker.fail(id, request.worker_id, request.error, keyed).await?;
    say(said, ChangedResponse::answer)
}

/// Ends a task because its time is over, whether or not it is.
#[utoipa::path(post, path = "/tasks/{id}/timeout", tag = "tasks", request_body = Option<WorkerRequest>,
    params(("id" = String, Path, description = "The task's id"), KeyHeader),
    responses((status = 200, description = "Timed out", body = ChangedResponse), ChangeProblems))]
pub(super) async fn time_out(
    State(api): State<Api>,
    Id(id): Id,
    // Read so that a wrong one is refused; whoever calls may end any task.
    Sent { request: WorkerRequest { .. }, key }: Sent<WorkerRequest>,
) -> Result<Response, Problem> {
    let keyed = key.keyed("timeout", Some(&id), ChangedResponse::answer);
    say(api.tracker.time_out(id, keyed).await?, ChangedResponse::answer)
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
