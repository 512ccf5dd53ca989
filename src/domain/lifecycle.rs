//! The lifecycle of a task: one table, as data.
//!
//! ```text
//!             start, claim                complete ┌──────────┐
//!  register ┌─────────┐ ───────► ┌─────────────┐ ─────────► │ completed │
//!  ───────► │ pending │          │ in_progress │ ─ fail ──► │ failed    │ ─┐ retry makes
//!           └─────────┘ ◄─────── └─────────────┘ ─ timeout ►│ timeout   │ ─┘ a new task
//!                │      release                             └──────────┘
//!                └───────────────── timeout ────────────────────▲
//! ```
//!
//! Stores do a generic compare-and-set with what stands here and never know what a status means.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::WorkerId;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for a worker. Registering and releasing bring a task here; a start, a claim or its
    /// deadline take it out.
    Pending,
    /// A worker is on it. A start or a claim brings a task here; its worker, or its deadline, takes it out.
    InProgress,
    /// The worker said it is done. Nothing takes a task out.
    Completed,
    /// The worker said it went wrong. Nothing takes a task out; a retry makes a new one.
    Failed,
    /// Its deadline passed, or somebody said so. Nothing takes a task out; a retry makes a new one.
    Timeout,
}

impl Status {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::InProgress, Self::Completed, Self::Failed, Self::Timeout];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
        }
    }

    /// The status that word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing leaves this status.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Timeout)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can be asked of a registered task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// Begin this very task.
    Start,
    /// Begin the oldest pending task of some types.
    Claim,
    /// Append to its history.
    Progress,
    /// End it well.
    Complete,
    /// End it badly.
    Fail,
    /// End it because its time is over.
    Timeout,
    /// Give it back for another worker.
    Release,
    /// Make a new task of an ended one.
    Retry,
}

/// Whether a call must come from the worker that holds the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Where the task has a worker, the call must name it.
    MustBeNamed,
    /// The call may name a worker, and then the right one.
    MayBeNamed,
    /// Anybody may call.
    Anybody,
}

/// One row of the table.
#[derive(Debug)]
pub struct Rule {
    /// Which transition the row is about.
    pub transition: Transition,
    /// Its word: in the URL, in errors, in spans.
    pub word: &'static str,
    /// The statuses it is allowed from.
    pub from: &'static [Status],
    /// The status it leads to; `None` where the task stays where it is.
    pub to: Option<Status>,
    /// Who may ask for it.
    pub holder: Holder,
    /// The name of what happened, in the past tense: events and counters are called by it.
    pub event: &'static str,
}

use Status::{Completed, Failed, InProgress, Pending, Timeout};

/// The whole lifecycle.
#[rustfmt::skip]
pub const TABLE: [Rule; 8] = [
    Rule { transition: Transition::Start,    word: "start",    from: &[Pending],             to: Some(InProgress), holder: Holder::Anybody,     event: "started" },
    Rule { transition: Transition::Claim,    word: "claim",    from: &[Pending],             to: Some(InProgress), holder: Holder::Anybody,     event: "claimed" },
    Rule { transition: Transition::Progress, word: "progress", from: &[InProgress],          to: None,             holder: Holder::MayBeNamed,  event: "progressed" },
    Rule { transition: Transition::Complete, word: "complete", from: &[InProgress],          to: Some(Completed),  holder: Holder::MustBeNamed, event: "completed" },
    Rule { transition: Transition::Fail,     word: "fail",     from: &[InProgress],          to: Some(Failed),     holder: Holder::MustBeNamed, event: "failed" },
    Rule { transition: Transition::Timeout,  word: "timeout",  from: &[Pending, InProgress], to: Some(Timeout),    holder: Holder::Anybody,     event: "timed_out" },
    Rule { transition: Transition::Release,  word: "release",  from: &[InProgress],          to: Some(Pending),    holder: Holder::MustBeNamed, event: "released" },
    Rule { transition: Transition::Retry,    word: "retry",    from: &[Failed, Timeout],     to: None,             holder: Holder::Anybody,     event: "retried" },
];

/// Why a transition may not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The present status does not allow it.
    #[error("{attempted} is not allowed while it is {from}")]
    InvalidTransition {
        /// The present status.
        from: Status,
        /// The word of what was asked.
        attempted: &'static str,
    },
    /// Another worker holds the task, or the call names none and had to.
    #[error("the task is held by another worker")]
    NotTheWorker,
}

impl Transition {
    /// The row of the table that says what this transition may do.
    pub fn rule(self) -> &'static Rule {
        // Rows stand in the order of the variants; a test holds them to it.
        &TABLE[self as usize]
    }

    /// Whether it may be made from `status` by a caller who names `named`, where `holder` has the task.
    /// The status speaks first: a late call on an ended task hears that it ended.
    pub fn check(
        self,
        status: Status,
        holder: Option<&WorkerId>,
        named: Option<&WorkerId>,
    ) -> Result<(), Refused> {
        let rule = self.rule();
        if !rule.from.contains(&status) {
            return Err(Refused::InvalidTransition { from: status, attempted: rule.word });
        }
        let wrong = match (rule.holder, holder, named) {
            (Holder::Anybody, _, _) | (_, None, _) | (Holder::MayBeNamed, _, None) => false,
            (Holder::MustBeNamed, Some(_), None) => true,
            (_, Some(holder), Some(named)) => holder != named,
        };
        if wrong { Err(Refused::NotTheWorker) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_variants() {
        for (index, rule) in TABLE.iter().enumerate() {
            assert_eq!(rule.transition as usize, index, "{}", rule.word);
            assert_eq!(rule.transition.rule().word, rule.word);
        }
    }

    #[test]
    fn nothing_leaves_a_terminal_status() {
        for rule in &TABLE {
            let leaves = rule.from.iter().any(|from| from.is_terminal()) && rule.to.is_some();
            assert!(!leaves, "{}", rule.word);
        }
    }

    #[test]
    fn every_status_has_a_word_of_its_own() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Status::parse("done"), None);
    }

    proptest! {
        /// Walk the table at random: whatever is asked, by whomever, a task ends at most once and its
        /// end is made only by its holder or by a timeout.
        #[test]
        fn a_random_walk_ends_at_most_once(steps in prop::collection::vec((0_usize..8, 0_u8..3), 0..40)) {
            let workers: [WorkerId; 2] = ["w1".parse().unwrap(), "w2".parse().unwrap()];
            let (mut status, mut holder, mut ends) = (Status::Pending, None::<WorkerId>, 0);
            for (row, who) in steps {
                let rule = &TABLE[row];
                let named = workers.get(usize::from(who));
                match rule.transition.check(status, holder.as_ref(), named) {
                    Ok(()) => {
                        prop_assert!(rule.from.contains(&status));
                        let Some(to) = rule.to else { continue };
                        prop_assert!(!status.is_terminal());
                        if matches!(rule.transition, Transition::Complete | Transition::Fail | Transition::Release) {
                            prop_assert!(holder.is_none() || holder.as_ref() == named);
                        }
                        match to {
                            Status::InProgress => holder = named.cloned(),
                            Status::Pending => holder = None,
                            _ => ends += 1,
                        }
                        status = to;
                    }
                    Err(Refused::InvalidTransition { from, attempted }) => {
                        prop_assert_eq!(from, status);
                        prop_assert_eq!(attempted, rule.word);
                        prop_assert!(!rule.from.contains(&status));
                    }
                    Err(Refused::NotTheWorker) => prop_assert!(holder.is_some() && holder.as_ref() != named),
                }
            }
            prop_assert!(ends <= 1);
        }
    }
}
