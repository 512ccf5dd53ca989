//! What an overview of all tasks is made of: what waits and runs, how many ended, a window of figures, and what failed lately.
//!
//! Each statement reads a range of one index and, but for tasks in progress and the few that failed last, no task. What is added
//! up of a range of ends never changes once nothing can end in it any more: callers keep it and ask for what is new.

use super::row::{TaskRow, columns};
use super::{Error, Listed, Storage, dialect, unreadable};
use crate::database::{Kind, Statement};
use crate::domain::histogram::Bucket;
use crate::domain::{Entry, Status, TaskType, Timestamp};

/// Types that are told of at most: those of which most wait.
const MOST_QUEUES: u32 = 50;

/// Tasks of a type that wait and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Which type.
    pub task_type: TaskType,
    /// How many wait.
    pub pending: u64,
    /// How many are in progress.
    pub in_progress: u64,
    /// When the oldest that waits was registered.
    pub oldest_pending_at: Option<Timestamp>,
}

/// Everything that has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Active {
    /// How many wait.
    pub pending: u64,
    /// How many are in progress.
    pub in_progress: u64,
    /// The types, of which most wait first; not all of them where there are many.
    pub queues: Vec<Queue>,
}

/// Workers that asked for work lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lately {
    /// How many asked.
    pub seen: u64,
    /// How many of them hold a task.
    pub holding: u64,
}

/// Tasks that ended in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// How many, by how they did.
    pub counts: Vec<(Status, u64)>,
    /// Where there may be more than were asked for, the instant of the last that was counted: others may have ended at the same.
    pub cut_off: Option<Timestamp>,
}

/// A stretch of time in steps of equal length.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// When the first step begins.
    pub from: Timestamp,
    /// When the last is over.
    pub to: Timestamp,
    /// How long a step is.
    pub step_seconds: u64,
}

/// Tasks that ended in the same step, in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedTasks {
    /// Which step, from 0.
    pub step: usize,
    /// How they ended.
    pub status: Status,
    /// How long it took, from the start of the last attempt; only of those that completed.
    pub took: Option<Bucket>,
    /// How many.
    pub tasks: u64,
}

#[derive(sqlx::FromRow)]
struct QueueRow {
    task_type: String,
    pending: i64,
    in_progress: i64,
    oldest_at: Option<Timestamp>,
    all_pending: i64,
    all_in_progress: i64,
}

#[derive(sqlx::FromRow)]
struct FailureRow {
    #[sqlx(flatten)]
    task: TaskRow,
    latest: Option<String>,
}

impl Storage {
    /// How many tasks wait and run, by type.
    pub async fn active(&self) -> Result<Active, Error> {
        let statement = active_statement(self.database.kind());
        let rows: Vec<QueueRow> = statement.fetch_all(self.database.reader()).await?;
        let all = rows.first().map_or((0, 0), |row| (row.all_pending, row.all_in_progress));
        let queues = rows.into_iter().map(|row| {
            Ok(Queue {
                task_type: row.task_type.parse().map_err(|_| unreadable("a task type"))?,
                pending: number(row.pending),
                in_progress: number(row.in_progress),
                oldest_pending_at: row.oldest_at,
            })
        });
        Ok(Active {
            pending: number(all.0),
            in_progress: number(all.1),
            queues: queues.collect::<Result<_, Error>>()?,
        })
    }

    /// How many tasks ended from `from` on and before `to`, by how they did; of the first `most` of them.
    pub async fn count_ended(
        &self,
        from: Timestamp,
        to: Timestamp,
        most: u32,
    ) -> Result<Ends, Error> {
        #[derive(sqlx::FromRow)]
        struct EndsRow {
            completed: i64,
            failed: i64,
            timeout: i64,
            cancelled: i64,
            last: Option<Timestamp>,
        }
        let statement = count_ended_statement(from, to, most);
        let row: Option<EndsRow> = statement.fetch_optional(self.database.reader()).await?;
        Ok(row.map_or_else(Ends::default, |row| {
            let counts = [
                (Status::Completed, number(row.completed)),
                (Status::Failed, number(row.failed)),
                (Status::Timeout, number(row.timeout)),
                (Status::Cancelled, number(row.cancelled)),
            ];
            let in_all: u64 = counts.iter().map(|(_, tasks)| *tasks).sum();
            let cut_off = row.last.filter(|_| in_all >= u64::from(most));
            Ends { counts: counts.into_iter().filter(|(_, tasks)| *tasks > 0).collect(), cut_off }
        }))
    }

