//! Registering, claiming, reading tasks, and changing where they stand.

use std::time::Duration;

use super::{Error, Loss, Storage, dialect, sealing, unreadable};
use crate::database::{Kind, Statement, Transaction};
use crate::domain::{
    Entry, JsonObject, NewTask, Status, Task, TaskId, TaskType, Timestamp, WorkerId,
};

/// Every column of a task, by name: `*` would break statements prepared before a migration.
macro_rules! columns {
    () => {
        "id, task_type, status, metadata, params, result, error, timeout_seconds, worker_id, \
         original_task_id, retry_count, attempt, created_at, updated_at, started_at, \
         completed_at, timeout_at"
    };
}
pub(super) use columns;

/// A task as a row.
#[derive(sqlx::FromRow)]
pub(super) struct TaskRow {
    id: String,
    task_type: String,
    status: String,
    metadata: Option<String>,
    params: Option<String>,
    result: Option<String>,
    error: Option<String>,
    timeout_seconds: i64,
    worker_id: Option<String>,
    original_task_id: Option<String>,
    retry_count: i64,
    attempt: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    timeout_at: Timestamp,
}

impl TryFrom<TaskRow> for Task {
    type Error = Error;

    fn try_from(row: TaskRow) -> Result<Self, Error> {
        let id = row.id;
        let wrong = |column: &str| unreadable(&format!("task {id:?}, column {column}"));
        Ok(Self {
            task_type: row.task_type.parse().map_err(|_| wrong("task_type"))?,
            status: Status::parse(&row.status).ok_or_else(|| wrong("status"))?,
            metadata: row.metadata.map(JsonObject::from_stored),
            params: row.params.map(JsonObject::from_stored),
            result: row.result.map(JsonObject::from_stored),
            error: row.error.map(JsonObject::from_stored),
            timeout: Duration::from_secs(u64::try_from(row.timeout_seconds).unwrap_or(0)),
            worker_id: row
                .worker_id
                .map(WorkerId::try_from)
                .transpose()
                .map_err(|_| wrong("worker_id"))?,
            original_task_id: row
                .original_task_id
                .map(TaskId::try_from)
                .transpose()
                .map_err(|_| wrong("original_task_id"))?,
            retry_count: u32::try_from(row.retry_count).map_err(|_| wrong("retry_count"))?,
            attempt: u32::try_from(row.attempt).map_err(|_| wrong("attempt"))?,
            created_at: row.created_at,
            updated_at: row.updated_at,
            started_at: row.started_at,
            completed_at: row.completed_at,
            timeout_at: row.timeout_at,
            id: id.parse().map_err(|_| wrong("id"))?,
        })
    }
}

/// Which tasks a change is about.
#[derive(Debug, Clone, Copy)]
pub enum Selection<'a> {
    /// This one; another transaction that holds it is waited for.
    One(&'a TaskId),
    /// The most overdue that no other transaction holds.
    Overdue {
        /// Overdue when their time was over by then.
        now: Timestamp,
        /// How many at most.
        limit: u32,
    },
}

/// Where a task is to stand, and the entries to seal with it.
#[derive(Debug)]
pub struct Change {
    /// The task as it shall be.
    pub task: Task,
    /// Entries of its live log to seal, in order; those that are sealed already are passed over.
    pub entries: Vec<Entry>,
    /// What the live log lost behind them, if it may have lost anything.
    pub loss: Option<Loss>,
}

impl Storage {
    /// Registers a task. `None`: the id is taken.
    pub async fn insert(&self, new: &NewTask, now: Timestamp) -> Result<Option<Task>, Error> {
        self.insert_row(new, None, now).await
    }

    /// Registers the retry of `parent`, which has ended. `None`: it was retried already, or the id is taken.
    pub async fn insert_retry(
        &self,
        parent: &Task,
        id: TaskId,
        now: Timestamp,
    ) -> Result<Option<Task>, Error> {
        let new = NewTask {
            id,
            task_type: parent.task_type.clone(),
            metadata: parent.metadata.clone(),
            params: parent.params.clone(),
            timeout: parent.timeout,
        };
        self.insert_row(&new, Some(parent), now).await
    }

    async fn insert_row(
        &self,
        new: &NewTask,
        parent: Option<&Task>,
        now: Timestamp,
    ) -> Result<Option<Task>, Error> {
        let original = parent.map(|parent| parent.original_task_id.as_ref().unwrap_or(&parent.id));
        let retry_count = parent.map_or(0, |parent| parent.retry_count + 1);
        let row: Option<TaskRow> = Statement::new(concat!(
            "INSERT INTO tracker_tasks (id, task_type, status, metadata, params, timeout_seconds,
                 original_task_id, retry_of, retry_count, created_at, updated_at, timeout_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT DO NOTHING RETURNING ",
            columns!()
        ))
        .bind(&new.id)
        .bind(&new.task_type)
        .bind(Status::Pending)
        .bind(new.metadata.as_ref())
        .bind(new.params.as_ref())
        .bind(new.timeout.as_secs())
        .bind(original)
        .bind(parent.map(|parent| &parent.id))
        .bind(retry_count)
        .bind(now)
        .bind(now)
        .bind(now.plus(new.timeout))
        .fetch_optional(self.database.writer())
        .await?;
        row.map(Task::try_from).transpose()
    }

