//! The topics of this node: one per task that somebody here watches, and one of all tasks that move.
//!
//! A log feeds the hub; subscribers read from it. A reader that falls behind what its topic holds is told so and
//! reads what it missed from the log; nobody waits for it.

mod topic;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use self::topic::{Ear, Voice};
use super::waiters::Waiters;
use crate::domain::{Event, Moved, TaskId};

/// Events a topic holds for its readers.
const RING: usize = 64;
/// Batches of moves that their topic holds: they come from every task.
const RING_OF_MOVES: usize = 256;
/// How long a subscriber waits for the broker's word, before it hears that there was none.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// One event on its way to every reader of a topic. It is put into bytes once, by whoever sends it first.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    frame: OnceLock<Bytes>,
}

impl Delivery {
    /// Wraps an event.
    pub fn new(event: Event) -> Arc<Self> {
        Arc::new(Self { event, frame: OnceLock::new() })
    }

    /// The bytes of the event, made by `encode` the first time.
    pub fn frame(&self, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        self.frame.get_or_init(|| encode(&self.event)).clone()
    }
}

/// What a reader of a topic hears.
#[derive(Debug, Clone)]
pub enum Signal {
    /// Something happened.
    Event(Arc<Delivery>),
    /// These tasks stand elsewhere now; on the topic of moves alone.
    Moves(Arc<[Moved]>),
    /// Something may have been missed: read the log, and look whether the task has ended.
    Resync,
}

/// What one may subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The events of a task.
    Task(TaskId),
    /// The moves of all tasks.
    Moves,
}

/// What the hub asks of a broker's connection.
#[derive(Debug)]
pub enum Interest {
    /// Listen to this, and say when the broker has confirmed it, and when it does not send it any
    /// more. That it sends it again is for [`Hub::back`].
    Watch(Subject, watch::Sender<bool>),
    /// Nobody watches it any more.
    Unwatch(Subject),
}

#[derive(Debug)]
struct Topic {
    voice: Voice,
    /// Whether the broker has confirmed that it sends this topic's events.
    ready: watch::Sender<bool>,
    readers: usize,
    /// The number of the newest entry that came by, for the audit.
    last_seq_id: AtomicU64,
}

/// The topics that somebody reads.
#[derive(Debug, Default)]
struct Topics {
    tasks: HashMap<TaskId, Topic>,
    moves: Option<Topic>,
}

impl Topics {
    fn get(&self, subject: &Subject) -> Option<&Topic> {
        match subject {
            Subject::Task(task) => self.tasks.get(task),
            Subject::Moves => self.moves.as_ref(),
        }
    }

    fn get_or_insert(&mut self, subject: &Subject, new: impl FnOnce() -> Topic) -> &mut Topic {
        match subject {
            Subject::Task(task) => self.tasks.entry(task.clone()).or_insert_with(new),
            Subject::Moves => self.moves.get_or_insert_with(new),
        }
    }

    /// One reader less; whether that was the last.
    fn leave(&mut self, subject: &Subject) -> bool {
        let topic = match subject {
            Subject::Task(task) => self.tasks.get_mut(task),
            Subject::Moves => self.moves.as_mut(),
        };
        let Some(topic) = topic else { return false };
        topic.readers -= 1;
        let is_last = topic.readers == 0;
        match subject {
            Subject::Task(task) if is_last => drop(self.tasks.remove(task)),
            Subject::Moves if is_last => self.moves = None,
            _ => {}
        }
        is_last
    }
}

/// The topics of this node, and its waiting workers.
#[derive(Debug, Default)]
pub struct Hub {
    topics: Mutex<Topics>,
    /// To the broker's connection; `None` where events come from this very process.
    interests: Option<mpsc::UnboundedSender<Interest>>,
    waiters: Waiters,
}

/// The broker did not confirm a subscription in time.
#[derive(Debug, thiserror::Error)]
#[error("the broker did not confirm the subscription within {SUBSCRIBE_TIMEOUT:?}")]
pub struct NotConfirmed;

impl Hub {
    /// A hub whose events come from this process.
    pub fn local() -> Arc<Self> {
        Arc::default()
    }

    /// A hub whose events come from a broker, and the requests its connection must serve.
    pub fn remote() -> (Arc<Self>, mpsc::UnboundedReceiver<Interest>) {
        let (interests, requests) = mpsc::unbounded_channel();
        (Arc::new(Self { interests: Some(interests), ..Self::default() }), requests)
    }

    /// The workers of this node that wait for a task.
    pub fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Which tasks are watched here, and the number of the newest entry of each that came by.
    pub fn topics(&self) -> Vec<(TaskId, u64)> {
        let topics = self.lock();
        let seen = |topic: &Topic| topic.last_seq_id.load(Ordering::Relaxed);
        topics.tasks.iter().map(|(task, topic)| (task.clone(), seen(topic))).collect()
    }

