//! Cancel or retry many tasks at once.

use std::collections::HashSet;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::endings::{DEFAULT_GRACE, LONGEST_GRACE};
use super::extract::Json;
use super::problem::{Code, Problem, problems};
use super::wire::{ProblemSchema, StatusSchema, seconds};
use crate::domain::{Reason, Status, Task, TaskId, Timestamp};
use crate::service::{Cancel, Fate};

/// Tasks of one request at most.
const MOST_TASKS: usize = 1000;

problems!(ManyProblems: MalformedBody, BodyTooLarge, UnsupportedMediaType, ValidationFailed);

/// Tasks to cancel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "taskIds": ["send-7", "send-8"], "reason": "the month was reopened" }))]
pub(super) struct CancelBulkRequest {
    /// Which; each once.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 1000)]
    task_ids: Vec<TaskId>,
    /// Why, for people.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 1000)]
    reason: Option<Reason>,
    /// Whether workers are given no time to end them.
    force: Option<bool>,
    /// How long they are given.
    #[serde(default, deserialize_with = "seconds::<0, LONGEST_GRACE, _>")]
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 86_400, default = 30)]
    grace_seconds: Option<Duration>,
}

/// Tasks to retry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "taskIds": ["send-7", "send-8"] }))]
pub(super) struct RetryBulkRequest {
    /// Which; each once.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 1000)]
    task_ids: Vec<TaskId>,
}

/// What became of each task that was to be cancelled.
#[derive(Serialize, ToSchema)]
pub(super) struct CancelBulkResponse {
    /// In the order of the request.
    results: Vec<CancelBulkResult>,
    /// How many are cancelled, or to be.
    done: u64,
    /// How many were refused.
    failed: u64,
}

/// What became of one of them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum CancelBulkResult {
    Done(BulkCancelled),
    Failed(BulkRefused),
}

/// It is cancelled, or to be.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BulkCancelled {
    /// Its place in the request, from 0.
    index: usize,
    #[schema(value_type = String)]
    task_id: TaskId,
    /// 200, as if it had come alone.
    #[schema(example = 200)]
    status: u16,
    /// `cancelled`, or `in_progress` while its worker is given time.
    #[schema(value_type = StatusSchema)]
    task_status: Status,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When its worker is cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    cancel_deadline: Option<Timestamp>,
}

/// What became of each task that was to be retried.
#[derive(Serialize, ToSchema)]
pub(super) struct RetryBulkResponse {
    /// In the order of the request.
    results: Vec<RetryBulkResult>,
    /// How many were retried.
    done: u64,
    /// How many were refused.
    failed: u64,
}

/// What became of one of them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum RetryBulkResult {
    Done(BulkRetried),
    Failed(BulkRefused),
}

/// It was retried.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BulkRetried {
    /// Its place in the request, from 0.
    index: usize,
    /// The one that was retried.
    #[schema(value_type = String)]
    task_id: TaskId,
    /// 201, as if it had come alone.
    #[schema(example = 201)]
    status: u16,
    #[schema(value_type = String)]
    new_task_id: TaskId,
    /// The first task of the chain.
    #[schema(value_type = String)]
    original_task_id: TaskId,
    /// How many retries the chain has now.
    retry_count: u32,
}

/// It was refused.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BulkRefused {
    /// Its place in the request, from 0.
    index: usize,
    #[schema(value_type = String)]
    task_id: TaskId,
    /// 404 where there is no such task, 409 where its status does not allow it, 503 where that could not be found out: as if
    /// it had come alone.
    #[schema(example = 409)]
    status: u16,
    /// Why.
    #[schema(value_type = ProblemSchema)]
    problem: Value,
}

/// Cancels many tasks at once.
///
/// Each is decided as if it had come alone, in no particular order; the answer is 200 whatever became of each, and says it in `results`. It
/// may be sent again: a task that is to be cancelled already stays so, and one that has ended is refused. While a
/// dependency is away those that were not begun are answered 503.
#[utoipa::path(post, path = "/tasks/cancel", tag = "tasks", request_body = CancelBulkRequest,
    responses((status = 200, description = "What became of each", body = CancelBulkResponse), ManyProblems))]
