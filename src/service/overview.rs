//! All tasks at a glance: how many stand where, what waits for workers, a window of figures, what went wrong last.
//!
//! Whoever looks at an overview looks every few seconds, and there may be many of them and many millions of tasks. So
//! what is asked at the same moment is read once (`shared`), an answer is good for a few seconds, longer if it was dear, and **what is
//! over is added up once**: nothing leaves a terminal status, so the ends before some minutes ago are counted once and kept as numbers, as
//! are the steps of a window that are over. A read of a window asks for its newest steps alone.
//!
//! What is held: numbers by status; for each length of a step, of which there are fifteen, the steps of the longest window that is
//! drawn with it; the answers that are still good.

mod kept;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Result, Tracker};
use crate::domain::histogram::Histogram;
use crate::domain::{Status, Timestamp};
use crate::storage::{Lately, Listed, Queue, Stretch};
pub(super) use kept::Overviews;
use kept::{Asked, Ends, Good, lock};

/// What was over for so long stays as it is: no commit is under way for as long, and no two clocks differ so much.
const SETTLED_AFTER: Duration = Duration::from_mins(2);
/// The ends are counted anew so often, for somebody may delete tasks by hand.
const COUNTED_ANEW_AFTER: Duration = Duration::from_hours(1);
/// Ends that are counted by one statement, about.
const ENDS_AT_ONCE: u32 = 1_000_000;
/// Workers that asked within it are counted as seen.
const SEEN_WITHIN: Duration = Duration::from_mins(5);
/// Failures that are told of.
const FAILURES: u32 = 10;

/// How many tasks of each status; none of a status that is missing.
pub type Counts = HashMap<Status, u64>;

/// All tasks at a glance.
#[derive(Debug)]
pub struct Overview {
    /// Now.
    pub at: Timestamp,
    /// How they stand.
    pub standing: Arc<Standing>,
    /// What became of them lately.
    pub series: Arc<Series>,
}

/// How all tasks stand.
#[derive(Debug)]
pub struct Standing {
    /// When that was so.
    pub at: Timestamp,
    /// How many of each status.
    pub counts: Counts,
    /// What waits for workers, the longest queue first.
    pub queues: Vec<Queue>,
    /// Workers that asked lately.
    pub workers: Lately,
    /// The tasks that went wrong last, the latest first.
    pub failures: Vec<Listed>,
}

/// Figures of a window, step by step.
#[derive(Debug)]
pub struct Series {
    /// When the first step begins.
    pub from: Timestamp,
    /// When the last is over; it is still going on.
    pub to: Timestamp,
    /// How long a step is.
    pub step: Duration,
    /// Every step, the oldest first.
    pub steps: Vec<Step>,
}

/// What happened in a step.
#[derive(Debug, Clone)]
pub struct Step {
    /// When it began.
    pub at: Timestamp,
    /// Tasks that were registered.
    pub registered: u64,
    /// Tasks that ended, by how they did.
    pub ended: Counts,
    /// How long those took that completed, from the start of their last attempt: the median and the 95th percentile, within 2.5 %.
    pub durations: Option<(Duration, Duration)>,
}

impl Tracker {
    /// How all tasks stand, and what became of them in a window up to now. It is a few seconds old at most, or a little more where
    /// there is so much that it takes long to find out.
    #[tracing::instrument(level = "debug", name = "overview", skip_all)]
    pub async fn overview(&self, window: Duration) -> Result<Overview> {
        let (asked, now) = (Asked::of(window), self.clock.now());
        let standing = async {
            if let Some(good) = self.overviews.good_standing(now) {
                return Ok(good);
            }
            let tracker = self.clone();
            let read = move || {
                let tracker = tracker.clone();
                async move { tracker.read_standing().await }
            };
            self.overviews.reading_standing.read((), &self.detached, read).await
        };
        let series = async {
            if let Some(good) = self.overviews.good_series(asked, now) {
                return Ok(good);
            }
            let tracker = self.clone();
            let read = move || {
                let tracker = tracker.clone();
                async move { tracker.read_series(asked).await }
            };
            self.overviews.reading_series.read(asked, &self.detached, read).await
        };
        let (standing, series) = tokio::try_join!(standing, series)?;
        Ok(Overview { at: self.clock.now(), standing, series })
    }

    async fn read_standing(&self) -> Result<Arc<Standing>> {
        let (began, at) = (Instant::now(), self.clock.now());
        // Of those who gathered while another read was under way the answer may be there.
        if let Some(good) = self.overviews.good_standing(at) {
            return Ok(good);
        }
        let mut counts = self.count_ends(at).await?;
        let active = self.storage.active().await?;
        counts.insert(Status::Pending, active.pending);
        counts.insert(Status::InProgress, active.in_progress);
        let workers = self.storage.workers_since(at.minus(SEEN_WITHIN)).await?;
        let failures = self.storage.newest_failures(FAILURES).await?;
        let standing = Arc::new(Standing { at, counts, queues: active.queues, workers, failures });
        *lock(&self.overviews.standing) = Some(Good::new(&standing, at, began.elapsed()));
        Ok(standing)
    }

