//! The one place that asks what time it is. Everything else takes time as an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::domain::Timestamp;

/// Where *now* comes from: the system, moved by an offset that only tests set.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_micros: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// The present instant, to the microsecond.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others must ask")]
    pub fn now(&self) -> Timestamp {
        let system = jiff::Timestamp::now().as_microsecond();
        let micros = system.saturating_add(self.offset_micros.load(Ordering::Relaxed));
        Timestamp::from_micros(micros).unwrap_or_else(|| Timestamp::from(jiff::Timestamp::MAX))
    }

    /// Moves *now* forward for everybody who holds a copy of this clock: for tests, which wait for nothing.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.offset_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