pub(super) async fn cancel_bulk(
    State(api): State<Api>,
    Json(request): Json<CancelBulkRequest>,
) -> Result<Response, Problem> {
    let ids = distinct(request.task_ids)?;
    let cancel = Cancel {
        reason: request.reason,
        force: request.force.unwrap_or(false),
        grace: request.grace_seconds.unwrap_or(DEFAULT_GRACE),
    };
    let fates = api.tracker.cancel_many(ids.clone(), cancel).await?;
    let done = |index, task_id, task: Task| {
        CancelBulkResult::Done(BulkCancelled {
            index,
            task_id,
            status: StatusCode::OK.as_u16(),
            task_status: task.status,
            updated_at: task.updated_at,
            cancel_deadline: task.cancellation.and_then(|wish| wish.deadline),
        })
    };
    let (results, done, failed) = results(ids, fates, done, CancelBulkResult::Failed);
    Ok(axum::Json(CancelBulkResponse { results, done, failed }).into_response())
}

/// Retries many tasks at once.
///
/// Each is decided as if it had come alone, in no particular order; the answer is 200 whatever became of each, and says it in `results`. A task
/// is retried once: sent again, those that were retried are refused with `invalid_transition`. While a
/// dependency is away those that were not begun are answered 503.
#[utoipa::path(post, path = "/tasks/retry", tag = "tasks", request_body = RetryBulkRequest,
    responses((status = 200, description = "What became of each", body = RetryBulkResponse), ManyProblems))]
pub(super) async fn retry_bulk(
    State(api): State<Api>,
    Json(request): Json<RetryBulkRequest>,
) -> Result<Response, Problem> {
    let ids = distinct(request.task_ids)?;
    let fates = api.tracker.retry_many(ids.clone()).await?;
    let done = |index, task_id: TaskId, child: Task| {
        RetryBulkResult::Done(BulkRetried {
            index,
            status: StatusCode::CREATED.as_u16(),
            new_task_id: child.id,
            original_task_id: child.original_task_id.unwrap_or_else(|| task_id.clone()),
            retry_count: child.retry_count,
            task_id,
        })
    };
    let (results, done, failed) = results(ids, fates, done, RetryBulkResult::Failed);
    Ok(axum::Json(RetryBulkResponse { results, done, failed }).into_response())
}

/// Each task is named once: of twins one would be refused because of the other.
fn distinct(ids: Vec<TaskId>) -> Result<Vec<TaskId>, Problem> {
    if !(1..=MOST_TASKS).contains(&ids.len()) {
        let message = format!("must hold 1 to {MOST_TASKS} ids");
        return Err(Problem::invalid("taskIds", &message));
    }
    let mut seen = HashSet::new();
    match ids.iter().position(|id| !seen.insert(id)) {
        Some(index) => Err(Problem::invalid(&format!("taskIds[{index}]"), "is there twice")),
        None => Ok(ids),
    }
}

/// What is said of each, how many are done, and how many are not.
fn results<T>(
    ids: Vec<TaskId>,
    fates: Vec<Fate>,
    done: impl Fn(usize, TaskId, Task) -> T,
    failed: impl Fn(BulkRefused) -> T,
) -> (Vec<T>, u64, u64) {
    let (mut successes, mut failures) = (0, 0);
    let result = |(index, (task_id, fate))| {
        let problem = match fate {
            Some(Ok(task)) => {
                successes += 1;
                return done(index, task_id, task);
            }
            Some(Err(error)) => Problem::from(error),
            // Why has been said, and logged, of the one that found out.
            None => Code::Unavailable.example(),
        };
        failures += 1;
        let (status, problem) = problem.of_an_item();
        failed(BulkRefused { index, task_id, status, problem })
    };
    let results = ids.into_iter().zip(fates).enumerate().map(result).collect();
    (results, successes, failures)
}