    /// How many tasks ended, by how they did: what was counted before and what is new. What is counted is kept even if the rest
    /// cannot be, so that the next to ask goes on from there.
    async fn count_ends(&self, now: Timestamp) -> Result<Counts> {
        let kept = lock(&self.overviews.ends).clone();
        let is_old = |ends: &Ends| ends.since.plus(COUNTED_ANEW_AFTER) <= now;
        let beginning = Timestamp::from_micros(0).unwrap_or(now);
        let mut ends = kept.filter(|ends| !is_old(ends)).unwrap_or_else(|| Ends {
            since: now,
            until: beginning,
            counts: Counts::new(),
        });
        let settled = now.minus(SETTLED_AFTER);
        while ends.until < settled {
            let mut some = self.storage.count_ended(ends.until, settled, ENDS_AT_ONCE).await?;
            let mut to = settled;
            if let Some(cut_off) = some.cut_off {
                // Up to an instant at which all are counted; if all of them ended at the same, up to behind it.
                to = cut_off.max(ends.until.plus(Duration::from_micros(1)));
                some = self.storage.count_ended(ends.until, to, u32::MAX).await?;
            }
            add(&mut ends.counts, some.counts);
            ends.until = to;
            *lock(&self.overviews.ends) = Some(ends.clone());
        }
        let for_ever = now.plus(Duration::MAX);
        add(
            &mut ends.counts,
            self.storage.count_ended(ends.until, for_ever, u32::MAX).await?.counts,
        );
        Ok(ends.counts)
    }

    async fn read_series(&self, asked: Asked) -> Result<Arc<Series>> {
        let (began, now) = (Instant::now(), self.clock.now());
        if let Some(good) = self.overviews.good_series(asked, now) {
            return Ok(good);
        }
        let (step, begins) = (asked.step(), asked.begins(now));
        let kept = lock(&self.overviews.settled).get(&asked.step_seconds).cloned();
        let mut steps = kept.unwrap_or_default();
        // The newest first: they are what is shown when the rest cannot be read in time and somebody asks for less.
        for some in begins.rchunks(asked.at_once()) {
            let is_missing = |at: &&Timestamp| !steps.contains_key(at);
            let missing = (some.iter().find(is_missing), some.iter().rfind(is_missing));
            let (Some(first), Some(last)) = missing else { continue };
            let read = self.read_steps(*first, last.plus(step), asked).await?;
            self.overviews.keep(step, &read, now.minus(SETTLED_AFTER), now);
            steps.extend(read.into_iter().map(|read| (read.at, read)));
        }
        let from = begins.first().copied().unwrap_or(now);
        let to = begins.last().copied().unwrap_or(now).plus(step);
        let steps = begins.iter().filter_map(|at| steps.remove(at)).collect();
        let series = Arc::new(Series { from, to, step, steps });
        let mut all = lock(&self.overviews.series);
        all.retain(|_, good| good.at(now).is_some());
        all.insert(asked, Good::new(&series, now, began.elapsed()));
        Ok(series)
    }

    /// Reads every step that begins from `from` on and before `to`.
    async fn read_steps(&self, from: Timestamp, to: Timestamp, asked: Asked) -> Result<Vec<Step>> {
        let stretch = Stretch { from, to, step_seconds: asked.step_seconds };
        let mut steps = Vec::new();
        let mut at = from;
        while at < to {
            steps.push(Step { at, registered: 0, ended: Counts::new(), durations: None });
            at = at.plus(asked.step());
        }
        for (step, tasks) in self.storage.registered_by_step(stretch).await? {
            if let Some(step) = steps.get_mut(step) {
                step.registered += tasks;
            }
        }
        let mut took = vec![Histogram::default(); steps.len()];
        for ended in self.storage.ended_by_step(stretch).await? {
            if let (Some(step), Some(took)) = (steps.get_mut(ended.step), took.get_mut(ended.step))
            {
                *step.ended.entry(ended.status).or_default() += ended.tasks;
                if let Some(bucket) = ended.took {
                    took.add(bucket, ended.tasks);
                }
            }
        }
        for (step, took) in steps.iter_mut().zip(took) {
            step.durations = took.percentile(50).zip(took.percentile(95));
        }
        Ok(steps)
    }
}

fn add(counts: &mut Counts, more: Vec<(Status, u64)>) {
    for (status, tasks) in more {
        *counts.entry(status).or_default() += tasks;
    }
}
