//! Get a task with its history; list tasks.

use super::{Error, Result, Tracker};
use crate::domain::{Entry, Task, TaskId};
use crate::live;
use crate::storage::{Cursor, Filter, Listed};

/// Entries of a page of the live log.
pub(super) const PAGE: usize = 1000;

/// A task with its history.
#[derive(Debug)]
pub struct Tracked {
    /// The task.
    pub task: Task,
    /// Every entry so far, in order.
    pub history: Vec<Entry>,
    /// Whether it is every entry indeed: what is in a live log that is away is missing from it.
    pub is_complete: bool,
}

/// A page of tasks.
#[derive(Debug)]
pub struct Listing {
    /// Tasks, newest first, each with its newest entry.
    pub items: Vec<(Task, Option<Entry>)>,
    /// Whether they are the newest indeed: while the live log is away, a running task has its newest sealed one.
    pub is_complete: bool,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

impl Tracker {
    /// Reads a task with its whole history: live while it runs, sealed after. While the live log is away the
    /// answer is what is sealed, and says so.
    #[tracing::instrument(name = "task.get", skip_all, fields(task.id = %id))]
    pub async fn get(&self, id: &TaskId) -> Result<Tracked> {
        self.with_history(self.existing(id).await?).await
    }

    /// Adds the history to a task that was just read.
    pub(super) async fn with_history(&self, mut task: Task) -> Result<Tracked> {
        loop {
            let has_ended = task.status.is_terminal();
            let mut history = self.sealed(&task.id).await?;
            let has_log =
                task.attempt > 0 && (!has_ended || self.storage.is_unsettled(&task.id).await?);
            let has_newest = match self.add_live(&task.id, &mut history, has_log).await {
                Ok(has_newest) => has_newest,
                Err(Error::Unavailable(error)) => {
                    tracing::debug!(error, "a history is answered without what is live");
                    return Ok(Tracked { task, history, is_complete: false });
                }
                Err(error) => return Err(error),
            };
            if has_newest || has_ended {
                return Ok(Tracked { task, history, is_complete: true });
            }
            // Its log was not there, or went while we read: it has no entries, or it ended in
            // between, and then all that was in the log is sealed.
            task = self.existing(&task.id).await?;
            if !task.status.is_terminal() {
                return Ok(Tracked { task, history, is_complete: true });
            }
        }
    }

    /// Every sealed entry.
    async fn sealed(&self, id: &TaskId) -> Result<Vec<Entry>> {
        let mut history = Vec::new();
        loop {
            let page = self.storage.sealed(id, newest(&history)).await?;
            if page.is_empty() {
                return Ok(history);
            }
            history.extend(page);
        }
    }

    /// Adds the entries of the live log, if there is one; says whether its newest is among them.
    async fn add_live(&self, id: &TaskId, history: &mut Vec<Entry>, has_log: bool) -> Result<bool> {
        if !has_log {
            return Ok(true);
        }
        loop {
            let page = self.live.read(id, newest(history), PAGE).await?;
            let is_last = page.last_seq_id > 0
                && page.entries.last().map_or(newest(history), |last| last.seq_id)
                    >= page.last_seq_id;
            let is_empty = page.entries.is_empty();
            history.extend(page.entries);
            if is_last || is_empty {
                return Ok(is_last);
            }
        }
    }

    /// A page of tasks, newest first, each with its newest entry.
    #[tracing::instrument(name = "tasks.list", skip_all)]
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Listing> {
        // One more than asked for tells whether there is another page.
        let mut listed = self.storage.list(filter, limit + 1).await?;
        let is_last = listed.len() <= limit as usize;
        listed.truncate(limit as usize);
        let behind =
            |last: &Listed| Cursor { created_at: last.task.created_at, id: last.task.id.clone() };
        let next = if is_last { None } else { listed.last().map(behind) };
        let running: Vec<TaskId> = listed
            .iter()
            .filter(|listed| listed.task.attempt > 0 && !listed.task.status.is_terminal())
            .map(|listed| listed.task.id.clone())
            .collect();
        let (live, is_complete) = match self.live.latest(&running).await {
            Ok(live) => (live, true),
            Err(live::Error::Unavailable(error)) => {
                tracing::debug!(error, "a list is answered without what is live");
                (Vec::new(), false)
            }
            Err(error) => return Err(error.into()),
        };
        let mut live: std::collections::HashMap<TaskId, Option<Entry>> =
            running.into_iter().zip(live).collect();
        let items = listed
            .into_iter()
            .map(|listed| {
                let latest = live.remove(&listed.task.id).flatten().or(listed.latest);
                (listed.task, latest)
            })
            .collect();
        Ok(Listing { items, is_complete, next })
    }
}

fn newest(history: &[Entry]) -> u64 {
    history.last().map_or(0, |entry| entry.seq_id)
}