    /// How many tasks were registered in each step in which there were any.
    pub async fn registered_by_step(&self, stretch: Stretch) -> Result<Vec<(usize, u64)>, Error> {
        #[derive(sqlx::FromRow)]
        struct StepRow {
            step: i64,
            tasks: i64,
        }
        let statement = registered_statement(self.database.kind(), stretch);
        let rows: Vec<StepRow> = statement.fetch_all(self.database.reader()).await?;
        rows.into_iter().map(|row| Ok((step(row.step)?, number(row.tasks)))).collect()
    }

    /// What ended in each step, how, and how long it took.
    pub async fn ended_by_step(&self, stretch: Stretch) -> Result<Vec<EndedTasks>, Error> {
        #[derive(sqlx::FromRow)]
        struct EndedRow {
            step: i64,
            status: String,
            digits: Option<i64>,
            leading: Option<i64>,
            tasks: i64,
        }
        let statement = ended_statement(self.database.kind(), stretch);
        let rows: Vec<EndedRow> = statement.fetch_all(self.database.reader()).await?;
        rows.into_iter()
            .map(|row| {
                let took = row.digits.zip(row.leading);
                let bucket = took.map(|(digits, leading)| {
                    Bucket::new(digits, leading).ok_or_else(|| unreadable("a duration"))
                });
                Ok(EndedTasks {
                    step: step(row.step)?,
                    status: status(&row.status)?,
                    took: bucket.transpose()?,
                    tasks: number(row.tasks),
                })
            })
            .collect()
    }

    /// The tasks that went wrong last, the latest first, without what clients gave them.
    pub async fn newest_failures(&self, limit: u32) -> Result<Vec<Listed>, Error> {
        let statement = failures_statement(self.database.kind(), limit);
        let rows: Vec<FailureRow> = statement.fetch_all(self.database.reader()).await?;
        rows.into_iter()
            .map(|row| {
                let latest = row.latest.as_deref().map(Entry::parse).transpose();
                Ok(Listed {
                    task: row.task.try_into()?,
                    latest: latest.map_err(|_| unreadable("the latest entry of a failure"))?,
                })
            })
            .collect()
    }

