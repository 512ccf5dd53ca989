//! Instants, to the microsecond: what both databases can hold, so that a value read is the value written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// An instant in UTC, truncated to microseconds. On the wire it is RFC 3339 with three fractional
/// digits and `Z`; order and equality keep the microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970-01-01T00:00:00Z; `None` outside the years -9999 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        instant(micros).map(|_| Self(micros))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, rounded down.
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The last instant that reads the same on the wire.
    #[must_use]
    pub fn end_of_millisecond(self) -> Self {
        Self(self.0.div_euclid(1000).saturating_mul(1000).saturating_add(999))
    }

    /// This instant and `duration`, held at the end of representable time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros).min(jiff::Timestamp::MAX.as_microsecond()))
    }

    /// This instant less `duration`, held at the beginning of representable time.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros).max(jiff::Timestamp::MIN.as_microsecond()))
    }

    /// How long ago `earlier` was; zero where it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// In two steps: by microseconds alone jiff 0.2.43 does not reach the end of its last second.
fn instant(micros: i64) -> Option<jiff::Timestamp> {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).ok()?;
    jiff::Timestamp::new(micros.div_euclid(1_000_000), nanos).ok()
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(instant: jiff::Timestamp) -> Self {
        Self(instant.as_microsecond())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Constructors keep the value in range, so the fallback is never taken.
        let instant = instant(self.0).unwrap_or_default();
        // `{:.3}` of jiff rounds nothing: it cuts after the milliseconds.
        write!(f, "{instant:.3}")
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    /// Any RFC 3339 text with an offset.
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>().map(Self::from)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_has_three_digits_and_a_z() {
        let text = |micros| Timestamp::from_micros(micros).unwrap().to_string();
        assert_eq!(text(1_763_640_000_123_999), "2025-11-20T12:00:00.123Z");
        assert_eq!(text(1_763_640_000_000_000), "2025-11-20T12:00:00.000Z");
    }

    #[test]
    fn an_offset_is_read_as_the_same_instant() {
        let utc: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let offset: Timestamp = "2026-11-20T13:00:00+01:00".parse().unwrap();
        assert_eq!(utc, offset);
        assert!("2026-11-20T12:00:00".parse::<Timestamp>().is_err(), "an instant needs an offset");
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        let last = Timestamp(jiff::Timestamp::MAX.as_microsecond());
        assert_eq!(last.plus(Duration::from_secs(1)), last);
        assert_eq!(last.to_string(), "9999-12-30T22:00:00.999Z");
        assert_eq!(Timestamp::from_micros(last.as_micros()), Some(last));
        let first = last.minus(Duration::MAX);
        assert_eq!(first.to_string(), "-009999-01-02T01:59:59.000Z");
        assert_eq!(Timestamp::from_micros(first.as_micros()), Some(first));
    }
}
