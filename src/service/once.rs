//! What is said to a request that may come twice, and how long it is remembered.

use super::{Error, Result, Tracker};
use crate::domain::{Key, Receipt, TaskId, Timestamp};
use crate::storage::Outcome;

/// Batches of one round at most; the next round goes on.
const BATCHES: usize = 100;

/// What came of a request that may have come before.
#[derive(Debug)]
pub enum Said<T> {
    /// It was done now.
    Now(T),
    /// It was done before, and this was the answer.
    Before(String),
}

impl<T> Said<T> {
    /// What was done now.
    pub fn now(self) -> Option<T> {
        match self {
            Self::Now(done) => Some(done),
            Self::Before(_) => None,
        }
    }

    /// What was stored, or that the key stands for another request.
    pub(super) fn of(outcome: Outcome<T>) -> Result<Self> {
        match outcome {
            Outcome::Now(done) => Ok(Self::Now(done)),
            Outcome::Before(answer) => {
                metrics::counter!("answers_repeated_total").increment(1);
                Ok(Self::Before(answer))
            }
            Outcome::Reused => Err(Error::KeyReused),
        }
    }

    /// The same with what was done now made into something else.
    pub(super) fn try_map<U>(self, make: impl FnOnce(T) -> Result<U>) -> Result<Said<U>> {
        Ok(match self {
            Self::Now(done) => Said::Now(make(done)?),
            Self::Before(answer) => Said::Before(answer),
        })
    }
}

impl Tracker {
    /// The receipts of the appends to a task whose log is closed and has entries up to `newest`.
    pub(super) async fn receipts(
        &self,
        id: &TaskId,
        newest: u64,
        now: Timestamp,
    ) -> Result<Vec<Receipt>> {
        if newest == 0 {
            return Ok(Vec::new());
        }
        let mut receipts = self.live.receipts(id, now).await?;
        receipts.retain(|receipt| receipt.is_kept(now));
        Ok(receipts)
    }

    /// Keeps the receipts that the log of a task has which has ended.
    pub(super) async fn keep_receipts(&self, id: &TaskId) -> Result<()> {
        let receipts = self.receipts(id, u64::MAX, self.clock.now()).await?;
        Ok(self.storage.keep_receipts(id, &receipts).await?)
    }

    /// The receipt of an append to a task that has ended since, if it was acknowledged.
    pub(super) async fn receipt(&self, key: &Key, now: Timestamp) -> Result<Option<Receipt>> {
        match Said::of(self.storage.answer(key, now).await?)? {
            Said::Now(()) => Ok(None),
            Said::Before(text) => {
                let receipt = Receipt::parse(key.hash.clone(), &text);
                receipt.map(Some).map_err(|error| Error::Internal(error.into()))
            }
        }
    }

    /// Forgets answers whose time is over; says how many.
    pub async fn forget_answers(&self) -> Result<u64> {
        let mut forgotten = 0;
        for _ in 0..BATCHES {
            match self.storage.forget_answers(self.clock.now()).await? {
                0 => break,
                batch => forgotten += batch,
            }
        }
        Ok(forgotten)
    }
}
