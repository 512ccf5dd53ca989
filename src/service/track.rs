//! The stream of one task: its past joined to its present, and its end.
//!
//! Subscribe, wait for the broker's word, read the past, then take what is live, dropping what was seen;
//! and look for the end after subscribing, not before. A reader that falls behind, or whose node lost
//! the broker, goes back to reading the log from where it is. So there is one way in which a reader gets
//! entries, [`Join`], and one bound on what it holds: a page, or what the ring has.
//!
//! A broker that is away keeps no reader out: its stream is open, and begins when the broker's word has come. A database
//! that is away keeps back what only it knows, the end; entries come from the live log as before.
//!
//! Whoever cannot hold a stream open looks instead, again and again: the same log, the same numbers, and no subscription.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::query::PAGE;
use super::shared::Page;
use super::{Error, Result, Tracker};
use crate::domain::stream::Offer;
use crate::domain::{Entry, Event, Gap, Join, StatusChange, Task, TaskId};
use crate::live::{Delivery, Signal, Subscription};
use crate::storage::Sealed;

/// Events that are handed over at once at most.
const BATCH: usize = 128;
/// Bytes of entries that are handed over at once at about most: they are copied for each reader.
const BATCH_BYTES: usize = 256 << 10;

/// How long a reader waits for the database before it makes do with the live log.
const SQL_PATIENCE: Duration = Duration::from_millis(500);

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// Behind this entry; 0 is the beginning.
    After(u64),
    /// Behind whatever is there.
    Now,
}

/// A reader of one task's stream.
#[derive(Debug)]
pub struct Track {
    tracker: Tracker,
    task: TaskId,
    /// `None` where the task had ended before the reader came.
    subscription: Option<Subscription>,
    join: Join,
    phase: Phase,
    /// Whether it waits for what is not there yet.
    follows: bool,
    /// What was read before the reader was told that there is a stream.
    ahead: Option<Vec<Arc<Delivery>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for the broker's word.
    Joining(StartAt),
    /// Reading the log.
    Past,
    /// Taking what is live.
    Live,
    /// The end was handed over.
    Over,
}

/// What the log says behind a cursor.
pub(super) enum Past {
    Entries(Vec<Entry>),
    /// They are gone for good.
    Gap(Gap),
    CaughtUp,
    Ended(StatusChange),
}

