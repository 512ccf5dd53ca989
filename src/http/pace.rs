//! A body that does not arrive is ended: the silence between two of its pieces has a limit.
//!
//! The limit runs while somebody waits for the body, not while what came of it is being kept. What takes too long in all
//! is another limit, of those who read a body as a whole (`extract`).

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::HeaderMap;
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

/// How long the body of such a request may be silent.
pub(super) fn limit(front: &Front, headers: &HeaderMap) -> Duration {
    if is_lines(headers) { front.lines_idle } else { front.body_idle }
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

/// A body that ends with an error when it is silent for too long.
pub(super) struct Paced<B> {
    body: B,
    limit: Duration,
    /// Runs while the body is awaited.
    silence: Option<Pin<Box<Sleep>>>,
}

impl<B> Paced<B> {
    pub(super) fn new(body: B, limit: Duration) -> Self {
        Self { body, limit, silence: None }
    }
}

impl<B> HttpBody for Paced<B>
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_ready() {
            self.silence = None;
            return polled.map_err(axum::Error::new);
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
