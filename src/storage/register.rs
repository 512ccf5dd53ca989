//! Registering tasks, one or many by one statement.

use std::collections::HashSet;

use super::idempotency::{Outcome, Reserved, remember};
use super::{Error, Storage};
use crate::database::{Executor, Kind, Statement, Table, Type};
use crate::domain::{Keyed, NewTask, Task, TaskId, Timestamp};

/// What is written of a new task.
const COLUMNS: &[(&str, Type)] = &[
    ("id", Type::Text),
    ("task_type", Type::Text),
    ("status", Type::Text),
    ("metadata", Type::Text),
    ("params", Type::Text),
    ("timeout_seconds", Type::Integer),
    ("original_task_id", Type::Text),
    ("retry_of", Type::Text),
    ("retry_count", Type::Integer),
    ("created_at", Type::Instant),
    ("updated_at", Type::Instant),
    ("timeout_at", Type::Instant),
    ("max_attempts", Type::Integer),
    ("stall_seconds", Type::Integer),
];

impl Storage {
    /// Registers a task. `None`: the id is taken.
    pub async fn insert(&self, new: &NewTask, now: Timestamp) -> Result<Option<Task>, Error> {
        let task = new.clone().registered(now);
        Ok(self.insert_each(std::slice::from_ref(&task)).await?[0].then_some(task))
    }

    /// Registers tasks that were made by callers of their own, in one commit. For each in its order: whether it is
    /// registered now. Where it is not its id is taken, be it by one before it in `tasks`.
    pub async fn insert_each(&self, tasks: &[Task]) -> Result<Vec<bool>, Error> {
        self.write_rows(self.database.writer(), tasks, None).await
    }

    /// Registers the retry of `parent`, which has ended. `None`: it was retried already, or the id is taken.
    pub async fn insert_retry(
        &self,
        parent: &Task,
        id: TaskId,
        now: Timestamp,
    ) -> Result<Option<Task>, Error> {
        let retry = parent.retry(id, now);
        let on = self.database.writer();
        let written = self.write_rows(on, std::slice::from_ref(&retry), Some(&parent.id)).await?;
        Ok(written[0].then_some(retry))
    }

    /// [`Storage::insert`], once for all requests of one key. `Now(None)`: the id is taken, and the key is free again.
    pub async fn insert_once(
        &self,
        new: &NewTask,
        keyed: Keyed<Task>,
        now: Timestamp,
    ) -> Result<Outcome<Option<Task>>, Error> {
        self.write_row_once(new.clone().registered(now), None, keyed, now).await
    }

    /// [`Storage::insert_retry`], likewise.
    pub async fn insert_retry_once(
        &self,
        parent: &Task,
        id: TaskId,
        keyed: Keyed<Task>,
        now: Timestamp,
    ) -> Result<Outcome<Option<Task>>, Error> {
        self.write_row_once(parent.retry(id, now), Some(&parent.id), keyed, now).await
    }

    /// Registers tasks, each as [`Storage::insert`] would, all in one commit. For each in its order: the
    /// task, or `None` where its id is taken, be it by one before it in `new`.
    ///
    /// They are registered a microsecond after each other, so that workers get them in their order.
    pub async fn insert_many(
        &self,
        new: Vec<NewTask>,
        now: Timestamp,
    ) -> Result<Vec<Option<Task>>, Error> {
        let tasks = one_after_the_other(new, now);
        let written = self.insert_each(&tasks).await?;
        Ok(written_ones(tasks, written))
    }

    /// The same, once for all requests of one key. Ids that are taken are part of the answer, which is remembered.
    pub async fn insert_many_once(
        &self,
        new: Vec<NewTask>,
        Keyed { key, answer }: Keyed<Vec<Option<Task>>>,
        now: Timestamp,
    ) -> Result<Outcome<Vec<Option<Task>>>, Error> {
        let mut transaction = match self.reserve(&key, now).await? {
            Reserved::Free(transaction) => transaction,
            Reserved::Before(answer) => return Ok(Outcome::Before(answer)),
            Reserved::Reused => return Ok(Outcome::Reused),
        };
        let tasks = one_after_the_other(new, now);
        let written = self.write_rows(transaction.executor(), &tasks, None).await?;
        let tasks = written_ones(tasks, written);
        remember(&mut transaction, &key, answer(&tasks)).await?;
        transaction.commit().await?;
        Ok(Outcome::Now(tasks))
    }

