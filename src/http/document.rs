//! The OpenAPI document, generated from the handlers.

use utoipa::OpenApi;

use super::wire;

/// What the document says besides the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Task Tracker",
        description = "Long-running work reports here; everybody watches it live. Services register tasks, workers in any \
            language claim them, report on them and finish them, and every progress entry is numbered, kept, and \
            streamed to whoever watches, without a hole.\n\nEvery error is `application/problem+json` (RFC 9457) with a stable \
            `code`. Every response carries `x-correlation-id`. Times are RFC 3339 in UTC with three fractional digits.",
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "tasks", description = "Registering services: register, look up, retry"),
        (name = "workers", description = "Workers: claim, report, finish"),
        (name = "stream", description = "Watchers: one task, live"),
        (name = "operations", description = "Operators: health and figures"),
    ),
    components(schemas(wire::ProblemSchema, wire::FieldError, wire::ProgressEntry)),
)]
struct Frame;

pub(super) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

/// The document as JSON, indented, with a line break at its end: what `openapi.json` in the repository holds.
pub fn json() -> String {
    render(super::documented().get_openapi())
}

pub(super) fn render(document: &utoipa::openapi::OpenApi) -> String {
    // Serialising a document that was just built cannot fail.
    let mut json = document.to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}
