//! Many tasks at once: where each stands now, whenever that changes, and its progress.
//!
//! ```text
//!   whoever changes a task ─► "it moved" ─► the herald of each node reads where it stands ─► every feed
//!                                            │ and looks every 2 s for what it was not told
//!   topics of the tasks that run ────────────┴─► the newest entry of each, at most once per tick ─► the feed
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | this one | [`Feed`]: what one client asked for, and what it was told |
//! | `room` | the feeds of a node, and the herald who tells them what moves |
//! | `past` | what is told at first: what a client missed, and what is there |
//! | `latest` | the newest entry of each task |
//! | `entries` | every entry of a few tasks |
//!
//! A feed tells states, not changes: what a task went through between two tellings is one. So it can be resumed anywhere: where
//! a client was is an instant, and all that moved since is told once more. Entries are another matter: they are told each once,
//! in order, and then the position carries how far each task has come.

mod entries;
mod latest;
mod past;
mod room;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Error, Result, Tracker};
use crate::domain::{Choice, Event, Position, TaskId, Timestamp};
use crate::live::Delivery;
use entries::{Entries, News};
use latest::Latest;
pub use room::TaskNow;
use room::{Heard, Seat};
pub(super) use room::{Listeners, Room};

/// Moves that wait for the next tick at most.
const WAITING_MOST: usize = 5000;
/// How long a feed rests before it asks again for what a dependency could not give.
const REST: Duration = Duration::from_millis(500);

/// How much of the progress of tasks is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// None.
    None,
    /// The newest entry of each, at most once per tick.
    Latest,
    /// Every entry; of named tasks alone.
    All,
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Which tasks.
    pub choice: Choice,
    /// How much of their progress.
    pub detail: Detail,
    /// The least time between two tellings of the same task.
    pub every: Duration,
    /// Where it was.
    pub after: Option<Position>,
    /// Whether it waits for what is not there yet.
    pub follows: bool,
}

/// Something a feed tells.
#[derive(Debug, Clone)]
pub enum Told {
    /// From here on nothing is missed; whether that is so from where the client was.
    Open {
        /// Whether all that was missed since is told.
        is_resumed: bool,
    },
    /// Where a task stands now.
    Task(Arc<TaskNow>),
    /// An entry, or what is gone of a task's entries.
    Event(TaskId, Arc<Delivery>),
    /// So much has moved that it cannot be told.
    Resync,
}

/// Something a feed tells, and where a client is that has heard it.
#[derive(Debug, Clone)]
pub struct Telling {
    /// What.
    pub told: Told,
    /// Where to go on.
    pub position: Position,
}

/// What one client asked for, and what it was told.
#[derive(Debug)]
pub struct Feed {
    tracker: Tracker,
    wish: Wish,
    seat: Seat,
    /// Where the client is.
    position: Position,
    /// Where it will be when it has heard what waits.
    until: Timestamp,
    /// What moved and is not told yet.
    waiting: HashMap<TaskId, Arc<TaskNow>>,
    has_overflowed: bool,
    progress: Progress,
    /// When, or a while later if a dependency was away.
    told_at: Option<Instant>,
    /// What was read before the client was told that there is a feed.
    ahead: Option<Vec<Telling>>,
}

#[derive(Debug)]
enum Progress {
    None,
    Latest(Latest),
    All(Entries),
}

impl Tracker {
    /// Opens a feed.
    #[tracing::instrument(level = "debug", name = "tasks.feed", skip_all)]
    pub async fn feed(&self, wish: Wish) -> Result<Feed> {
        let (seat, now) = (self.sit(wish.choice.clone()), self.clock.now());
        let seq_ids = match (&wish.after, wish.detail) {
            (Some(after), Detail::All) => after.seq_ids.clone(),
            (None, Detail::All) => vec![0; wish.choice.tasks.len()],
            _ => Vec::new(),
        };
        let at = wish.after.as_ref().map_or(now, |after| after.at);
        let progress = match wish.detail {
            Detail::None => Progress::None,
            Detail::Latest => Progress::Latest(Latest::new(self.clone())),
            Detail::All => Progress::All(Entries::new(self.clone(), &wish.choice.tasks)),
        };
        let mut feed = Feed {
            tracker: self.clone(),
            wish,
            seat,
            position: Position { at, seq_ids },
            until: now,
            waiting: HashMap::new(),
            has_overflowed: false,
            progress,
            told_at: None,
            ahead: None,
        };
        let past = feed.past().await?;
        feed.ahead = Some(past);
        Ok(feed)
    }
}

