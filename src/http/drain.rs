//! Reads to its end what a client still sends when its answer is there already.
//!
//! A handler that refuses a body does not read it. Were the connection closed on the rest, the
//! kernel would reset it, and the client would see a broken pipe where an answer was. So the rest is read
//! and thrown away, within bounds; what is longer or slower than these is cut off after all.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use http_body_util::BodyExt;

/// Bytes that are thrown away at most.
const MOST_BYTES: usize = 16 << 20;
/// How long that may take.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A body whose rest is read when it is dropped before its end.
pub(super) struct Drained<B: Drainable> {
    /// `None` once it has ended.
    body: Option<B>,
}

/// What can be read on when nobody waits for it.
pub(super) trait Drainable:
    HttpBody<Data = Bytes, Error = axum::Error> + Send + Unpin + 'static
{
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error> + Send + Unpin + 'static> Drainable for B {}

impl<B: Drainable> Drained<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body: Some(body) }
    }
}

impl<B: Drainable> HttpBody for Drained<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl<B: Drainable> Drop for Drained<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // Outside a runtime there is no connection either.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(TIME_LIMIT, async move {
            let (mut rest, mut bytes) = (body, 0);
            while let Some(Ok(frame)) = rest.frame().await {
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > MOST_BYTES {
                    break;
                }
            }
        }));
    }
}
