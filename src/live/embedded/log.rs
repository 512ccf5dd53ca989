//! One task's log in memory: its fence, and what is known of the file without reading it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use super::index::Index;
use super::room::Room;
use crate::domain::{Caller, Timestamp};
use crate::live::{CLOSED_FOR, Fence, Grant, OPENING_FOR, Verified};

/// What is known of one task's log without reading the file.
#[derive(Debug, Default)]
pub(super) struct TaskLog {
    /// Held by whoever changes the log, until the file has it.
    pub(super) log: AsyncMutex<Log>,
    index: Mutex<Index>,
}

/// What only those use who change the log.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) fence: Option<Fence>,
    /// When a fence falls that is not open.
    pub(super) fence_expires_at: Option<Timestamp>,
    /// How much of it is used.
    pub(super) room: Room,
    /// Whether entries may be in the file that the index does not know of: a write of which it is not known whether it was done.
    pub(super) is_in_doubt: bool,
}

impl TaskLog {
    /// One whose entries are in the file.
    pub(super) fn of(index: Index) -> Self {
        Self { index: Mutex::new(index), ..Self::default() }
    }

    /// Where the entries stand that are committed.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // No code that holds the lock can leave what it guards half changed.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is remembered here that matters.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let is_over = |log: &Log| log.has_fallen(now) && !log.is_in_doubt;
        self.index().is_empty() && self.log.try_lock().is_ok_and(|log| is_over(&log))
    }
}

impl Log {
    /// The rule of the fence, as `append.lua` has it: lets the caller in, or says which fence does not.
    pub(super) fn admit(
        &mut self,
        caller: &Caller,
        now: Timestamp,
        verified: Option<&Verified>,
    ) -> Result<Grant, Fence> {
        if self.has_fallen(now) {
            self.fence = None;
        }
        let fence = match &self.fence {
            Some(fence) => fence.clone(),
            None => self.stand(Fence::opening(), Some(now.plus(OPENING_FOR))),
        };
        if let Some(verified) = verified {
            let open = Fence::Open(verified.grant.clone());
            if fence == verified.fence || fence == open {
                self.stand(open, None);
                return Ok(verified.grant.clone());
            }
        }
        match fence {
            Fence::Open(grant) if grant.admits(caller) => Ok(grant),
            fence => Err(fence),
        }
    }

    pub(super) fn close(&mut self, attempt: u32, now: Timestamp) {
        self.stand(Fence::Closed { attempt }, Some(now.plus(CLOSED_FOR)));
    }

    fn stand(&mut self, fence: Fence, until: Option<Timestamp>) -> Fence {
        self.fence_expires_at = until;
        self.fence.insert(fence).clone()
    }

    pub(super) fn has_fallen(&self, now: Timestamp) -> bool {
        self.fence_expires_at.is_some_and(|at| at <= now)
    }
}
