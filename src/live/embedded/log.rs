//! One task's log in memory: its fence, and what is known of the file without reading it.

use super::room::Room;
use crate::domain::{Caller, Timestamp};
use crate::live::{CLOSED_FOR, Fence, Grant, OPENING_FOR, Verified};

/// What is known of one task's log without reading the file.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) fence: Option<Fence>,
    /// When a fence falls that is not open.
    pub(super) fence_expires_at: Option<Timestamp>,
    /// The number of the newest entry; `None` where the file was not asked yet.
    pub(super) last_seq_id: Option<u64>,
    /// How much of it is used.
    pub(super) room: Room,
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
