//! What arrives on a task's stream, and how its past is joined to its present.

use serde::{Deserialize, Serialize};

use super::json::JsonObject;
use super::lifecycle::Status;
use super::name::Reason;
use super::progress::Entry;
use super::task::Task;
use super::time::Timestamp;

/// One event of a task's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry was appended.
    Progress(Entry),
    /// The task changed its status.
    Status(StatusChange),
    /// Something is to be known of a task in progress. It may be lost: the task says the same.
    Notice(Notice),
}

/// What is to be known of a task that stays in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// Kinds of notices, each by the name of its event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum What {
    /// Somebody wants it to end: its worker is told with its next answer.
    CancelRequested {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
        /// When the worker is cut off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// It runs without progress for longer than its terms allow.
    Stalled {
        /// When its newest sign of progress was.
        since: Timestamp,
    },
    /// There is progress again.
    Recovered,
}

/// A task came to a status. A terminal one is the last event of its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusChange {
    /// The new status.
    pub status: Status,
    /// Of a completed task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JsonObject>,
    /// Of a failed task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JsonObject>,
    /// Why, where it was not its worker's doing: of a cancelled task, and of one whose worker fell silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When.
    pub at: Timestamp,
    /// The number of the newest entry when it happened: a reader that has not seen it is not done.
    pub last_seq_id: u64,
}

impl StatusChange {
    /// The change that brought `task` where it stands, its newest entry being `last_seq_id`.
    pub fn of(task: &Task, last_seq_id: u64) -> Self {
        Self {
            status: task.status,
            result: task.result.clone(),
            error: task.error.clone(),
            reason: task
                .cancellation
                .as_ref()
                .and_then(|wish| wish.reason.clone().filter(|_| task.status == Status::Cancelled)),
            at: task.completed_at.unwrap_or(task.updated_at),
            last_seq_id,
        }
    }

    /// Whether it ends the stream.
    pub fn is_end(&self) -> bool {
        self.status.is_terminal()
    }
}

/// Joins what a reader is given from the log to what it is given live: every entry above its
/// starting point once, in order, whatever was published twice, early, late or not at all.
///
/// The reader subscribes first, then reads the log, then takes what is live. Both offer
/// entries that the other may have brought already; the numbers decide.
#[derive(Debug, Clone)]
pub struct Join {
    cursor: u64,
}

/// What to do with an entry that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is the next one: pass it on.
    Next,
    /// It was passed on, or filtered, before: drop it.
    Seen,
    /// Entries before it are missing: read the log from [`Join::cursor`] first.
    Missing,
}

impl Join {
    /// Begins behind entry `after_seq_id`.
    pub fn after(after_seq_id: u64) -> Self {
        Self { cursor: after_seq_id }
    }

    /// The number of the newest entry that was passed on or filtered.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Says what to do with entry `seq_id`, and counts it as passed on where it is next.
    pub fn offer(&mut self, seq_id: u64) -> Offer {
        if seq_id <= self.cursor {
            Offer::Seen
        } else if seq_id == self.cursor + 1 {
            self.cursor = seq_id;
            Offer::Next
        } else {
            Offer::Missing
        }
    }

    /// Whether nothing up to `last_seq_id` is missing.
    pub fn is_complete(&self, last_seq_id: u64) -> bool {
        self.cursor >= last_seq_id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What may befall a reader.
    #[derive(Debug, Clone)]
    enum Step {
        /// An entry is appended; whether its publication arrives, and how often.
        Append { copies: usize },
        /// An old publication comes again.
        Echo { seq_id: u64 },
        /// The reader reads the log of its own accord, as after a lost subscription.
        ReadLog { page: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_usize..3).prop_map(|copies| Step::Append { copies }),
            1 => (1_u64..20).prop_map(|seq_id| Step::Echo { seq_id }),
            1 => (1_usize..5).prop_map(|page| Step::ReadLog { page }),
        ]
    }

    fn read_log(join: &mut Join, appended: u64, page: usize, out: &mut Vec<u64>) {
        for seq_id in (join.cursor() + 1..=appended).take(page) {
            assert_eq!(join.offer(seq_id), Offer::Next);
            out.push(seq_id);
        }
    }

    fn deliver(join: &mut Join, seq_id: u64, appended: u64, out: &mut Vec<u64>) {
        loop {
            match join.offer(seq_id) {
                Offer::Next => return out.push(seq_id),
                Offer::Seen => return,
                Offer::Missing => read_log(join, appended, 3, out),
            }
        }
    }

    proptest! {
        #[test]
        fn a_reader_sees_every_entry_once_and_in_order(
            after in 0_u64..10,
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let (mut join, mut appended, mut out) = (Join::after(after), 0_u64, Vec::new());
            for step in steps {
                match step {
                    Step::Append { copies } => {
                        appended += 1;
                        for _ in 0..copies {
                            deliver(&mut join, appended, appended, &mut out);
                        }
                    }
                    Step::Echo { seq_id } if seq_id <= appended => {
                        deliver(&mut join, seq_id, appended, &mut out);
                    }
                    Step::Echo { .. } => {}
                    Step::ReadLog { page } => read_log(&mut join, appended, page, &mut out),
                }
            }
            while !join.is_complete(appended) {
                read_log(&mut join, appended, 2, &mut out);
            }
            let expected: Vec<u64> = (after + 1..=appended).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
