//! How long to rest before something is tried again.

use std::time::Duration;

/// The first rest is up to this, each further one up to twice as long.
const SHORTEST: Duration = Duration::from_millis(200);
/// But none longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Failures in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The rest after one more failure: anything up to a bound that grows ("full jitter"), so that not all come back at
    /// once; on top of `floor`, which the server asked for.
    pub fn rest(&mut self, floor: Option<Duration>) -> Duration {
        let bound = SHORTEST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        floor.unwrap_or_default() + bound.mul_f64(fastrand::f64())
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::default();
        for failures in 0..100 {
            let bound = SHORTEST * 2_u32.pow(failures.min(6));
            assert!(backoff.rest(None) <= bound.min(LONGEST), "{failures}");
        }
        backoff.reset();
        assert!(backoff.rest(None) <= SHORTEST);
        assert!(backoff.rest(Some(LONGEST)) >= LONGEST, "what the server asks for is kept");
    }
}
