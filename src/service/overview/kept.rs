//! What is known of all tasks, how long that is good, and which steps a window has.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Counts, Series, Standing, Step};
use crate::domain::Timestamp;
use crate::service::shared::Shared;

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// One that took long is good for so many times as long, so that looking costs a tenth of a connection at most …
const TIMES_AS_LONG: u32 = 10;
/// … but not for longer than this.
const GOOD_FOR_AT_MOST: Duration = Duration::from_secs(30);
/// Steps of so many seconds together are read by one statement, but at least one: what a busy week has is too much for one.
const SECONDS_AT_ONCE: u64 = 3600;
/// Steps of a window at most, beside the one that is going on.
const MOST_STEPS: u64 = 60;
/// Seconds of a step: what people count in. The last is enough for a week.
const STEPS: [u64; 15] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800];
/// Reads of overviews under way at once; the other connections are for workers.
const TURNS: usize = 2;
/// How long a read waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// A window as somebody asks for it: so many steps of so many seconds, up to the one that is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) step_seconds: u64,
    steps: u64,
}

impl Asked {
    /// At least so long a window.
    pub(super) fn of(window: Duration) -> Self {
        let seconds = window.as_secs();
        let steps = |step: &u64| seconds.div_ceil(*step) <= MOST_STEPS;
        let step_seconds = STEPS.into_iter().find(steps).unwrap_or(STEPS[STEPS.len() - 1]);
        // The step that is going on comes on top, so that the window is whole.
        Self { step_seconds, steps: seconds.div_ceil(step_seconds) + 1 }
    }

    pub(super) fn step(self) -> Duration {
        Duration::from_secs(self.step_seconds)
    }

    /// When its steps begin. They begin with whole steps since 1970, so that windows share them.
    pub(super) fn begins(self, now: Timestamp) -> Vec<Timestamp> {
        let step = i64::try_from(self.step_seconds * 1_000_000).unwrap_or(i64::MAX);
        let into = u64::try_from(now.as_micros().rem_euclid(step)).unwrap_or(0);
        let last = now.minus(Duration::from_micros(into));
        let before = |steps| last.minus(Duration::from_secs(self.step_seconds * steps));
        (0..self.steps).rev().map(before).collect()
    }

    /// How many steps are read by one statement.
    pub(super) fn at_once(self) -> usize {
        usize::try_from(SECONDS_AT_ONCE / self.step_seconds).unwrap_or(0).max(1)
    }
}

/// An answer that is good for a while.
#[derive(Debug)]
pub(super) struct Good<V> {
    answer: Arc<V>,
    from: Timestamp,
    until: Timestamp,
}

impl<V> Good<V> {
    pub(super) fn new(answer: &Arc<V>, from: Timestamp, took: Duration) -> Self {
        let good_for = (took * TIMES_AS_LONG).clamp(GOOD_FOR, GOOD_FOR_AT_MOST);
        Self { answer: Arc::clone(answer), from, until: from.plus(good_for) }
    }

    /// The answer, if it is good; one from the future is of a clock that was set back.
    pub(super) fn at(&self, now: Timestamp) -> Option<Arc<V>> {
        (self.from <= now && now < self.until).then(|| Arc::clone(&self.answer))
    }
}

/// The ends that are over, counted.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    /// When counting began.
    pub(super) since: Timestamp,
    /// Every end before this is counted.
    pub(super) until: Timestamp,
    pub(super) counts: Counts,
}

/// What is known of all tasks.
#[derive(Debug)]
pub(in crate::service) struct Overviews {
    pub(super) standing: Mutex<Option<Good<Standing>>>,
    pub(super) series: Mutex<HashMap<Asked, Good<Series>>>,
    pub(super) ends: Mutex<Option<Ends>>,
    /// Steps that are over, by their length and when they began.
    pub(super) settled: Mutex<HashMap<u64, BTreeMap<Timestamp, Step>>>,
    pub(super) reading_standing: Arc<Shared<(), Arc<Standing>>>,
    pub(super) reading_series: Arc<Shared<Asked, Arc<Series>>>,
}

impl Overviews {
    pub(in crate::service) fn new() -> Self {
        let turns = Arc::new(Semaphore::new(TURNS));
        Self {
            standing: Mutex::default(),
            series: Mutex::default(),
            ends: Mutex::default(),
            settled: Mutex::default(),
            reading_standing: Shared::new("overview", &turns, PATIENCE),
            reading_series: Shared::new("overview", &turns, PATIENCE),
        }
    }