    /// Subscribes to a task. When this returns, every event published from now on will be heard.
    pub async fn subscribe(self: &Arc<Self>, task: &TaskId) -> Result<Subscription, NotConfirmed> {
        let mut subscription = self.join(task);
        // Dropping the subscription on the way out undoes the interest.
        if subscription.is_confirmed().await { Ok(subscription) } else { Err(NotConfirmed) }
    }

    /// Subscribes to a task without waiting for the broker's word: until [`Subscription::confirmed`] has
    /// returned, events may pass unheard.
    pub fn join(self: &Arc<Self>, task: &TaskId) -> Subscription {
        self.join_subject(Subject::Task(task.clone()), RING)
    }

    /// Subscribes to the moves of all tasks, likewise.
    pub fn join_moves(self: &Arc<Self>) -> Subscription {
        self.join_subject(Subject::Moves, RING_OF_MOVES)
    }

    fn join_subject(self: &Arc<Self>, subject: Subject, ring: usize) -> Subscription {
        let mut topics = self.lock();
        let topic = topics.get_or_insert(&subject, || {
            let ready = watch::Sender::new(self.interests.is_none());
            // Sent under the lock, so that requests arrive in the order of the topics' lives.
            if let Some(interests) = &self.interests {
                let _ = interests.send(Interest::Watch(subject.clone(), ready.clone()));
            }
            let voice = Voice::new(ring);
            Topic { voice, ready, readers: 0, last_seq_id: AtomicU64::new(0) }
        });
        topic.readers += 1;
        let (signals, ready) = (topic.voice.join(), topic.ready.subscribe());
        Subscription { hub: Arc::clone(self), subject, signals, ready }
    }

    fn leave(&self, subject: &Subject) {
        if self.lock().leave(subject)
            && let Some(interests) = &self.interests
        {
            let _ = interests.send(Interest::Unwatch(subject.clone()));
        }
    }

    /// Gives an event to every reader of its topic.
    pub fn deliver(&self, task: &TaskId, event: Event) {
        let topics = self.lock();
        let Some(topic) = topics.tasks.get(task) else {
            return;
        };
        if let Event::Progress(entry) = &event {
            topic.last_seq_id.fetch_max(entry.seq_id, Ordering::Relaxed);
        }
        topic.voice.tell(Signal::Event(Delivery::new(event)));
    }

    /// Gives moves to whoever reads them here; whether anybody does.
    pub fn deliver_moves(&self, moves: &[Moved]) -> bool {
        let topics = self.lock();
        let Some(topic) = &topics.moves else { return false };
        topic.voice.tell(Signal::Moves(moves.into()))
    }

    /// Whether anybody here watches `task`: what nobody watches need not be parsed.
    pub fn is_watched(&self, task: &TaskId) -> bool {
        self.lock().tasks.contains_key(task)
    }

    /// Has the readers of `task` read the log from where they are: the newest entry is `last_seq_id`.
    pub fn resync(&self, task: &TaskId, last_seq_id: u64) {
        if let Some(topic) = self.lock().tasks.get(task) {
            topic.last_seq_id.fetch_max(last_seq_id, Ordering::Relaxed);
            topic.voice.tell(Signal::Resync);
        }
    }

    /// The broker sends the topic that `ready` belongs to again, after it did not for a while: its readers
    /// catch up.
    pub fn back(&self, subject: &Subject, ready: &watch::Sender<bool>) {
        let topics = self.lock();
        // A topic that was left and joined again meanwhile waits for its own confirmation.
        if let Some(topic) = topics.get(subject).filter(|topic| topic.ready.same_channel(ready)) {
            ready.send_replace(true);
            topic.voice.tell(Signal::Resync);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Topics> {
        // No code that holds the lock can leave the map half changed.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader's place in a topic; leaving it is dropping it.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    subject: Subject,
    signals: Ear,
    ready: watch::Receiver<bool>,
}

impl Subscription {
    /// Waits for the broker's word: every event that is published from then on will be heard.
    pub async fn confirmed(&mut self) {
        // The topic lives as long as this subscription, and with it the other end.
        if self.ready.wait_for(|ready| *ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the broker gives its word while one may wait for it.
    pub async fn is_confirmed(&mut self) -> bool {
        tokio::time::timeout(SUBSCRIBE_TIMEOUT, self.confirmed()).await.is_ok()
    }

    /// The next signal. A reader that fell behind what the topic holds hears [`Signal::Resync`].
    pub async fn next(&mut self) -> Signal {
        match self.signals.next().await {
            Some(signal) => signal,
            // The topic lives as long as this subscription.
            None => std::future::pending().await,
        }
    }

    /// The next signal, if one is there already.
    pub fn try_next(&mut self) -> Option<Signal> {
        self.signals.try_next()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(&self.subject);
    }
}