    /// Gives the oldest pending task of `types` to `worker`: one statement, one task, never twice.
    pub async fn claim(
        &self,
        types: &[TaskType],
        worker: &WorkerId,
        now: Timestamp,
    ) -> Result<Option<Task>, Error> {
        for look in dialect::looks(self.database.kind(), types.len()) {
            let statement = self.claim_statement(types, *look, worker, now);
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
        now: Timestamp,
    ) -> Statement {
        let kind = self.database.kind();
        let (oldest, returning) = (dialect::oldest_pending(kind, look), columns!());
        let statement = Statement::new(format!(
            "UPDATE tracker_tasks
             SET status = $2, worker_id = $3, started_at = $4, updated_at = $5, attempt = attempt + 1
             WHERE id = ({oldest}) RETURNING {returning}"
        ))
        .bind(names(types))
        .bind(Status::InProgress)
        .bind(worker)
        .bind(now)
        .bind(now);
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

    /// Locks the tasks of `selection`, asks `decide` where they shall stand, and commits all of it or
    /// nothing: the one way a status changes, but for the claim.
    ///
    /// The rows stay locked while `decide` runs, so what it was shown still holds when it is
    /// committed; it must not use the storage. A task that ends is noted as unsettled in the same commit.
    pub async fn change<D, F, E>(&self, selection: Selection<'_>, decide: D) -> Result<Vec<Task>, E>
    where
        D: FnOnce(Vec<Task>) -> F,
        F: Future<Output = Result<Vec<Change>, E>>,
        E: From<Error>,
    {
        let mut transaction = self.database.begin().await.map_err(E::from)?;
        let rows: Vec<TaskRow> = selection
            .statement(self.database.kind())
            .fetch_all(transaction.executor())
            .await
            .map_err(E::from)?;
        let tasks = rows.into_iter().map(Task::try_from).collect::<Result<Vec<_>, Error>>()?;
        let changes = match decide(tasks).await {
            Ok(changes) if !changes.is_empty() => changes,
            // The rows are free before the caller hears of it: what comes next must not find them locked.
            nothing => {
                transaction.roll_back().await.map_err(E::from)?;
                return nothing.map(|_| Vec::new());
            }
        };
        for change in &changes {
            write(&mut transaction, change).await.map_err(E::from)?;
        }
        let histories: Vec<_> = changes.iter().filter_map(sealing::Extension::of).collect();
        sealing::extend(&mut transaction, &histories).await.map_err(E::from)?;
        transaction.commit().await.map_err(E::from)?;
        Ok(changes.into_iter().map(|change| change.task).collect())
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

impl Selection<'_> {
    pub(super) fn statement(self, kind: Kind) -> Statement {
        const SELECT: &str = concat!("SELECT ", columns!(), " FROM tracker_tasks WHERE ");
        match self {
            Self::One(id) => {
                Statement::new(format!("{SELECT} id = $1{}", dialect::for_update(kind))).bind(id)
            }
            Self::Overdue { now, limit } => Statement::new(format!(
                "{SELECT} completed_at IS NULL AND timeout_at <= $1 ORDER BY timeout_at LIMIT $2{}",
                dialect::for_update_skip_locked(kind)
            ))
            .bind(now)
            .bind(limit),
        }
    }
}

/// Writes one change: the row, and the note that it is to be settled.
async fn write(transaction: &mut Transaction, change: &Change) -> Result<(), Error> {
    let task = &change.task;
    Statement::new(
        "UPDATE tracker_tasks SET status = $2, worker_id = $3, result = $4, error = $5,
             attempt = $6, updated_at = $7, started_at = $8, completed_at = $9 WHERE id = $1",
    )
    .bind(&task.id)
    .bind(task.status)
    .bind(task.worker_id.as_ref())
    .bind(task.result.as_ref())
    .bind(task.error.as_ref())
    .bind(task.attempt)
    .bind(task.updated_at)
    .bind(task.started_at)
    .bind(task.completed_at)
    .execute(transaction.executor())
    .await?;
    if let Some(ended) = task.completed_at {
        Statement::new("INSERT INTO tracker_unsettled (task_id, since) VALUES ($1, $2)")
            .bind(&task.id)
            .bind(ended)
            .execute(transaction.executor())
            .await?;
    }
    Ok(())
}

pub(super) fn names(types: &[TaskType]) -> Vec<String> {
    types.iter().map(|name| name.as_str().to_owned()).collect()
}
