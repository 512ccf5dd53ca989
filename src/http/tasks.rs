//! Register, get, retry.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::extract::Id;
use super::idempotency::{Answer, KeyHeader, Sent, SentKey, say};
use super::problem::{Code, Problem, problems};
use super::wire::{StatusSchema, TaskResponse, seconds};
use crate::domain::{JsonObject, Status, Task, TaskId, TaskType, Terms, Timestamp};
use crate::service::Registration;

/// Seconds of the longest time a task may be given: a year.
const LONGEST_TIMEOUT: u64 = 31_536_000;
/// Attempts a task may be given at most.
const MOST_ATTEMPTS: u32 = 1000;

problems!(RegisterProblems: MalformedBody, TaskExists, BodyTooLarge, UnsupportedMediaType, ValidationFailed,
    IdempotencyKeyReused);
problems!(GetProblems: TaskNotFound);
problems!(RetryProblems: TaskNotFound, InvalidTransition, ValidationFailed, IdempotencyKeyReused);

/// A task to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "taskType": "report.build", "params": { "month": "2026-11" }, "timeoutSeconds": 3600 }))]
pub(super) struct RegisterRequest {
    /// Your own id for it; one is made where there is none.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.:-]+$")]
    task_id: Option<TaskId>,
    /// What workers claim it by; no control characters.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    task_type: TaskType,
    /// What you want to find again.
    #[schema(value_type = Option<Object>)]
    metadata: Option<JsonObject>,
    /// What the worker needs.
    #[schema(value_type = Option<Object>)]
    params: Option<JsonObject>,
    /// How long it may take, from now on.
    #[serde(default, deserialize_with = "seconds::<1, LONGEST_TIMEOUT, _>")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 31_536_000, default = 86_400)]
    timeout_seconds: Option<Duration>,
    /// How many workers may lose it, each by a lease that ran out, before it fails.
    #[serde(default, deserialize_with = "max_attempts")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 3)]
    max_attempts: Option<u32>,
    /// How long it may run without progress before it is flagged as stalled; nothing else happens to it.
    #[serde(default, deserialize_with = "seconds::<1, LONGEST_TIMEOUT, _>")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 31_536_000)]
    stall_seconds: Option<Duration>,
}

fn max_attempts<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        Some(attempts) if !(1..=MOST_ATTEMPTS).contains(&attempts) => {
            Err(serde::de::Error::custom(format!("must be between 1 and {MOST_ATTEMPTS}")))
        }
        attempts => Ok(attempts),
    }
}

impl From<RegisterRequest> for Registration {
    fn from(request: RegisterRequest) -> Self {
        Self {
            id: request.task_id,
            task_type: request.task_type,
            metadata: request.metadata,
            params: request.params,
            terms: Terms {
                timeout: request.timeout_seconds.unwrap_or(Terms::DEFAULT.timeout),
                max_attempts: request.max_attempts.unwrap_or(Terms::DEFAULT.max_attempts),
                stall: request.stall_seconds,
            },
        }
    }
}

/// A registered task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegisterResponse {
    #[schema(value_type = String, example = "tz4a98xxat96iws9zmbrgj3a")]
    task_id: TaskId,
    #[schema(value_type = StatusSchema)]
    status: Status,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    timeout_at: Timestamp,
}

/// Registers a task.
///
/// It waits as `pending` for a worker to claim or start it.
#[utoipa::path(post, path = "/tasks", tag = "tasks", params(KeyHeader), request_body = RegisterRequest, responses(
    (status = 201, description = "Registered", body = RegisterResponse,
     headers(("location" = String, description = "Where the task is"))),
    RegisterProblems,
))]
pub(super) async fn register(
    State(api): State<Api>,
    Sent { request, key }: Sent<RegisterRequest>,
) -> Result<Response, Problem> {
    let keyed = key.keyed("register", None, registered);
    say(api.tracker.register(request.into(), keyed).await?, registered)
}

fn registered(task: &Task) -> Answer {
    let body = RegisterResponse {
        task_id: task.id.clone(),
        status: task.status,
        created_at: task.created_at,
        timeout_at: task.timeout_at,
    };
    Answer::created(&task.id, &body)
}

/// Reads a task with its whole history.
///
/// The history is live while the task runs, and sealed after; it is complete either way. While the live log is
/// away it is what is sealed, and `progressHistoryComplete` says `false`.
#[utoipa::path(get, path = "/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, description = "The task", body = TaskResponse), GetProblems))]
pub(super) async fn get(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    let task = api.tracker.get(&id).await?;
    Ok(axum::Json(TaskResponse::from(task)).into_response())
}

/// Reads the task whose id is also the name of a route, which would hide it.
pub(super) fn get_the_one_called(name: &'static str) -> MethodRouter<Api> {
    axum::routing::get(async move |State(api): State<Api>| {
        let none = |_| Problem::new(Code::TaskNotFound, "there is no such task");
        get(State(api), Id(name.parse().map_err(none)?)).await
    })
}

/// A retry.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RetryResponse {
    #[schema(value_type = String)]
    new_task_id: TaskId,
    /// The first task of the chain.
    #[schema(value_type = String)]
    original_task_id: TaskId,
    #[schema(value_type = StatusSchema)]
    status: Status,
    /// How many retries the chain has now.
    retry_count: u32,
}

/// Makes a new pending task of one that failed, timed out or was cancelled.
///
/// It has the same type, metadata, params and terms. A task is retried once; retry the retry for more.
#[utoipa::path(post, path = "/tasks/{id}/retry", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), KeyHeader),
    responses((status = 201, description = "Retried", body = RetryResponse,
               headers(("location" = String, description = "Where the new task is"))), RetryProblems))]
pub(super) async fn retry(
    State(api): State<Api>,
    Id(id): Id,
    key: SentKey,
) -> Result<Response, Problem> {
    let parent = id.clone();
    let keyed = key.keyed("retry", Some(&id), move |child| retried(&parent, child));
    say(api.tracker.retry(id.clone(), keyed).await?, |child| retried(&id, child))
}

fn retried(parent: &TaskId, child: &Task) -> Answer {
    let body = RetryResponse {
        new_task_id: child.id.clone(),
        original_task_id: child.original_task_id.as_ref().unwrap_or(parent).clone(),
        status: child.status,
        retry_count: child.retry_count,
    };
    Answer::created(&child.id, &body)
}
