//! Every entry of a few tasks: each by a reader of its own, who knows what a stream without a hole takes.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::REST;
use crate::domain::TaskId;
use crate::live::Delivery;
use crate::service::{Error, Result, StartAt, Track, Tracker};

/// The tasks of a feed, each by its place in the order in which they are named.
#[derive(Debug)]
pub(super) struct Entries {
    tracker: Tracker,
    tasks: Vec<Named>,
    reading: FuturesUnordered<BoxFuture<'static, Read>>,
}

#[derive(Debug)]
struct Named {
    id: TaskId,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no such task yet.
    Absent,
    Reading,
    /// Its end has come, and all before.
    Over,
}

/// What came of a reading.
struct Read {
    place: usize,
    /// With what it has read; `None` at the end.
    read: Result<(Track, Option<Vec<Arc<Delivery>>>)>,
}

/// What a feed is to know of a reading.
pub(super) enum News {
    /// Entries, and what is gone.
    Events(usize, Vec<Arc<Delivery>>),
    /// The task has ended, and all of it was read.
    Over,
}

impl Entries {
    pub(super) fn new(tracker: Tracker, tasks: &[TaskId]) -> Self {
        let tasks = tasks.iter().map(|id| Named { id: id.clone(), state: State::Absent });
        Self { tracker, tasks: tasks.collect(), reading: FuturesUnordered::new() }
    }

    /// Begins to read a task that is there, behind entry `after`, unless that has begun.
    pub(super) fn follow(&mut self, place: usize, after: u64) {
        let Some(named) = self.tasks.get_mut(place) else { return };
        if named.state != State::Absent {
            return;
        }
        named.state = State::Reading;
        let (tracker, id) = (self.tracker.clone(), named.id.clone());
        let begin = async move {
            loop {
                match tracker.track(id.clone(), StartAt::After(after)).await {
                    Ok(track) => return read(place, track).await,
                    Err(Error::Unavailable(error)) => {
                        tracing::debug!(task.id = %id, error, "a feed waits for a dependency");
                        tokio::time::sleep(REST).await;
                    }
                    Err(error) => return Read { place, read: Err(error) },
                }
            }
        };
        self.reading.push(begin.boxed());
    }

    /// Whether entries of the task may come still.
    pub(super) fn is_reading(&self, place: usize) -> bool {
        self.tasks.get(place).is_some_and(|named| named.state == State::Reading)
    }

    /// All entries of the task were read, by somebody else.
    pub(super) fn over(&mut self, place: usize) {
        self.tasks[place].state = State::Over;
    }

    /// What comes next; for ever where nothing is read.
    pub(super) async fn next(&mut self) -> Result<News> {
        loop {
            let Some(Read { place, read: done }) = self.reading.next().await else {
                return std::future::pending().await;
            };
            match done {
                Ok((track, Some(events))) => {
                    self.reading.push(read(place, track).boxed());
                    return Ok(News::Events(place, events));
                }
                Ok((_, None)) => {
                    self.tasks[place].state = State::Over;
                    return Ok(News::Over);
                }
                // It was not there after all.
                Err(Error::TaskNotFound(_)) => self.tasks[place].state = State::Absent,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads on, through whatever befalls a dependency.
async fn read(place: usize, mut track: Track) -> Read {
    loop {
        match track.next().await {
            Err(Error::Unavailable(error)) => {
                tracing::debug!(error, "a feed waits for a dependency");
                tokio::time::sleep(REST).await;
            }
            Ok(events) => return Read { place, read: Ok((track, events)) },
            Err(error) => return Read { place, read: Err(error) },
        }
    }
}
