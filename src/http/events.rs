//! The stream of many tasks: where each stands now, and its progress.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use utoipa::IntoParams;

use super::Api;
use super::front::Visitor;
use super::lists::ListedTask;
use super::problem::{Problem, problems};
use super::stream::{Format, Told, Written, open, together};
use super::track::encode;
use super::wire::StatusSchema;
use crate::domain::{Choice, Position, Status, Timestamp};
use crate::service::{self, Detail, Error, Feed, TaskNow, Telling, Wish};

/// Names, or types, of one feed at most.
const NAMED_MOST: usize = 100;
/// How often a task is told when nothing is said, and at most seldom.
const EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_mins(1));
/// Bytes of an id at most: those of a hundred tasks with the largest numbers.
const LONGEST_ID: usize = 2048;

problems!(EventsProblems: ValidationFailed, TooManyStreams);

/// Which tasks, and how much of them. Those that may be given several times are given as `taskId=a&taskId=b`: the values of one
/// are alternatives, and of different ones all must hold.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "describes what `wish` reads: lists are not what a query's reader knows"
)]
pub(super) struct EventsQuery {
    /// These tasks, whether they are there already or not.
    #[param(rename = "taskId", max_items = 100)]
    task_id: Option<Vec<String>>,
    /// Tasks of these types.
    #[param(rename = "taskType", max_items = 100)]
    task_type: Option<Vec<String>>,
    /// Tasks that stand here. One that leaves is told once more, with its new status.
    #[param(value_type = Option<Vec<StatusSchema>>)]
    status: Option<Vec<String>>,
    /// `latest`: of each running task the newest entry, at most once per `every`; `all`: every entry of the tasks that `taskId` names;
    /// `none`.
    #[param(pattern = "^(latest|all|none)$", example = "latest")]
    progress: Option<String>,
    /// The least time between two events of one task, as `250ms` or `2s`, up to a minute.
    #[param(pattern = "^[0-9]{1,5}(ms|s)$", example = "250ms")]
    every: Option<String>,
    /// The id of an event: goes on behind it. `Last-Event-ID` is the same, and wins.
    after: Option<String>,
    /// `false`: answers what there is to tell, and closes. For those whose proxies hold streams back.
    follow: Option<bool>,
}

/// Streams many tasks at once: where each stands now, and its progress.
///
/// Server-Sent Events, or with `Accept: application/x-ndjson` the same events as JSON lines, each with its `id` as a member; all have the
/// envelope of a task's stream.
/// `open` comes first: from here on nothing is missed. It says with `resumed` whether all that was missed since the last connection follows;
/// otherwise list the tasks you show now, and apply what comes. `task` says where a task stands: when it was registered or its status has changed, when
/// somebody wants it to end, when it stalled or recovered. It is the whole state, as an item of a list, so several changes within `every` are one;
/// after a reconnect it may come again. `progress` is the newest entry of a running task or, with `progress=all`, every entry, each once and in
/// order, over reconnects as well, with a `gap` where entries are gone for good; the end of a task comes behind its last entry. Where so much has
/// changed that it cannot be told `resync` says: list anew. Reconnect with `Last-Event-ID`, whose text means nothing to anybody else.
/// A feed does not end when its tasks do; the server ends it after an hour or so: reconnect then. Where the broker is away, events come
/// some seconds late.
#[utoipa::path(get, path = "/events", tag = "stream",
    params(EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that arrived")),
    responses(
        (status = 200, description = "The stream", content(
            (String = "text/event-stream", example = "id: 1795176000123000\nevent: progress\ndata: {\"event\":\"progress\",\"data\":{\"seqId\":6,\"percent\":40},\"taskId\":\"tz4a98xxat96iws9zmbrgj3a\",\"timestamp\":\"2026-11-20T12:00:00.123Z\"}\n\n"),
            (String = "application/x-ndjson"))),
        EventsProblems))]
pub(super) async fn events(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wish = wish(&query.unwrap_or_default(), &headers)?;
    let format = Format::accepted(&headers);
    // Before anything is read: whoever is too many costs nothing.
    let place = api.readers.admit(visitor.client)?;
    let feed = api.tracker.feed(wish).await?;
    Ok(open(&api, place, visitor, format, feed))
}

