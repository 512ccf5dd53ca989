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
//!      └──────────────────────────────────────────────── closed
//! ```
//!
//! * *Opened lazily*: the first append of an attempt finds no open fence. It notes which fence it
//!   saw, asks the durable truth whether the task is in progress, and appends again with what it
//!   found; that succeeds only if the fence is still the one it saw, so that no end can have passed
//!   unnoticed in between. `opening` carries a nonce for that: two of them are never equal.
//! * *Closed before the end is committed*: what was acknowledged is in the log that the end
//!   reads, and nothing is acknowledged after.
//! * *Survives the crash of a node*, for it stands in the log; and expires, so that a crash between closing and
//!   committing stops a task for [`super::CLOSED_FOR`] at most.

use std::fmt;
use std::str::FromStr;

use crate::domain::WorkerId;

/// The fence of one task's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// Somebody is looking up whether it may be opened.
    Opening {
        /// Makes this fence unlike any other.
        nonce: String,
    },
    /// Entries of this attempt are taken.
    Open {
        /// The attempt.
        attempt: u32,
        /// Its worker, if it has one.
        worker: Option<WorkerId>,
    },
    /// No entries of this attempt or an earlier one are taken.
    Closed {
        /// The attempt.
        attempt: u32,
    },
}

impl Fence {
    /// A fence to be opened, unlike any other. Made for every append, so it is cheap; nobody needs to be
    /// kept from guessing it.
    pub fn opening() -> Self {
        Self::Opening { nonce: format!("{:032x}", fastrand::u128(..)) }
    }

    /// Whether it lets a caller append who names `worker`, or nobody.
    pub fn admits(&self, named: Option<&WorkerId>) -> bool {
        match self {
            Self::Open { worker: Some(holder), .. } => named.is_none_or(|named| named == holder),
            Self::Open { worker: None, .. } => true,
            Self::Opening { .. } | Self::Closed { .. } => false,
        }
    }

    /// The attempt it is about.
    pub fn attempt(&self) -> Option<u32> {
        match self {
            Self::Opening { .. } => None,
            Self::Open { attempt, .. } | Self::Closed { attempt } => Some(*attempt),
        }
    }
}

/// The text of a fence: `opening <nonce>`, `open <attempt> <worker>`, `closed <attempt>`. The Redis
/// scripts read and write the same.
impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening { nonce } => write!(f, "opening {nonce}"),
            Self::Open { attempt, worker } => {
                write!(f, "open {attempt} {}", worker.as_ref().map_or("", WorkerId::as_str))
            }
            Self::Closed { attempt } => write!(f, "closed {attempt}"),
        }
    }
}

/// The text is none of a fence.
#[derive(Debug, thiserror::Error)]
#[error("not a fence: {0:?}")]
pub struct NotAFence(String);

impl FromStr for Fence {
    type Err = NotAFence;

    fn from_str(text: &str) -> Result<Self, NotAFence> {
        let wrong = || NotAFence(text.to_owned());
        let (kind, rest) = text.split_once(' ').ok_or_else(wrong)?;
        match kind {
            "opening" => Ok(Self::Opening { nonce: rest.to_owned() }),
            "open" => {
                let (attempt, worker) = rest.split_once(' ').ok_or_else(wrong)?;
                let worker = match worker {
                    "" => None,
                    name => Some(name.parse().map_err(|_| wrong())?),
                };
                Ok(Self::Open { attempt: attempt.parse().map_err(|_| wrong())?, worker })
            }
            "closed" => Ok(Self::Closed { attempt: rest.parse().map_err(|_| wrong())? }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_reads_back_as_it_was_written() {
        let worker = Some("a worker 7".parse().unwrap());
        let fences = [
            Fence::opening(),
            Fence::Open { attempt: 3, worker },
            Fence::Open { attempt: 1, worker: None },
            Fence::Closed { attempt: 2 },
        ];
        for fence in fences {
            assert_eq!(fence.to_string().parse::<Fence>().unwrap(), fence);
        }
        assert!("ajar 1".parse::<Fence>().is_err());
    }

    #[test]
    fn only_an_open_fence_admits_and_only_its_worker() {
        let (ours, other): (WorkerId, WorkerId) = ("w".parse().unwrap(), "x".parse().unwrap());
        let open = Fence::Open { attempt: 1, worker: Some(ours.clone()) };
        assert!(open.admits(Some(&ours)) && open.admits(None) && !open.admits(Some(&other)));
        assert!(Fence::Open { attempt: 1, worker: None }.admits(Some(&other)));
        assert!(!Fence::opening().admits(None) && !Fence::Closed { attempt: 1 }.admits(None));
    }
}