    /// How many workers asked for work since `since`.
    pub async fn workers_since(&self, since: Timestamp) -> Result<Lately, Error> {
        #[derive(sqlx::FromRow)]
        struct WorkersRow {
            seen: i64,
            holding: i64,
        }
        let statement = workers_statement(self.database.kind(), since);
        let row: Option<WorkersRow> = statement.fetch_optional(self.database.reader()).await?;
        Ok(row.map_or(Lately::default(), |row| Lately {
            seen: number(row.seen),
            holding: number(row.holding),
        }))
    }
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn step(number: i64) -> Result<usize, Error> {
    usize::try_from(number).map_err(|_| unreadable("a step"))
}

fn status(word: &str) -> Result<Status, Error> {
    Status::parse(word).ok_or_else(|| unreadable("a status"))
}

/// What waits is counted in the index of the claim, which has its types one after the other; what runs in that of what
/// workers hold.
pub(super) fn active_statement(kind: Kind) -> Statement {
    let pending = dialect::by_index(kind, " INDEXED BY tracker_tasks_claim");
    let held = dialect::by_index(kind, " INDEXED BY tracker_tasks_held");
    Statement::new(format!(
        "SELECT task_type, CAST(sum(waits) AS bigint) AS pending,
             CAST(sum(runs) AS bigint) AS in_progress, min(oldest_at) AS oldest_at,
             CAST(sum(sum(waits)) OVER () AS bigint) AS all_pending,
             CAST(sum(sum(runs)) OVER () AS bigint) AS all_in_progress
         FROM (SELECT task_type, count(*) AS waits, 0 AS runs, min(created_at) AS oldest_at
               FROM tracker_tasks{pending} WHERE status = 'pending' GROUP BY task_type
               UNION ALL
               SELECT task_type, 0, count(*), NULL
               FROM tracker_tasks{held} WHERE status = 'in_progress' GROUP BY task_type) AS active
         GROUP BY task_type
         ORDER BY pending DESC, in_progress DESC, task_type LIMIT $1"
    ))
    .bind(MOST_QUEUES)
}

/// One pass over the range: SQLite would sort all of it to group it.
pub(super) fn count_ended_statement(from: Timestamp, to: Timestamp, most: u32) -> Statement {
    Statement::new(
        "SELECT count(*) FILTER (WHERE status = 'completed') AS completed,
             count(*) FILTER (WHERE status = 'failed') AS failed,
             count(*) FILTER (WHERE status = 'timeout') AS timeout,
             count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
             max(completed_at) AS last
         FROM (SELECT status, completed_at FROM tracker_tasks
               WHERE completed_at >= $1 AND completed_at < $2
               ORDER BY completed_at, id LIMIT $3) AS ended",
    )
    .bind(from)
    .bind(to)
    .bind(most)
}

pub(super) fn registered_statement(kind: Kind, stretch: Stretch) -> Statement {
    let step = dialect::step_of(kind, "created_at");
    Statement::new(format!(
        "SELECT {step} AS step, count(*) AS tasks FROM tracker_tasks
         WHERE created_at >= $1 AND created_at < $2 GROUP BY 1"
    ))
    .bind(stretch.from)
    .bind(stretch.to)
    .bind(stretch.step_seconds)
}

/// The buckets are those of [`Bucket`]: how many digits a duration has, and the first three of them by five.
pub(super) fn ended_statement(kind: Kind, stretch: Stretch) -> Statement {
    let step = dialect::step_of(kind, "completed_at");
    let micros = dialect::micros_between(kind, "started_at", "completed_at");
    Statement::new(format!(
        "SELECT step, status, CAST(length(took) AS bigint) AS digits,
             CAST(substr(took, 1, 3) AS bigint) / 5 AS leading, count(*) AS tasks
         FROM (SELECT {step} AS step, status,
                   CASE WHEN status <> 'completed' THEN NULL
                       WHEN completed_at > started_at THEN CAST({micros} AS text)
                       WHEN started_at IS NOT NULL THEN '0' END AS took
               FROM tracker_tasks WHERE completed_at >= $1 AND completed_at < $2) AS ended
         GROUP BY 1, 2, 3, 4"
    ))
    .bind(stretch.from)
    .bind(stretch.to)
    .bind(stretch.step_seconds)
}

pub(super) fn failures_statement(kind: Kind, limit: u32) -> Statement {
    let index = dialect::by_index(kind, " INDEXED BY tracker_tasks_failures");
    // What may be a mebibyte each, and nobody looks at in an overview.
    let columns = columns!().replace(
        "metadata, params, result,",
        "CAST(NULL AS text) AS metadata, CAST(NULL AS text) AS params, CAST(NULL AS text) AS result,",
    );
    Statement::new(format!(
        "SELECT {columns},
             (SELECT latest FROM tracker_entries
              WHERE task_id = tracker_tasks.id AND lost_at IS NULL
              ORDER BY first_seq DESC LIMIT 1) AS latest
         FROM tracker_tasks{index} WHERE status IN ('failed', 'timeout')
         ORDER BY completed_at DESC, id DESC LIMIT $1"
    ))
    .bind(limit)
}

pub(super) fn workers_statement(kind: Kind, since: Timestamp) -> Statement {
    let held = dialect::by_index(kind, " INDEXED BY tracker_tasks_held");
    Statement::new(format!(
        "SELECT count(*) AS seen,
             count(CASE WHEN EXISTS (
                 SELECT 1 FROM tracker_tasks{held}
                 WHERE status = 'in_progress' AND worker_id = tracker_workers.worker_id) THEN 1 END) AS holding
         FROM tracker_workers WHERE seen_at >= $1"
    ))
    .bind(since)
}
