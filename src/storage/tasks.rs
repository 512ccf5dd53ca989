//! Reading tasks, and what has ended and is not settled yet.

use super::entries::{LAST_SEALED, SEALED_BYTES, number};
use super::row::{TaskRow, columns};
use super::{Error, Storage, dialect, unreadable};
use crate::database::{Kind, Statement};
use crate::domain::{Task, TaskId, TaskType, Timestamp};

/// A task, and how much of its history is sealed.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The task.
    pub task: Task,
    /// The newest number of the sealed history, and its bytes.
    pub sealed: (u64, u64),
}

#[derive(sqlx::FromRow)]
struct MeasuredRow {
    #[sqlx(flatten)]
    task: TaskRow,
    sealed_seq: i64,
    sealed_bytes: i64,
}

impl Storage {
    /// Which of `types` have a task waiting.
    pub async fn pending_types(&self, types: &[TaskType]) -> Result<Vec<TaskType>, Error> {
        #[derive(sqlx::FromRow)]
        struct TypeRow {
            name: String,
        }
        let rows: Vec<TypeRow> = Statement::new(dialect::pending_types(self.database.kind()))
            .bind(names(types))
            .fetch_all(self.database.reader())
            .await?;
        rows.into_iter()
            .map(|row| row.name.parse().map_err(|_| unreadable("a task type")))
            .collect()
    }

    /// Reads a task.
    pub async fn get(&self, id: &TaskId) -> Result<Option<Task>, Error> {
        let row: Option<TaskRow> =
            Statement::new(concat!("SELECT ", columns!(), " FROM tracker_tasks WHERE id = $1"))
                .bind(id)
                .fetch_optional(self.database.reader())
                .await?;
        row.map(Task::try_from).transpose()
    }

    /// Reads tasks; those that are not there are left out.
    pub async fn get_each(&self, ids: &[TaskId]) -> Result<Vec<Task>, Error> {
        self.read(each_statement(self.database.kind(), ids, "")).await
    }

    /// Reads those of `ids` that have ended.
    pub async fn ended_among(&self, ids: &[TaskId]) -> Result<Vec<Task>, Error> {
        self.read(ended_among_statement(self.database.kind(), ids)).await
    }

    /// Reads tasks with how far each is sealed; those that are not there are left out.
    pub async fn measure_each(&self, ids: &[TaskId]) -> Result<Vec<Measured>, Error> {
        let (member, columns) = (dialect::in_first_parameter(self.database.kind()), columns!());
        let rows: Vec<MeasuredRow> = Statement::new(format!(
            "SELECT {columns},
                 (SELECT {LAST_SEALED} FROM tracker_entries WHERE task_id = id) AS sealed_seq,
                 (SELECT {SEALED_BYTES} FROM tracker_entries WHERE task_id = id) AS sealed_bytes
             FROM tracker_tasks WHERE id{member}"
        ))
        .bind(texts(ids))
        .fetch_all(self.database.reader())
        .await?;
        let measured = |row: MeasuredRow| {
            let sealed = (number(row.sealed_seq), number(row.sealed_bytes));
            Ok(Measured { task: row.task.try_into()?, sealed })
        };
        rows.into_iter().map(measured).collect()
    }

    async fn read(&self, statement: Statement) -> Result<Vec<Task>, Error> {
        let rows: Vec<TaskRow> = statement.fetch_all(self.database.reader()).await?;
        rows.into_iter().map(Task::try_from).collect()
    }

    /// Ended tasks whose live log may still exist, committed before `before`, oldest first.
    pub async fn unsettled(&self, before: Timestamp, limit: u32) -> Result<Vec<Task>, Error> {
        let rows: Vec<TaskRow> = Statement::new(concat!(
            "SELECT ",
            columns!(),
            " FROM tracker_unsettled JOIN tracker_tasks ON id = task_id
             WHERE since < $1 ORDER BY since LIMIT $2"
        ))
        .bind(before)
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.into_iter().map(Task::try_from).collect()
    }

    /// Whether the live log of a task that has ended may still exist.
    pub async fn is_unsettled(&self, id: &TaskId) -> Result<bool, Error> {
        #[derive(sqlx::FromRow)]
        struct UnsettledRow {}
        let row: Option<UnsettledRow> =
            Statement::new("SELECT task_id FROM tracker_unsettled WHERE task_id = $1")
                .bind(id)
                .fetch_optional(self.database.reader())
                .await?;
        Ok(row.is_some())
    }

    /// Puts a task that could not be settled behind the others.
    pub async fn settle_later(&self, id: &TaskId, now: Timestamp) -> Result<(), Error> {
        Statement::new("UPDATE tracker_unsettled SET since = $2 WHERE task_id = $1")
            .bind(id)
            .bind(now)
            .execute(self.database.writer())
            .await
            .map(drop)
    }

    /// Notes that nothing of `ids` is live any more. A crash may take the note back, and then they are settled once more.
    pub async fn settled(&self, ids: &[TaskId]) -> Result<(), Error> {
        let kind = self.database.kind();
        let (member, lazily) =
            (dialect::in_first_parameter(kind), dialect::and_committed_lazily(kind));
        Statement::new(format!("DELETE FROM tracker_unsettled WHERE task_id{member}{lazily}"))
            .bind(texts(ids))
            .execute(self.database.writer())
            .await
            .map(drop)
    }
}

fn each_statement(kind: Kind, ids: &[TaskId], also: &str) -> Statement {
    let (member, columns) = (dialect::in_first_parameter(kind), columns!());
    Statement::new(format!("SELECT {columns} FROM tracker_tasks WHERE id{member}{also}"))
        .bind(texts(ids))
}

/// Said so that Postgres does not begin with all that have ended: see [`dialect::status_of_found`].
pub(super) fn ended_among_statement(kind: Kind, ids: &[TaskId]) -> Statement {
    each_statement(kind, ids, " AND coalesce(completed_at IS NOT NULL, FALSE)")
}

pub(super) fn texts<'t>(ids: impl IntoIterator<Item = &'t TaskId>) -> Vec<String> {
    ids.into_iter().map(|id| id.as_str().to_owned()).collect()
}

pub(super) fn names(types: &[TaskType]) -> Vec<String> {
    types.iter().map(|name| name.as_str().to_owned()).collect()
}
