//! How long things took, as counts of buckets: percentiles of a million without a sort of a million.
//!
//! A duration of so many microseconds is in a bucket by how many decimal digits that number has and by the first three of them,
//! of which five values share one: 123,456 µs is in bucket (6, 24), which reaches from 120,000 to 124,999 µs. So a bucket is
//! 5 % of its least value wide at most, and its middle within 2.5 % of whatever is in it. By digits, because both
//! databases cut a text alike, and SQLite as it is built has no logarithm.

use std::collections::BTreeMap;
use std::time::Duration;

/// Values of the first three digits that share a bucket.
const SHARED: u64 = 5;

/// Durations that are counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// Decimal digits of the microseconds.
    digits: u32,
    /// The first three of them, or as many as there are, by [`SHARED`].
    leading: u64,
}

impl Bucket {
    /// The bucket of durations of so many digits, which begin with these; `None` where there is none.
    pub fn new(digits: i64, leading: i64) -> Option<Self> {
        let (digits, leading) = (u32::try_from(digits).ok()?, u64::try_from(leading).ok()?);
        let exists = (1..=18).contains(&digits) && leading < 1000 / SHARED;
        exists.then_some(Self { digits, leading })
    }

    /// The bucket that a duration is in: what the databases do by cutting its text.
    pub fn of(duration: Duration) -> Self {
        let micros =
            u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(10_u64.pow(18) - 1);
        let digits = micros.checked_ilog10().unwrap_or(0) + 1;
        Self { digits, leading: micros / 10_u64.pow(digits.saturating_sub(3)) / SHARED }
    }

    /// The microseconds of its least value, and how many values there are.
    fn extent(self) -> (u64, u64) {
        let width = SHARED * 10_u64.pow(self.digits.saturating_sub(3));
        (self.leading * width, width)
    }

    /// What stands for all that is in it.
    pub fn middle(self) -> Duration {
        let (least, width) = self.extent();
        Duration::from_micros(least + width / 2)
    }
}

/// How many were in each bucket.
#[derive(Debug, Clone, Default)]
pub struct Histogram(BTreeMap<Bucket, u64>);

impl Histogram {
    /// Counts `many` more of a bucket.
    pub fn add(&mut self, bucket: Bucket, many: u64) {
        *self.0.entry(bucket).or_default() += many;
    }

    /// The least duration that at least `percent` of a hundred do not exceed (the nearest rank), within 2.5 %; `None` of nothing.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let count: u64 = self.0.values().sum();
        let mut before_it = count.saturating_mul(percent).div_ceil(100).max(1);
        for (bucket, many) in &self.0 {
            if before_it <= *many {
                return Some(bucket.middle());
            }
            before_it -= many;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From a microsecond to three hundred years, of each order of magnitude as many.
    fn micros() -> impl Strategy<Value = u64> {
        (0_u32..16, 1_000_000_u128..10_000_000).prop_map(|(order, mantissa)| {
            u64::try_from(10_u128.pow(order) * mantissa / 1_000_000).unwrap()
        })
    }

    /// Whether `told` is within 2.5 % of `real`, or of the few microseconds that are below three digits.
    fn is_near(told: Duration, real: u64) -> bool {
        let told = u64::try_from(told.as_micros()).unwrap();
        u128::from(told.abs_diff(real)) * 1000 <= u128::from(real) * 25 || told.abs_diff(real) <= 4
    }

    #[test]
    fn a_bucket_is_what_the_first_digits_say() {
        let bucket = Bucket::of(Duration::from_micros(123_456));
        assert_eq!((bucket, bucket.extent()), (Bucket { digits: 6, leading: 24 }, (120_000, 5000)));
        assert_eq!(bucket.middle(), Duration::from_micros(122_500));
        assert_eq!(Bucket::of(Duration::ZERO).extent(), (0, 5));
        assert_eq!(Bucket::of(Duration::from_micros(100)).extent(), (100, 5));
        assert_eq!(Bucket::of(Duration::from_micros(999)).extent(), (995, 5));
        assert_eq!(Bucket::of(Duration::MAX).extent().0, 995 * 10_u64.pow(15));
        for (digits, leading) in [(0, 1), (19, 20), (-1, 1), (3, -1), (3, 200)] {
            assert_eq!(Bucket::new(digits, leading), None, "{digits} {leading}");
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank_and_nothing_has_none() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        let second = |n| Bucket::of(Duration::from_secs(n));
        histogram.add(second(1), 1);
        for percent in [1, 50, 100] {
            assert_eq!(histogram.percentile(percent), Some(second(1).middle()));
        }
        histogram.add(second(100), 1);
        assert_eq!(histogram.percentile(50), Some(second(1).middle()));
        assert_eq!(histogram.percentile(51), Some(second(100).middle()));
        histogram.add(second(1), 18);
        assert_eq!(histogram.percentile(95), Some(second(1).middle()));
        assert_eq!(histogram.percentile(96), Some(second(100).middle()));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_durations_and_is_5_percent_wide_at_most(micros in micros()) {
            let bucket = Bucket::of(Duration::from_micros(micros));
            let (least, width) = bucket.extent();
            prop_assert!(least <= micros && micros < least + width, "{bucket:?} of {micros}");
            prop_assert!(width == SHARED || width * 20 <= least, "{bucket:?} is {width} wide");
            prop_assert!(is_near(bucket.middle(), micros), "{bucket:?} of {micros}");
            let by_text = micros.to_string();
            let leading: i64 = by_text.get(..3).unwrap_or(&by_text).parse().unwrap();
            let as_databases_do = Bucket::new(by_text.len().try_into().unwrap(), leading / 5);
            prop_assert_eq!(as_databases_do, Some(bucket));
        }

        #[test]
        fn buckets_stand_in_the_order_of_their_durations(a in micros(), b in micros()) {
            let bucket = |micros| Bucket::of(Duration::from_micros(micros));
            prop_assert!(bucket(a.min(b)) <= bucket(a.max(b)));
        }

        #[test]
        fn a_percentile_is_within_2_and_a_half_percent_of_the_exact_one(
            mut all in proptest::collection::vec(micros(), 1..200),
            percent in 1_u64..=100,
        ) {
            let mut histogram = Histogram::default();
            for micros in &all {
                histogram.add(Bucket::of(Duration::from_micros(*micros)), 1);
            }
            all.sort_unstable();
            let rank = (all.len() as u64 * percent).div_ceil(100).max(1);
            let exact = all[usize::try_from(rank).unwrap() - 1];
            let told = histogram.percentile(percent).unwrap();
            prop_assert!(is_near(told, exact), "{told:?} for {exact} µs");
        }
    }
}
