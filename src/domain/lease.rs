//! Who has a task, and for how long without a sign of life.
//!
//! Three clocks run beside each other, and none stands for another:
//!
//! * the *lease*: is the worker alive? A heartbeat or any progress renews it; when it runs out, another worker
//!   gets the task.
//! * the *deadline* (`timeoutSeconds`): how long the task may take in all, whoever works on it.
//! * the *stall* (`stallSeconds`): is there progress? When there is none the task is flagged, and goes on.

use std::time::Duration;

use super::name::{LeaseToken, WorkerId};
use super::time::Timestamp;

/// The hold that an attempt has on its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Fences the attempt: whoever shows another one comes too late.
    pub token: LeaseToken,
    /// How long the worker may be silent; `None`: as long as the deadline allows.
    pub length: Option<Duration>,
    /// When it runs out, as far as the durable truth knows: progress renews it without telling.
    pub expires_at: Option<Timestamp>,
    /// When the worker was last heard but for progress: its claim, or its newest heartbeat.
    pub heard_at: Timestamp,
}

impl Lease {
    /// A new one, from `now` on.
    pub fn new(length: Option<Duration>, now: Timestamp) -> Self {
        let expires_at = length.map(|length| now.plus(length));
        Self { token: LeaseToken::new(), length, expires_at, heard_at: now }
    }

    /// Counts anew from `now`, for `length` from now on if that is given.
    #[must_use]
    pub fn renewed(self, length: Option<Duration>, now: Timestamp) -> Self {
        let length = length.or(self.length);
        let expires_at = length.map(|length| now.plus(length));
        Self { length, expires_at, heard_at: now, ..self }
    }

    /// When it runs out, the worker's newest entry being of `progressed`.
    pub fn expires_after(&self, progressed: Option<Timestamp>) -> Option<Timestamp> {
        let by_progress = progressed.zip(self.length).map(|(at, length)| at.plus(length));
        self.expires_at.max(by_progress)
    }
}

/// Who calls, as far as the call says; and who has a task, as far as anybody has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The worker.
    pub worker: Option<WorkerId>,
    /// Its token.
    pub token: Option<LeaseToken>,
}

impl Caller {
    /// Names nobody.
    pub fn is_anonymous(&self) -> bool {
        self.worker.is_none() && self.token.is_none()
    }
}

impl From<Option<WorkerId>> for Caller {
    fn from(worker: Option<WorkerId>) -> Self {
        Self { worker, token: None }
    }
}

impl From<WorkerId> for Caller {
    fn from(worker: WorkerId) -> Self {
        Some(worker).into()
    }
}
