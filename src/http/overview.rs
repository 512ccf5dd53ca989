//! All tasks at a glance; which nodes there are.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::extract::Query;
use super::lists::ListedTask;
use super::problem::{Problem, problems};
use super::wire::seconds;
use crate::domain::{Status, TaskType, Timestamp};
use crate::service::{Counts, Listed, Node, Overview, Series, Step};

/// Seconds of a window: the shortest, the longest, and unless said otherwise.
const SHORTEST: u64 = 60;
const LONGEST: u64 = 604_800;
const HOUR: Duration = Duration::from_hours(1);

problems!(OverviewProblems: ValidationFailed);
problems!(NodesProblems:);

/// What of it is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct OverviewQuery {
    /// How far back the series reaches.
    #[serde(default, deserialize_with = "seconds::<SHORTEST, LONGEST, _>")]
    #[param(value_type = Option<u64>, minimum = 60, maximum = 604_800, default = 3600)]
    window_seconds: Option<Duration>,
}

/// All tasks at a glance. What stands in it may be a few seconds old.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OverviewResponse {
    /// The server's clock.
    #[schema(value_type = String, format = DateTime)]
    server_time: Timestamp,
    counts: CountsByStatus,
    /// When `counts`, `queues`, `workers` and `failures` were so.
    #[schema(value_type = String, format = DateTime)]
    counted_at: Timestamp,
    /// Types with tasks that wait or run, of which most wait first; at most 50.
    queues: Vec<QueueItem>,
    window: WindowItem,
    /// Every step of the window, the oldest first.
    series: Vec<StepItem>,
    workers: WorkerCounts,
    /// The newest 10 of the tasks that failed or timed out, the latest end first: each as `GET /tasks` lists it, without `params`,
    /// `metadata` and `result`.
    failures: Vec<ListedTask>,
}

/// A task as a list has it, without what may be large.
fn brief(Listed { task, latest }: &Listed) -> ListedTask {
    ListedTask::new(task.clone(), latest.as_ref()).brief()
}

/// How many tasks there are of each status.
#[derive(Serialize, ToSchema)]
struct CountsByStatus {
    pending: u64,
    in_progress: u64,
    completed: u64,
    failed: u64,
    timeout: u64,
    cancelled: u64,
}

/// Tasks of a type that have not ended.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Queue)]
struct QueueItem {
    #[schema(value_type = String)]
    task_type: TaskType,
    pending: u64,
    in_progress: u64,
    /// When the oldest of those that wait was registered.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_pending_at: Option<Timestamp>,
}

/// The time that the series covers: the window that was asked for, in whole steps.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OverviewWindow)]
struct WindowItem {
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The end of the last step, which is still going on.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    step_seconds: u64,
}

/// What happened in a step.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OverviewStep)]
struct StepItem {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    registered: u64,
    completed: u64,
    failed: u64,
    timeout: u64,
    cancelled: u64,
    /// How long the tasks took that completed in it, from the start of their last attempt: half of them so long at most. Within 2.5 %, for
    /// it is read off a histogram whose buckets are 5 % wide; `null` where none completed.
    #[serde(rename = "durationP50Ms")]
    duration_p50_ms: Option<u64>,
    /// And 95 of a hundred.
    #[serde(rename = "durationP95Ms")]
    duration_p95_ms: Option<u64>,
}

/// Workers that asked for work in the last 5 minutes.
#[derive(Serialize, ToSchema)]
struct WorkerCounts {
    seen: u64,
    /// How many of them hold a task.
    holding: u64,
}

fn count(counts: &Counts, status: Status) -> u64 {
    counts.get(&status).copied().unwrap_or(0)
}

impl From<&Counts> for CountsByStatus {
    fn from(counts: &Counts) -> Self {
        Self {
            pending: count(counts, Status::Pending),
            in_progress: count(counts, Status::InProgress),
            completed: count(counts, Status::Completed),
            failed: count(counts, Status::Failed),
            timeout: count(counts, Status::Timeout),
            cancelled: count(counts, Status::Cancelled),
        }
    }
}

