//! Claim, start, release.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::extract::{Id, Json};
use super::idempotency::{Answer, KeyHeader, Sent, say};
use super::problem::{Problem, problems};
use super::wire::{
    ChangeProblems, ChangedResponse, HolderProblems, StatusSchema, TaskResponse, WorkerRequest,
};
use crate::domain::{Status, Task, TaskId, TaskType, WorkerId};

/// Types in one claim at most.
const MOST_TYPES: usize = 100;
/// Seconds of the longest wait.
const LONGEST_WAIT: f64 = 60.0;

problems!(ClaimProblems: MalformedBody, BodyTooLarge, UnsupportedMediaType, ValidationFailed);

/// A worker asks for work.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "taskTypes": ["report.build"], "workerId": "worker-7", "waitSeconds": 30 }))]
pub(super) struct ClaimRequest {
    /// What it can do.
    #[serde(deserialize_with = "task_types")]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100)]
    task_types: Vec<TaskType>,
    /// Who it is.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: WorkerId,
    /// How long it waits for a task to appear.
    #[serde(default, deserialize_with = "wait_seconds")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 60, default = 0)]
    wait_seconds: Duration,
}

fn task_types<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<TaskType>, D::Error> {
    let mut types = Vec::<TaskType>::deserialize(deserializer)?;
    if !(1..=MOST_TYPES).contains(&types.len()) {
        return Err(serde::de::Error::custom(format!("must hold 1 to {MOST_TYPES} types")));
    }
    types.sort_unstable();
    types.dedup();
    Ok(types)
}

fn wait_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = Option::<f64>::deserialize(deserializer)?.unwrap_or(0.0);
    if (0.0..=LONGEST_WAIT).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(serde::de::Error::custom(format!("must be between 0 and {LONGEST_WAIT}")))
}

/// Claims a task.
///
/// Answers with exactly one task, the oldest pending one of these types, now in progress for this
/// worker; or with `null`. No task goes to two workers. With `waitSeconds` it waits for one to appear.
#[utoipa::path(post, path = "/tasks/claim", tag = "workers", request_body = ClaimRequest, responses(
    (status = 200, description = "The task, or null", body = Option<TaskResponse>), ClaimProblems))]
pub(super) async fn claim(
    State(api): State<Api>,
    Json(request): Json<ClaimRequest>,
) -> Result<Response, Problem> {
    let ClaimRequest { task_types, worker_id, wait_seconds } = request;
    // A worker that waits is told `null` when the node closes: it asks again, elsewhere.
    let claimed = api.tracker.claim(&task_types, &worker_id, wait_seconds).await?;
    Ok(axum::Json(claimed.map(TaskResponse::from)).into_response())
}

/// Starts this very task.
#[utoipa::path(post, path = "/tasks/{id}/start", tag = "workers", request_body = Option<WorkerRequest>,
    params(("id" = String, Path, description = "The task's id"), KeyHeader),
    responses((status = 200, description = "Started", body = ChangedResponse), ChangeProblems))]
pub(super) async fn start(
    State(api): State<Api>,
    Id(id): Id,
    Sent { request, key }: Sent<WorkerRequest>,
) -> Result<Response, Problem> {
    let keyed = key.keyed("start", Some(&id), ChangedResponse::answer);
    let said = api.tracker.start(id, request.worker_id, keyed).await?;
    say(said, ChangedResponse::answer)
}

/// The worker that gives a task back.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReleaseRequest {
    /// The worker that holds it.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$", example = "worker-7")]
    worker_id: WorkerId,
}

/// A task was given back.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReleaseResponse {
    #[schema(value_type = String)]
    task_id: TaskId,
    #[schema(value_type = StatusSchema)]
    status: Status,
    message: &'static str,
}

/// Gives a task back for another worker.
///
/// Its progress is kept, and the next worker's entries go on counting.
#[utoipa::path(post, path = "/tasks/{id}/release", tag = "workers", request_body = ReleaseRequest,
    params(("id" = String, Path, description = "The task's id"), KeyHeader),
    responses((status = 200, description = "Released", body = ReleaseResponse), HolderProblems))]
pub(super) async fn release(
    State(api): State<Api>,
    Id(id): Id,
    Sent { request, key }: Sent<ReleaseRequest>,
) -> Result<Response, Problem> {
    let keyed = key.keyed("release", Some(&id), released);
    say(api.tracker.release(id, request.worker_id, keyed).await?, released)
}

fn released(task: &Task) -> Answer {
    let message = "the task waits for another worker; its progress is kept";
    Answer::ok(&ReleaseResponse { task_id: task.id.clone(), status: task.status, message })
}
