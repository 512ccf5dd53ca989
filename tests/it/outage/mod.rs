//! What becomes of calls and streams while a dependency is away: refused, cut, silent, or stopped.
//!
//! | module | tests |
//! | --- | --- |
//! | `redis` | calls while Redis is away |
//! | `streams` | streams while Redis is away, and when only their subscriptions are lost |
//! | `postgres` | calls and streams while Postgres is away |
//! | `unknown` | an end whose commit is not answered |
//! | `stopped` | a Redis or a Postgres that is killed, a Redis that is stopped in its tracks |
//! | `feeds` | feeds of many tasks while a dependency is away |
//! | `embedded` | a database that another process has locked, a disk that is full |
//! | `health` | health and the log of a node without a dependency |

mod embedded;
mod feeds;
mod health;
mod postgres;
mod redis;
mod stopped;
mod streams;
mod unknown;

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Event, Fault, Reply, Server, eventually};

/// How long an answer may take while Redis is away: three seconds, and two for a machine that has other work.
const REDIS_IN_TIME: Duration = Duration::from_secs(5);
/// How long an answer may take while Postgres is away: a connection and a statement, and some for the machine.
const POSTGRES_IN_TIME: Duration = Duration::from_secs(12);

/// A body that names the worker.
fn by_worker() -> Value {
    json!({ "workerId": "worker-1" })
}

/// Sends a request to the first node and waits for its answer, which must come in time.
async fn in_time(limit: Duration, what: &str, answer: impl Future<Output = Reply>) -> Reply {
    let asked = Instant::now();
    let reply = answer.await;
    assert!(asked.elapsed() < limit, "{what} took {:?}: {}", asked.elapsed(), reply.text);
    reply
}

/// Checks that an answer says to come again later.
#[track_caller]
fn is_unavailable(what: &str, reply: &Reply) {
    assert_eq!(reply.status, 503, "{what}: {}", reply.text);
    reply.problem(503, "unavailable");
    let after = reply.header("retry-after");
    assert!(after.parse::<u32>().is_ok_and(|seconds| seconds >= 1), "{what}: {after:?}");
}

/// Posts each body to the first node, at once; every answer must come in time.
async fn posts(server: &Server, limit: Duration, calls: &[(String, Value)]) -> Vec<Reply> {
    let calls = calls.iter().map(|(path, body)| {
        let call = server.post_at(0, path, body.clone());
        in_time(limit, path, call)
    });
    join_all(calls).await
}

/// Waits until the first node takes an entry.
async fn takes_entries(server: &Server, id: &str) -> Value {
    let path = format!("/tasks/{id}/progress");
    eventually(|| async {
        let reply = server.post_at(0, &path, json!({ "progress": { "back": true } })).await;
        (reply.status == 200).then(|| reply.json())
    })
    .await
}

/// Checks that a stream brought every entry once, in order, and then its end.
#[track_caller]
fn assert_whole(events: &[Event], entries: u64) {
    let numbers: Vec<u64> = events.iter().filter_map(Event::seq_id).collect();
    assert!(numbers.iter().copied().eq(1..=entries), "{numbers:?}");
    let end = events.last().expect("an end");
    assert_eq!(end.id, Some(format!("{entries}-end")));
    assert_eq!(events.iter().filter(|event| event.is_end()).count(), 1);
}

/// The name of a fault, for messages.
fn named(fault: Fault, what: &str) -> String {
    format!("{what}, {fault:?}")
}
