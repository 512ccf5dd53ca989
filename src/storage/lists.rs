//! Keyset pages of tasks, and counts. How a page is said in SQL says [`super::walk`].

use super::row::TaskRow;
use super::walk::Walk;
use super::{Error, Storage, unreadable};
use crate::database::Statement;
use crate::domain::{Entry, Search, Status, Task, TaskId, TaskType, Timestamp, WorkerId};

/// What a list is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// When each was registered.
    #[default]
    CreatedAt,
    /// When each ended: what has not is in no such list.
    CompletedAt,
}

/// The order of a list: newest first unless said otherwise. Tasks of one instant are ordered by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    /// By what.
    pub by: By,
    /// Whether the oldest is the first.
    pub is_ascending: bool,
}

/// Where a page begins: behind this task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The order in which it is one.
    pub order: Order,
    /// The instant of the last task of the page before.
    pub at: Timestamp,
    /// Its id, which orders tasks of the same microsecond.
    pub id: TaskId,
}

/// Which tasks are listed, in what order, and what of them; `None` filters nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this type.
    pub task_type: Option<TaskType>,
    /// Of one of these statuses; where none is named, of any.
    pub statuses: Vec<Status>,
    /// Held by this worker, now or at their end.
    pub worker_id: Option<WorkerId>,
    /// This task and its retries.
    pub original_task_id: Option<TaskId>,
    /// With this in one of their texts: their id begins with it, or their type, worker, metadata, params or error holds it.
    pub search: Option<Search>,
    /// Registered after this instant.
    pub created_after: Option<Timestamp>,
    /// Registered before this instant.
    pub created_before: Option<Timestamp>,
    /// Ended after this instant.
    pub completed_after: Option<Timestamp>,
    /// Ended before this instant.
    pub completed_before: Option<Timestamp>,
    /// In this order.
    pub order: Order,
    /// Behind the page before, which was one of the same order.
    pub cursor: Option<Cursor>,
    /// Without metadata, params and result, which are not even read.
    pub is_brief: bool,
}

/// A task in a list.
#[derive(Debug)]
pub struct Listed {
    /// The task.
    pub task: Task,
    /// Its newest sealed entry.
    pub latest: Option<Entry>,
}

/// A part of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// Tasks, in the order of the list.
    pub items: Vec<Listed>,
    /// Where it goes on, if it may.
    pub next: Option<Cursor>,
}

/// The column `latest` of a task: its newest sealed entry.
pub(super) const LATEST: &str = "(SELECT latest FROM tracker_entries
     WHERE task_id = tracker_tasks.id AND lost_at IS NULL
     ORDER BY first_seq DESC LIMIT 1) AS latest";

#[derive(sqlx::FromRow)]
pub(super) struct ListedRow {
    #[sqlx(flatten)]
    task: TaskRow,
    latest: Option<String>,
}

impl TryFrom<ListedRow> for Listed {
    type Error = Error;

    fn try_from(row: ListedRow) -> Result<Self, Error> {
        let latest = row.latest.as_deref().map(Entry::parse).transpose();
        Ok(Self {
            task: row.task.try_into()?,
            latest: latest.map_err(|_| unreadable("the latest entry of a list"))?,
        })
    }
}

impl By {
    /// Of a task that is in a list of that order.
    fn of(self, task: &Task) -> Result<Timestamp, Error> {
        match self {
            Self::CreatedAt => Ok(task.created_at),
            Self::CompletedAt => task.completed_at.ok_or_else(|| unreadable("the end of a task")),
        }
    }

    pub(super) fn column(self) -> &'static str {
        match self {
            Self::CreatedAt => "created_at",
            Self::CompletedAt => "completed_at",
        }
    }
}

impl Order {
    pub(super) fn word(self) -> &'static str {
        if self.is_ascending { "ASC" } else { "DESC" }
    }
}

impl Filter {
    /// Behind a task of the list.
    pub fn behind(&self, task: &Task) -> Result<Cursor, Error> {
        Ok(Cursor { order: self.order, at: self.order.by.of(task)?, id: task.id.clone() })
    }
}

impl Cursor {
    /// Before the first task of a list. None was registered before 1970, nor will be when time is over.
    pub fn beginning(order: Order) -> Self {
        let end = Timestamp::from(jiff::Timestamp::MAX);
        let first = Timestamp::from(jiff::Timestamp::UNIX_EPOCH);
        Self { order, at: if order.is_ascending { first } else { end }, id: TaskId::new() }
    }
}

impl Storage {
    /// A page of at most `limit` tasks. Where no index carries the filter, at most `look` tasks are looked at, so that there may
    /// be fewer, or none, and more further on.
    pub async fn list(&self, filter: &Filter, limit: u32, look: u32) -> Result<Page, Error> {
        let walk = Walk::new(self.database.kind(), filter);
        // The bound comes first: tasks come and go between two statements.
        let bound = if walk.is_carried() { None } else { self.passed(&walk, filter, look).await? };
        // One more than asked for tells whether there is another page.
        let mut items = self.listed(walk.tasks(filter.is_brief, bound.as_ref(), limit + 1)).await?;
        let next = if items.len() > limit as usize {
            items.truncate(limit as usize);
            items.last().map(|last| filter.behind(&last.task)).transpose()?
        } else {
            bound
        };
        Ok(Page { items, next })
    }

    /// The task of this id, if it is one of those that `filter` says, whatever they are searched for. A list that is searched for an
    /// id does not hold its task: who pastes an id is not to walk to it.
    pub async fn list_one(&self, filter: &Filter, id: &TaskId) -> Result<Option<Listed>, Error> {
        let way = Walk::to(self.database.kind(), filter, id);
        Ok(self.listed(way.tasks(filter.is_brief, None, 1)).await?.pop())
    }

    async fn listed(&self, statement: Statement) -> Result<Vec<Listed>, Error> {
        let rows: Vec<ListedRow> = statement.fetch_all(self.database.reader()).await?;
        rows.into_iter().map(Listed::try_from).collect()
    }

    /// Where the walk is after so many tasks, if there are as many.
    async fn passed(
        &self,
        walk: &Walk,
        filter: &Filter,
        count: u32,
    ) -> Result<Option<Cursor>, Error> {
        #[derive(sqlx::FromRow)]
        struct PlaceRow {
            place: Timestamp,
            id: String,
        }
        let row: Option<PlaceRow> =
            walk.passed(count).fetch_optional(self.database.reader()).await?;
        row.map(|PlaceRow { place, id }| {
            let id = id.parse().map_err(|_| unreadable("the id of a task"))?;
            Ok(Cursor { order: filter.order, at: place, id })
        })
        .transpose()
    }

    /// How many tasks wait and how many run.
    pub async fn count_active(&self) -> Result<Vec<(Status, u64)>, Error> {
        #[derive(sqlx::FromRow)]
        struct CountRow {
            status: String,
            tasks: i64,
        }
        let rows: Vec<CountRow> = Statement::new(
            "SELECT status, count(*) AS tasks FROM tracker_tasks
             WHERE completed_at IS NULL GROUP BY status",
        )
        .fetch_all(self.database.reader())
        .await?;
        rows.into_iter()
            .map(|row| {
                let status = Status::parse(&row.status).ok_or_else(|| unreadable("a status"))?;
                Ok((status, u64::try_from(row.tasks).unwrap_or(0)))
            })
            .collect()
    }
}
