//! Who may append to a task's log.
//!
//! An append touches no database, and yet every entry it acknowledges must be in the history that a
//! concurrent end seals. The fence stands beside the log and changes with it atomically:
//!
//! ```text
//!            append finds none          append, verified
//!   (none) ───────────────► opening ───────────────────► open ──┐ append
//!      ▲                                                  │  ▲──┘
//!      │ expires, or the log is deleted          end: close│  │ append of a later attempt, verified
//!      │ or somebody wants a new look: recheck             ▼  │
//!      └──────────────────────────────────────────────── closed
//! ```
//!
//! * *Opened lazily*: the first append of an attempt finds no open fence. It notes which fence it
//!   saw, asks the durable truth whether the task is in progress, and appends again with what it
//!   found; that succeeds only if the fence is still the one it saw, so that no end can have passed
//!   unnoticed in between. `opening` carries a nonce for that: two of them are never equal.
//! * *Closed before the end is committed*: what was acknowledged is in the log that the end
//!   reads, and nothing is acknowledged after.
//! * *Carries what a worker is to hear*: an append is answered with how long the lease is and whether
//!   somebody wants the task to end, without asking the durable truth. When that changes the fence is taken
//!   away, and the next append looks anew.
//! * *Survives the crash of a node*, for it stands in the log; and expires, so that a crash between closing and
//!   committing stops a task for [`super::CLOSED_FOR`] at most.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::{Caller, LeaseToken, WorkerId};

/// The fence of one task's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// Somebody is looking up whether it may be opened.
    Opening {
        /// Makes this fence unlike any other.
        nonce: String,
    },
    /// Entries of this attempt are taken.
    Open(Grant),
    /// No entries of this attempt or an earlier one are taken.
    Closed {
        /// The attempt.
        attempt: u32,
    },
}

/// What an attempt may do, and what its worker is to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The attempt.
    pub attempt: u32,
    /// Who has the task.
    pub holder: Caller,
    /// How long it may be silent.
    pub lease: Option<Duration>,
    /// Whether somebody wants the task to end.
    pub cancel_requested: bool,
}

impl Grant {
    /// Whether it lets a caller append.
    pub fn admits(&self, caller: &Caller) -> bool {
        fn agree<T: PartialEq>(said: Option<&T>, held: Option<&T>) -> bool {
            said.is_none_or(|said| held.is_none_or(|held| held == said))
        }
        // A token is wrong also where there is none.
        let shown = caller.token.as_ref();
        agree(caller.worker.as_ref(), self.holder.worker.as_ref())
            && shown.is_none_or(|shown| self.holder.token.as_ref() == Some(shown))
    }
}

impl Fence {
    /// A fence to be opened, unlike any other. Made for every append, so it is cheap; nobody needs to be
    /// kept from guessing it.
    pub fn opening() -> Self {
        Self::Opening { nonce: format!("{:032x}", fastrand::u128(..)) }
    }

    /// The attempt it is about.
    pub fn attempt(&self) -> Option<u32> {
        match self {
            Self::Opening { .. } => None,
            Self::Open(Grant { attempt, .. }) | Self::Closed { attempt } => Some(*attempt),
        }
    }
}

/// The text of a fence: `opening <nonce>`, `open <attempt> <lease, ms> <cancel: 0 or 1> <token> <worker>`,
/// `closed <attempt>`; no lease is 0, no token is `-`, no worker is nothing. The Redis scripts read and write
/// the same.
impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening { nonce } => write!(f, "opening {nonce}"),
            Self::Open(Grant { attempt, holder, lease, cancel_requested }) => write!(
                f,
                "open {attempt} {} {} {} {}",
                lease.map_or(0, |lease| lease.as_millis()),
                u8::from(*cancel_requested),
                holder.token.as_ref().map_or(NO_TOKEN, LeaseToken::as_str),
                holder.worker.as_ref().map_or("", WorkerId::as_str),
            ),
            Self::Closed { attempt } => write!(f, "closed {attempt}"),
        }
    }
}

/// Stands for the token of a task that was begun before there were any.
const NO_TOKEN: &str = "-";

/// The text is none of a fence.
#[derive(Debug, thiserror::Error)]
#[error("not a fence: {0:?}")]
pub struct NotAFence(String);

impl FromStr for Fence {
    type Err = NotAFence;

    fn from_str(text: &str) -> Result<Self, NotAFence> {
        let fence = match text.split_once(' ') {
            Some(("opening", nonce)) => Some(Self::Opening { nonce: nonce.to_owned() }),
            Some(("open", grant)) => read_grant(grant).map(Self::Open),
            Some(("closed", attempt)) => {
                attempt.parse().ok().map(|attempt| Self::Closed { attempt })
            }
            _ => None,
        };
        fence.ok_or_else(|| NotAFence(text.to_owned()))
    }
}

fn read_grant(text: &str) -> Option<Grant> {
    // The worker comes last: its name may have blanks.
    let mut fields = text.splitn(5, ' ');
    let attempt = fields.next()?.parse().ok()?;
    let lease = fields.next()?.parse().ok().map(Duration::from_millis)?;
    let cancel_requested = fields.next()? == "1";
    let token = match fields.next()? {
        NO_TOKEN => None,
        token => Some(token.parse().ok()?),
    };
    let worker = match fields.next()? {
        "" => None,
        worker => Some(worker.parse().ok()?),
    };
    let (holder, lease) = (Caller { worker, token }, Some(lease).filter(|lease| !lease.is_zero()));
    Some(Grant { attempt, holder, lease, cancel_requested })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(worker: Option<&str>, token: Option<LeaseToken>) -> Grant {
        let holder = Caller { worker: worker.map(|name| name.parse().unwrap()), token };
        Grant { attempt: 3, holder, lease: Some(Duration::from_secs(30)), cancel_requested: true }
    }

    #[test]
    fn a_fence_reads_back_as_it_was_written() {
        let full = grant(Some("a worker 7"), Some(LeaseToken::new()));
        let bare = Grant { lease: None, cancel_requested: false, ..grant(None, None) };
        for fence in
            [Fence::opening(), Fence::Open(full), Fence::Open(bare), Fence::Closed { attempt: 2 }]
        {
            assert_eq!(fence.to_string().parse::<Fence>().unwrap(), fence);
        }
        for wrong in ["ajar 1", "open 1 w", "open 1 0 0", "closed", "closed x"] {
            assert!(wrong.parse::<Fence>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_grant_admits_its_worker_and_its_token_and_whoever_names_nobody() {
        let (ours, other) = (LeaseToken::new(), LeaseToken::new());
        let held = grant(Some("w"), Some(ours.clone()));
        let says = |worker: Option<&str>, token: Option<&LeaseToken>| {
            let worker = worker.map(|name| name.parse().unwrap());
            held.admits(&Caller { worker, token: token.cloned() })
        };
        assert!(says(None, None) && says(Some("w"), None) && says(None, Some(&ours)));
        assert!(says(Some("w"), Some(&ours)));
        assert!(!says(Some("x"), None) && !says(Some("x"), Some(&ours)));
        assert!(!says(Some("w"), Some(&other)), "the name of an attempt before");
        let unheld = grant(None, None);
        assert!(unheld.admits(&Caller::from(Some("x".parse().unwrap()))));
        assert!(!unheld.admits(&Caller { worker: None, token: Some(ours) }));
    }
}
