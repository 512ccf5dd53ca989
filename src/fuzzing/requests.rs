//! Whole requests, one after the other, to a whole service on files of its own: what is answered is what the document
//! says may be.
//!
//! An input is a text like the head and the body of HTTP/1, `---` on a line between two requests; each `$` is the number
//! of the run, so that the tasks of a run are its own:
//!
//! ```text
//! POST /api/v1/tasks
//! content-type: application/json
//!
//! {"taskId":"t$","taskType":"build"}
//! ---
//! GET /api/v1/tasks/t$
//! ```
//!
//! The router is called without a socket: what is no HTTP at all is for the library, and for the tests that say it to a
//! socket.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use futures::StreamExt;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::app::Unserved;
use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::http::problem::PROBLEM_JSON;
use crate::http::{Front, Limits, Site};

/// Requests of one input at most.
const REQUESTS: usize = 16;
/// Runs on the same files: they grow with each.
const RUNS: u64 = 5000;
/// Pieces of a stream that are looked at.
const PIECES: usize = 8;

/// Whatever is asked, in whatever order: no answer is a fault of the server, every refusal is a problem, and a history
/// counts 1, 2, 3.
///
/// # Panics
///
/// Where that does not hold.
pub fn requests(input: &[u8]) {
    static SERVICE: Mutex<Option<Service>> = Mutex::new(None);
    // Of a run that failed nothing is kept: the next begins anew.
    let mut place = SERVICE.lock().unwrap_or_else(PoisonError::into_inner);
    let service = place.take().filter(|service| service.runs < RUNS);
    let mut service = service.unwrap_or_else(Service::open);
    service.runs += 1;
    service.ask(&said_by(input, service.runs));
    *place = Some(service);
}

/// The requests of an input.
fn said_by(input: &[u8], run: u64) -> Vec<Said> {
    let mut text = Vec::with_capacity(input.len());
    for byte in input {
        match byte {
            b'$' => text.extend_from_slice(run.to_string().as_bytes()),
            _ => text.push(*byte),
        }
    }
    let mut requests = Vec::new();
    let mut rest = text.as_slice();
    while requests.len() < REQUESTS && !rest.is_empty() {
        let (one, behind) = cut(rest, b"\n---\n");
        requests.extend(Said::read(one));
        rest = behind;
    }
    requests
}

fn cut<'a>(text: &'a [u8], at: &[u8]) -> (&'a [u8], &'a [u8]) {
    let found = text.windows(at.len()).position(|window| window == at);
    found.map_or((text, &[]), |found| (&text[..found], &text[found + at.len()..]))
}

struct Said {
    head: Request<()>,
    body: Bytes,
}

impl Said {
    /// `None` where the library would not have passed it on.
    fn read(text: &[u8]) -> Option<Self> {
        let (head, body) = cut(text, b"\n\n");
        let mut lines = head.split(|byte| *byte == b'\n');
        let (method, target) = cut(lines.next()?, b" ");
        let mut head = Request::new(());
        *head.method_mut() = Method::from_bytes(method).ok()?;
        *head.uri_mut() = Uri::try_from(target).ok().filter(|uri| uri.path().starts_with('/'))?;
        for line in lines {
            let (name, value) = cut(line, b":");
            let name = HeaderName::from_bytes(name.trim_ascii()).ok()?;
            head.headers_mut().append(name, HeaderValue::from_bytes(value.trim_ascii()).ok()?);
        }
        Some(Self { head, body: Bytes::copy_from_slice(body) })
    }

    fn request(&self) -> Request<Body> {
        // In pieces, as from a wire.
        let piece = 1 + self.body.len() / 3;
        let pieces: Vec<_> = self
            .body
            .chunks(piece)
            .map(|piece| Ok::<_, std::io::Error>(self.body.slice_ref(piece)))
            .collect();
        let body = if self.body.is_empty() {
            Body::empty()
        } else {
            Body::from_stream(futures::stream::iter(pieces))
        };
        self.head.clone().map(|()| body)
    }
}

struct Service {
    runtime: Runtime,
    unserved: Unserved,
    folder: PathBuf,
    runs: u64,
}

