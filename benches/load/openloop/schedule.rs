//! When requests are due at a fixed rate, whatever became of those before.

use std::time::Duration;

/// Arrivals at equal distances from a beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    nanoseconds_apart: f64,
}

impl Schedule {
    /// `rate` arrivals a second, which is more than 0.
    pub(crate) fn new(rate: f64) -> Self {
        Self { nanoseconds_apart: 1e9 / rate }
    }

    /// When arrival `index` is due. Computed from the index and not from the arrival before it, so
    /// that nothing adds up over a million of them.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a run of hours is far below 2^53 nanoseconds, and no factor is negative"
    )]
    pub(crate) fn due(self, index: u64) -> Duration {
        Duration::from_nanos((index as f64 * self.nanoseconds_apart) as u64)
    }
}
