//! The stream of a task: Server-Sent Events (the HTML standard, 9.2), or JSON lines for programs.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::Api;
use super::extract::{Id, Query};
use super::front::Visitor;
use super::problem::{Problem, problems};
use super::stream::{Format, Told, Written, open, together};
use crate::domain::stream::What;
use crate::domain::{Entry, Event, Gap, Notice, StatusChange, TaskId};
use crate::service::{Delivery, Error, StartAt, Track};

/// The largest number a client may start behind: what JavaScript and the log's scripts count exactly.
const LARGEST_SEQ_ID: u64 = (1 << 53) - 1;
/// Bytes of a frame beside its data, at about most.
const FRAME_ROOM: usize = 240;

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
    let told = TrackTold { task: id, track };
    Ok(open(&api, place, visitor, format, told))
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

/// What the reader of a task's stream is told.
struct TrackTold {
    task: TaskId,
    track: Track,
}

impl Told for TrackTold {
    async fn next(&mut self, format: Format) -> Result<Option<Written>, Error> {
        let Some(events) = self.track.next().await? else { return Ok(None) };
        let is_end =
            |last: &Arc<Delivery>| matches!(&last.event, Event::Status(change) if change.is_end());
        let frame =
            |delivery: &Arc<Delivery>| format.of(delivery.frame(|event| encode(&self.task, event)));
        Ok(Some(Written {
            bytes: together(events.iter().map(frame)),
            events: events.len(),
            is_end: events.last().is_some_and(is_end),
        }))
    }
}

/// One event as a frame of the stream.
pub(super) fn encode(task: &TaskId, event: &Event) -> Bytes {
    let frame = match event {
        Event::Progress(entry) => progress_frame(task, entry),
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

/// The frame of an entry. A replay makes many thousands a second: it is written once, into room enough for it.
fn progress_frame(task: &TaskId, entry: &Entry) -> String {
    let Entry { seq_id, timestamp, progress } = entry;
    let mut frame = String::with_capacity(FRAME_ROOM + progress.as_str().len());
    // Writing to a String cannot fail.
    let _ =
        write!(frame, "id: {seq_id}\nevent: progress\ndata: {{\"event\":\"progress\",\"data\":");
    entry.write_public(&mut frame);
    let _ = write!(frame, ",\"taskId\":\"{task}\",\"timestamp\":\"{timestamp}\"}}\n\n");
    frame
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::super::stream::line_of;
    use super::*;
    use crate::domain::{JsonObject, Timestamp};

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
}
