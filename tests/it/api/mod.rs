//! What a client may rely on, over HTTP: each test runs embedded, on one node and across two.
//!
//! | module | tests |
//! | --- | --- |
//! | `register` | registering a task, and reading it back |
//! | `bulk` | registering many at once, each with its own outcome |
//! | `idempotency` | requests that are sent again under their key |
//! | `repeats` | workers that ask again under the same key |
//! | `values` | what clients put into JSON comes out as it went in, or is refused |
//! | `claim` | claiming: exactly one, the oldest, never twice |
//! | `waiting` | claims that wait for a task to appear |
//! | `lifecycle` | every transition from every status, as the table has it |
//! | `workers` | who may end or give back a task; release |
//! | `leases` | a worker that falls silent, and one that comes back too late |
//! | `cancel` | ending a task before it is done |
//! | `stalls` | a worker that is alive and gets nowhere |
//! | `retry` | retrying, and the chain it makes |
//! | `races` | of many callers at once exactly one wins |
//! | `progress` | entries and their numbers |
//! | `lines` | entries that arrive line by line |
//! | `sealing` | what was acknowledged is in the history, however close the end came |
//! | `early` | entries are sealed while their task runs, and nobody notices; limits of a history |
//! | `track` | the stream: its frames, where it begins, where it ends |
//! | `events` | many tasks at once: where each stands, and its progress |
//! | `look` | what is there of a stream, asked for again and again |
//! | `filters` | where a stream begins, and what a reader is refused |
//! | `origins` | headers of a stream, and pages of another origin |
//! | `joining` | streams that are opened while entries are appended; slow readers |
//! | `closing` | streams and waiting workers when their node closes |
//! | `list` | filters and pages |
//! | `search` | lists that are searched, sorted, and narrowed by more than one index carries |
//! | `many` | cancelling and retrying many at once |
//! | `timeouts` | deadlines, the sweep on request and in the background |
//! | `limits` | what a client may have at once: connections, streams, places to wait |
//! | `slow` | clients that begin and do not go on |
//! | `crowd` | readers that all come at once |
//! | `rubbish` | bytes that are no HTTP, and JSON without end |
//! | `malformed` | what no client should send |
//! | `problems` | the shape of every refusal, correlation ids |
//! | `operations` | health, figures, the document |
//! | `scripts` | the browser client, as the server gives it to pages |
//! | `dashboard` | the dashboard, as the server gives it to browsers |
//! | `why` | why a task stands where it stands; who asks for work |
//! | `overview` | all tasks at a glance |
//! | `nodes` | which nodes there are |
//! | `outage` | a broker that is away |

mod behind;
mod bulk;
mod cancel;
mod claim;
mod closing;
mod crowd;
mod dashboard;
mod early;
mod events;
mod filters;
mod idempotency;
mod joining;
mod lagging;
mod leases;
mod lifecycle;
mod limits;
mod lines;
mod list;
mod look;
mod malformed;
mod many;
mod nodes;
mod operations;
mod origins;
mod outage;
mod overview;
mod problems;
mod progress;
mod races;
mod register;
mod repeats;
mod retry;
mod rubbish;
mod scripts;
mod sealing;
mod search;
mod slow;
mod stalls;
mod timeouts;
mod track;
mod values;
mod waiting;
mod why;
mod workers;

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use task_tracker::domain::Timestamp;

use crate::harness::{Event, Reply};

/// A body that names a worker.
fn by(worker: &str) -> Value {
    json!({ "workerId": worker })
}

/// Reads an instant, which must stand as the contract has it: UTC, three fractional digits, `Z`.
#[track_caller]
fn instant(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap_or_else(|| panic!("no instant: {value}"));
    let instant: Timestamp = text.parse().unwrap_or_else(|_| panic!("no instant: {text}"));
    assert_eq!(instant.to_string(), text, "three digits and a Z");
    instant
}

/// The text of a member of a JSON object, exactly as it came.
#[track_caller]
fn member(object: &str, name: &str) -> String {
    let mut members: HashMap<String, Box<RawValue>> =
        serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {object}"));
    let value = members.remove(name).unwrap_or_else(|| panic!("no {name} in {object}"));
    value.get().to_owned()
}

/// The texts of the items of a JSON array, exactly as they came.
#[track_caller]
fn items(array: &str) -> Vec<String> {
    let items: Vec<Box<RawValue>> =
        serde_json::from_str(array).unwrap_or_else(|error| panic!("{error}: {array}"));
    items.iter().map(|item| item.get().to_owned()).collect()
}

/// The names of an object's members.
fn names(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Checks that exactly one caller got `status` and every other heard that it is too late; says which one.
#[track_caller]
fn one_wins(replies: &[Reply], status: u16, from: &str, attempted: &str) -> usize {
    let winners: Vec<usize> =
        (0..replies.len()).filter(|index| replies[*index].status == status).collect();
    for reply in replies.iter().filter(|reply| reply.status != status) {
        let problem = reply.problem(409, "invalid_transition");
        assert_eq!((&problem["from"], &problem["attempted"]), (&from.into(), &attempted.into()));
    }
    assert_eq!(winners.len(), 1, "{winners:?} of {} won", replies.len());
    winners[0]
}

/// The numbers of the progress events among `events`, which must be in the order of their ids.
#[track_caller]
fn numbers(events: &[Event]) -> Vec<u64> {
    let progress = events.iter().filter(|event| event.event == "progress");
    let number = |event: &Event| {
        let number = event.seq_id().expect("a number");
        assert_eq!(event.id, Some(number.to_string()), "the id is the number");
        number
    };
    progress.map(number).collect()
}

/// Checks that a stream brought every number above `after` up to `last` once, in order, and then its end.
#[track_caller]
fn is_whole(events: &[Event], after: u64, last: u64, status: &str) {
    let expected: Vec<u64> = (after + 1..=last).collect();
    assert_eq!(numbers(events), expected);
    let end = events.last().expect("an end");
    assert_eq!(end.id, Some(format!("{last}-end")));
    assert_eq!(end.status(), Some(status));
    assert_eq!(events.iter().filter(|event| event.is_end()).count(), 1);
}
