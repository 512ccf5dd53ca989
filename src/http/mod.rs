//! The wire: extract, call the service once, answer.
//!
//! | module | holds |
//! | --- | --- |
//! | this one | every route, in one list |
//! | [`problem`] | one table from error to answer (RFC 9457) |
//! | `extract` | bodies, queries and paths, checked at the edge |
//! | [`server`] | accepts connections, guards them, and lets them end |
//! | [`front`] | what a client may cost the node, and who the client is |
//! | `pace` | a body that does not arrive is ended |
//! | [`readers`] | how many streams there may be, and how each ended |
//! | `drain` | what a client still sends when its answer is there already |
//! | `idempotency` | requests that may come twice: their key, and answers given again |
//! | `observe` | what happens around every request: correlation id, span, figures, panics |
//! | `tasks`, `bulk`, `claims`, `progress`, `endings`, `track` | the handlers of the core |
//! | `explain` | why a task stands where it stands; who asks for work |
//! | `operations` | health, metrics |
//! | [`document`] | the OpenAPI document |
//! | `fuzzing` | what must hold of whatever a client sends; in no server |

mod bulk;
mod claims;
pub mod document;
mod drain;
mod endings;
mod explain;
mod extract;
pub mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod idempotency;
mod observe;
mod operations;
mod pace;
pub mod problem;
mod progress;
pub mod readers;
pub mod server;
mod tasks;
mod track;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::service::Tracker;
pub use front::Front;
pub use readers::Readers;

/// The base path of the API.
pub const BASE_PATH: &str = "/api/v1";

/// What handlers share; cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// The use cases.
    pub tracker: Tracker,
    /// What a client may send.
    pub limits: Limits,
    /// What a client may cost.
    pub front: Arc<Front>,
    /// Who reads a stream.
    pub readers: Arc<Readers>,
    /// Renders the figures.
    pub figures: PrometheusHandle,
    /// Who may read from another origin.
    pub cors: Arc<[HeaderValue]>,
}

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of one progress entry.
    pub entry_bytes: usize,
}

/// Every route of the API that the OpenAPI document describes.
fn documented() -> OpenApiRouter<Api> {
    let core = OpenApiRouter::new()
        .routes(routes!(tasks::register, tasks::list))
        .routes(routes!(bulk::register_bulk))
        .routes(routes!(claims::claim))
        .routes(routes!(endings::process_timeouts))
        .routes(routes!(tasks::get))
        .routes(routes!(claims::start))
        .routes(routes!(progress::progress))
        .routes(routes!(track::track))
        .routes(routes!(endings::complete))
        .routes(routes!(endings::fail))
        .routes(routes!(endings::time_out))
        .routes(routes!(endings::cancel))
        .routes(routes!(claims::heartbeat))
        .routes(routes!(claims::release))
        .routes(routes!(tasks::retry))
        .routes(routes!(explain::why))
        .routes(routes!(explain::workers));
    OpenApiRouter::with_openapi(document::frame())
        .nest(BASE_PATH, core)
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::metrics))
}

/// The whole service as a router.
pub fn router(api: Api) -> Router {
    let (routes, document) = documented().split_for_parts();
    let document = Arc::<str>::from(document::render(&document));
    let docs = SwaggerUi::new("/docs").config(
        utoipa_swagger_ui::Config::new(["/openapi.json"])
            .try_it_out_enabled(true)
            .validator_url("none"),
    );
    let cors = cors(&api.cors);
    routes
        .route("/openapi.json", get(async move || operations::openapi(&document)))
        // A task may be called `claim` or `bulk`, too; the static routes would hide it.
        .route(&format!("{BASE_PATH}/tasks/claim"), get(tasks::get_the_one_called_claim))
        .route(&format!("{BASE_PATH}/tasks/bulk"), get(bulk::get_the_one_called_bulk))
        .merge(docs)
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(map_response(problem::mend))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(cors)
        .layer(from_fn(drain::drain))
        .layer(from_fn_with_state(Arc::clone(&api.front), pace::pace))
        .layer(from_fn(observe::observe))
        .with_state(api)
}

/// Reading is open to every page unless origins are configured; those may write too.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let exposed =
        [observe::CORRELATION_ID, header::LOCATION, header::RETRY_AFTER, idempotency::REPLAYED];
    let layer = CorsLayer::new()
        .expose_headers(exposed)
        .max_age(std::time::Duration::from_hours(1))
        .allow_headers([
            header::ACCEPT,
            header::CONTENT_TYPE,
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("traceparent"),
            observe::CORRELATION_ID,
            idempotency::KEY,
        ]);
    if origins.is_empty() {
        layer.allow_origin(tower_http::cors::Any).allow_methods([Method::GET, Method::HEAD])
    } else {
        layer.allow_origin(AllowOrigin::list(origins.iter().cloned())).allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
        ])
    }
}
