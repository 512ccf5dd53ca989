//! What must hold of whatever a client sends, where only the wire can look (see [`crate::fuzzing`]).
//!
//! | module | holds for |
//! | --- | --- |
//! | this one | refusals, frames of a stream |
//! | `bodies` | JSON bodies, bodies of lines |
//! | `heads` | queries, cursors, headers |

mod bodies;
mod heads;

use serde_json::Value;

use super::problem::{Code, Problem};
use super::{stream, track};
use crate::domain::{Entry, Event, TaskId};

pub use bodies::{bodies, lines};
pub use heads::{cursors, headers, queries};

/// Bytes of a refusal at most: it says what is wrong and does not send it back.
const LONGEST_REFUSAL: usize = 4000;

/// A refusal is a problem as RFC 9457 has it, short, and the client's fault; says which.
#[track_caller]
fn refused(problem: &Problem) -> Code {
    let (code, (word, status, title)) = (problem.code(), problem.code().row());
    let text = String::from_utf8(problem.json()).expect("UTF-8");
    let body: Value = serde_json::from_str(&text).expect("JSON");
    assert!(status.is_client_error(), "{text}");
    assert!(text.len() <= LONGEST_REFUSAL, "{} bytes", text.len());
    assert_eq!(body["status"], status.as_u16(), "{text}");
    assert_eq!((&body["code"], &body["title"]), (&word.into(), &title.into()), "{text}");
    assert!(body["type"].is_string() && body["detail"].is_string(), "{text}");
    assert_eq!(code == Code::ValidationFailed, body["errors"].is_array(), "{text}");
    for error in body["errors"].as_array().into_iter().flatten() {
        assert!(error["path"].is_string() && error["message"].is_string(), "{text}");
    }
    code
}

/// On a stream an entry is one frame of three lines, and one line of JSON.
pub(crate) fn framed(entry: &Entry) {
    let task = TaskId::new();
    let frame = track::encode(&task, &Event::Progress(entry.clone()));
    let text = std::str::from_utf8(&frame).expect("UTF-8");
    let lines: Vec<&str> = text.split('\n').collect();
    let [id, event, data, "", ""] = lines[..] else { panic!("no frame: {text:?}") };
    assert_eq!((id, event), (&*format!("id: {}", entry.seq_id), "event: progress"));
    let data = data.strip_prefix("data: ").expect("data");
    let value: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(value["taskId"], task.as_str());
    assert_eq!(stream::line_of(&frame), format!("{data}\n"));
}
