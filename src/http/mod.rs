//! The wire: extract, call the service once, answer.
//!
//! | module | holds |
//! | --- | --- |
//! | this one | every route, in one list |
//! | [`problem`] | one table from error to answer (RFC 9457) |
//! | `extract` | bodies, queries and paths, checked at the edge |
//! | `site` | the service as a whole: the routes, and what is around every request |
//! | [`server`] | accepts connections, guards them, and lets them end |
//! | [`front`] | what a client may cost the node, and who the client is |
//! | `pace` | a body that does not arrive is ended |
//! | [`readers`] | how many streams there may be, and how each ended |
//! | `drain` | what a client still sends when its answer is there already |
//! | `idempotency` | requests that may come twice: their key, and answers given again |
//! | `observe` | what happens around every request: correlation id, span, figures, panics |
//! | `tasks`, `lists`, `bulk`, `many`, `claims`, `progress`, `endings`, `track` | the handlers of the core |
//! | `explain` | why a task stands where it stands; who asks for work |
//! | `overview` | all tasks at a glance; which nodes there are |
//! | `stream` | what every stream is; `events`: the stream of many tasks |
//! | `operations` | health, metrics |
//! | [`document`] | the OpenAPI document |
//! | `scripts` | the browser client and its elements |
//! | `dashboard` | the page at `/`, made of them |
//! | `fuzzing` | what must hold of whatever a client sends; in no server |

mod bulk;
mod claims;
mod dashboard;
pub mod document;
mod drain;
mod endings;
mod events;
mod explain;
mod extract;
pub mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod idempotency;
mod lists;
mod many;
mod observe;
mod operations;
mod overview;
mod pace;
pub mod problem;
mod progress;
pub mod readers;
mod scripts;
pub mod server;
mod site;
mod stream;
mod tasks;
mod track;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::HeaderValue;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::service::Tracker;
pub use front::Front;
pub use readers::Readers;
pub use site::Site;

/// The base path of the API.
pub const BASE_PATH: &str = "/api/v1";

/// What handlers share; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

/// What handlers share.
pub struct Shared {
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
    pub cors: Vec<HeaderValue>,
}

impl From<Shared> for Api {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
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
    let core = [
        routes!(tasks::register, lists::list),
        routes!(bulk::register_bulk),
        routes!(many::cancel_bulk),
        routes!(many::retry_bulk),
        routes!(claims::claim),
        routes!(endings::process_timeouts),
        routes!(tasks::get),
        routes!(claims::start),
        routes!(progress::progress),
        routes!(track::track),
        routes!(events::events),
        routes!(endings::complete),
        routes!(endings::fail),
        routes!(endings::time_out),
        routes!(endings::cancel),
        routes!(claims::heartbeat),
        routes!(claims::release),
        routes!(tasks::retry),
        routes!(explain::why),
        routes!(explain::workers),
        routes!(overview::overview),
        routes!(overview::nodes),
    ];
    let frame = OpenApiRouter::with_openapi(document::frame());
    core.into_iter()
        .map(under_base)
        .fold(frame, OpenApiRouter::routes)
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::metrics))
}

/// A route below [`BASE_PATH`]. Nested there, each request would have its path cut and be copied once more.
fn under_base((schemas, mut paths, router): UtoipaMethodRouter<Api>) -> UtoipaMethodRouter<Api> {
    let based = |(path, item)| (format!("{BASE_PATH}{path}"), item);
    paths.paths = std::mem::take(&mut paths.paths).into_iter().map(based).collect();
    (schemas, paths, router)
}

/// The whole service.
pub fn site(api: Api) -> Site {
    let (mut all, document) = documented().split_for_parts();
    let text = Arc::<str>::from(document::render(&document));
    // From the page, so that a proxy may put both below a prefix.
    let docs = SwaggerUi::new("/docs").config(
        utoipa_swagger_ui::Config::new(["../openapi.json"])
            .try_it_out_enabled(true)
            .validator_url("none"),
    );
    let others = [("/openapi.json".to_owned(), get(async move || operations::openapi(&text)))];
    // A task may be called like a route, too; the static routes would hide it.
    let names = ["bulk", "cancel", "claim", "retry"]
        .map(|name| (format!("{BASE_PATH}/tasks/{name}"), tasks::get_the_one_called(name)));
    let docs_paths = ["/docs", "/docs/{*file}"].map(str::to_owned);
    let mut paths: BTreeSet<String> = document.paths.paths.into_keys().chain(docs_paths).collect();
    for (path, route) in
        others.into_iter().chain(names).chain(scripts::routes()).chain(dashboard::routes())
    {
        all = all.route(&path, route);
        paths.insert(path);
    }
    let (front, cors) = (Arc::clone(&api.front), api.cors.clone());
    let all = all
        .merge(docs)
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(api);
    Site::new(all, paths, &cors, front)
}
