//! What every stream is: Server-Sent Events (the HTML standard, 9.2) or JSON lines, kept alive, bounded in life, let go at the end.

use std::pin::Pin;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Api;
use super::front::Visitor;
use super::problem::Problem;
use super::readers::{OpenStream, Place, Reason};
use super::server::{Source, Streamed};
use crate::service::Error;

/// How often a quiet stream says that it is alive: proxies cut what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream rests before it asks again for what a dependency could not give.
const REST: Duration = Duration::from_millis(500);
/// Milliseconds after which a client reconnects: a base and a spread, so that not all come at once. One
/// more of spread for each open stream: however many there are, about a thousand a second come back.
const RETRY: (u64, u64) = (1000, 2000);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    EventStream,
    Lines,
}

impl Format {
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut kinds = accept
            .flat_map(|value| value.split(','))
            .map(|kind| kind.split(';').next().unwrap_or(kind).trim().to_ascii_lowercase());
        let first =
            kinds.find(|kind| matches!(&**kind, "text/event-stream" | "application/x-ndjson"));
        if first.as_deref() == Some("application/x-ndjson") {
            Self::Lines
        } else {
            Self::EventStream
        }
    }

    /// A frame in this format.
    pub(super) fn of(self, frame: Bytes) -> Bytes {
        match self {
            Self::EventStream => frame,
            Self::Lines => line_of(&frame),
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::EventStream => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }
}

/// What the reader of an open stream is told.
pub(super) trait Told: Send + 'static {
    /// The next events, at least one; `None` where nothing more comes. Dropping the future loses nothing.
    fn next(
        &mut self,
        format: Format,
    ) -> impl Future<Output = Result<Option<Written>, Error>> + Send;

    /// What is said when there was nothing to say for a while.
    fn alive(&mut self) -> Bytes {
        Bytes::from_static(b": alive\n\n")
    }
}

/// Events as they are written.
pub(super) struct Written {
    pub(super) bytes: Bytes,
    /// How many.
    pub(super) events: usize,
    /// Whether nothing comes behind the last.
    pub(super) is_end: bool,
}

/// Everything that waits goes out in one write.
pub(super) fn together(mut frames: impl ExactSizeIterator<Item = Bytes>) -> Bytes {
    if frames.len() == 1 {
        return frames.next().unwrap_or_default();
    }
    let mut bytes = BytesMut::new();
    frames.for_each(|frame| bytes.extend_from_slice(&frame));
    bytes.freeze()
}

/// The answer that is a stream, to a client that was let in.
pub(super) fn open<T: Told>(
    api: &Api,
    place: Place,
    visitor: Visitor,
    format: Format,
    told: T,
) -> Response {
    let life = api.front.stream_life.mul_f64(0.9 + fastrand::f64() / 5.0);
    let ends_at = Instant::now() + life;
    // A client that takes a little now and then is not kept for longer than one that takes all.
    visitor.outflow.ends_at(ends_at + api.front.stall);
    let open = place.open(visitor.outflow);
    let reader = Reader::new(told, format, api.tracker.closing().clone(), ends_at, open);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.media_type())),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // nginx and what speaks like it: pass on at once.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Streamed::response(reader.into_source())).into_response()
}

/// One open stream. There are very many, and nothing happens on most: what is here is small.
struct Reader<T> {
    told: T,
    format: Format,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    /// When it was last said that the stream is alive, by an event or a comment.
    alive_at: Instant,
    ends_at: Instant,
    /// Rings when it has to be said again, if nothing was, and when the stream has to end. An event does not set it
    /// anew: it looks at the time when it rings.
    alarm: Pin<Box<Sleep>>,
    has_begun: bool,
    open: OpenStream,
}

/// What a reader does next.
enum Turn {
    Events(Result<Option<Written>, Error>),
    Alarm,
    Close,
}

impl<T: Told> Reader<T> {
    fn new(
        told: T,
        format: Format,
        closing: CancellationToken,
        ends_at: Instant,
        open: OpenStream,
    ) -> Self {
        let alive_at = Instant::now();
        Self {
            told,
            format,
            closing: Box::pin(closing.cancelled_owned()),
            alive_at,
            ends_at,
            alarm: Box::pin(sleep_until(ends_at.min(alive_at + KEEP_ALIVE))),
            has_begun: false,
            open,
        }
    }

    fn into_source(self) -> Source {
        futures::stream::unfold(self, async |mut reader| Some((reader.next().await?, reader)))
            .boxed()
    }

    /// The next bytes to write; `None` closes the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.has_begun {
            self.has_begun = true;
            // At once, so that the client and every proxy know that the stream is open.
            if self.format == Format::EventStream {
                let retry = RETRY.0 + fastrand::u64(0..RETRY.1 + self.open.crowd() as u64);
                return Some(Bytes::from(format!(": open\nretry: {retry}\n\n")));
            }
        }
        loop {
            let turn = tokio::select! {
                biased;
                () = &mut self.closing => Turn::Close,
                () = &mut self.alarm => Turn::Alarm,
                events = self.told.next(self.format) => Turn::Events(events),
            };
            match turn {
                Turn::Close => return self.over(Reason::Shutdown),
                Turn::Alarm => {
                    let now = Instant::now();
                    if now >= self.ends_at {
                        return self.over(Reason::Life);
                    }
                    let is_quiet = now >= self.alive_at + KEEP_ALIVE;
                    if is_quiet {
                        self.alive_at = now;
                    }
                    self.alarm.as_mut().reset(self.ends_at.min(self.alive_at + KEEP_ALIVE));
                    if is_quiet && self.format == Format::EventStream {
                        return Some(self.told.alive());
                    }
                }
                Turn::Events(Ok(Some(events))) => {
                    self.alive_at = Instant::now();
                    metrics::counter!("stream_events_total").increment(events.events as u64);
                    if events.is_end {
                        self.open.reason = Some(Reason::End);
                    }
                    return Some(events.bytes);
                }
                Turn::Events(Ok(None)) => return self.over(Reason::End),
                // The stream stays open, and goes on where it is when the dependency is back.
                Turn::Events(Err(Error::Unavailable(error))) => {
                    tracing::debug!(%error, "a stream waits for a dependency");
                    tokio::time::sleep(REST).await;
                }
                Turn::Events(Err(error)) => {
                    // Logged by the conversion; the client reconnects and is told then.
                    let _ = Problem::from(error);
                    return self.over(Reason::Error);
                }
            }
        }
    }

    /// Nothing more comes, between two frames: the client knows where to resume.
    fn over(&mut self, reason: Reason) -> Option<Bytes> {
        self.open.reason = Some(reason);
        None
    }
}

/// The JSON line inside a frame: what stands behind `data: `, with one line break. Nothing is copied.
pub(super) fn line_of(frame: &Bytes) -> Bytes {
    const DATA: &[u8] = b"\ndata: ";
    let start = frame.windows(DATA.len()).position(|window| window == DATA);
    start.map_or_else(Bytes::new, |start| frame.slice(start + DATA.len()..frame.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_format_is_chosen() {
        for (accept, format) in [
            ("*/*", Format::EventStream),
            ("text/event-stream", Format::EventStream),
            ("application/x-ndjson", Format::Lines),
            ("application/json, application/x-ndjson;q=0.9", Format::Lines),
        ] {
            let headers =
                HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Format::accepted(&headers), format, "{accept}");
        }
    }
}
