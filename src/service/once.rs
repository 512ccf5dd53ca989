//! What is said to a request that may come twice, and how long it is remembered.

use super::{Error, Result, Tracker};
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