impl From<&Step> for StepItem {
    fn from(step: &Step) -> Self {
        let (median, most) = step.durations.unzip();
        Self {
            at: step.at,
            registered: step.registered,
            completed: count(&step.ended, Status::Completed),
            failed: count(&step.ended, Status::Failed),
            timeout: count(&step.ended, Status::Timeout),
            cancelled: count(&step.ended, Status::Cancelled),
            duration_p50_ms: median.map(in_millis),
            duration_p95_ms: most.map(in_millis),
        }
    }
}

/// Whole milliseconds, the nearest.
fn in_millis(duration: Duration) -> u64 {
    u64::try_from((duration.as_micros() + 500) / 1000).unwrap_or(u64::MAX)
}

impl From<&Series> for WindowItem {
    fn from(series: &Series) -> Self {
        Self { from: series.from, to: series.to, step_seconds: series.step.as_secs() }
    }
}

impl From<&Overview> for OverviewResponse {
    fn from(Overview { at, standing, series }: &Overview) -> Self {
        let queues = standing.queues.iter().map(|queue| QueueItem {
            task_type: queue.task_type.clone(),
            pending: queue.pending,
            in_progress: queue.in_progress,
            oldest_pending_at: queue.oldest_pending_at,
        });
        Self {
            server_time: *at,
            counts: (&standing.counts).into(),
            counted_at: standing.at,
            queues: queues.collect(),
            window: (&**series).into(),
            series: series.steps.iter().map(StepItem::from).collect(),
            workers: WorkerCounts {
                seen: standing.workers.seen,
                holding: standing.workers.holding,
            },
            failures: standing.failures.iter().map(brief).collect(),
        }
    }
}

/// Shows all tasks at a glance: how many stand where, what waits, a window of figures, and what went wrong last.
///
/// Ask as often as you like: a node finds it out once every few seconds, for everybody, and adds up only what is new.
#[utoipa::path(get, path = "/overview", tag = "operations", params(OverviewQuery),
    responses((status = 200, description = "The overview", body = OverviewResponse), OverviewProblems))]
pub(super) async fn overview(
    State(api): State<Api>,
    Query(query): Query<OverviewQuery>,
) -> Result<Response, Problem> {
    let overview = api.tracker.overview(query.window_seconds.unwrap_or(HOUR)).await?;
    Ok(axum::Json(OverviewResponse::from(&overview)).into_response())
}

/// The nodes that run.
#[derive(Serialize, ToSchema)]
pub(super) struct NodesResponse {
    items: Vec<NodeItem>,
}

/// A node that runs, as it said of itself a few seconds ago.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Node)]
struct NodeItem {
    /// Made anew at every start.
    node_id: String,
    /// The version of the service.
    version: String,
    /// `embedded` or `node`.
    mode: String,
    /// The machine it runs on.
    host: String,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it last said that it is there: every 5 seconds or so.
    #[schema(value_type = String, format = DateTime)]
    seen_at: Timestamp,
    /// Whether it is the node that answers.
    is_this: bool,
    open_streams: u64,
    /// Claims that wait there for a task.
    waiting_workers: u64,
}

impl From<(Node, bool)> for NodeItem {
    fn from((node, is_this): (Node, bool)) -> Self {
        Self {
            node_id: node.node_id,
            version: node.version,
            mode: node.mode,
            host: node.host,
            started_at: node.started_at,
            seen_at: node.seen_at,
            is_this,
            open_streams: node.open_streams,
            waiting_workers: node.waiting_workers,
        }
    }
}

/// Lists the nodes that were seen in the last 30 seconds, those that run for the longest time first.
///
/// One that is shut down leaves at once, one that dies after 30 seconds.
#[utoipa::path(get, path = "/nodes", tag = "operations",
    responses((status = 200, description = "The nodes", body = NodesResponse), NodesProblems))]
pub(super) async fn nodes(State(api): State<Api>) -> Result<Response, Problem> {
    let nodes = api.tracker.nodes().await?;
    let items = nodes.into_iter().map(NodeItem::from).collect();
    Ok(axum::Json(NodesResponse { items }).into_response())
}
