//! Get a task with its history; list tasks.

use super::{Result, Tracker};
use crate::domain::{Entry, Task, TaskId};
use crate::storage::{Cursor, Filter};

/// Entries of a page of the live log.
pub(super) const PAGE: usize = 1000;

/// A task with its history.
#[derive(Debug)]
pub struct Tracked {
    /// The task.
    pub task: Task,
    /// Every entry so far, in order.
    pub history: Vec<Entry>,
}

/// A page of tasks.
#[derive(Debug)]
pub struct Listing {
    /// Tasks, newest first, each with its newest entry.
    pub items: Vec<(Task, Option<Entry>)>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

impl Tracker {
    /// Reads a task with its whole history: live while it runs, sealed after.
    #[tracing::instrument(name = "task.get", skip_all, fields(task.id = %id))]
    pub async fn get(&self, id: &TaskId) -> Result<Tracked> {
        let task = self.existing(id).await?;
        let history = self.history(&task).await?;
        if task.status.is_terminal() {
            return Ok(Tracked { task, history });
        }
        // If it ended in between, its log went while we read: what was sealed is the whole of it.
        let now = self.existing(id).await?;
        let history = if now.status.is_terminal() {
            self.history(&now).await?
        } else {
            history
        };
        Ok(Tracked { task: now, history })
    }

    /// Every entry of a task: sealed rows, then the live log.
    pub(super) async fn history(&self, task: &Task) -> Result<Vec<Entry>> {
        let mut history: Vec<Entry> = Vec::new();
        let newest = |history: &[Entry]| history.last().map_or(0, |entry| entry.seq_id);
        loop {
            let sealed = self.storage.sealed(&task.id, newest(&history)).await?;
            if sealed.is_empty() {
                break;
            }
            history.extend(sealed);
        }
        while !task.status.is_terminal() {
            let page = self.live.read(&task.id, newest(&history), PAGE).await?;
            if page.entries.is_empty() {
                break;
            }
            let done = page
                .entries
                .last()
                .is_some_and(|last| last.seq_id >= page.last_seq_id);
            history.extend(page.entries);
            if done {
                break;
            }
        }
        Ok(history)
    }

    /// A page of tasks, newest first, each with its newest entry.
    #[tracing::instrument(name = "tasks.list", skip_all)]
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Listing> {
        let listed = self.storage.list(filter, limit).await?;
        let next = (listed.len() == limit as usize)
            .then(|| listed.last())
            .flatten()
            .map(|last| Cursor {
                created_at: last.task.created_at,
                id: last.task.id.clone(),
            });
        let running: Vec<TaskId> = listed
            .iter()
            .filter(|listed| listed.task.attempt > 0 && !listed.task.status.is_terminal())
            .map(|listed| listed.task.id.clone())
            .collect();
        let live = self.live.latest(&running).await?;
        let mut live: std::collections::HashMap<TaskId, Option<Entry>> =
            running.into_iter().zip(live).collect();
        let items = listed
            .into_iter()
            .map(|listed| {
                let latest = live.remove(&listed.task.id).flatten().or(listed.latest);
                (listed.task, latest)
            })
            .collect();
        Ok(Listing { items, next })
    }
}