impl Tracker {
    /// Opens the stream of a task.
    #[tracing::instrument(level = "debug", name = "task.track", skip_all, fields(task.id = %id))]
    pub async fn track(&self, id: TaskId, start: StartAt) -> Result<Track> {
        // A task that has ended needs no subscription; one that is not there gets none.
        let has_ended = self.has_ended(&id).await?;
        let mut track = Track {
            tracker: self.clone(),
            subscription: (!has_ended).then(|| self.hub.join(&id)),
            task: id,
            join: Join::after(0),
            phase: Phase::Joining(start),
            follows: true,
            ahead: None,
        };
        let is_confirmed = match &mut track.subscription {
            Some(subscription) => subscription.is_confirmed().await,
            None => true,
        };
        if is_confirmed {
            match track.begin(start).await {
                // It goes on when the broker is back: an `EventSource` takes a refusal for the last word.
                Ok(()) | Err(Error::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(track)
    }

    /// What is there of a task's stream at this moment, for those who ask again instead of waiting: what comes behind
    /// `start`, and then where the task stands. It needs no subscription. What begins when a dependency is
    /// away is refused, for whoever looks wants an answer now.
    #[tracing::instrument(level = "debug", name = "task.look", skip_all, fields(task.id = %id))]
    pub async fn look(&self, id: TaskId, start: StartAt) -> Result<Track> {
        let mut track = Track {
            tracker: self.clone(),
            subscription: None,
            task: id,
            join: Join::after(0),
            phase: Phase::Joining(start),
            follows: false,
            ahead: None,
        };
        track.ahead = track.next().await?;
        Ok(track)
    }

    /// The number of the newest entry, sealed or live.
    pub(super) async fn newest(&self, id: &TaskId) -> Result<u64> {
        let live = self.live.last_seq_ids(std::slice::from_ref(id)).await?;
        let sealed = self.storage.last_sealed(id).await?;
        Ok(live.into_iter().max().unwrap_or(0).max(sealed))
    }

    /// What comes behind entry `after`: from the live log, or sealed, or the end.
    pub(super) async fn past(&self, id: &TaskId, after: u64) -> Result<Past> {
        let mut task = pin!(self.existing(id));
        let mut asked = timeout(SQL_PATIENCE, &mut task).await;
        if matches!(asked, Err(_) | Ok(Err(Error::Unavailable(_)))) {
            if let Some(past) = self.live_past(id, after).await? {
                return Ok(past);
            }
            if asked.is_err() {
                asked = Ok(task.await);
            }
        }
        self.past_of(&asked.unwrap_or_else(|late| Err(Error::Unavailable(late.into())))?, after)
            .await
    }

    /// The same as far as the live log can tell without the durable truth. A log that is there has not ended, for the
    /// end deletes it when it is published, and the reader hears that.
    async fn live_past(&self, id: &TaskId, after: u64) -> Result<Option<Past>> {
        let page = self.live.read(id, after, PAGE).await?;
        Ok(match page.entries.first() {
            Some(first) if first.seq_id == after + 1 => Some(Past::Entries(page.entries)),
            None if (1..=after).contains(&page.last_seq_id) => Some(Past::CaughtUp),
            _ => None,
        })
    }

    async fn past_of(&self, task: &Task, after: u64) -> Result<Past> {
        let id = &task.id;
        if task.status.is_terminal() {
            if let Some(past) = self.sealed_past(id, after).await? {
                return Ok(past);
            }
            let mut last_seq_id = self.storage.last_sealed(id).await?;
            // Acknowledged while the end was being committed, and not sealed yet.
            if self.storage.is_unsettled(id).await? {
                let page = self.live.read(id, after.max(last_seq_id), PAGE).await?;
                if !page.entries.is_empty() {
                    return Ok(Past::Entries(page.entries));
                }
                last_seq_id = last_seq_id.max(page.last_seq_id);
            }
            return Ok(Past::Ended(StatusChange::of(task, last_seq_id)));
        }
        if task.attempt == 0 {
            return Ok(Past::CaughtUp);
        }
        let page = self.live.read(id, after, PAGE).await?;
        if !page.entries.is_empty() {
            return Ok(Past::Entries(page.entries));
        }
        // The log begins further on, or is not there: what is before it is sealed, or gone for good.
        let is_elsewhere = after < page.behind || page.last_seq_id == 0;
        if is_elsewhere && let Some(past) = self.sealed_past(id, after).await? {
            return Ok(past);
        }
        if after < page.behind {
            let at = self.clock.now();
            return Ok(Past::Gap(Gap { from: after + 1, to: page.behind, at }));
        }
        Ok(Past::CaughtUp)
    }

    async fn sealed_past(&self, id: &TaskId, after: u64) -> Result<Option<Past>> {
        Ok(match self.storage.sealed(id, after).await? {
            Sealed::Entries(entries) => Some(Past::Entries(entries)),
            Sealed::Gap(gap) => Some(Past::Gap(gap)),
            Sealed::Nothing => None,
        })
    }
}

impl Track {
    /// Begins to read, the broker having given its word.
    async fn begin(&mut self, start: StartAt) -> Result<()> {
        let after = match start {
            StartAt::After(seq_id) => seq_id,
            // What is live of a task that has ended is on its way to where it is sealed.
            StartAt::Now if self.had_ended() => {
                self.tracker.storage.last_sealed(&self.task).await?
            }
            StartAt::Now => self.tracker.newest_shared(&self.task).await?,
        };
        self.join = Join::after(after);
        self.phase = Phase::Past;
        Ok(())
    }

    /// The next events, at least one; `None` after the end. Dropping the future loses nothing.
    ///
    /// It is as large as waiting for what is live takes; reading the past is in a box, for while it is done only.
    pub async fn next(&mut self) -> Result<Option<Vec<Arc<Delivery>>>> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        loop {
            match self.phase {
                Phase::Over => return Ok(None),
                Phase::Joining(start) => {
                    if let Some(subscription) = &mut self.subscription {
                        subscription.confirmed().await;
                    }
                    Box::pin(self.begin(start)).await?;
                }
                Phase::Past => match Box::pin(self.read_past()).await? {
                    Page::Entries(entries) => return Ok(Some(self.replay(&entries))),
                    Page::Gap(gap) => {
                        if let Some(unseen) = self.join.pass_over(gap) {
                            metrics::counter!("stream_gaps_total").increment(1);
                            return Ok(Some(vec![Delivery::new(Event::Gap(unseen))]));
                        }
                    }
                    Page::CaughtUp if self.follows => self.phase = Phase::Live,
                    Page::CaughtUp => {
                        if let Some(standing) = Box::pin(self.standing()).await? {
                            self.phase = Phase::Over;
                            return Ok(Some(vec![standing]));
                        }
                    }
                    Page::Ended(end) => {
                        self.phase = Phase::Over;
                        return Ok(Some(vec![end]));
                    }
                },
                Phase::Live => {
                    let events = self.drain().await;
                    if !events.is_empty() {
                        return Ok(Some(events));
                    }
                }
            }
        }
    }

    /// Shared with whoever asks at this moment; it begins after we subscribed, for we have.
    async fn read_past(&self) -> Result<Page> {
        self.tracker.past_shared(&self.task, self.join.cursor(), self.had_ended()).await
    }

    /// Whether the task had ended before the reader came; whoever only looks does not ask.
    fn had_ended(&self) -> bool {
        self.follows && self.subscription.is_none()
    }

    /// Where the task stands, all its entries having been read; `None` if it has ended since, for then more may have
    /// come before its end.
    async fn standing(&self) -> Result<Option<Arc<Delivery>>> {
        let task = self.tracker.existing(&self.task).await?;
        let change = StatusChange::of(&task, self.join.cursor());
        Ok((!change.is_end()).then(|| Delivery::new(Event::Status(change))))
    }

    fn replay(&mut self, page: &[Arc<Delivery>]) -> Vec<Arc<Delivery>> {
        for delivery in page {
            let Event::Progress(entry) = &delivery.event else { continue };
            if self.join.offer(entry.seq_id) == Offer::Missing {
                // A page has no hole in it, and begins where it was asked to.
                tracing::error!(task.id = %self.task, before = entry.seq_id, "a page has a hole");
                self.join = Join::after(entry.seq_id);
            }
        }
        page.to_vec()
    }

    /// Waits for something live and takes all that is there.
    async fn drain(&mut self) -> Vec<Arc<Delivery>> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        let Some(subscription) = &mut self.subscription else {
            self.phase = Phase::Past;
            return events;
        };
        let mut signal = Some(subscription.next().await);
        while let Some(heard) = signal {
            let Signal::Event(delivery) = heard else {
                self.phase = Phase::Past;
                break;
            };
            let offer = match &delivery.event {
                Event::Progress(entry) => {
                    bytes += entry.progress.as_str().len();
                    self.join.offer(entry.seq_id)
                }
                // An end before its last entry sends the reader back to the log, which ends it.
                Event::Status(end) if end.is_end() => {
                    if self.join.is_complete(end.last_seq_id) {
                        self.phase = Phase::Over;
                        events.push(delivery);
                    } else {
                        self.phase = Phase::Past;
                    }
                    break;
                }
                Event::Status(_) | Event::Notice(_) => Offer::Next,
                // Never published: it is read where it stands.
                Event::Gap(_) => Offer::Missing,
            };
            match offer {
                Offer::Next => events.push(delivery),
                Offer::Seen => {}
                Offer::Missing => {
                    self.phase = Phase::Past;
                    break;
                }
            }
            let is_full = events.len() >= BATCH || bytes >= BATCH_BYTES;
            signal = if is_full { None } else { subscription.try_next() };
        }
        self.measure(&events);
        events
    }

    /// How long the newest entry took from its acknowledgement to here, clocks of nodes being equal.
    fn measure(&self, events: &[Arc<Delivery>]) {
        let newest = events.iter().rev().find_map(|delivery| match &delivery.event {
            Event::Progress(entry) => Some(entry.timestamp),
            Event::Status(_) | Event::Notice(_) | Event::Gap(_) => None,
        });
        if let Some(published) = newest {
            let took = self.tracker.clock.now().since(published);
            metrics::histogram!("publish_to_delivery_seconds").record(took.as_secs_f64());
        }
    }
}
