//! Reads to its end what a client still sends when its answer is there already.
//!
//! A handler that refuses a body does not read it. Were the connection closed on the rest, the
//! kernel would reset it, and the client would see a broken pipe where an answer was. So the rest is read
//! and thrown away, within bounds; what is longer or slower than these is cut off after all.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;

/// Bytes that are thrown away at most.
const MOST_BYTES: usize = 16 << 20;
/// How long that may take.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Has the request's body drained when its handler is done with it.
pub(super) async fn drain(request: Request, next: Next) -> Response {
    // Who waits for permission to send has not sent: there is nothing to read.
    if request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let request = request.map(|body| {
        if body.is_end_stream() { body } else { Body::new(Drained { body: Some(body) }) }
    });
    next.run(request).await
}

/// A body whose rest is read when it is dropped before its end.
struct Drained {
    /// `None` once it has ended.
    body: Option<Body>,
}

impl HttpBody for Drained {
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

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // Outside a runtime there is no connection either.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(TIME_LIMIT, async move {
            let mut rest = body.into_data_stream();
            let mut bytes = 0;
            while let Some(Ok(chunk)) = rest.next().await {
                bytes += chunk.len();
                if bytes > MOST_BYTES {
                    break;
                }
            }
        }));
    }
}
