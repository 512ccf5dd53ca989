//! Register many tasks at once.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Api;
use super::extract::parse;
use super::idempotency::{Answer, KeyHeader, Sent, say};
use super::problem::{Code, Problem, problems};
use super::tasks::RegisterRequest;
use crate::domain::{Task, TaskId, Timestamp};
use crate::service::Registration;

/// Tasks of one request at most.
const MOST_TASKS: usize = 1000;

problems!(BulkProblems: MalformedBody, BodyTooLarge, UnsupportedMediaType, ValidationFailed,
    IdempotencyKeyReused);

/// Tasks to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "tasks": [{ "taskType": "report.build" }, { "taskType": "report.send", "taskId": "send-7" }] }))]
pub(super) struct BulkRequest {
    /// Each as for registering it alone. Workers get those of one type in this order.
    #[schema(value_type = Vec<RegisterRequest>, min_items = 1, max_items = 1000)]
    tasks: Vec<Box<RawValue>>,
}

/// A task of the request, as far as the edge can tell: the id it was given, if any, or what is wrong with it.
type Item = Result<Option<TaskId>, Problem>;

impl BulkRequest {
    /// What can be registered, in order, and every item.
    pub(super) fn read(&self) -> Result<(Vec<Registration>, Vec<Item>), Problem> {
        if !(1..=MOST_TASKS).contains(&self.tasks.len()) {
            let message = format!("must hold 1 to {MOST_TASKS} tasks");
            return Err(Problem::invalid("tasks", &message));
        }
        let (mut registrations, mut items) = (Vec::with_capacity(self.tasks.len()), Vec::new());
        for (index, task) in self.tasks.iter().enumerate() {
            items.push(match parse::<RegisterRequest>(task.get().as_bytes()) {
                Ok(request) => {
                    let registration = Registration::from(request);
                    let id = registration.id.clone();
                    registrations.push(registration);
                    Ok(id)
                }
                Err(problem) => Err(problem.within(&format!("tasks[{index}]"))),
            });
        }
        Ok((registrations, items))
    }
}

/// What became of each task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BulkResponse {
    /// In the order of the request.
    results: Vec<BulkResult>,
    /// How many were registered.
    created: u64,
    /// How many were not.
    failed: u64,
}

/// What became of one task.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum BulkResult {
    Created(BulkCreated),
    Failed(BulkFailed),
}

/// It was registered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BulkCreated {
    /// Its place in the request, from 0.
    index: usize,
    /// 201, as if it had come alone.
    #[schema(example = 201)]
    status: u16,
    #[schema(value_type = String, example = "tz4a98xxat96iws9zmbrgj3a")]
    task_id: TaskId,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    timeout_at: Timestamp,
}

/// It was not registered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BulkFailed {
    /// Its place in the request, from 0.
    index: usize,
    /// 409 where the id is taken, 422 where a field is missing or wrong: as if it had come alone.
    #[schema(example = 409)]
    status: u16,
    /// Why.
    #[schema(value_type = super::wire::ProblemSchema)]
    problem: Value,
}

/// Registers many tasks at once.
///
/// Each has an outcome of its own: one that is wrong, or whose id is taken (also by one before it in the request), does
/// not keep the others from being registered. The answer is 200 whatever became of each, and says it in `results`; those that
/// can be registered are, all in one commit. The limit of a body's size applies to all together.
#[utoipa::path(post, path = "/tasks/bulk", tag = "tasks", params(KeyHeader), request_body = BulkRequest,
    responses((status = 200, description = "What became of each", body = BulkResponse), BulkProblems))]
pub(super) async fn register_bulk(
    State(api): State<Api>,
    Sent { request, key }: Sent<BulkRequest>,
) -> Result<Response, Problem> {
    let (registrations, items) = request.read()?;
    let items = Arc::new(items);
    let keyed = {
        let items = Arc::clone(&items);
        key.keyed("register_bulk", None, move |tasks: &Vec<_>| answer(&items, tasks))
    };
    let said = api.tracker.register_many(registrations, keyed).await?;
    say(said, |tasks| answer(&items, tasks))
}

/// Joins what was registered to what was refused at the edge. A valid item has the id it was given, if any.
fn answer(items: &[Item], tasks: &[Option<Task>]) -> Answer {
    let mut tasks = tasks.iter();
    let failed = |index, problem: &Problem| {
        let (status, problem) = problem.of_an_item();
        BulkResult::Failed(BulkFailed { index, status, problem })
    };
    let result = |(index, item): (usize, &Item)| match item {
        Err(problem) => failed(index, problem),
        Ok(id) => {
            let Some(task) = tasks.next().and_then(Option::as_ref) else {
                let id = id.as_ref().map_or("of this id", TaskId::as_str);
                let detail = format!("there is a task {id} already");
                return failed(index, &Problem::new(Code::TaskExists, detail));
            };
            BulkResult::Created(BulkCreated {
                index,
                status: StatusCode::CREATED.as_u16(),
                task_id: task.id.clone(),
                created_at: task.created_at,
                timeout_at: task.timeout_at,
            })
        }
    };
    let results: Vec<BulkResult> = items.iter().enumerate().map(result).collect();
    let is_created = |result: &&BulkResult| matches!(result, BulkResult::Created(_));
    let created = results.iter().filter(is_created).count() as u64;
    let failed = results.len() as u64 - created;
    Answer::ok(&BulkResponse { results, created, failed })
}
