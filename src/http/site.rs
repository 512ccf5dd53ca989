//! The service as a whole: its routes, and around every request what is the same for all.
//!
//! It stands around the router and not, as layers would, in each of its routes: axum copies a route with its layers for
//! every request, once more for each layer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;
use futures::FutureExt;
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowOrigin, Cors, CorsLayer};

use super::drain::Drained;
use super::observe::{self, Figures};
use super::pace::{self, Paced};
use super::{Front, idempotency, problem};

/// What an answer to another origin depends on.
const VARY: HeaderValue = HeaderValue::from_static(
    "origin, access-control-request-method, access-control-request-headers",
);

/// The whole service; cheap to clone.
#[derive(Debug, Clone)]
pub struct Site(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    router: Router,
    /// The router as pages of other origins see it.
    crossed: Cors<Router>,
    front: Arc<Front>,
    figures: Figures,
}

impl Site {
    /// One of these routes, whose patterns are `paths`; pages of `origins` may write, or, where there are none, those of any
    /// origin may read.
    pub(super) fn new(
        router: Router,
        paths: impl IntoIterator<Item = String>,
        origins: &[HeaderValue],
        front: Arc<Front>,
    ) -> Self {
        // Its state is there: routes are made of handlers now, not once a request.
        let router = router.with_state(());
        let crossed = cors(origins).layer(router.clone());
        Self(Arc::new(Parts { router, crossed, front, figures: Figures::new(paths) }))
    }

    /// Answers a request, whatever comes.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
    {
        let version = request.version();
        let answer = |request| AssertUnwindSafe(self.route(request)).catch_unwind();
        let answer = async |request| answer(request).await.unwrap_or_else(problem::panicked);
        let request = self.take_in(request);
        let mut response = observe::observe(&self.0.figures, request, answer).await;
        // The rest of its body may still come, and would be taken for the next request. HTTP/2 has no such header, and no such rest.
        if response.status() == StatusCode::REQUEST_TIMEOUT && version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The request with a body that is ended when it is silent, and read to its end when nobody reads it.
    fn take_in<B>(&self, request: Request<B>) -> Request
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
    {
        let limit = pace::limit(&self.0.front, request.headers());
        // Who waits for permission to send has not sent: there is nothing to read.
        let has_sent = !request.headers().contains_key(header::EXPECT);
        request.map(|body| match (body.is_end_stream(), has_sent) {
            (true, _) => Body::empty(),
            (false, false) => Body::new(Paced::new(body, limit)),
            (false, true) => Body::new(Drained::new(Paced::new(body, limit))),
        })
    }

    async fn route(&self, request: Request) -> Response {
        // Whoever says no origin is no page of another: it is spared the headers for one, but for that which tells a cache.
        let is_crossing =
            request.headers().contains_key(header::ORIGIN) || request.method() == Method::OPTIONS;
        let answered = if is_crossing {
            self.0.crossed.clone().oneshot(request).await
        } else {
            self.0.router.clone().oneshot(request).await.map(|mut response| {
                response.headers_mut().append(header::VARY, VARY);
                response
            })
        };
        problem::mend(answered.unwrap_or_else(|never| match never {}))
    }
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
