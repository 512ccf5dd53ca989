//! The room of a node where feeds hear what moves, and the herald who tells it there.
//!
//! Whoever changes a task says that it moved: which, and nothing else. On each node that has a feed a herald gathers what moved, reads
//! where those tasks stand now, once for all feeds, and tells it. A move that nobody heard of is found by a look into the
//! durable truth every few seconds: so feeds need no broker, and are late without it, but miss nothing. While no feed is
//! open on any node, a change costs nothing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::domain::{Choice, Entry, Moved, Task, TaskId, TaskType, Timestamp};
use crate::live::{Signal, Subscription};
use crate::service::{Outage, Result, Tracker};

/// How far back a look goes behind the one before: for as long a change may take from its time stamp to its commit, and so far
/// may the clocks of nodes be apart.
pub(super) const MARGIN: Duration = Duration::from_secs(10);
/// How often the herald looks for what it was not told.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The least time between two readings of where tasks stand.
const GATHER: Duration = Duration::from_millis(25);
/// How long it rests when the durable truth is away.
const REST: Duration = Duration::from_millis(500);
/// Moves of one kind that a look finds at most. Where there are more, feeds are told to list anew.
const LOOK_MOST: u32 = 20_000;
/// Tasks that are read in one statement.
const READ_AT_ONCE: usize = 500;
/// Readings that the slowest feed may be behind.
const RING: usize = 256;
/// How long nobody is told of moves after it was found that nobody listens.
const QUIET: Duration = Duration::from_secs(1);

/// Whether moves are worth telling.
#[derive(Debug, Default)]
pub(in crate::service) struct Listeners(Mutex<Option<Instant>>);

impl Listeners {
    /// Nobody listens at present, on any node.
    pub(in crate::service) fn none(&self, now: Instant) {
        *self.lock() = Some(now + QUIET);
    }

    fn here(&self) {
        *self.lock() = None;
    }