/// What a client asks for.
pub(super) fn wish(query: &str, headers: &HeaderMap) -> Result<Wish, Problem> {
    let mut choice = Choice::default();
    let (mut detail, mut every, mut after, mut follows) = (Detail::Latest, EVERY.0, None, true);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "taskId" => add(&mut choice.tasks, &name, &value)?,
            "taskType" => add(&mut choice.types, &name, &value)?,
            "status" => {
                let status = Status::parse(&value);
                let status = status.ok_or_else(|| Problem::invalid(&name, "must be a status"))?;
                choice.statuses.push(status);
            }
            "progress" => {
                detail = match &*value {
                    "none" => Detail::None,
                    "latest" => Detail::Latest,
                    "all" => Detail::All,
                    _ => return Err(Problem::invalid(&name, "must be latest, all or none")),
                }
            }
            "every" => every = duration(&name, &value)?,
            "after" => after = Some(position(&name, &value)?),
            "follow" => {
                let follow = value.parse();
                follows = follow.map_err(|_| Problem::invalid(&name, "must be true or false"))?;
            }
            _ => {}
        }
    }
    if detail == Detail::All && choice.tasks.is_empty() {
        let why = "all needs taskId: every entry is told of tasks that are named";
        return Err(Problem::invalid("progress", why));
    }
    // One that is not ours is of another stream: then all begins anew.
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok());
    let last = last.and_then(|last| position("last-event-id", last.trim()).ok());
    let after = last.or(after);
    let after = after.map(|after| suited(after, detail, choice.tasks.len()));
    Ok(Wish { choice, detail, every, after, follows })
}

/// A position that knows as many tasks as are named: of one from another choice of tasks or of detail, the instant counts.
fn suited(after: Position, detail: Detail, named: usize) -> Position {
    match detail {
        Detail::All if after.seq_ids.len() == named => after,
        Detail::All => Position { seq_ids: vec![0; named], ..after },
        Detail::None | Detail::Latest => Position { seq_ids: Vec::new(), ..after },
    }
}

fn add<T: FromStr<Err: Display> + PartialEq>(
    list: &mut Vec<T>,
    name: &str,
    value: &str,
) -> Result<(), Problem> {
    let one = value.parse().map_err(|error| Problem::invalid(name, &format!("{error}")))?;
    if !list.contains(&one) {
        list.push(one);
    }
    if list.len() > NAMED_MOST {
        return Err(Problem::invalid(name, &format!("must be there at most {NAMED_MOST} times")));
    }
    Ok(())
}

fn duration(name: &str, text: &str) -> Result<Duration, Problem> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number = digits.parse().ok().filter(|_| (1..=5).contains(&digits.len()));
    let every = match (number, &text[digits.len()..]) {
        (Some(number), "ms") => Some(Duration::from_millis(number)),
        (Some(number), "s") => Some(Duration::from_secs(number)),
        _ => None,
    };
    let every = every.filter(|every| *every <= EVERY.1);
    every.ok_or_else(|| Problem::invalid(name, "must be from 0ms to 60s, as 250ms or 2s"))
}

fn position(name: &str, text: &str) -> Result<Position, Problem> {
    let position = Some(text).filter(|text| text.len() <= LONGEST_ID);
    let position = position.and_then(|text| text.parse().ok());
    position.ok_or_else(|| Problem::invalid(name, "must be the id of an event"))
}

impl Told for Feed {
    async fn next(&mut self, format: Format) -> Result<Option<Written>, Error> {
        let Some(tellings) = Feed::next(self).await? else { return Ok(None) };
        let now = self.now();
        Ok(Some(Written {
            bytes: together(tellings.iter().map(|telling| written(telling, format, now))),
            events: tellings.len(),
            is_end: false,
        }))
    }

    /// With the position: a client that comes back after long silence need not be told what it has not missed. An event without
    /// data is none (the HTML standard, 9.2.6), and its id counts.
    fn alive(&mut self) -> Bytes {
        Bytes::from(format!(": alive\nid: {}\n\n", self.position()))
    }
}

/// What is told. A line has no place for the id but in itself.
fn written(telling: &Telling, format: Format, now: Timestamp) -> Bytes {
    let frame = frame(telling, now);
    if format == Format::EventStream {
        return frame;
    }
    let line = format.of(frame);
    let mut bytes = BytesMut::from(format!("{{\"id\":\"{}\",", telling.position).as_bytes());
    bytes.put(&line[1..]);
    bytes.freeze()
}

