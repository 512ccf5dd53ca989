//! How much room a log takes and may take, and making some: what is sealed leaves the file.

use std::sync::{MutexGuard, PoisonError};

use tokio::time::{Instant, sleep};

use super::log::{Log, TaskLog};
use super::writes::delete;
use super::{EmbeddedLive, Error};
use crate::domain::TaskId;
use crate::live::{Appended, Haste, LEFT, Limits, Verified, WINDOW, WINDOW_BYTES};

/// Entries that leave the file in one commit.
const SWEPT_AT_ONCE: usize = 1000;
/// Entries that do where appends go first, and for how many times as long as that took the writer is left to them.
const SWEPT_ASIDE: usize = 250;
const SHARE_OF_APPENDS: u32 = 2;

/// What is known of the size of one log.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The newest entry that is known to be sealed.
    pub(super) last_sealed: u64,
    /// Bytes of all entries ever.
    total: u64,
    /// Bytes in the file.
    live: u64,
}

impl Room {
    /// Whether entries up to `last_seq_id` of so many bytes must not come behind `before`, as `append.lua` has it.
    pub(super) fn refuses(
        &self,
        before: u64,
        last_seq_id: u64,
        bytes: u64,
        limits: Limits,
    ) -> Option<Appended> {
        if last_seq_id > limits.entries || self.total + bytes > limits.bytes {
            return Some(Appended::TooLong);
        }
        let has_unsealed = before > self.last_sealed;
        let is_full = last_seq_id - self.last_sealed > WINDOW
            || (has_unsealed && self.live + bytes > WINDOW_BYTES);
        is_full.then_some(Appended::Full)
    }

    /// Counts what was kept.
    pub(super) fn take(&mut self, bytes: u64) {
        self.total += bytes;
        self.live += bytes;
    }
}

impl EmbeddedLive {
    /// Measures a log that was verified. One that ends before what is sealed is older than that: all
    /// of it is sealed, and it begins anew.
    pub(super) async fn measure(
        &self,
        kept: &TaskLog,
        log: &mut Log,
        verified: &Verified,
    ) -> Result<(), Error> {
        let last_sealed = verified.last_sealed;
        if kept.index().newest() < last_sealed {
            let older = std::mem::take(&mut *kept.index()).all();
            self.left().extend(older);
            self.sweep_out(Haste::AtOnce).await?;
        }
        let (live, unsealed) = kept.index().bytes(last_sealed);
        log.room = Room { last_sealed, total: verified.sealed_bytes + unsealed, live };
        Ok(())
    }

    /// Deletes what is sealed, but for the newest entries of each log.
    pub(super) async fn let_go(&self, sealed: &[(TaskId, u64)], haste: Haste) -> Result<(), Error> {
        for (task, last_sealed) in sealed {
            let Some(kept) = self.known(task) else { continue };
            let mut log = kept.log.lock().await;
            self.settle(task, &kept, &mut log).await?;
            let (places, freed) = kept.index().take_up_to(*last_sealed, LEFT);
            self.left().extend(places);
            log.room.last_sealed = log.room.last_sealed.max(*last_sealed);
            log.room.live = log.room.live.saturating_sub(freed);
        }
        self.sweep_out(haste).await
    }

    /// Deletes what has left the logs: what stands together goes together, and a little at a time, each by a statement of its own
    /// between those of the appends, so that who appends waits for little. What a crash keeps of it is sealed, and leaves once more.
    async fn sweep_out(&self, haste: Haste) -> Result<(), Error> {
        let at_once = if haste == Haste::Aside { SWEPT_ASIDE } else { SWEPT_AT_ONCE };
        let mut places = std::mem::take(&mut *self.left());
        places.sort_unstable();
        while !places.is_empty() {
            let rest = places.split_off(places.len().min(at_once));
            let began = Instant::now();
            let swept = delete(&places).execute(self.database.writer()).await;
            if let Err(error) = swept {
                self.left().extend(places.into_iter().chain(rest));
                return Err(error.into());
            }
            places = rest;
            if haste == Haste::Aside && !places.is_empty() {
                sleep(began.elapsed() * SHARE_OF_APPENDS).await;
            }
        }
        Ok(())
    }

    fn left(&self) -> MutexGuard<'_, Vec<i64>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
