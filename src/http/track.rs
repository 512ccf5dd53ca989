//! The stream of a task: Server-Sent Events (the HTML standard, 9.2), or JSON lines for programs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use utoipa::IntoParams;

use super::Api;
use super::extract::{Id, Query};
use super::front::Visitor;
use super::problem::{Problem, problems};
use super::readers::{OpenStream, Reason};
use super::server::{Source, Streamed};
use crate::domain::stream::What;
use crate::domain::{Event, Gap, Notice, StatusChange, TaskId};
use crate::service::{Delivery, Error, StartAt, Track};

/// How often a quiet stream says that it is alive: proxies cut what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream rests before it asks again for what a dependency could not give.
const REST: Duration = Duration::from_millis(500);
/// Milliseconds after which a client reconnects: a base and a spread, so that not all come at once. One
/// more of spread for each open stream: however many there are, about a thousand a second come back.
const RETRY: (u64, u64) = (1000, 2000);
/// The largest number a client may start behind: what JavaScript and the log's scripts count exactly.
const LARGEST_SEQ_ID: u64 = (1 << 53) - 1;

problems!(TrackProblems: TaskNotFound, ValidationFailed, TooManyStreams);

/// Where the stream begins.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct TrackQuery {
    /// Only entries above this number. With `Last-Event-ID` beside it the larger wins.
    #[param(minimum = 0)]
    after_seq_id: Option<u64>,
    /// No entries that are there already; an `afterSeqId` beside it wins.
    ignore_history: Option<bool>,
    /// `false`: answers what is there and where the task stands, and closes. For those whose proxies hold streams back.
    follow: Option<bool>,
}

/// Streams a task: its history, then what happens, then its end.
///
/// Server-Sent Events, or with `Accept: application/x-ndjson` the same events as JSON lines. Entries come once, in order,
/// without a hole; a `progress` event has the id `<seqId>`, the terminal `status_change` the id `<last seqId>-end`, after
/// which the server closes. A change of status that is not terminal comes without an id, and so do `cancel_requested`,
/// `stalled` and `recovered`, which the task itself says, too. Where the broker lost its memory, entries that were not sealed
/// yet (those of a few seconds) may be gone for good: a `gap` event in their place says which numbers, `data` being `{ "from", "to" }`
/// and its id `<to>`; counting goes on behind it, and no number is ever given twice. Reconnect with `Last-Event-ID` to go on where you
/// were; after the end that is answered with 204, which tells an `EventSource` to stop. The server ends a stream after an hour or so:
/// reconnect then, too. A client that takes nothing for a minute is dropped. With `follow=false` nothing is waited for: the events that are
/// there, then a `status_change` that says where the task stands, and the server closes; ask again with `Last-Event-ID`.
#[utoipa::path(get, path = "/tasks/{id}/track", tag = "stream",
    params(("id" = String, Path, description = "The task's id"), TrackQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that arrived")),
    responses(
        (status = 200, description = "The stream", content(
            (String = "text/event-stream", example = "id: 6\nevent: progress\ndata: {\"event\":\"progress\",\"data\":{\"seqId\":6,\"percent\":40},\"taskId\":\"tz4a98xxat96iws9zmbrgj3a\",\"timestamp\":\"2026-11-20T12:00:00.123Z\"}\n\n"),
            (String = "application/x-ndjson"))),
        (status = 204, description = "The end has arrived already"),
        TrackProblems))]
pub(super) async fn track(
    State(api): State<Api>,
    Id(id): Id,
    Query(query): Query<TrackQuery>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(start) = start(&query, &headers) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let format = Format::accepted(&headers);
    // Before anything is read: whoever is too many costs nothing.
    let place = api.readers.admit(visitor.client)?;
    let track = match query.follow {
        Some(false) => api.tracker.look(id.clone(), start).await?,
        _ => api.tracker.track(id.clone(), start).await?,
    };
    let life = api.front.stream_life.mul_f64(0.9 + fastrand::f64() / 5.0);
    let ends_at = Instant::now() + life;
    // A client that takes a little now and then is not kept for longer than one that takes all.
    visitor.outflow.ends_at(ends_at + api.front.stall);
    let open = place.open(visitor.outflow);
    let reader = Reader::new(id, track, format, api.tracker.closing().clone(), ends_at, open);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.media_type())),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // nginx and what speaks like it: pass on at once.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Streamed::response(reader.into_source())).into_response())
}

