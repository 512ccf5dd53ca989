//! Registering, claiming and reading tasks, and what has ended and is not settled yet.

use super::row::{TaskRow, columns};
use super::{Error, Storage, dialect, unreadable};
use crate::database::{Executor, Statement};
use crate::domain::{Lease, NewTask, Status, Task, TaskId, TaskType, Timestamp, WorkerId};

impl Storage {
    /// Registers a task. `None`: the id is taken.
    pub async fn insert(&self, new: &NewTask, now: Timestamp) -> Result<Option<Task>, Error> {
        insert_row(self.database.writer(), new, None, now).await
    }

    /// Registers the retry of `parent`, which has ended. `None`: it was retried already, or the id is taken.
    pub async fn insert_retry(
        &self,
        parent: &Task,
        id: TaskId,
        now: Timestamp,
    ) -> Result<Option<Task>, Error> {
        insert_row(self.database.writer(), &retry_of(parent, id), Some(parent), now).await
    }

    /// Gives the oldest pending task of `types` to `worker`: one statement, one task, never twice.
    pub async fn claim(
        &self,
        types: &[TaskType],
        worker: &WorkerId,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Option<Task>, Error> {
        for look in dialect::looks(self.database.kind(), types.len()) {
            let statement = self.claim_statement(types, *look, worker, lease, now);
            let row: Option<TaskRow> = statement.fetch_optional(self.database.writer()).await?;
            if let Some(row) = row {
                return row.try_into().map(Some);
            }
        }
        Ok(None)
    }

    pub(super) fn claim_statement(
        &self,
        types: &[TaskType],
        look: dialect::Look,
        worker: &WorkerId,
        lease: &Lease,
        now: Timestamp,
    ) -> Statement {
        let kind = self.database.kind();
        let (oldest, returning) = (dialect::oldest_pending(kind, look), columns!());
        let stall_check = dialect::after_seconds(kind, "$4", "stall_seconds");
        let statement = Statement::new(format!(
            "UPDATE tracker_tasks
             SET status = $2, worker_id = $3, started_at = $4, updated_at = $4, attempt = attempt + 1,
                 heard_at = $4, lease_token = $5, lease_seconds = $6, lease_expires_at = $7,
                 stall_check_at = {stall_check}
             WHERE id = ({oldest}) RETURNING {returning}"
        ))
        .bind(names(types))
        .bind(Status::InProgress)
        .bind(worker)
        .bind(now)
        .bind(&lease.token)
        .bind(lease.length.map(|length| length.as_secs()))
        .bind(lease.expires_at);
        match look {
            dialect::Look::Offers(offers) => statement.bind(offers),
            dialect::Look::Direct => statement,
        }
    }

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

    /// Reads those of `ids` that have ended.
    pub async fn ended_among(&self, ids: &[TaskId]) -> Result<Vec<Task>, Error> {
        let member = dialect::in_first_parameter(self.database.kind());
        let columns = columns!();
        let rows: Vec<TaskRow> = Statement::new(format!(
            "SELECT {columns} FROM tracker_tasks WHERE completed_at IS NOT NULL AND id{member}"
        ))
        .bind(ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>())
        .fetch_all(self.database.reader())
        .await?;
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

    /// Notes that nothing of `id` is live any more.
    pub async fn settled(&self, id: &TaskId) -> Result<(), Error> {
        Statement::new("DELETE FROM tracker_unsettled WHERE task_id = $1")
            .bind(id)
            .execute(self.database.writer())
            .await
            .map(drop)
    }
}

pub(super) fn names(types: &[TaskType]) -> Vec<String> {
    types.iter().map(|name| name.as_str().to_owned()).collect()
}

/// What registers the retry of `parent`.
pub(super) fn retry_of(parent: &Task, id: TaskId) -> NewTask {
    NewTask {
        id,
        task_type: parent.task_type.clone(),
        metadata: parent.metadata.clone(),
        params: parent.params.clone(),
        terms: parent.terms.clone(),
    }
}

/// Writes a new row. What it writes `bulk.rs` writes, too. `None`: the id is taken, or `parent` was retried.
pub(super) async fn insert_row(
    on: Executor<'_>,
    new: &NewTask,
    parent: Option<&Task>,
    now: Timestamp,
) -> Result<Option<Task>, Error> {
    let original = parent.map(|parent| parent.original_task_id.as_ref().unwrap_or(&parent.id));
    let retry_count = parent.map_or(0, |parent| parent.retry_count + 1);
    let row: Option<TaskRow> = Statement::new(concat!(
        "INSERT INTO tracker_tasks (id, task_type, status, metadata, params, timeout_seconds,
             original_task_id, retry_of, retry_count, created_at, updated_at, timeout_at,
             max_attempts, stall_seconds)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT DO NOTHING RETURNING ",
        columns!()
    ))
    .bind(&new.id)
    .bind(&new.task_type)
    .bind(Status::Pending)
    .bind(new.metadata.as_ref())
    .bind(new.params.as_ref())
    .bind(new.terms.timeout.as_secs())
    .bind(original)
    .bind(parent.map(|parent| &parent.id))
    .bind(retry_count)
    .bind(now)
    .bind(now)
    .bind(now.plus(new.terms.timeout))
    .bind(new.terms.max_attempts)
    .bind(new.terms.stall.map(|stall| stall.as_secs()))
    .fetch_optional(on)
    .await?;
    row.map(Task::try_from).transpose()
}