impl Service {
    fn open() -> Self {
        let name = format!("task-tracker-{}-{:x}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        let config = Config {
            // Within the reach of small inputs.
            limits: Limits { body_bytes: 2000, entry_bytes: 200 },
            task_entries: 12,
            // Nobody waits: a claim that would is refused.
            front: Front { waiting_claims: 0, ..Front::default() },
            ..Config::local(Mode::Embedded { data_dir: folder.clone() })
        };
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let unserved =
            runtime.block_on(Unserved::open(&config, Clock::system())).expect("a service");
        Self { runtime, unserved, folder, runs: 0 }
    }

    fn ask(&self, requests: &[Said]) {
        self.runtime.block_on(async {
            for said in requests {
                check(said, &self.unserved.site).await;
            }
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.unserved.tracker.closing().cancel();
        self.runtime.block_on(self.unserved.tracker.shut_down());
        // It is in a folder for what may be thrown away.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Sends a request and looks at what is answered.
async fn check(said: &Said, site: &Site) {
    let request = said.request();
    let what = format!("{} {}", request.method(), request.uri());
    let response = site.answer(request).await;
    let status = response.status();
    assert!(!status.is_server_error(), "{what}: {status} {}", text(response).await);
    let header = |name: &str| {
        let value = response.headers().get(name).map(HeaderValue::as_bytes);
        value.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    assert!(!header("x-correlation-id").is_empty(), "{what}: no correlation id");
    let kind = header(CONTENT_TYPE.as_str());
    if status.is_client_error() {
        assert_eq!(kind, PROBLEM_JSON, "{what}: {status}");
        let is_told_when = !header(RETRY_AFTER.as_str()).is_empty();
        assert_eq!(is_told_when, status == StatusCode::TOO_MANY_REQUESTS, "{what}: {status}");
        if said.head.method() != Method::HEAD {
            problem(&what, status, &text(response).await);
        }
    } else if matches!(&*kind, "text/event-stream" | "application/x-ndjson") {
        stream(&what, response.into_body(), kind == "text/event-stream").await;
    } else if kind == "application/json" && said.head.method() != Method::HEAD {
        let text = text(response).await;
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{what}: {error}: {text}"));
        history(&what, &value);
    }
}

/// A problem as RFC 9457 has it, and short.
fn problem(what: &str, status: StatusCode, text: &str) {
    let body: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{what}: {error}: {text}"));
    assert_eq!(body["status"], status.as_u16(), "{what}: {text}");
    for member in ["type", "title", "detail", "code"] {
        assert!(body[member].is_string(), "{what}: {member} in {text}");
    }
    assert_eq!(body["code"] == "validation_failed", body["errors"].is_array(), "{what}: {text}");
    assert!(text.len() <= 4000, "{what}: {} bytes", text.len());
}

/// What comes of a stream at once: whole frames, or whole lines.
async fn stream(what: &str, body: Body, is_frames: bool) {
    let mut pieces = body.into_data_stream();
    for _ in 0..PIECES {
        // Somebody who reads: an open stream goes on for an hour.
        let next = futures::future::poll_fn(|context| match pieces.poll_next_unpin(context) {
            Poll::Ready(piece) => Poll::Ready(piece),
            Poll::Pending => Poll::Ready(None),
        });
        let Some(piece) = next.await else { return };
        let piece = piece.expect("a stream that does not break");
        let piece = std::str::from_utf8(&piece).expect("UTF-8");
        assert!(piece.ends_with(if is_frames { "\n\n" } else { "\n" }), "{what}: {piece:?}");
        for line in piece.lines() {
            let data = if is_frames { line.strip_prefix("data: ") } else { Some(line) };
            assert!(
                data.is_none_or(|data| serde_json::from_str::<Value>(data).is_ok()),
                "{what}: {line}"
            );
        }
    }
}

/// Wherever a history stands, it counts 1, 2, 3.
fn history(what: &str, value: &Value) {
    let Some(entries) = value["progressHistory"].as_array() else { return };
    let numbers: Vec<_> = entries.iter().map(|entry| entry["seqId"].as_u64()).collect();
    let expected: Vec<_> = (1..=entries.len() as u64).map(Some).collect();
    assert_eq!(numbers, expected, "{what}: {value}");
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await.expect("a whole body");
    String::from_utf8(bytes.into()).expect("UTF-8")
}