    async fn write_row_once(
        &self,
        task: Task,
        retry_of: Option<&TaskId>,
        Keyed { key, answer }: Keyed<Task>,
        now: Timestamp,
    ) -> Result<Outcome<Option<Task>>, Error> {
        let mut transaction = match self.reserve(&key, now).await? {
            Reserved::Free(transaction) => transaction,
            Reserved::Before(answer) => return Ok(Outcome::Before(answer)),
            Reserved::Reused => return Ok(Outcome::Reused),
        };
        let on = transaction.executor();
        if !self.write_rows(on, std::slice::from_ref(&task), retry_of).await?[0] {
            transaction.roll_back().await?;
            return Ok(Outcome::Now(None));
        }
        remember(&mut transaction, &key, answer(&task)).await?;
        transaction.commit().await?;
        Ok(Outcome::Now(Some(task)))
    }

    /// Writes rows of new tasks; says which are written. What is in conflict is not: an id that is taken, or a second
    /// retry of one task.
    async fn write_rows(
        &self,
        on: Executor<'_>,
        tasks: &[Task],
        retry_of: Option<&TaskId>,
    ) -> Result<Vec<bool>, Error> {
        #[derive(sqlx::FromRow)]
        struct IdRow {
            id: String,
        }
        let mut seen = HashSet::with_capacity(tasks.len());
        let is_first: Vec<bool> = tasks.iter().map(|task| seen.insert(&task.id)).collect();
        let mut firsts: Vec<&Task> =
            tasks.iter().zip(&is_first).filter_map(|(task, first)| first.then_some(task)).collect();
        if firsts.is_empty() {
            return Ok(Vec::new());
        }
        // By id, so that batches that share ids wait for each other in one order and not in a circle.
        firsts.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        let mut table = Table::new(COLUMNS);
        for task in firsts {
            table.push([
                (&task.id).into(),
                (&task.task_type).into(),
                task.status.into(),
                task.metadata.as_ref().into(),
                task.params.as_ref().into(),
                task.terms.timeout.as_secs().into(),
                task.original_task_id.as_ref().into(),
                retry_of.into(),
                task.retry_count.into(),
                task.created_at.into(),
                task.updated_at.into(),
                task.timeout_at.into(),
                task.terms.max_attempts.into(),
                task.terms.stall.map(|stall| stall.as_secs()).into(),
            ]);
        }
        let written: Vec<IdRow> =
            Statement::new(insert_text(self.database.kind())).bind(table).fetch_all(on).await?;
        let written: HashSet<&str> = written.iter().map(|row| &*row.id).collect();
        let outcome =
            |(task, is_first): (&Task, &bool)| *is_first && written.contains(task.id.as_str());
        Ok(tasks.iter().zip(&is_first).map(outcome).collect())
    }
}

fn insert_text(kind: Kind) -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let (names, source) = (names.join(", "), Table::source(COLUMNS, kind, 0, "given"));
    // `WHERE TRUE` tells SQLite the `ON` of the conflict from one of a join.
    format!(
        "INSERT INTO tracker_tasks ({names}) SELECT {names} FROM {source} WHERE TRUE
         ON CONFLICT DO NOTHING RETURNING id"
    )
}

/// Tasks registered from `now` on, a microsecond after each other.
fn one_after_the_other(new: Vec<NewTask>, now: Timestamp) -> Vec<Task> {
    let after = |micros| now.plus(std::time::Duration::from_micros(micros));
    (0..).zip(new).map(|(place, new)| new.registered(after(place))).collect()
}

fn written_ones(tasks: Vec<Task>, written: Vec<bool>) -> Vec<Option<Task>> {
    tasks.into_iter().zip(written).map(|(task, written)| written.then_some(task)).collect()
}
