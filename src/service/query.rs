//! Get a task with its history; list tasks.

use std::time::{Duration, Instant};

use super::{Error, Result, Tracker};
use crate::domain::{Entry, Task, TaskId};
use crate::live;
use crate::storage::{Cursor, Filter, Listed, Page, Sealed};

/// Tasks that are looked at for one page at most, where no index carries what is asked for.
const MOST_LOOKED_AT: u32 = 20_000;
/// The first of them, and those of one statement at most: each looks at four times as many as the one before, for what is
/// found soon should cost little.
const LOOK: (u32, u32) = (250, 4000);
/// For how long there is a next look: tasks may have texts of a megabyte, and a statement its deadline.
const LOOKING: Duration = Duration::from_secs(1);

pub(super) use crate::live::PAGE_ENTRIES as PAGE;

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
    /// Tasks in the order that was asked for, each with its newest entry.
    pub items: Vec<(Task, Option<Entry>)>,
    /// Whether they are the newest indeed: while the live log is away, a running task has its newest sealed one.
    pub is_complete: bool,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

impl Tracker {
    /// Reads a task with its whole history: what is sealed, and while it runs what is live. While the live log is
    /// away the answer is what is sealed, and says so.
    #[tracing::instrument(level = "debug", name = "task.get", skip_all, fields(task.id = %id))]
    pub async fn get(&self, id: &TaskId) -> Result<Tracked> {
        self.with_history(self.existing(id).await?).await
    }

    /// Adds the history to a task that was just read.
    pub(super) async fn with_history(&self, mut task: Task) -> Result<Tracked> {
        let mut read = Read::default();
        loop {
            let has_ended = task.status.is_terminal();
            self.add_sealed(&task.id, &mut read).await?;
            let has_log =
                task.attempt > 0 && (!has_ended || self.storage.is_unsettled(&task.id).await?);
            let found =
                if has_log { self.add_live(&task.id, &mut read).await } else { Ok(Found::None) };
            let found = match found {
                Err(Error::Unavailable(error)) => {
                    tracing::debug!(error, "a history is answered without what is live");
                    return Ok(Tracked { task, history: read.entries, is_complete: false });
                }
                found => found?,
            };
            match found {
                // What was next was sealed, and left the log, while we read.
                Found::Further(behind) => {
                    self.add_sealed(&task.id, &mut read).await?;
                    // What neither has is gone.
                    read.cursor = read.cursor.max(behind);
                }
                Found::Newest => {
                    return Ok(Tracked { task, history: read.entries, is_complete: true });
                }
                Found::None if has_ended || !has_log => {
                    return Ok(Tracked { task, history: read.entries, is_complete: true });
                }
                // Its log was not there, or went while we read: it has no entries, or it ended in
                // between, and then all that was in the log is sealed.
                Found::None => {
                    task = self.existing(&task.id).await?;
                    if !task.status.is_terminal() {
                        return Ok(Tracked { task, history: read.entries, is_complete: true });
                    }
                }
            }
        }
    }

    /// Adds every sealed entry.
    async fn add_sealed(&self, id: &TaskId, read: &mut Read) -> Result<()> {
        loop {
            match self.storage.sealed(id, read.cursor).await? {
                Sealed::Entries(entries) => read.add(entries),
                Sealed::Gap(gap) => read.cursor = gap.to,
                Sealed::Nothing => return Ok(()),
            }
        }
    }

    /// Adds the entries of the live log.
    async fn add_live(&self, id: &TaskId, read: &mut Read) -> Result<Found> {
        loop {
            let page = self.live.read(id, read.cursor, PAGE).await?;
            let is_empty = page.entries.is_empty();
            read.add(page.entries);
            if page.last_seq_id > 0 && read.cursor >= page.last_seq_id {
                return Ok(Found::Newest);
            }
            if is_empty {
                let is_further = read.cursor < page.behind;
                return Ok(if is_further { Found::Further(page.behind) } else { Found::None });
            }
        }
    }

    /// A page of tasks, each with its newest entry. Where no index carries what is asked for it may have fewer than `limit`, or
    /// none, and not be the last. A task whose very id is searched for is the first of the first page.
    #[tracing::instrument(level = "debug", name = "tasks.list", skip_all)]
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Listing> {
        let Page { items: listed, next } = self.walked(filter, limit).await?;
        let (items, is_complete) = self.with_latest(listed).await?;
        Ok(Listing { items, is_complete, next })
    }

    /// Adds to each task its newest entry, sealed or live; and whether they are the newest indeed.
    pub(super) async fn with_latest(
        &self,
        listed: Vec<Listed>,
    ) -> Result<(Vec<(Task, Option<Entry>)>, bool)> {
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
                // A log that came back older than what is sealed is passed over.
                let live = live.remove(&listed.task.id).flatten();
                let latest = live.into_iter().chain(listed.latest).max_by_key(|entry| entry.seq_id);
                (listed.task, latest)
            })
            .collect();
        Ok((items, is_complete))
    }

    /// Looks further until the page is full, or enough was looked at.
    async fn walked(&self, filter: &Filter, limit: u32) -> Result<Page> {
        let (mut filter, mut page) = (filter.clone(), self.named(filter).await?);
        let (begun, mut look, mut left) = (Instant::now(), LOOK.0, MOST_LOOKED_AT);
        loop {
            let missing = limit - u32::try_from(page.items.len()).unwrap_or(limit).min(limit);
            if missing == 0 {
                return Ok(page);
            }
            let further = self.storage.list(&filter, missing, look.min(left)).await?;
            page.items.extend(further.items);
            page.next.clone_from(&further.next);
            left = left.saturating_sub(look);
            if further.next.is_none() || left == 0 || begun.elapsed() > LOOKING {
                return Ok(page);
            }
            filter.cursor = further.next;
            look = (look * 4).min(LOOK.1);
        }
    }

    /// Where a list begins: before all others with the task whose very id is searched for, however far that would be.
    async fn named(&self, filter: &Filter) -> Result<Page> {
        let search = filter.search.as_ref().filter(|_| filter.cursor.is_none());
        let Some(id) = search.and_then(|text| text.as_str().parse().ok()) else {
            return Ok(Page::default());
        };
        let items: Vec<_> = self.storage.list_one(filter, &id).await?.into_iter().collect();
        // A page of one may be full with it.
        Ok(Page { items, next: Some(Cursor::beginning(filter.order)) })
    }
}

/// What was read so far of a history.
#[derive(Debug, Default)]
struct Read {
    entries: Vec<Entry>,
    /// The newest number that was read, or is gone.
    cursor: u64,
}

/// What the live log had to add.
enum Found {
    /// Its newest entry, and all before.
    Newest,
    /// Entries that are further on: it begins behind this number.
    Further(u64),
    /// Nothing.
    None,
}

impl Read {
    fn add(&mut self, entries: Vec<Entry>) {
        self.cursor = entries.last().map_or(self.cursor, |last| last.seq_id);
        self.entries.extend(entries);
    }
}
