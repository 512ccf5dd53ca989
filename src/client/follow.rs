//! A task's events through whatever happens to connections: every entry once and in order, and then its end.

use std::time::Duration;

use super::resume::{Resuming, Step};
use super::wire::{Gone, Numbered, Why};
use super::{Call, Client, Error, Patience, Told};
use crate::domain::TaskId;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the first entry.
    First,
    /// With so many of the newest.
    Last(u64),
}

/// What there is to say of a task.
#[derive(Debug)]
pub enum News {
    /// Where it stands at the beginning, where that was asked for.
    Why(Box<Why>),
    /// An event.
    Told(Told),
    /// The connection is gone and will be made anew; it says why, if it knows.
    Away(Option<Error>),
}

/// Follows one task.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    task: TaskId,
    begin: Begin,
    patience: Duration,
    events: Option<Resuming>,
    /// The newest number that was passed on.
    cursor: u64,
    has_ended: bool,
}

impl Follower {
    /// From `begin` on. It gives up if nobody answers within `patience`; once somebody has, it never does.
    pub fn new(client: Client, task: TaskId, begin: Begin, patience: Duration) -> Self {
        Self { client, task, begin, patience, events: None, cursor: 0, has_ended: false }
    }

    /// The next that is to be said; `None` behind the end of the task.
    pub async fn next(&mut self) -> Result<Option<News>, Error> {
        while !self.has_ended {
            let Some(events) = &mut self.events else {
                if let Some(why) = self.open().await? {
                    return Ok(Some(News::Why(Box::new(why))));
                }
                continue;
            };
            match events.next().await? {
                Step::Over => self.has_ended = true,
                Step::Rests(error) => return Ok(Some(News::Away(error))),
                Step::Told(told) => {
                    if let Some(told) = self.accept(told) {
                        return Ok(Some(News::Told(told)));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn open(&mut self) -> Result<Option<Why>, Error> {
        let mut why = None;
        if let Begin::Last(count) = self.begin {
            let call = Call::get(format!("/tasks/{}/why", self.task));
            let now: Why = self.client.ask(&call, Patience::For(self.patience)).await?;
            let newest = now.latest_progress.map_or(0, |entry| entry.seq_id);
            self.cursor = newest.saturating_sub(count);
            why = Some(now);
        }
        let query = match self.cursor {
            0 => Vec::new(),
            after => vec![("afterSeqId", after.to_string())],
        };
        let path = format!("/tasks/{}/track", self.task);
        self.events = Some(Resuming::new(self.client.clone(), path, query, self.patience));
        Ok(why)
    }

    /// The event, unless it was passed on before.
    fn accept(&mut self, told: Told) -> Option<Told> {
        let event = &told.event;
        match &*event.event {
            "progress" => {
                let Numbered { seq_id } = event.read()?;
                if seq_id <= self.cursor {
                    return None;
                }
                self.cursor = seq_id;
            }
            "gap" => {
                let Gone { to, .. } = event.read()?;
                if to <= self.cursor {
                    return None;
                }
                self.cursor = to;
            }
            _ => self.has_ended = event.status().is_some_and(crate::domain::Status::is_terminal),
        }
        Some(told)
    }
}
