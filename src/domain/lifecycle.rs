//! The lifecycle of a task: one table, as data.
//!
//! ```text
//!            start, claim             ┌─ complete ──────────► completed
//!  register ┌─────────┐ ──► ┌─────────────┐ ─ fail, exhaust ──► failed    ─┐
//!  ───────► │ pending │     │ in_progress │ ─ timeout ────────► timeout    ├─ retry makes a new task
//!           └─────────┘ ◄── └─────────────┘ ─ cancel ─────────► cancelled ─┘
//!                │  release, expire                                ▲
//!                └─ timeout, cancel ───────────────────────────────┘
//! ```
//!
//! Stores do a generic compare-and-set with what stands here and never know what a status means.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::lease::Caller;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for a worker. Registering, releasing and a lease that ran out bring a task here; a start, a
    /// claim, a cancellation or its deadline take it out.
    Pending,
    /// A worker is on it. A start or a claim brings a task here; its worker, the worker's silence, a
    /// cancellation or its deadline takes it out.
    InProgress,
    /// The worker said it is done. Nothing takes a task out.
    Completed,
    /// The worker said it went wrong, or too many workers fell silent over it. Nothing takes a task out; a
    /// retry makes a new one.
    Failed,
    /// Its deadline passed, or somebody said so. Nothing takes a task out; a retry makes a new one.
    Timeout,
    /// Somebody wanted it to end. Nothing takes a task out; a retry makes a new one.
    Cancelled,
}

impl Status {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Timeout,
        Self::Cancelled,
    ];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status that word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing leaves this status.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Timeout | Self::Cancelled)
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
    /// Say that its worker is alive.
    Heartbeat,
    /// End it well.
    Complete,
    /// End it badly.
    Fail,
    /// End it because its time is over.
    Timeout,
    /// Give it back for another worker.
    Release,
    /// Take it from a worker that has fallen silent, for the next.
    Expire,
    /// End it because too many workers fell silent over it.
    Exhaust,
    /// Note that it runs without progress.
    Stall,
    /// Ask its worker to end it.
    RequestCancel,
    /// End it because somebody wants that.
    Cancel,
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

use Status::{Cancelled, Completed, Failed, InProgress, Pending, Timeout};

/// The whole lifecycle.
#[rustfmt::skip]
pub const TABLE: [Rule; 14] = [
    Rule { transition: Transition::Start,         word: "start",     from: &[Pending],                     to: Some(InProgress), holder: Holder::Anybody,     event: "started" },
    Rule { transition: Transition::Claim,         word: "claim",     from: &[Pending],                     to: Some(InProgress), holder: Holder::Anybody,     event: "claimed" },
    Rule { transition: Transition::Progress,      word: "progress",  from: &[InProgress],                  to: None,             holder: Holder::MayBeNamed,  event: "progressed" },
    Rule { transition: Transition::Heartbeat,     word: "heartbeat", from: &[InProgress],                  to: None,             holder: Holder::MustBeNamed, event: "renewed" },
    Rule { transition: Transition::Complete,      word: "complete",  from: &[InProgress],                  to: Some(Completed),  holder: Holder::MustBeNamed, event: "completed" },
    Rule { transition: Transition::Fail,          word: "fail",      from: &[InProgress],                  to: Some(Failed),     holder: Holder::MustBeNamed, event: "failed" },
    Rule { transition: Transition::Timeout,       word: "timeout",   from: &[Pending, InProgress],         to: Some(Timeout),    holder: Holder::Anybody,     event: "timed_out" },
    Rule { transition: Transition::Release,       word: "release",   from: &[InProgress],                  to: Some(Pending),    holder: Holder::MustBeNamed, event: "released" },
    Rule { transition: Transition::Expire,        word: "expire",    from: &[InProgress],                  to: Some(Pending),    holder: Holder::Anybody,     event: "lease_expired" },
    Rule { transition: Transition::Exhaust,       word: "exhaust",   from: &[InProgress],                  to: Some(Failed),     holder: Holder::Anybody,     event: "exhausted" },
    Rule { transition: Transition::Stall,         word: "stall",     from: &[InProgress],                  to: None,             holder: Holder::Anybody,     event: "stalled" },
    Rule { transition: Transition::RequestCancel, word: "cancel",    from: &[InProgress],                  to: None,             holder: Holder::Anybody,     event: "cancel_requested" },
    Rule { transition: Transition::Cancel,        word: "cancel",    from: &[Pending, InProgress],         to: Some(Cancelled),  holder: Holder::MayBeNamed,  event: "cancelled" },
    Rule { transition: Transition::Retry,         word: "retry",     from: &[Failed, Timeout, Cancelled],  to: None,             holder: Holder::Anybody,     event: "retried" },
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
    /// The caller's token is of an attempt that is over.
    #[error("the lease is lost: its attempt is over, and this call has changed nothing")]
    LeaseLost,
}

