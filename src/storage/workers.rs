//! Who polls for work, and what waits before a task.

use super::row::{TaskRow, columns};
use super::{Error, Storage, dialect, unreadable};
use crate::database::{Kind, Statement, Table, Type};
use crate::domain::{Task, TaskType, Timestamp, WorkerId};

/// Held tasks of a page of workers at most.
const MOST_HELD: u32 = 1000;
/// Beyond so many tasks before one it is not counted on.
const MOST_AHEAD: u32 = 1000;

/// A worker that asked for work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub worker_id: WorkerId,
    /// The types it asked for of late.
    pub task_types: Vec<TaskType>,
    /// When it asked last, to a few seconds.
    pub at: Timestamp,
}

/// The last time somebody asked for tasks of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polled {
    /// Which type.
    pub task_type: TaskType,
    /// By whom.
    pub worker_id: WorkerId,
    /// When, to a few seconds.
    pub at: Timestamp,
}

/// What is noted of a worker, and of a type: the name, and something of it.
const ASKING: &[(&str, Type); 2] = &[("worker_id", Type::Text), ("task_types", Type::Text)];
const POLLED: &[(&str, Type); 2] = &[("task_type", Type::Text), ("worker_id", Type::Text)];

#[derive(sqlx::FromRow)]
struct WorkerRow {
    worker_id: String,
    task_types: String,
    seen_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct PolledRow {
    worker_id: String,
    seen_at: Timestamp,
}

impl Storage {
    /// Notes that these workers asked for work by `now`, and that these types were asked for.
    pub async fn note_polls(
        &self,
        mut workers: Vec<Seen>,
        mut types: Vec<Polled>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let kind = self.database.kind();
        // In one order everywhere: nodes that note the same rows at once must not wait for each other in a ring.
        workers.sort_unstable_by(|a, b| a.worker_id.cmp(&b.worker_id));
        types.sort_unstable_by(|a, b| a.task_type.cmp(&b.task_type));
        let (mut asking, mut polled) = (Table::new(ASKING), Table::new(POLLED));
        for seen in &workers {
            asking.push([(&seen.worker_id).into(), array(&seen.task_types).into()]);
        }
        for Polled { task_type, worker_id, .. } in &types {
            polled.push([task_type.into(), worker_id.into()]);
        }
        let notes = [("tracker_workers", ASKING, asking), ("tracker_polled_types", POLLED, polled)];
        for (into, columns, rows) in notes {
            let [(name, _), (of_it, _)] = columns;
            let source = Table::source(columns, kind, 1, "noted");
            // `WHERE TRUE` tells SQLite the `ON` of the conflict from one of a join.
            Statement::new(format!(
                "INSERT INTO {into} ({name}, {of_it}, seen_at)
                 SELECT {name}, {of_it}, $1 FROM {source} WHERE TRUE
                 ON CONFLICT ({name}) DO UPDATE SET {of_it} = excluded.{of_it}, seen_at = excluded.seen_at"
            ))
            .bind(now)
            .bind(rows)
            .execute(self.database.writer())
            .await?;
        }
        Ok(())
    }

    /// Forgets workers and types that were not seen since `before`.
    pub async fn forget_polls(&self, before: Timestamp) -> Result<u64, Error> {
        let mut forgotten = 0;
        for statement in [
            "DELETE FROM tracker_workers WHERE seen_at < $1",
            "DELETE FROM tracker_polled_types WHERE seen_at < $1",
        ] {
            let statement = Statement::new(statement).bind(before);
            forgotten += statement.execute(self.database.writer()).await?;
        }
        Ok(forgotten)
    }

    /// Workers in the order of their names, behind `after`.
    pub async fn workers(&self, after: Option<&WorkerId>, limit: u32) -> Result<Vec<Seen>, Error> {
        let rows: Vec<WorkerRow> = Statement::new(
            "SELECT worker_id, task_types, seen_at FROM tracker_workers WHERE worker_id > $1
             ORDER BY worker_id LIMIT $2",
        )
        .bind(after.map_or_else(String::new, |after| after.as_str().to_owned()))
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.into_iter()
            .map(|row| {
                let wrong = || unreadable("a worker");
                Ok(Seen {
                    worker_id: row.worker_id.parse().map_err(|_| wrong())?,
                    task_types: serde_json::from_str(&row.task_types).map_err(|_| wrong())?,
                    at: row.seen_at,
                })
            })
            .collect()
    }

    /// Tasks in progress of these workers, the oldest first.
    pub async fn held_by(&self, workers: &[WorkerId]) -> Result<Vec<Task>, Error> {
        let statement = held_statement(self.database.kind(), workers);
        let rows: Vec<TaskRow> = statement.fetch_all(self.database.reader()).await?;
        rows.into_iter().map(Task::try_from).collect()
    }

    /// The last time somebody asked for tasks of this type, as far back as that is kept.
    pub async fn polled(&self, task_type: &TaskType) -> Result<Option<Polled>, Error> {
        let row: Option<PolledRow> = Statement::new(
            "SELECT worker_id, seen_at FROM tracker_polled_types WHERE task_type = $1",
        )
        .bind(task_type)
        .fetch_optional(self.database.reader())
        .await?;
        row.map(|row| {
            Ok(Polled {
                task_type: task_type.clone(),
                worker_id: row.worker_id.parse().map_err(|_| unreadable("a worker"))?,
                at: row.seen_at,
            })
        })
        .transpose()
    }

    /// How many pending tasks of its type are claimed before this one; counted to a thousand.
    pub async fn ahead_of(&self, task: &Task) -> Result<u64, Error> {
        #[derive(sqlx::FromRow)]
        struct CountRow {
            tasks: i64,
        }
        let row: Option<CountRow> = Statement::new(
            "SELECT count(*) AS tasks FROM (
                 SELECT 1 FROM tracker_tasks
                 WHERE status = 'pending' AND task_type = $1 AND (created_at, id) < ($2, $3)
                 LIMIT $4) AS earlier",
        )
        .bind(&task.task_type)
        .bind(task.created_at)
        .bind(&task.id)
        .bind(MOST_AHEAD)
        .fetch_optional(self.database.reader())
        .await?;
        Ok(row.map_or(0, |row| u64::try_from(row.tasks).unwrap_or(0)))
    }
}

pub(super) fn held_statement(kind: Kind, workers: &[WorkerId]) -> Statement {
    let (columns, member) = (columns!(), dialect::in_first_parameter(kind));
    let index = dialect::by_index(kind, " INDEXED BY tracker_tasks_held");
    Statement::new(format!(
        "SELECT {columns} FROM tracker_tasks{index}
         WHERE status = 'in_progress' AND worker_id{member}
         ORDER BY worker_id, created_at, id LIMIT $2"
    ))
    .bind(workers.iter().map(|worker| worker.as_str().to_owned()).collect::<Vec<_>>())
    .bind(MOST_HELD)
}

/// The names as a JSON array.
fn array(types: &[TaskType]) -> String {
    serde_json::json!(types).to_string()
}
