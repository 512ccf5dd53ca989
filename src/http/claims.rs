//! Claim, start, heartbeat, release.

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
    ChangeProblems, ChangedResponse, HolderProblems, LONGEST_LEASE, Standing, StatusSchema,
    TaskResponse, seconds,
};
use crate::domain::{Caller, LeaseToken, Status, Task, TaskId, TaskType, Timestamp, WorkerId};
use crate::service::Tracked;

/// Types in one claim at most.
const MOST_TYPES: usize = 100;
/// Seconds of the longest wait.
const LONGEST_WAIT: f64 = 60.0;

problems!(ClaimProblems: MalformedBody, BodyTooLarge, UnsupportedMediaType, ValidationFailed, TooManyClaims);

/// A worker asks for work.
#[derive(Debug, Deserialize, ToSchema)]
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
    /// How long it may be silent before another worker gets the task. A heartbeat or any progress counts anew.
    #[serde(default, deserialize_with = "seconds::<1, LONGEST_LEASE, _>")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 86_400)]
    lease_seconds: Option<Duration>,
}

/// A claimed task, with what its worker alone is told. Absent values are `null`, never missing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ClaimedTask {
    #[serde(flatten)]
    task: TaskResponse,
    /// Proves that a call comes from this attempt: sent with every call, it is refused with `lease_lost` once the
    /// attempt is over.
    #[schema(value_type = String)]
    lease_token: Option<LeaseToken>,
    /// Whether somebody wants the task to end.
    cancel_requested: bool,
    /// The server's clock.
    #[schema(value_type = String, format = DateTime)]
    server_time: Timestamp,
}

impl ClaimedTask {
    fn new(tracked: Tracked, server_time: Timestamp) -> Self {
        let lease_token = token_of(&tracked.task);
        let cancel_requested = tracked.task.cancellation.is_some();
        Self { task: tracked.into(), lease_token, cancel_requested, server_time }
    }
}

fn token_of(task: &Task) -> Option<LeaseToken> {
    task.lease.as_ref().map(|lease| lease.token.clone())
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
    (status = 200, description = "The task, or null", body = Option<ClaimedTask>), ClaimProblems))]
pub(super) async fn claim(
    State(api): State<Api>,
    Json(request): Json<ClaimRequest>,
) -> Result<Response, Problem> {
    let ClaimRequest { task_types, worker_id, wait_seconds, lease_seconds } = request;
    // A worker that waits is told `null` when the node closes: it asks again, elsewhere.
    let claimed = api.tracker.claim(&task_types, &worker_id, lease_seconds, wait_seconds).await?;
    let now = api.tracker.clock().now();
    let claimed = claimed.map(|tracked| ClaimedTask::new(tracked, now));
    Ok(axum::Json(claimed).into_response())
}

/// A worker begins this very task.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "workerId": "worker-7", "leaseSeconds": 60 }))]
pub(super) struct StartRequest {
    /// Who it is.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
    /// How long it may be silent before another worker gets the task. A heartbeat or any progress counts anew.
    #[serde(default, deserialize_with = "seconds::<1, LONGEST_LEASE, _>")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 86_400)]
    lease_seconds: Option<Duration>,
}

/// A task was begun.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StartResponse {
    #[schema(value_type = String, example = "tz4a98xxat96iws9zmbrgj3a")]
    task_id: TaskId,
    #[schema(value_type = StatusSchema)]
    status: Status,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Which attempt it is: 1, 2, 3 …
    attempt: u32,
    /// Proves that a call comes from this attempt: sent with every call, it is refused with `lease_lost` once the
    /// attempt is over.
    #[schema(value_type = String)]
    lease_token: Option<LeaseToken>,
    #[serde(flatten)]
    standing: Standing,
}

/// Starts this very task.
#[utoipa::path(post, path = "/tasks/{id}/start", tag = "workers", request_body = Option<StartRequest>,
    params(("id" = String, Path, description = "The task's id"), KeyHeader),
    responses((status = 200, description = "Started", body = StartResponse), ChangeProblems))]