/// What is told, as a frame of the stream.
fn frame(telling: &Telling, now: Timestamp) -> Bytes {
    let Telling { told, position } = telling;
    let simple = |event: &str, data: &str| {
        let data = format!(r#"{{"event":"{event}","data":{data},"timestamp":"{now}"}}"#);
        Bytes::from(format!("id: {position}\nevent: {event}\ndata: {data}\n\n"))
    };
    match told {
        service::Told::Open { is_resumed } => {
            simple("open", &format!(r#"{{"resumed":{is_resumed}}}"#))
        }
        service::Told::Resync => simple("resync", "{}"),
        service::Told::Task(now) => with_id(position, &now.text(task)),
        service::Told::Event(task, delivery) => {
            let frame = delivery.frame(|event| encode(task, event));
            // That of the task's own stream is its number.
            let behind_id = frame.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            with_id(position, &frame.slice(behind_id..))
        }
    }
}

fn with_id(position: &Position, frame: &Bytes) -> Bytes {
    let id = format!("id: {position}\n");
    let mut bytes = BytesMut::with_capacity(id.len() + frame.len());
    bytes.put(id.as_bytes());
    bytes.put(&**frame);
    bytes.freeze()
}

/// Where a task stands, as a frame without an id.
fn task(now: &TaskNow) -> Bytes {
    let (id, at) = (&now.task.id, now.task.updated_at);
    let listed = ListedTask::new(now.task.clone(), now.latest.as_ref());
    // What was taken was checked; `null` would show that the store was tampered with.
    let data = serde_json::to_string(&listed).unwrap_or_else(|_| "null".to_owned());
    Bytes::from(format!(
        "event: task\ndata: {{\"event\":\"task\",\"data\":{data},\"taskId\":\"{id}\",\"timestamp\":\"{at}\"}}\n\n"
    ))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::super::problem::Code;
    use super::*;

    fn asked(query: &str) -> Result<Wish, Problem> {
        wish(query, &HeaderMap::new())
    }

    #[test]
    fn what_is_not_said_has_a_default_and_lists_may_be_long() {
        let wish = asked("").unwrap();
        assert_eq!((wish.detail, wish.every), (Detail::Latest, EVERY.0));
        assert!(wish.follows && wish.after.is_none() && wish.choice == Choice::default());
        let wish = asked("taskId=a&taskId=b&taskId=a&progress=all&every=2s&follow=false").unwrap();
        assert_eq!((wish.choice.tasks.len(), wish.detail), (2, Detail::All));
        assert_eq!((wish.every, wish.follows), (Duration::from_secs(2), false));
        let hundred: Vec<String> = (0..100).map(|n| format!("taskType=t%20{n}")).collect();
        let hundred = hundred.join("&");
        assert_eq!(asked(&hundred).unwrap().choice.types.len(), 100);
        assert!(asked(&format!("{hundred}&taskType=one-more")).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        for query in [
            "taskId=%20",
            "taskType=",
            "status=done",
            "progress=some",
            "progress=all",
            "progress=all&taskType=a",
            "every=61s",
            "every=-1s",
            "every=1",
            "every=ms",
            "every=100000ms",
            "every=1m",
            "after=x",
            "after=1-",
            "follow=1",
        ] {
            let refused = asked(query).err().map(|problem| problem.code());
            assert_eq!(refused, Some(Code::ValidationFailed), "{query}");
        }
    }

    #[test]
    fn the_last_event_wins_and_an_id_of_another_choice_counts_as_an_instant() {
        let begins = |query: &str, last: &'static str| {
            let headers = [("last-event-id", last)]
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            let after = wish(query, &headers.into_iter().collect()).unwrap().after;
            after.map(|after| after.to_string())
        };
        assert_eq!(begins("after=5", "9").as_deref(), Some("9"));
        assert_eq!(begins("after=5", "urn:x").as_deref(), Some("5"));
        assert_eq!(begins("", "7-end"), None);
        assert_eq!(begins("", "9-4.5").as_deref(), Some("9"));
        let two = "taskId=a&taskId=b&progress=all";
        assert_eq!(begins(two, "9-4.5").as_deref(), Some("9-4.5"));
        assert_eq!(begins(two, "9-4.5.6").as_deref(), Some("9-0.0"));
        assert_eq!(begins(two, "9").as_deref(), Some("9-0.0"));
    }
}
