//! A body that does not arrive is ended: the silence between two of its pieces has a limit.
//!
//! The limit runs while somebody waits for the body, not while what came of it is being kept. What takes too long in all
//! is another limit, of those who read a body as a whole (`extract`).

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::{Sleep, sleep};

use super::Front;
use super::extract::media_type;
use super::problem::{Code, Problem};

/// A body was silent for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing came of the body for {0:?}")]
struct Silent(Duration);

/// Whether the body is lines, which are read as they come.
pub(super) fn is_lines(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-ndjson"))
}

/// Ends the request's body when it is silent for too long, and the connection with it.
pub(super) async fn pace(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    let limit = if is_lines(request.headers()) { front.lines_idle } else { front.body_idle };
    let version = request.version();
    let request = request.map(|body| {
        let paced = |body| Body::new(Paced { body, limit, silence: None });
        if body.is_end_stream() { body } else { paced(body) }
    });
    let mut response = next.run(request).await;
    // Its rest may still come, and would be taken for the next request. HTTP/2 has no such header, and no such rest.
    if response.status() == StatusCode::REQUEST_TIMEOUT && version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The problem of a body that could not be read to its end.
pub(super) fn broken_off(error: &(dyn Error + 'static)) -> Problem {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(silent) = error.downcast_ref::<Silent>() {
            return too_slow(silent.to_string());
        }
        cause = error.source();
    }
    Problem::new(Code::MalformedBody, "the body ended too early")
}

/// The problem of a body that does not arrive in time.
pub(super) fn too_slow(detail: String) -> Problem {
    Problem::new(Code::RequestTimeout, detail)
}

struct Paced {
    body: Body,
    limit: Duration,
    /// Runs while the body is awaited.
    silence: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_ready() {
            self.silence = None;
            return polled;
        }
        let limit = self.limit;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(limit)));
        silence.as_mut().poll(context).map(|()| Some(Err(axum::Error::new(Silent(limit)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