impl Feed {
    /// The next tellings, at least one; `None` where nothing is waited for. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<Telling>>> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        if !self.wish.follows {
            return Ok(None);
        }
        loop {
            let due = self.told_at.map_or_else(Instant::now, |told_at| told_at + self.wish.every);
            let is_due = self.has_news();
            tokio::select! {
                biased;
                () = sleep_until(due), if is_due => {
                    let told = self.tell().await?;
                    if !told.is_empty() {
                        return Ok(Some(told));
                    }
                }
                heard = self.seat.hear() => self.hear(heard),
                news = self.progress.next() => match news? {
                    Some(News::Events(place, events)) => {
                        let told = self.tell_events(place, events);
                        if !told.is_empty() {
                            return Ok(Some(told));
                        }
                    }
                    Some(News::Over) | None => {}
                },
            }
        }
    }

    /// Whether something is to be told at the next tick.
    fn has_news(&self) -> bool {
        let has_entries = matches!(&self.progress, Progress::Latest(latest) if latest.has_news());
        has_entries || self.has_overflowed || self.waiting.values().any(|now| !self.is_held(now))
    }

    /// An end is told behind every entry.
    fn is_held(&self, now: &TaskNow) -> bool {
        let Progress::All(entries) = &self.progress else { return false };
        now.task.status.is_terminal()
            && self.place(&now.task.id).is_some_and(|place| entries.is_reading(place))
    }

    fn place(&self, id: &TaskId) -> Option<usize> {
        self.wish.choice.tasks.iter().position(|named| named == id)
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::TooMuch => self.has_overflowed = true,
            Heard::Tasks { tasks, until } => {
                for now in &*tasks {
                    self.take_note(now);
                }
                // It is told with what is told next, or with the next sign of life.
                self.until = until;
            }
        }
        if self.waiting.len() > WAITING_MOST {
            self.waiting.clear();
            self.has_overflowed = true;
        }
    }

    /// A task stands here now: it is told, and followed while it runs.
    fn take_note(&mut self, now: &Arc<TaskNow>) {
        let (task, choice) = (&now.task, &self.wish.choice);
        if !choice.takes(task) {
            return;
        }
        let place = self.place(&task.id);
        match &mut self.progress {
            Progress::None => {}
            Progress::Latest(latest) if choice.follows(task) => latest.follow(&task.id),
            Progress::Latest(latest) => latest.leave(&task.id),
            Progress::All(entries) => {
                if let Some(place) = place {
                    let after = self.position.seq_ids.get(place).copied().unwrap_or(0);
                    entries.follow(place, after);
                }
            }
        }
        self.waiting.insert(task.id.clone(), Arc::clone(now));
    }

    /// What waits, being due.
    async fn tell(&mut self) -> Result<Vec<Telling>> {
        if self.has_overflowed {
            self.catch_up().await?;
        }
        let (mut entries, mut rest) = (Vec::new(), Duration::ZERO);
        if let Progress::Latest(latest) = &mut self.progress {
            match latest.take().await {
                Ok(taken) => entries = taken,
                // Where tasks stand is heard and told all the same; the entries are asked for again.
                Err(Error::Unavailable(error)) => {
                    tracing::debug!(error, "a feed waits for a dependency");
                    rest = REST;
                }
                Err(error) => return Err(error),
            }
        }
        // From here on nothing is waited for.
        self.told_at = Some(Instant::now() + rest);
        let mut told = Vec::new();
        if std::mem::take(&mut self.has_overflowed) {
            told.push(Told::Resync);
        }
        let (ended, going): (Vec<_>, Vec<_>) =
            self.ready().into_iter().partition(|now| now.task.status.is_terminal());
        told.extend(going.into_iter().map(Told::Task));
        told.extend(entries.into_iter().map(|(task, delivery)| Told::Event(task, delivery)));
        told.extend(ended.into_iter().map(Told::Task));
        Ok(self.telling(told))
    }

    /// Whoever hears only the first of these must be told the others when it comes back: the last alone says that all was told.
    fn telling(&mut self, told: Vec<Told>) -> Vec<Telling> {
        let last = told.len().saturating_sub(1);
        let mut tellings = Vec::with_capacity(told.len());
        for (index, told) in told.into_iter().enumerate() {
            if let (Told::Event(task, delivery), Progress::All(_)) = (&told, &self.progress)
                && let Some(place) = self.place(task)
                && let Some(newest) = self.position.seq_ids.get_mut(place)
            {
                *newest = number(delivery).unwrap_or(*newest);
            }
            if index == last {
                self.advance();
            }
            tellings.push(Telling { told, position: self.position.clone() });
        }
        tellings
    }

    fn advance(&mut self) {
        if self.waiting.is_empty() {
            self.position.at = self.until;
        }
    }

    /// The time by which what is told is told.
    pub fn now(&self) -> Timestamp {
        self.tracker.clock.now()
    }

    /// Where a client is that has heard all that was told.
    pub fn position(&mut self) -> &Position {
        self.advance();
        &self.position
    }

    fn tell_events(&mut self, place: usize, events: Vec<Arc<Delivery>>) -> Vec<Telling> {
        let Some(task) = self.wish.choice.tasks.get(place).cloned() else { return Vec::new() };
        let events = events.into_iter().filter(|delivery| number(delivery).is_some());
        self.telling(events.map(|delivery| Told::Event(task.clone(), delivery)).collect())
    }

    /// Takes what waits and is to be told now, in the order in which it moved.
    fn ready(&mut self) -> Vec<Arc<TaskNow>> {
        let is_ready = |now: &&Arc<TaskNow>| !self.is_held(now);
        let mut ready: Vec<_> = self.waiting.values().filter(is_ready).cloned().collect();
        for now in &ready {
            self.waiting.remove(&now.task.id);
        }
        ready.sort_by_key(|now| now.moved_at());
        ready
    }
}

/// The number up to which an event tells entries; `None` of an event that a feed does not tell, for the task itself says it.
fn number(delivery: &Delivery) -> Option<u64> {
    match &delivery.event {
        Event::Progress(entry) => Some(entry.seq_id),
        Event::Gap(gap) => Some(gap.to),
        Event::Status(_) | Event::Notice(_) => None,
    }
}

impl Progress {
    /// Waits for news. `None`: they are taken with the next tick.
    async fn next(&mut self) -> Result<Option<News>> {
        match self {
            Self::None => std::future::pending().await,
            Self::Latest(latest) => {
                latest.wake().await;
                Ok(None)
            }
            Self::All(entries) => entries.next().await.map(Some),
        }
    }
}
