//! What is away is said once when it goes and once when it is back, however often it is asked in between.

use std::error::Error;
use std::sync::{Mutex, PoisonError};

/// Whether something is away.
#[derive(Debug, Default)]
pub struct Outage {
    /// How often it failed since it last did not.
    failures: Mutex<u64>,
}

/// What is to be said of an answer.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Gone,
    StillGone,
    Back { failures: u64 },
    None,
}

impl Outage {
    /// Takes note of an answer, and says what is new about it; `what` is what does not happen meanwhile.
    pub fn heard<T, E: Error + 'static>(&self, answer: &Result<T, E>, what: &str) {
        let error = answer.as_ref().err().map(|error| error as &dyn Error);
        match self.note(error.is_some()) {
            News::Gone => tracing::warn!(error, "{what}; said once until it is over"),
            News::StillGone => tracing::debug!(error, "{what}"),
            News::Back { failures } => tracing::info!(failures, "over: {what}"),
            News::None => {}
        }
    }

    fn note(&self, failed: bool) -> News {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failed {
            *failures += 1;
            return if *failures == 1 { News::Gone } else { News::StillGone };
        }
        match std::mem::take(&mut *failures) {
            0 => News::None,
            failures => News::Back { failures },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_news_when_it_begins_and_when_it_is_over() {
        let outage = Outage::default();
        assert_eq!(outage.note(false), News::None);
        assert_eq!(outage.note(true), News::Gone);
        assert_eq!(outage.note(true), News::StillGone);
        assert_eq!(outage.note(true), News::StillGone);
        assert_eq!(outage.note(false), News::Back { failures: 3 });
        assert_eq!(outage.note(false), News::None);
        assert_eq!(outage.note(true), News::Gone);
    }
}
