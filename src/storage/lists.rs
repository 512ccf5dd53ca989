//! Keyset pages of tasks, newest first, and counts.

use super::row::{TaskRow, columns};
use super::{Error, Storage, unreadable};
use crate::database::{Statement, Value};
use crate::domain::{Entry, Status, Task, TaskId, TaskType, Timestamp, WorkerId};

/// Where a page begins: behind this task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// When the last task of the page before was registered.
    pub created_at: Timestamp,
    /// Its id, which orders tasks registered in the same microsecond.
    pub id: TaskId,
}

/// Which tasks are listed; `None` filters nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this type.
    pub task_type: Option<TaskType>,
    /// Of this status.
    pub status: Option<Status>,
    /// Held by this worker, now or at their end.
    pub worker_id: Option<WorkerId>,
    /// Registered after this instant.
    pub created_after: Option<Timestamp>,
    /// Registered before this instant.
    pub created_before: Option<Timestamp>,
    /// Behind the page before.
    pub cursor: Option<Cursor>,
}

/// A task in a list.
#[derive(Debug)]
pub struct Listed {
    /// The task.
    pub task: Task,
    /// Its newest sealed entry.
    pub latest: Option<Entry>,
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

impl Storage {
    /// A page of at most `limit` tasks, newest first.
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Vec<Listed>, Error> {
        let rows: Vec<ListedRow> =
            list_statement(filter, limit).fetch_all(self.database.reader()).await?;
        rows.into_iter().map(Listed::try_from).collect()
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

/// Composed of the filters that are there: `$1 IS NULL OR …` would keep Postgres from choosing an index.
pub(super) fn list_statement(filter: &Filter, limit: u32) -> Statement {
    let mut conditions = String::new();
    let mut values: Vec<Value> = Vec::new();
    // Each `?` of a condition becomes the next `$n`.
    let mut add = |condition: &str, bound: Vec<Value>| {
        conditions.push_str(" AND ");
        let mut pieces = condition.split('?');
        conditions.push_str(pieces.next().unwrap_or_default());
        for (value, piece) in bound.into_iter().zip(pieces) {
            values.push(value);
            conditions.push('$');
            conditions.push_str(&values.len().to_string());
            conditions.push_str(piece);
        }
    };
    if let Some(task_type) = &filter.task_type {
        add("task_type = ?", vec![task_type.into()]);
    }
    if let Some(status) = filter.status {
        add("status = ?", vec![status.into()]);
    }
    if let Some(worker_id) = &filter.worker_id {
        add("worker_id = ?", vec![worker_id.into()]);
    }
    if let Some(after) = filter.created_after {
        add("created_at > ?", vec![after.into()]);
    }
    if let Some(before) = filter.created_before {
        add("created_at < ?", vec![before.into()]);
    }
    if let Some(Cursor { created_at, id }) = &filter.cursor {
        add("(created_at, id) < (?, ?)", vec![(*created_at).into(), id.into()]);
    }
    let (columns, limit_at) = (columns!(), values.len() + 1);
    let statement = Statement::new(format!(
        "SELECT {columns}, {LATEST}
         FROM tracker_tasks WHERE TRUE{conditions}
         ORDER BY created_at DESC, id DESC LIMIT ${limit_at}"
    ));
    values.into_iter().fold(statement, Statement::bind).bind(limit)
}
