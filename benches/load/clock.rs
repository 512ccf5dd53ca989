//! The one clock of the driver: monotonic, and the same for every task of the process, so that a
//! stamp written into an entry by the appender can be subtracted by a reader.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static EPOCH: LazyLock<Instant> = LazyLock::new(now);

/// The only place that asks for the time.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds from the process's epoch to `instant`.
pub(crate) fn stamp(instant: Instant) -> u64 {
    nanoseconds(instant.saturating_duration_since(*EPOCH))
}

/// A duration as the histograms keep it; what does not fit in 584 years is cut.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