/// Where a reader begins; `None`: it has seen the end.
pub(super) fn start(query: &TrackQuery, headers: &HeaderMap) -> Option<StartAt> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::trim);
    if last.is_some_and(|last| last.ends_with("-end")) {
        return None;
    }
    // An id that is none of ours is another stream's: everything is sent.
    let last = last.and_then(|last| last.parse::<u64>().ok());
    let after = query.after_seq_id.max(last).map(|after| after.min(LARGEST_SEQ_ID));
    Some(match after {
        Some(after) => StartAt::After(after),
        None if query.ignore_history == Some(true) => StartAt::Now,
        None => StartAt::After(0),
    })
}

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

    fn media_type(self) -> &'static str {
        match self {
            Self::EventStream => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }
}

/// One open stream. There are very many, and nothing happens on most: what is here is small.
struct Reader {
    task: TaskId,
    track: Track,
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
    Events(Result<Option<Vec<Arc<Delivery>>>, Error>),
    Alarm,
    Close,
}

impl Reader {
    fn new(
        task: TaskId,
        track: Track,
        format: Format,
        closing: CancellationToken,
        ends_at: Instant,
        open: OpenStream,
    ) -> Self {
        let alive_at = Instant::now();
        Self {
            task,
            track,
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
                events = self.track.next() => Turn::Events(events),
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
                        return Some(Bytes::from_static(b": alive\n\n"));
                    }
                }
                Turn::Events(Ok(Some(events))) => {
                    self.alive_at = Instant::now();
                    let is_end = |last: &Arc<Delivery>| matches!(&last.event, Event::Status(change) if change.is_end());
                    if events.last().is_some_and(is_end) {
                        self.open.reason = Some(Reason::End);
                    }
                    return Some(self.write(&events));
                }
                Turn::Events(Ok(None)) => return self.over(Reason::End),
                // The stream stays open, and goes on where it is when the dependency is back.
                Turn::Events(Err(Error::Unavailable(error))) => {
                    tracing::debug!(task.id = %self.task, %error, "a stream waits for a dependency");
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

    /// Everything that waits goes out in one write.
    fn write(&self, events: &[Arc<Delivery>]) -> Bytes {
        let frame = |delivery: &Arc<Delivery>| delivery.frame(|event| encode(&self.task, event));
        let pick = |frame: Bytes| match self.format {
            Format::EventStream => frame,
            Format::Lines => line_of(&frame),
        };
        metrics::counter!("stream_events_total").increment(events.len() as u64);
        if let [only] = events {
            return pick(frame(only));
        }
        let mut bytes = BytesMut::new();
        for delivery in events {
            bytes.extend_from_slice(&pick(frame(delivery)));
        }
        bytes.freeze()
    }
}

/// One event as a frame of the stream.
pub(super) fn encode(task: &TaskId, event: &Event) -> Bytes {
    let frame = match event {
        Event::Progress(entry) => format!(
            "id: {}\nevent: progress\ndata: {{\"event\":\"progress\",\"data\":{},\"taskId\":\"{task}\",\"timestamp\":\"{}\"}}\n\n",
            entry.seq_id,
            entry.public(),
            entry.timestamp,
        ),
        Event::Gap(Gap { from, to, at }) => format!(
            "id: {to}\nevent: gap\ndata: {{\"event\":\"gap\",\"data\":{{\"from\":{from},\"to\":{to}}},\"taskId\":\"{task}\",\"timestamp\":\"{at}\"}}\n\n",
        ),
        Event::Status(change) => format!(
            "{}event: status_change\ndata: {{\"event\":\"status_change\",\"data\":{},\"taskId\":\"{task}\",\"timestamp\":\"{}\"}}\n\n",
            if change.is_end() {
                format!("id: {}-end\n", change.last_seq_id)
            } else {
                String::new()
            },
            status_data(change),
            change.at,
        ),
        Event::Notice(Notice { at, what }) => {
            let (name, data) = notice(what);
            format!(
                "event: {name}\ndata: {{\"event\":\"{name}\",\"data\":{data},\"taskId\":\"{task}\",\"timestamp\":\"{at}\"}}\n\n"
            )
        }
    };
    Bytes::from(frame)
}

/// `{"status":"completed","result":{…}}`.
fn status_data(change: &StatusChange) -> String {
    let member = |name: &str, value: Option<&crate::domain::JsonObject>| {
        value.map_or_else(String::new, |value| format!(",\"{name}\":{}", value.as_str()))
    };
    let (result, error) =
        (member("result", change.result.as_ref()), member("error", change.error.as_ref()));
    // A reason is text: serialising it cannot fail.
    let reason = change.reason.as_ref().map(|reason| serde_json::json!(reason).to_string());
    let reason = reason.map_or_else(String::new, |reason| format!(",\"reason\":{reason}"));
    format!("{{\"status\":\"{}\"{result}{error}{reason}}}", change.status)
}

/// The name of a notice's event, and its data.
fn notice(what: &What) -> (&'static str, serde_json::Value) {
    match what {
        What::CancelRequested { reason, deadline } => {
            ("cancel_requested", json!({ "reason": reason, "deadline": deadline }))
        }
        What::Stalled { since } => ("stalled", json!({ "since": since })),
        What::Recovered => ("recovered", json!({})),
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
    use crate::domain::{Entry, JsonObject, Timestamp};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    fn begins(after: Option<u64>, ignore: bool, last: &'static str) -> Option<StartAt> {
        let query = TrackQuery { after_seq_id: after, ignore_history: Some(ignore), follow: None };
        start(&query, &headers(&[("last-event-id", last)]))
    }

    #[test]
    fn the_larger_of_both_starting_points_wins() {
        assert_eq!(begins(None, false, ""), Some(StartAt::After(0)));
        assert_eq!(begins(Some(5), false, "9"), Some(StartAt::After(9)));
        assert_eq!(begins(Some(9), true, "5"), Some(StartAt::After(9)));
        assert_eq!(begins(None, true, ""), Some(StartAt::Now));
        assert_eq!(begins(None, true, "3"), Some(StartAt::After(3)));
        assert_eq!(begins(Some(1), false, "7-end"), None);
        assert_eq!(begins(None, false, "urn:x"), Some(StartAt::After(0)));
    }

    #[test]
    fn a_line_is_the_data_of_a_frame() {
        let task = "t1".parse().unwrap();
        let timestamp = Timestamp::from_micros(1_763_640_000_123_000).unwrap();
        let progress = JsonObject::from_stored(r#"{"percent":40}"#);
        let frame = encode(&task, &Event::Progress(Entry { seq_id: 6, timestamp, progress }));
        let json = r#"{"event":"progress","data":{"seqId":6,"percent":40},"taskId":"t1","timestamp":"2025-11-20T12:00:00.123Z"}"#;
        assert_eq!(frame, format!("id: 6\nevent: progress\ndata: {json}\n\n"));
        assert_eq!(line_of(&frame), format!("{json}\n"));
        let frame = encode(&task, &Event::Gap(Gap { from: 46, to: 10_045, at: timestamp }));
        let json = r#"{"event":"gap","data":{"from":46,"to":10045},"taskId":"t1","timestamp":"2025-11-20T12:00:00.123Z"}"#;
        assert_eq!(frame, format!("id: 10045\nevent: gap\ndata: {json}\n\n"));
    }

    #[test]
    fn the_first_acceptable_format_is_chosen() {
        for (accept, format) in [
            ("*/*", Format::EventStream),
            ("text/event-stream", Format::EventStream),
            ("application/x-ndjson", Format::Lines),
            ("application/json, application/x-ndjson;q=0.9", Format::Lines),
        ] {
            assert_eq!(Format::accepted(&headers(&[("accept", accept)])), format, "{accept}");
        }
    }
}
