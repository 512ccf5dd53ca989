//! What answers and events hold, as far as it is looked at. What is only passed on keeps its text.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::{LeaseToken, Status, TaskId, Timestamp};

/// An item of a list, or of an event `task`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its name.
    pub id: TaskId,
    /// What workers claim it by.
    pub task_type: String,
    /// Where it stands; a later version may have more words than we know.
    pub status: String,
    /// Who holds it.
    pub worker_id: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed, progress aside.
    pub updated_at: Timestamp,
    /// When its present worker began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When it was flagged.
    pub stalled_at: Option<Timestamp>,
    /// When somebody first wanted it to end.
    pub cancel_requested_at: Option<Timestamp>,
    /// Why.
    pub cancel_reason: Option<String>,
    /// Of a failed task.
    pub error: Option<Box<RawValue>>,
    /// The newest entry.
    pub latest_progress: Option<Box<RawValue>>,
}

impl Item {
    /// Where it stands, if we know the word.
    pub fn known_status(&self) -> Option<Status> {
        Status::parse(&self.status)
    }
}

/// A page of a list, its items as they came.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The tasks.
    pub items: Vec<Box<RawValue>>,
    /// Where the next page begins; `None` on the last.
    pub next_cursor: Option<String>,
}

/// A task that was claimed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    /// Its name.
    pub id: TaskId,
    /// Its type.
    pub task_type: String,
    /// What it is to be done with, as it was registered.
    pub params: Option<Box<RawValue>>,
    /// What its registrar wants to find again.
    pub metadata: Option<Box<RawValue>>,
    /// Which attempt it is.
    pub attempt: u32,
    /// How many retries lie before it.
    pub retry_count: u32,
    /// When its time is over.
    pub timeout_at: Timestamp,
    /// What proves the attempt.
    pub lease_token: Option<LeaseToken>,
}

/// What every answer to a worker says.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Whether somebody wants the task to end.
    pub cancel_requested: bool,
}

/// Why a task stands where it stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// Where it stands.
    pub status: Status,
    /// Why, for people.
    pub explanation: String,
    /// The newest entry.
    pub latest_progress: Option<Numbered>,
    /// When it was flagged.
    pub stalled_at: Option<Timestamp>,
    /// Whether somebody wants it to end.
    pub cancel_requested: bool,
    /// When this was so.
    pub server_time: Timestamp,
}

/// The number of an entry.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Numbered {
    /// 1, 2, 3 …
    pub seq_id: u64,
}

/// The numbers that a gap leaves out.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Gone {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// A change of status.
#[derive(Debug, Clone, Deserialize)]
pub struct Change {
    /// The new one.
    pub status: String,
    /// Why it was cancelled.
    pub reason: Option<String>,
    /// Why it failed.
    pub error: Option<Box<RawValue>>,
}

/// What stands in the `data` of an event of a stream.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its kind.
    pub event: String,
    /// What it says.
    pub data: Box<RawValue>,
    /// About whom.
    pub task_id: Option<TaskId>,
    /// When it happened.
    pub timestamp: Timestamp,
}

/// An event and the line it came as.
#[derive(Debug, Clone)]
pub struct Told {
    /// One line of JSON.
    pub line: String,
    /// The same, read.
    pub event: Event,
}

impl Event {
    /// What it says, if that is a `T`.
    pub fn read<'de, T: Deserialize<'de>>(&'de self) -> Option<T> {
        serde_json::from_str(self.data.get()).ok()
    }

    /// The status it says, of a change.
    pub fn status(&self) -> Option<Status> {
        if self.event != "status_change" {
            return None;
        }
        Status::parse(&self.read::<Change>()?.status)
    }
}