    pub(super) fn good_standing(&self, now: Timestamp) -> Option<Arc<Standing>> {
        lock(&self.standing).as_ref()?.at(now)
    }

    pub(super) fn good_series(&self, asked: Asked, now: Timestamp) -> Option<Arc<Series>> {
        lock(&self.series).get(&asked)?.at(now)
    }

    /// Keeps `read` of steps that are over by `settled`, and of their length those that some window may still show.
    pub(super) fn keep(&self, step: Duration, read: &[Step], settled: Timestamp, now: Timestamp) {
        let longest = step.saturating_mul(u32::try_from(MOST_STEPS + 1).unwrap_or(u32::MAX));
        let mut all = lock(&self.settled);
        let kept = all.entry(step.as_secs()).or_default();
        let is_over = |read: &&Step| read.at.plus(step) <= settled;
        kept.extend(read.iter().filter(is_over).map(|read| (read.at, read.clone())));
        kept.retain(|at, _| *at >= now.minus(longest));
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::overview::SETTLED_AFTER;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).unwrap()
    }

    #[test]
    fn every_window_has_some_sixty_steps_of_a_length_that_people_count_in() {
        let asked = |seconds| Asked::of(Duration::from_secs(seconds));
        assert_eq!(asked(60), Asked { step_seconds: 1, steps: 61 });
        assert_eq!(asked(3600), Asked { step_seconds: 60, steps: 61 });
        assert_eq!(asked(3601), Asked { step_seconds: 120, steps: 32 });
        assert_eq!(asked(86_400), Asked { step_seconds: 1800, steps: 49 });
        assert_eq!(asked(604_800), Asked { step_seconds: 10_800, steps: 57 });
        for seconds in 60..=604_800 {
            let Asked { step_seconds, steps } = asked(seconds);
            assert!(STEPS.contains(&step_seconds) && (20..=61).contains(&steps), "{seconds}");
            assert!((steps - 1) * step_seconds >= seconds, "{seconds} is whole");
        }
    }

    #[test]
    fn steps_begin_with_whole_steps_and_reach_over_now() {
        let asked = Asked::of(Duration::from_mins(1));
        let begins = asked.begins(at(1000).plus(Duration::from_millis(300)));
        assert_eq!((begins[0], begins[60], begins.len()), (at(940), at(1000), 61));
        let asked = Asked::of(Duration::from_hours(1));
        for now in [at(7200), at(7259).plus(Duration::from_micros(999_999))] {
            let begins = asked.begins(now);
            assert_eq!((begins[0], begins[60]), (at(3600), at(7200)));
        }
    }

    #[test]
    fn an_answer_is_good_for_longer_if_it_took_long() {
        let good_for = |took| {
            let good = Good::new(&Arc::new(()), at(100), took);
            assert!(good.at(at(99)).is_none(), "the clock was set back");
            assert!(good.at(at(100)).is_some() && good.at(good.until).is_none());
            good.until.since(at(100))
        };
        assert_eq!(good_for(Duration::from_millis(3)), GOOD_FOR);
        assert_eq!(good_for(Duration::from_millis(700)), Duration::from_secs(7));
        assert_eq!(good_for(Duration::from_secs(40)), GOOD_FOR_AT_MOST);
    }

    #[test]
    fn only_steps_that_are_over_are_kept_and_no_longer_than_a_window_shows_them() {
        let (overviews, step) = (Overviews::new(), Duration::from_mins(1));
        let read = |seconds| Step {
            at: at(seconds),
            registered: 1,
            ended: Counts::new(),
            durations: None,
        };
        let now = at(6000);
        let kept = || {
            let settled = lock(&overviews.settled);
            settled[&60].keys().map(|at| at.as_micros() / 1_000_000).collect::<Vec<_>>()
        };
        let steps = [read(5700), read(5820), read(5880), read(6000)];
        overviews.keep(step, &steps, now.minus(SETTLED_AFTER), now);
        assert_eq!(kept(), [5700, 5820], "what ends later may change");
        let later = at(5700 + 61 * 60 + 1);
        overviews.keep(step, &[], later, later);
        assert_eq!(kept(), [5820]);
    }
}
