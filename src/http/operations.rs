//! Health and figures, for operators and what watches for them.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use crate::service::Health;

/// How a dependency does.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CheckResponse {
    /// `database` or `live_log`.
    name: &'static str,
    /// `up` or `down`.
    status: &'static str,
    /// How long the answer took.
    duration_ms: f64,
}

/// How the node does.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HealthResponse {
    /// `up`, `down` or `closing`.
    status: &'static str,
    /// The version of the service.
    version: &'static str,
    checks: Vec<CheckResponse>,
}

/// Says that the process is alive, whatever its dependencies do.
#[utoipa::path(get, path = "/livez", tag = "operations",
    responses((status = 200, description = "Alive", body = String, content_type = "text/plain")))]
pub(super) async fn livez() -> &'static str {
    "alive\n"
}

/// Says whether this node should be sent requests.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "Ready", body = HealthResponse),
    (status = 503, description = "A dependency is away, or the node is closing", body = HealthResponse)))]
pub(super) async fn readyz(State(api): State<Api>) -> Response {
    let health = check(&api).await;
    let status =
        if health.status == "up" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], axum::Json(health)).into_response()
}

/// Says how each dependency does, and how long it took to say so.
#[utoipa::path(get, path = "/healthz", tag = "operations",
    responses((status = 200, description = "Every check", body = HealthResponse)))]
pub(super) async fn healthz(State(api): State<Api>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(check(&api).await)).into_response()
}

async fn check(api: &Api) -> HealthResponse {
    let checks = api.tracker.health().await;
    let status = if api.tracker.closing().is_cancelled() {
        "closing"
    } else if checks.iter().all(|check| check.is_up) {
        "up"
    } else {
        "down"
    };
    let millis = |took: Duration| (took.as_secs_f64() * 1e6).round() / 1e3;
    let row = |check: Health| CheckResponse {
        name: check.name,
        status: if check.is_up { "up" } else { "down" },
        duration_ms: millis(check.took),
    };
    HealthResponse {
        status,
        version: env!("CARGO_PKG_VERSION"),
        checks: checks.into_iter().map(row).collect(),
    }
}

/// Renders the figures of this node for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Figures", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    note_runtime();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.figures.render())
        .into_response()
}

/// Notes what the runtime says of itself: it counts by itself, and is asked when its figures are.
fn note_runtime() {
    let runtime = tokio::runtime::Handle::current().metrics();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let workers = 0..runtime.num_workers();
    let busy: Duration =
        workers.clone().map(|worker| runtime.worker_total_busy_duration(worker)).sum();
    ::metrics::gauge!("runtime_workers").set(count(runtime.num_workers()));
    ::metrics::gauge!("runtime_tasks_alive").set(count(runtime.num_alive_tasks()));
    ::metrics::gauge!("runtime_queue_depth").set(count(runtime.global_queue_depth()));
    ::metrics::gauge!("runtime_busy_seconds").set(busy);
    ::metrics::counter!("runtime_parks_total")
        .absolute(workers.map(|worker| runtime.worker_park_count(worker)).sum());
}

/// The OpenAPI document.
pub(super) fn openapi(document: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.to_owned()).into_response()
}