impl Transition {
    /// The row of the table that says what this transition may do.
    pub fn rule(self) -> &'static Rule {
        // Rows stand in the order of the variants; a test holds them to it.
        &TABLE[self as usize]
    }

    /// Whether `caller` may make it from `status`, where `holder` has the task.
    ///
    /// A token speaks first: whoever comes after its attempt is over hears that, whatever became of the task
    /// since. Then the status: a late call on an ended task hears that it ended.
    pub fn check(self, status: Status, holder: &Caller, caller: &Caller) -> Result<(), Refused> {
        let rule = self.rule();
        let proven = caller.token.is_some();
        if proven && caller.token != holder.token && rule.holder != Holder::Anybody {
            return Err(Refused::LeaseLost);
        }
        if !rule.from.contains(&status) {
            return Err(Refused::InvalidTransition { from: status, attempted: rule.word });
        }
        let wrong = match (rule.holder, &holder.worker, &caller.worker) {
            (Holder::Anybody, _, _) | (_, None, _) | (Holder::MayBeNamed, _, None) => false,
            (Holder::MustBeNamed, Some(_), None) => !proven,
            (_, Some(holder), Some(named)) => holder != named,
        };
        if wrong { Err(Refused::NotTheWorker) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{LeaseToken, WorkerId};

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

    #[test]
    fn a_token_proves_the_worker_and_an_old_one_is_lost_whatever_became_of_the_task() {
        let (ours, old) = (Some(LeaseToken::new()), Some(LeaseToken::new()));
        let worker: Option<WorkerId> = Some("w".parse().unwrap());
        let holder = Caller { worker: worker.clone(), token: ours.clone() };
        let check = |status, caller: &Caller| Transition::Complete.check(status, &holder, caller);
        assert_eq!(check(InProgress, &Caller { worker: None, token: ours.clone() }), Ok(()));
        assert_eq!(check(InProgress, &Caller::from(worker.clone())), Ok(()));
        // The same name is no proof against an old token: names are used again.
        let zombie = Caller { worker, token: old };
        for status in Status::ALL {
            assert_eq!(check(status, &zombie), Err(Refused::LeaseLost), "{status}");
        }
        let repeated = check(Completed, &Caller { worker: None, token: ours });
        assert_eq!(
            repeated,
            Err(Refused::InvalidTransition { from: Completed, attempted: "complete" })
        );
    }

    /// A call: which row, which of two workers or nobody, and whether it shows its token.
    fn call() -> impl Strategy<Value = (usize, usize, bool)> {
        (0..TABLE.len(), 0_usize..3, any::<bool>())
    }

    proptest! {
        /// Walk the table at random: whatever is asked, by whomever, a task ends at most once, and what only its
        /// holder may do is done by its holder.
        #[test]
        fn a_random_walk_ends_at_most_once(calls in prop::collection::vec(call(), 0..40)) {
            let workers: [WorkerId; 2] = ["w1".parse().unwrap(), "w2".parse().unwrap()];
            // The token each worker got last, which may be of an attempt that is over.
            let mut tokens: [Option<LeaseToken>; 2] = [None, None];
            let (mut status, mut holder, mut ends) = (Status::Pending, Caller::default(), 0);
            for (row, who, shows) in calls {
                let rule = &TABLE[row];
                let token = tokens.get(who).cloned().flatten().filter(|_| shows);
                let caller = Caller { worker: workers.get(who).cloned(), token };
                match rule.transition.check(status, &holder, &caller) {
                    Ok(()) => {
                        prop_assert!(rule.from.contains(&status));
                        let named = caller.worker == holder.worker;
                        if rule.holder == Holder::MustBeNamed {
                            prop_assert!(holder.worker.is_none() || named);
                        }
                        if rule.holder != Holder::Anybody && caller.token.is_some() {
                            prop_assert_eq!(&caller.token, &holder.token);
                        }
                        let Some(to) = rule.to else { continue };
                        prop_assert!(!status.is_terminal());
                        match to {
                            Status::InProgress => {
                                let token = Some(LeaseToken::new());
                                if let Some(got) = tokens.get_mut(who) { got.clone_from(&token); }
                                holder = Caller { worker: caller.worker, token };
                            }
                            Status::Pending => holder = Caller::default(),
                            _ => ends += 1,
                        }
                        status = to;
                    }
                    Err(Refused::InvalidTransition { from, attempted }) => {
                        prop_assert_eq!(from, status);
                        prop_assert_eq!(attempted, rule.word);
                        prop_assert!(!rule.from.contains(&status));
                    }
                    Err(Refused::NotTheWorker) => {
                        prop_assert!(holder.worker.is_some() && holder.worker != caller.worker);
                    }
                    Err(Refused::LeaseLost) => prop_assert_ne!(&caller.token, &holder.token),
                }
            }
            prop_assert!(ends <= 1);
        }
    }
}
