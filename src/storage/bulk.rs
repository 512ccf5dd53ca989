//! Registering many tasks by one statement.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::idempotency::{Outcome, Reserved, remember};
use super::row::{TaskRow, columns};
use super::{Error, Storage, dialect};
use crate::database::{Executor, Statement};
use crate::domain::{Keyed, NewTask, Status, Task, TaskId, Timestamp};

impl Storage {
    /// Registers tasks, each as [`Storage::insert`] would, all in one commit. For each in its order: the
    /// task, or `None` where its id is taken, be it by one before it in `new`.
    ///
    /// They are registered a microsecond after each other, so that workers get them in their order.
    pub async fn insert_many(
        &self,
        new: &[NewTask],
        now: Timestamp,
    ) -> Result<Vec<Option<Task>>, Error> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        self.insert_rows(self.database.writer(), new, now).await
    }

    /// The same, once for all requests of one key. Ids that are taken are part of the answer, which is remembered.
    pub async fn insert_many_once(
        &self,
        new: &[NewTask],
        Keyed { key, answer }: Keyed<Vec<Option<Task>>>,
        now: Timestamp,
    ) -> Result<Outcome<Vec<Option<Task>>>, Error> {
        let mut transaction = match self.reserve(&key, now).await? {
            Reserved::Free(transaction) => transaction,
            Reserved::Before(answer) => return Ok(Outcome::Before(answer)),
            Reserved::Reused => return Ok(Outcome::Reused),
        };
        let tasks = self.insert_rows(transaction.executor(), new, now).await?;
        remember(&mut transaction, &key, answer(&tasks)).await?;
        transaction.commit().await?;
        Ok(Outcome::Now(tasks))
    }

    /// Writes what `tasks.rs::insert_row` would write for each.
    async fn insert_rows(
        &self,
        on: Executor<'_>,
        new: &[NewTask],
        now: Timestamp,
    ) -> Result<Vec<Option<Task>>, Error> {
        let mut seen = HashSet::with_capacity(new.len());
        let is_first: Vec<bool> = new.iter().map(|new| seen.insert(&new.id)).collect();
        let rows: Vec<_> = (0_u64..)
            .zip(new)
            .zip(&is_first)
            .filter(|(_, is_first)| **is_first)
            .map(|((at, new), _)| {
                json!([
                    new.id.as_str(),
                    new.task_type.as_str(),
                    new.metadata.as_ref().map(crate::domain::JsonObject::as_str),
                    new.params.as_ref().map(crate::domain::JsonObject::as_str),
                    new.terms.timeout.as_secs(),
                    at,
                    new.terms.max_attempts,
                    new.terms.stall.map(|stall| stall.as_secs()),
                ])
            })
            .collect();
        let (batch, columns) = (dialect::batch(self.database.kind()), columns!());
        // By id, so that batches that share ids wait for each other in one order and not in a circle.
        let rows: Vec<TaskRow> = Statement::new(format!(
            "INSERT INTO tracker_tasks (id, task_type, status, metadata, params, timeout_seconds,
                 created_at, updated_at, timeout_at, max_attempts, stall_seconds)
             SELECT id, task_type, $3, metadata, params, timeout_seconds, created_at, created_at,
                 timeout_at, max_attempts, stall_seconds
             FROM ({batch}) AS batch WHERE TRUE ORDER BY id
             ON CONFLICT DO NOTHING RETURNING {columns}"
        ))
        .bind(serde_json::Value::from(rows).to_string())
        .bind(now)
        .bind(Status::Pending)
        .fetch_all(on)
        .await?;
        let mut written: HashMap<TaskId, Task> = HashMap::with_capacity(rows.len());
        for row in rows {
            let task = Task::try_from(row)?;
            written.insert(task.id.clone(), task);
        }
        let outcome = |(new, is_first): (&NewTask, &bool)| {
            if *is_first { written.remove(&new.id) } else { None }
        };
        Ok(new.iter().zip(&is_first).map(outcome).collect())
    }
}