pub(super) async fn start(
    State(api): State<Api>,
    Id(id): Id,
    Sent { request, key }: Sent<StartRequest>,
) -> Result<Response, Problem> {
    let now = api.tracker.clock().now();
    let answer = move |task: &Task| started(task, now);
    let keyed = key.keyed("start", Some(&id), answer);
    let said = api.tracker.start(id, request.worker_id, request.lease_seconds, keyed).await?;
    say(said, answer)
}

fn started(task: &Task, now: Timestamp) -> Answer {
    let (standing, lease_token) = (Standing::of(task, None, now), token_of(task));
    let Task { id: task_id, status, updated_at, attempt, .. } = task.clone();
    let body = StartResponse { task_id, status, updated_at, attempt, lease_token, standing };
    Answer::ok(&body)
}

/// A worker says that it is alive.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "workerId": "worker-7", "leaseSeconds": 60 }))]
pub(super) struct HeartbeatRequest {
    /// Where the task has a worker, that one.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
    /// What the claim or the start gave: refused with `lease_lost` once its attempt is over.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9]+$")]
    lease_token: Option<LeaseToken>,
    /// From now on; without it as long as before.
    #[serde(default, deserialize_with = "seconds::<1, LONGEST_LEASE, _>")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 86_400)]
    lease_seconds: Option<Duration>,
}

/// Renews the lease of a task in progress.
///
/// Progress does the same; a heartbeat is for a worker that has nothing to report.
#[utoipa::path(post, path = "/tasks/{id}/heartbeat", tag = "workers", request_body = Option<HeartbeatRequest>,
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, description = "Renewed", body = ChangedResponse), HolderProblems))]
pub(super) async fn heartbeat(
    State(api): State<Api>,
    Id(id): Id,
    Json(request): Json<HeartbeatRequest>,
) -> Result<Response, Problem> {
    let caller = Caller { worker: request.worker_id, token: request.lease_token };
    let task = api.tracker.heartbeat(id, caller, request.lease_seconds).await?;
    let now = api.tracker.clock().now();
    Ok(axum::Json(ChangedResponse::new(task, now)).into_response())
}

/// The worker that gives a task back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReleaseRequest {
    /// The worker that holds it.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$", example = "worker-7")]
    worker_id: WorkerId,
    /// What the claim or the start gave: refused with `lease_lost` once its attempt is over.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9]+$")]
    lease_token: Option<LeaseToken>,
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
    #[serde(flatten)]
    standing: Standing,
}

/// Gives a task back for another worker.
///
/// Its progress is kept, and the next worker's entries go on counting. A task that somebody wants to end is
/// `cancelled` by it.
#[utoipa::path(post, path = "/tasks/{id}/release", tag = "workers", request_body = ReleaseRequest,
    params(("id" = String, Path, description = "The task's id"), KeyHeader),
    responses((status = 200, description = "Released", body = ReleaseResponse), HolderProblems))]
pub(super) async fn release(
    State(api): State<Api>,
    Id(id): Id,
    Sent { request: ReleaseRequest { worker_id, lease_token }, key }: Sent<ReleaseRequest>,
) -> Result<Response, Problem> {
    let caller = Caller { worker: Some(worker_id), token: lease_token };
    let now = api.tracker.clock().now();
    let answer = move |task: &Task| released(task, now);
    let keyed = key.keyed("release", Some(&id), answer);
    say(api.tracker.release(id, caller, keyed).await?, answer)
}

fn released(task: &Task, now: Timestamp) -> Answer {
    let message = if task.status.is_terminal() {
        "the task was to end, and has; its progress is kept"
    } else {
        "the task waits for another worker; its progress is kept"
    };
    let standing = Standing::of(task, None, now);
    let (task_id, status) = (task.id.clone(), task.status);
    Answer::ok(&ReleaseResponse { task_id, status, message, standing })
}
