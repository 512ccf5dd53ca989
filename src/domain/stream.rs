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
    /// Entries are gone for good.
    Gap(Gap),
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

/// Numbers whose entries are gone for good: they were given, or may have been, and the live log lost its
/// memory before they were sealed. Counting went on behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first number.
    pub from: u64,
    /// The last number.
    pub to: u64,
    /// When it was noticed.
    pub at: Timestamp,
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
    /// Why somebody wanted it to end; of a cancelled task.
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
/// entries that the other may have brought already; the numbers decide. What is gone for good the
/// log says as a [`Gap`], which is passed over once, in its place.
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

    /// Passes over what is gone; says what of it this reader has not seen, if anything.
    pub fn pass_over(&mut self, gap: Gap) -> Option<Gap> {
        if gap.to <= self.cursor {
            return None;
        }
        let from = gap.from.max(self.cursor + 1);
        self.cursor = gap.to;
        Some(Gap { from, ..gap })
    }

    /// Whether nothing up to `last_seq_id` is missing.
    pub fn is_complete(&self, last_seq_id: u64) -> bool {
        self.cursor >= last_seq_id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// How far counting goes on behind what is sealed when the rest is lost.
    const WINDOW: u64 = 10;

    /// What may befall a reader.
    #[derive(Debug, Clone)]
    enum Step {
        /// An entry is appended; whether its publication arrives, and how often.
        Append { copies: usize },
        /// An old publication comes again.
        Echo { seq_id: u64 },
        /// The reader reads the log of its own accord, as after a lost subscription.
        ReadLog { page: usize },
        /// Everything so far is sealed.
        Seal,
        /// What is not sealed is lost.
        Lose,
    }

    /// What is appended, and what became of it.
    #[derive(Debug, Default)]
    struct Log {
        newest: u64,
        sealed: u64,
        kept: BTreeSet<u64>,
        gaps: Vec<Gap>,
    }

    /// What a reader was given.
    #[derive(Debug, PartialEq)]
    enum Given {
        Entry(u64),
        Gap(u64, u64),
    }

    impl Log {
        fn append(&mut self) -> u64 {
            self.newest += 1;
            self.kept.insert(self.newest);
            self.newest
        }

        fn seal(&mut self) {
            self.sealed = self.newest;
        }

        fn lose(&mut self) {
            let (from, to) = (self.sealed + 1, self.sealed + WINDOW);
            self.kept.retain(|seq_id| *seq_id < from);
            let at = Timestamp::from_micros(0).unwrap();
            self.gaps.push(Gap { from, to, at });
            (self.newest, self.sealed) = (to, to);
        }

        /// Reads on from where the reader is, as far as `page` goes.
        fn read(&self, join: &mut Join, page: usize, out: &mut Vec<Given>) {
            for _ in 0..page {
                let next = join.cursor() + 1;
                if self.kept.contains(&next) {
                    assert_eq!(join.offer(next), Offer::Next);
                    out.push(Given::Entry(next));
                } else if let Some(gap) = self.gaps.iter().find(|gap| gap.to >= next) {
                    assert!(gap.from <= next, "neither kept nor gone: {next}");
                    let unseen = join.pass_over(*gap).expect("not seen yet");
                    assert_eq!(unseen.from, next);
                    out.push(Given::Gap(unseen.from, unseen.to));
                }
            }
        }

        fn deliver(&self, join: &mut Join, seq_id: u64, out: &mut Vec<Given>) {
            loop {
                match join.offer(seq_id) {
                    Offer::Next => return out.push(Given::Entry(seq_id)),
                    Offer::Seen => return,
                    Offer::Missing => self.read(join, 3, out),
                }
            }
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0_usize..3).prop_map(|copies| Step::Append { copies }),
            2 => (1_u64..20).prop_map(|seq_id| Step::Echo { seq_id }),
            2 => (1_usize..5).prop_map(|page| Step::ReadLog { page }),
            2 => Just(Step::Seal),
            1 => Just(Step::Lose),
        ]
    }

    /// Walks a reader that begins behind `after` through `steps` and to the end.
    fn walk(after: u64, steps: Vec<Step>) -> (Vec<Given>, Log) {
        let (mut join, mut log, mut out) = (Join::after(after), Log::default(), Vec::new());
        for step in steps {
            match step {
                Step::Append { copies } => {
                    // Never more than may be lost at once.
                    if log.newest - log.sealed == WINDOW {
                        log.seal();
                    }
                    let seq_id = log.append();
                    for _ in 0..copies {
                        log.deliver(&mut join, seq_id, &mut out);
                    }
                }
                Step::Echo { seq_id } if log.kept.contains(&seq_id) => {
                    log.deliver(&mut join, seq_id, &mut out);
                }
                Step::Echo { .. } => {}
                Step::ReadLog { page } => log.read(&mut join, page, &mut out),
                Step::Seal => log.seal(),
                Step::Lose => log.lose(),
            }
        }
        while !join.is_complete(log.newest) {
            log.read(&mut join, 2, &mut out);
        }
        (out, log)
    }

    proptest! {
        #[test]
        fn a_reader_sees_every_entry_once_and_in_order(
            after in 0_u64..10,
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let steps = steps.into_iter().filter(|step| !matches!(step, Step::Lose)).collect();
            let (out, log) = walk(after, steps);
            let expected: Vec<Given> = (after + 1..=log.newest).map(Given::Entry).collect();
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn a_reader_is_told_of_every_number_once_as_an_entry_or_as_gone(
            after in 0_u64..10,
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let (out, log) = walk(after, steps);
            let mut next = after + 1;
            for given in &out {
                let (from, to) = match *given {
                    Given::Entry(seq_id) => (seq_id, seq_id),
                    Given::Gap(from, to) => (from, to),
                };
                prop_assert_eq!(from, next, "{:?}", out);
                next = to + 1;
            }
            prop_assert_eq!(next, log.newest.max(after) + 1);
            for seq_id in log.kept.range(after + 1..) {
                prop_assert!(out.contains(&Given::Entry(*seq_id)), "{} is kept", seq_id);
            }
        }
    }

    #[test]
    fn what_a_reader_has_seen_before_it_was_lost_is_not_gone_for_it() {
        let at = Timestamp::from_micros(0).unwrap();
        let gap = Gap { from: 41, to: 50, at };
        let mut join = Join::after(45);
        assert_eq!(join.pass_over(gap), Some(Gap { from: 46, ..gap }));
        assert_eq!(join.pass_over(gap), None, "once");
        assert_eq!(join.offer(51), Offer::Next);
        assert_eq!(Join::after(60).pass_over(gap), None);
    }
}
