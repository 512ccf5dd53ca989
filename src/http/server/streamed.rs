//! A response that goes on until somebody ends it, and how it leaves hyper.
//!
//! hyper keeps for a connection what reading any head and writing any body takes, and with it what stands around
//! the handlers: tens of KiB, for a stream that says something now and then. So a stream may leave. Once everything it
//! gave is with the socket and there is nothing more for now, its source is taken out of its body, the
//! connection out of hyper, and a [`Line`](super::line::Line) goes on with both.
//!
//! hyper stays the reader of every head and the writer of every answer's head, and of a stream that ends before it
//! was ever quiet. It also keeps streams inside HTTP/2, and those whose request has a body that may still come.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, Request, Version, header};
use axum::response::Response;
use futures::stream::BoxStream;
use http_body::Frame;
use hyper::body::Incoming;

/// What a stream gives, piece by piece.
pub(in crate::http) type Source = BoxStream<'static, Bytes>;

/// The body of a stream. Its response carries a copy, by which the server can take the source out of it.
#[derive(Clone)]
pub(in crate::http) struct Streamed(Arc<Mutex<Option<Source>>>);

impl Streamed {
    /// An answer that is a stream.
    pub(in crate::http) fn response(source: Source) -> Response {
        let streamed = Self(Arc::new(Mutex::new(Some(source))));
        let mut response = Response::new(Body::new(streamed.clone()));
        response.extensions_mut().insert(streamed);
        response
    }

    fn source(&self) -> std::sync::MutexGuard<'_, Option<Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut source = self.source();
        let Some(source) = source.as_mut() else { return Poll::Pending };
        source.as_mut().poll_next(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// How hyper has begun to write a body whose length nobody knows, and has to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// In chunks; otherwise it ends with the connection.
    pub(super) is_chunked: bool,
    /// The client may send another request behind it.
    pub(super) is_kept: bool,
}

impl Manner {
    /// Of the answer to `request`, where that could leave hyper.
    pub(super) fn of(request: &Request<Incoming>) -> Option<Self> {
        // What is still to come of a body would be taken for the next request.
        let has_come = request.body().is_end_stream();
        has_come.then(|| Self::of_head(request.version(), request.headers())).flatten()
    }

    fn of_head(version: Version, headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::CONNECTION).iter();
        let mut options = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
        let closes = options.any(|option| option.trim().eq_ignore_ascii_case("close"));
        match version {
            Version::HTTP_11 => Some(Self { is_chunked: true, is_kept: !closes }),
            Version::HTTP_10 => Some(Self { is_chunked: false, is_kept: false }),
            _ => None,
        }
    }
}

/// The way of a connection's stream out of hyper, which asks its body and flushes its socket in turn.
#[derive(Default)]
pub(super) struct Exit {
    stage: AtomicU8,
    stream: Mutex<Option<(Streamed, Manner)>>,
}

/// There is no stream, or something it gave is on its way.
const BUSY: u8 = 0;
/// The stream was asked and had nothing.
const ASKED: u8 = 1;
/// Nor was anything left to write after that.
const QUIET: u8 = 2;

impl Exit {
    /// The response that begins now is a stream that may leave.
    pub(super) fn open(&self, stream: Streamed, manner: Manner) {
        *self.stream() = Some((stream, manner));
    }

    /// The stream's body was asked, and gave something or had nothing for now.
    pub(super) fn asked(&self, is_empty: bool) {
        match (is_empty, self.stage.load(Ordering::Relaxed)) {
            (true, BUSY) => self.stage.store(ASKED, Ordering::Relaxed),
            (true, _) => {}
            (false, _) => self.stage.store(BUSY, Ordering::Relaxed),
        }
    }

    /// The socket has everything: hyper flushes it when its own buffers are empty.
    pub(super) fn flushed(&self) {
        if self.stage.load(Ordering::Relaxed) == ASKED {
            self.stage.store(QUIET, Ordering::Relaxed);
        }
    }

    /// Whether the stream may leave now.
    pub(super) fn is_open(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == QUIET
    }

    /// Takes the stream out of its body.
    pub(super) fn take(&self) -> Option<(Source, Manner)> {
        let (streamed, manner) = self.close()?;
        let source = streamed.source().take()?;
        Some((source, manner))
    }

    /// The response is over, or its stream has left.
    pub(super) fn close(&self) -> Option<(Streamed, Manner)> {
        self.stage.store(BUSY, Ordering::Relaxed);
        self.stream().take()
    }

    fn stream(&self) -> std::sync::MutexGuard<'_, Option<(Streamed, Manner)>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exit").field("stage", &self.stage).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use futures::StreamExt;

    use super::*;

    fn exit() -> Exit {
        let response = Streamed::response(futures::stream::pending().boxed());
        let streamed = response.extensions().get::<Streamed>().expect("a copy").clone();
        let exit = Exit::default();
        exit.open(streamed, Manner { is_chunked: true, is_kept: true });
        exit
    }

    #[test]
    fn a_stream_leaves_when_it_has_nothing_and_everything_is_written() {
        let exit = exit();
        exit.flushed();
        assert!(!exit.is_open(), "it was not asked");
        exit.asked(true);
        assert!(!exit.is_open(), "its head may not be written");
        exit.flushed();
        assert!(exit.is_open());
        exit.asked(true);
        assert!(exit.is_open(), "nothing came");
        assert!(exit.take().is_some());
        assert!(!exit.is_open() && exit.take().is_none(), "once");
    }

    #[test]
    fn what_a_stream_gave_meanwhile_is_written_before_it_leaves() {
        let exit = exit();
        exit.asked(true);
        exit.flushed();
        exit.asked(false);
        assert!(!exit.is_open());
        exit.asked(true);
        assert!(!exit.is_open(), "the piece is with hyper");
        exit.flushed();
        assert!(exit.is_open());
    }

    #[test]
    fn a_body_goes_on_as_its_head_says() {
        let manner = |version, connection: &'static str| {
            let value = HeaderValue::from_static(connection);
            Manner::of_head(version, &HeaderMap::from_iter([(header::CONNECTION, value)]))
        };
        let chunked = |is_kept| Some(Manner { is_chunked: true, is_kept });
        assert_eq!(Manner::of_head(Version::HTTP_11, &HeaderMap::new()), chunked(true));
        assert_eq!(manner(Version::HTTP_11, "keep-alive"), chunked(true));
        assert_eq!(manner(Version::HTTP_11, "te, Close"), chunked(false));
        let to_the_end = Some(Manner { is_chunked: false, is_kept: false });
        assert_eq!(manner(Version::HTTP_10, "keep-alive"), to_the_end);
        assert_eq!(manner(Version::HTTP_2, ""), None);
    }
}
