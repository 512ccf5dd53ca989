//! What a feed tells at first: what a client missed, and what is there.

use super::latest::FOLLOWED_MOST;
use super::room::MARGIN;
use super::{Feed, Progress, Telling, Told, number};
use crate::domain::{Choice, Entry, Event, TaskId, TaskType, Timestamp};
use crate::live::Delivery;
use crate::service::{Error, Result, StartAt, Tracker};

/// Moves that are told to a client that comes back at most. Whoever missed more lists anew.
const MISSED_MOST: u32 = 1000;
/// Entries that a client which does not wait is told at once, at about most.
const ENTRIES_MOST: usize = 5000;

impl Tracker {
    /// What of these types, or of all if there are none, has moved since; `None` where it is too much.
    async fn missed_since(
        &self,
        types: &[TaskType],
        since: Timestamp,
    ) -> Result<Option<Vec<TaskId>>> {
        let moved = self.storage.moved_since(types, since, MISSED_MOST + 1).await?;
        let mut ids: Vec<TaskId> = moved.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok((ids.len() <= MISSED_MOST as usize).then_some(ids))
    }
}

impl Feed {
    /// What is told at first: that the feed is open, and what was missed.
    pub(super) async fn past(&mut self) -> Result<Vec<Telling>> {
        let since = self.position.at.minus(MARGIN);
        let missed = if !self.wish.choice.tasks.is_empty() {
            Some(self.wish.choice.tasks.clone())
        } else if self.wish.after.is_some() {
            self.tracker.missed_since(&self.wish.choice.types, since).await?
        } else {
            Some(Vec::new())
        };
        let is_resumed = self.wish.after.is_some() && missed.is_some();
        self.note(&missed.unwrap_or_default()).await?;
        let mut told = vec![Told::Open { is_resumed }];
        if self.wish.after.is_some() && !is_resumed {
            told.push(Told::Resync);
        }
        if self.wish.follows {
            self.follow_what_runs().await?;
        } else {
            self.entries_until_now(since, &mut told).await?;
        }
        told.extend(self.ready().into_iter().map(Told::Task));
        Ok(self.telling(told))
    }

    /// Follows what began while moves passed unheard: whoever is told to list anew still hears of its progress.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        self.note(&self.wish.choice.tasks.clone()).await?;
        self.follow_what_runs().await
    }

    /// Notes where these tasks stand.
    async fn note(&mut self, ids: &[TaskId]) -> Result<()> {
        for now in &self.tracker.stand(ids).await? {
            self.take_note(now);
        }
        Ok(())
    }

    /// Follows the tasks that run, where none are named: those are told of, there or not.
    async fn follow_what_runs(&mut self) -> Result<()> {
        let Choice { tasks, types, .. } = &self.wish.choice;
        if let Progress::Latest(latest) = &mut self.progress
            && tasks.is_empty()
            && self.wish.choice.may_follow()
        {
            for task in self.tracker.storage.running(types, FOLLOWED_MOST).await? {
                latest.follow(&task);
            }
        }
        Ok(())
    }

    /// The entries that whoever does not wait is told: of many it asks again for the rest, and hears the ends then.
    async fn entries_until_now(&mut self, since: Timestamp, told: &mut Vec<Told>) -> Result<()> {
        let choice = &self.wish.choice;
        match &mut self.progress {
            Progress::None => {}
            Progress::Latest(_) => {
                let running = if !choice.tasks.is_empty() {
                    choice.tasks.clone()
                } else if choice.may_follow() {
                    self.tracker.storage.running(&choice.types, MISSED_MOST).await?
                } else {
                    Vec::new()
                };
                let newest = self.tracker.live.latest(&running).await?;
                let is_new = |entry: &Entry| entry.timestamp >= since;
                told.extend(running.into_iter().zip(newest).filter_map(|(task, entry)| {
                    let entry = entry.filter(is_new)?;
                    Some(Told::Event(task, Delivery::new(Event::Progress(entry))))
                }));
            }
            Progress::All(entries) => {
                for (place, task) in choice.tasks.iter().enumerate() {
                    let after = self.position.seq_ids.get(place).copied().unwrap_or(0);
                    let mut look =
                        match self.tracker.look(task.clone(), StartAt::After(after)).await {
                            Err(Error::TaskNotFound(_)) => continue,
                            look => look?,
                        };
                    loop {
                        if told.len() >= ENTRIES_MOST {
                            return Ok(());
                        }
                        let Some(events) = look.next().await? else { break };
                        let events = events.into_iter().filter(|event| number(event).is_some());
                        told.extend(events.map(|event| Told::Event(task.clone(), event)));
                    }
                    entries.over(place);
                }
            }
        }
        Ok(())
    }
}
