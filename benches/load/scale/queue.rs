//! Requests that pass one station after the other, each with some servers and one queue: a simulation
//! with random arrivals and random service times, for the question how near to its limit a deployment
//! can be driven before it answers late.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A place where requests are worked on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Station {
    /// How many are worked on at once.
    pub(crate) servers: usize,
    /// Seconds of work a request is on average.
    pub(crate) mean: f64,
}

/// The time within which a share `quantile` of `count` requests have passed all stations, in seconds,
/// when `rate` of them arrive in a second. The same seed gives the same requests.
pub(crate) fn sojourn(
    stations: &[Station],
    rate: f64,
    count: usize,
    quantile: f64,
    seed: u64,
) -> f64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut now = 0.0;
    // When each arrived at the first station, and when at the present one.
    let mut requests: Vec<(f64, f64)> = (0..count)
        .map(|_| {
            now += exponential(&mut random, 1.0 / rate);
            (now, now)
        })
        .collect();
    for station in stations {
        requests.sort_by(|one, other| one.1.total_cmp(&other.1));
        let mut free: BinaryHeap<Reverse<Instant>> =
            (0..station.servers.max(1)).map(|_| Reverse(Instant(0.0))).collect();
        for (_, at) in &mut requests {
            let Some(Reverse(Instant(earliest))) = free.pop() else { continue };
            *at = at.max(earliest) + exponential(&mut random, station.mean);
            free.push(Reverse(Instant(*at)));
        }
    }
    let mut took: Vec<f64> = requests.iter().map(|(arrived, left)| left - arrived).collect();
    took.sort_by(f64::total_cmp);
    took.get(index(took.len(), quantile)).copied().unwrap_or(0.0)
}

/// The highest rate at which a share `quantile` is through within `limit` seconds, to a hundredth.
pub(crate) fn highest_rate(stations: &[Station], limit: f64, count: usize, quantile: f64) -> f64 {
    let most = stations
        .iter()
        .filter(|station| station.mean > 0.0)
        .map(|station| float(station.servers) / station.mean)
        .fold(f64::INFINITY, f64::min);
    if !most.is_finite() {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, most);
    while high - low > most / 100.0 {
        let rate = f64::midpoint(low, high);
        if sojourn(stations, rate, count, quantile, 7) <= limit { low = rate } else { high = rate }
    }
    low
}

/// Where a share of a sorted list ends.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a list of some thousands is an index of it"
)]
pub(crate) fn index(length: usize, quantile: f64) -> usize {
    ((length as f64 * quantile).ceil() as usize).clamp(1, length.max(1)) - 1
}

fn exponential(random: &mut fastrand::Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

#[expect(clippy::cast_precision_loss, reason = "a number of cores")]
fn float(count: usize) -> f64 {
    count as f64
}

/// A moment that can be ordered: none is no number.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Instant(f64);

impl Eq for Instant {}

impl PartialOrd for Instant {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Instant {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