    fn may_be(&self, now: Instant) -> bool {
        let mut quiet_until = self.lock();
        if quiet_until.is_some_and(|until| now < until) {
            return false;
        }
        *quiet_until = None;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task as it stands, for any number of feeds: it is put into bytes once.
#[derive(Debug)]
pub struct TaskNow {
    /// The task.
    pub task: Task,
    /// Its newest entry.
    pub latest: Option<Entry>,
    text: OnceLock<Bytes>,
}

impl TaskNow {
    /// The bytes of it, made by `encode` the first time.
    pub fn text(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.text.get_or_init(|| encode(self)).clone()
    }

    /// When it moved last.
    pub(super) fn moved_at(&self) -> Timestamp {
        let wished_at = self.task.cancellation.as_ref().map(|wish| wish.requested_at);
        let moves = [self.task.stalled_at, wished_at];
        moves.into_iter().flatten().fold(self.task.updated_at, Timestamp::max)
    }
}

/// What a feed hears.
#[derive(Debug, Clone)]
pub(super) enum Heard {
    /// Where tasks stand now. Every move until `until` was told by now.
    Tasks { tasks: Arc<[Arc<TaskNow>]>, until: Timestamp },
    /// So much has moved that it cannot be told.
    TooMuch,
}

/// The feeds of this node.
#[derive(Debug, Default)]
pub(in crate::service) struct Room {
    listeners: Arc<Listeners>,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    taken: HashMap<u64, Choice>,
    next: u64,
    /// There while a seat is taken.
    herald: Option<(broadcast::Sender<Heard>, CancellationToken)>,
}

impl Room {
    pub(in crate::service) fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any feed wants to hear where this task stands.
    fn concerns(&self, moved: &Moved) -> bool {
        self.seats().taken.values().any(|choice| choice.concerns(&moved.id, &moved.task_type))
    }

    /// What all feeds together want to hear of.
    fn wanted(&self) -> Wanted {
        let seats = self.seats();
        let (named, broad): (Vec<&Choice>, Vec<&Choice>) =
            seats.taken.values().partition(|choice| !choice.tasks.is_empty());
        let named: HashSet<TaskId> =
            named.into_iter().flat_map(|choice| choice.tasks.iter().cloned()).collect();
        let all = broad.iter().any(|choice| choice.types.is_empty());
        let types: HashSet<TaskType> =
            broad.iter().flat_map(|choice| choice.types.iter().cloned()).collect();
        let types = if all { Vec::new() } else { types.into_iter().collect() };
        Wanted { named: named.into_iter().collect(), types: (!broad.is_empty()).then_some(types) }
    }
}

/// What all feeds of a node together want to hear of.
struct Wanted {
    /// These tasks.
    named: Vec<TaskId>,
    /// And those of these types, or of all if there are none.
    types: Option<Vec<TaskType>>,
}

/// A feed's place in the room; leaving it is dropping it.
#[derive(Debug)]
pub(super) struct Seat {
    tracker: Tracker,
    number: u64,
    heard: broadcast::Receiver<Heard>,
}

impl Seat {
    /// What is told next.
    pub(super) async fn hear(&mut self) -> Heard {
        match self.heard.recv().await {
            Ok(heard) => heard,
            Err(broadcast::error::RecvError::Lagged(_)) => Heard::TooMuch,
            // The herald is told to stop by the last who leaves, or when the service closes.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.tracker.feeds.seats();
        seats.taken.remove(&self.number);
        if seats.taken.is_empty()
            && let Some((_, stop)) = seats.herald.take()
        {
            stop.cancel();
        }
    }
}

impl Tracker {
    /// Tells whoever listens that a task stands elsewhere now, and waits for nobody.
    pub(in crate::service) fn moved(&self, task: &Task) {
        if self.feeds.listeners.may_be(Instant::now()) {
            self.batches.moving.send(Moved::from(task));
        }
    }

    /// Takes a seat. From now on it hears of every move that is committed from now on.
    pub(super) fn sit(&self, choice: Choice) -> Seat {
        self.feeds.listeners.here();
        let mut seats = self.feeds.seats();
        let heard = if let Some((tell, _)) = &seats.herald {
            tell.subscribe()
        } else {
            let (tell, heard) = broadcast::channel(RING);
            let stop = self.closing.child_token();
            let herald = Herald::new(self.clone(), tell.clone());
            self.detached.spawn(stop.clone().run_until_cancelled_owned(herald.run()));
            seats.herald = Some((tell, stop));
            heard
        };
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, choice);
        Seat { tracker: self.clone(), number, heard }
    }

    /// Where tasks stand; those that are not there are left out.
    pub(super) async fn stand(&self, ids: &[TaskId]) -> Result<Vec<Arc<TaskNow>>> {
        let mut tasks = Vec::with_capacity(ids.len());
        for ids in ids.chunks(READ_AT_ONCE) {
            let (read, _) = self.with_latest(self.storage.listed_each(ids).await?).await?;
            tasks.extend(
                read.into_iter().map(|(task, latest)| {
                    Arc::new(TaskNow { task, latest, text: OnceLock::new() })
                }),
            );
        }
        Ok(tasks)
    }
}

/// Hears what moves, looks for what it did not hear of, and tells where those tasks stand.
struct Herald {
    tracker: Tracker,
    moves: Subscription,
    tell: broadcast::Sender<Heard>,
    /// What moved and is not told yet.
    waiting: HashSet<TaskId>,
    /// When those that were told lately had moved, as it was told.
    told: HashMap<TaskId, Timestamp>,
    /// When the last look began: every move until then is told, or waits.
    looked_at: Timestamp,
    outage: Outage,
}

impl Herald {
    fn new(tracker: Tracker, tell: broadcast::Sender<Heard>) -> Self {
        Self {
            moves: tracker.hub.join_moves(),
            looked_at: tracker.clock.now(),
            tracker,
            tell,
            waiting: HashSet::new(),
            told: HashMap::new(),
            outage: Outage::default(),
        }
    }

    async fn run(mut self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tell_at = Instant::now();
        loop {
            let is_behind = tokio::select! {
                biased;
                () = sleep_until(tell_at), if !self.waiting.is_empty() => true,
                _ = look.tick() => {
                    let looked = self.look().await;
                    self.outage.heard(&looked, "feeds hear late of what has moved");
                    false
                }
                signal = self.moves.next() => {
                    self.hear(signal, &mut look);
                    false
                }
            };
            if is_behind {
                let told = self.tell().await;
                let pause = if told.is_ok() { GATHER } else { REST };
                self.outage.heard(&told, "feeds hear late of what has moved");
                tell_at = Instant::now() + pause;
            }
        }
    }

    fn hear(&mut self, signal: Signal, look: &mut tokio::time::Interval) {
        let mut next = Some(signal);
        while let Some(signal) = next {
            match signal {
                Signal::Moves(moves) => {
                    let room = &self.tracker.feeds;
                    let wanted = moves.iter().filter(|moved| room.concerns(moved));
                    self.waiting.extend(wanted.map(|moved| moved.id.clone()));
                }
                // Some may have passed unheard.
                Signal::Resync => look.reset_immediately(),
                Signal::Event(_) => {}
            }
            next = self.moves.try_next();
        }
    }

    /// Looks for what has moved and was not told.
    async fn look(&mut self) -> Result<()> {
        let (began, since) = (self.tracker.clock.now(), self.looked_at.minus(MARGIN));
        let Wanted { named, types } = self.tracker.feeds.wanted();
        if let Some(types) = types {
            let moved = self.tracker.storage.moved_since(&types, since, LOOK_MOST).await?;
            if moved.len() >= LOOK_MOST as usize {
                metrics::counter!("feed_overflows_total").increment(1);
                let _ = self.tell.send(Heard::TooMuch);
            } else {
                let is_news =
                    |(id, at): &(TaskId, Timestamp)| self.told.get(id).is_none_or(|told| told < at);
                self.waiting.extend(moved.into_iter().filter(is_news).map(|(id, _)| id));
            }
        }
        for task in self.tracker.stand(&named).await? {
            let moved_at = task.moved_at();
            let is_news = self.told.get(&task.task.id).is_none_or(|told| *told < moved_at);
            if is_news && moved_at >= since {
                self.waiting.insert(task.task.id.clone());
            }
        }
        self.looked_at = began;
        self.told.retain(|_, moved_at| *moved_at >= since);
        if self.waiting.is_empty() {
            let _ = self.tell.send(Heard::Tasks { tasks: Arc::new([]), until: began });
        }
        Ok(())
    }

    async fn tell(&mut self) -> Result<()> {
        let ids: Vec<TaskId> = self.waiting.iter().cloned().collect();
        let tasks = self.tracker.stand(&ids).await?;
        self.told.extend(tasks.iter().map(|now| (now.task.id.clone(), now.moved_at())));
        // Nothing was added meanwhile: this loop does one thing at a time.
        self.waiting.clear();
        let _ = self.tell.send(Heard::Tasks { tasks: tasks.into(), until: self.looked_at });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_for_a_while_after_nobody_listened() {
        let (listeners, now) = (Listeners::default(), Instant::now());
        assert!(listeners.may_be(now));
        listeners.none(now);
        assert!(!listeners.may_be(now));
        assert!(listeners.may_be(now + QUIET));
        listeners.none(now);
        listeners.here();
        assert!(listeners.may_be(now));
    }
}
