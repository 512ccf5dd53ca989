//! The one way a status changes, but for the claim: rows are locked, looked at, and written as one.

use std::collections::HashMap;

use super::entries::number;
use super::idempotency::{receipt_statements, remember};
use super::row::{TaskRow, columns};
use super::tasks::texts;
use super::{Error, Loss, Storage, dialect, sealing};
use crate::database::{Kind, Statement, Table, Transaction, Type};
use crate::domain::{Entry, Keyed, Receipt, Task, TaskId, Timestamp};

/// Which tasks a change is about.
#[derive(Debug, Clone, Copy)]
pub enum Selection<'a> {
    /// This one; another transaction that holds it is waited for.
    One(&'a TaskId),
    /// Those of these, each once, that are there and that no other transaction holds.
    Free(&'a [TaskId]),
    /// Those whose `due` has passed, the longest ago first, but for those that another transaction holds.
    Due {
        /// What has passed.
        due: Due,
        /// By when.
        now: Timestamp,
        /// How many at most.
        limit: u32,
    },
}

/// What may have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The deadline of a task that has not ended.
    Deadline,
    /// The lease of a task in progress, unless progress has renewed it.
    Lease,
    /// The time to look whether a task in progress has stalled.
    StallCheck,
    /// The time its worker was given to end a cancelled task.
    Grace,
}

/// A task that was changed, as it stands now.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The task.
    pub task: Task,
    /// The number of the newest entry of its history if it has ended; otherwise 0.
    pub last_seq_id: u64,
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
    /// What was acknowledged to appends with a key and is not written yet; only of a task that ends.
    pub receipts: Vec<Receipt>,
}

impl From<Task> for Change {
    /// Of a task that does not end.
    fn from(task: Task) -> Self {
        Self { task, entries: Vec::new(), loss: None, receipts: Vec::new() }
    }
}

impl Storage {
    /// Locks the tasks of `selection`, asks `decide` where they shall stand, and commits all of it or
    /// nothing: the one way a status changes, but for the claim.
    ///
    /// The rows stay locked while `decide` runs, so what it was shown still holds when it is
    /// committed; it must not use the storage. A task that ends is noted as unsettled in the same commit.
    pub async fn change<D, F, E>(
        &self,
        selection: Selection<'_>,
        decide: D,
    ) -> Result<Vec<Changed>, E>
    where
        D: FnOnce(Vec<Task>) -> F,
        F: Future<Output = Result<Vec<Change>, E>>,
        E: From<Error>,
    {
        let transaction = self.database.begin().await.map_err(E::from)?;
        self.change_in(transaction, selection, None, decide).await
    }

    /// The same in a transaction that has begun, perhaps with a key to be answered for the one task.
    pub(super) async fn change_in<D, F, E>(
        &self,
        mut transaction: Transaction,
        selection: Selection<'_>,
        keyed: Option<Keyed<Task>>,
        decide: D,
    ) -> Result<Vec<Changed>, E>
    where
        D: FnOnce(Vec<Task>) -> F,
        F: Future<Output = Result<Vec<Change>, E>>,
        E: From<Error>,
    {
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
        write(&mut transaction, &changes).await.map_err(E::from)?;
        let histories: Vec<_> = changes.iter().filter_map(sealing::Extension::of).collect();
        sealing::extend(&mut transaction, &histories).await.map_err(E::from)?;
        let newest = note_ends(&mut transaction, &changes).await.map_err(E::from)?;
        if let (Some(Keyed { key, answer }), Some(change)) = (keyed, changes.first()) {
            remember(&mut transaction, &key, answer(&change.task)).await.map_err(E::from)?;
        }
        transaction.commit().await.map_err(E::from)?;
        let as_it_stands = |Change { task, .. }| {
            let last_seq_id = newest.get(task.id.as_str()).copied().unwrap_or(0);
            Changed { task, last_seq_id }
        };
        Ok(changes.into_iter().map(as_it_stands).collect())
    }
}

impl Selection<'_> {
    pub(super) fn statement(self, kind: Kind) -> Statement {
        const SELECT: &str = concat!("SELECT ", columns!(), " FROM tracker_tasks WHERE ");
        match self {
            Self::One(id) => {
                Statement::new(format!("{SELECT} id = $1{}", dialect::for_update(kind))).bind(id)
            }
            Self::Free(ids) => {
                let member = dialect::in_first_parameter(kind);
                let lock = dialect::for_update_skip_locked(kind);
                Statement::new(format!("{SELECT} id{member}{lock}")).bind(texts(ids))
            }
            Self::Due { due, now, limit } => {
                // Each is the beginning of a partial index: the conditions must be the index's.
                let (among, at, index) = match due {
                    Due::Deadline => {
                        ("completed_at IS NULL", "timeout_at", " INDEXED BY tracker_tasks_deadline")
                    }
                    Due::Lease => (
                        "status = 'in_progress'",
                        "lease_expires_at",
                        " INDEXED BY tracker_tasks_leases",
                    ),
                    Due::StallCheck => (
                        "status = 'in_progress'",
                        "stall_check_at",
                        " INDEXED BY tracker_tasks_stalls",
                    ),
                    Due::Grace => (
                        "status = 'in_progress'",
                        "cancel_deadline",
                        " INDEXED BY tracker_tasks_cancels",
                    ),
                };
                let (columns, index) = (columns!(), dialect::by_index(kind, index));
                let lock = dialect::for_update_skip_locked(kind);
                Statement::new(format!(
                    "SELECT {columns} FROM tracker_tasks{index}
                     WHERE {among} AND {at} <= $1 ORDER BY {at} LIMIT $2{lock}"
                ))
                .bind(now)
                .bind(limit)
            }
        }
    }
}

/// What is written of a change.
const CHANGED: &[(&str, Type)] = &[
    ("task", Type::Text),
    ("status", Type::Text),
    ("worker_id", Type::Text),
    ("result", Type::Text),
    ("error", Type::Text),
    ("attempt", Type::Integer),
    ("updated_at", Type::Instant),
    ("started_at", Type::Instant),
    ("completed_at", Type::Instant),
    ("lease_token", Type::Text),
    ("lease_seconds", Type::Integer),
    ("lease_expires_at", Type::Instant),
    ("heard_at", Type::Instant),
    ("lost_attempts", Type::Integer),
    ("stall_check_at", Type::Instant),
    ("stalled_at", Type::Instant),
    ("cancel_requested_at", Type::Instant),
    ("cancel_reason", Type::Text),
    ("cancel_deadline", Type::Instant),
];

/// The ends that are to be settled.
const UNSETTLED: &[(&str, Type)] = &[("task", Type::Text), ("since", Type::Instant)];

#[derive(sqlx::FromRow)]
struct EndedRow {
    task_id: String,
    last_seq_id: i64,
}

/// Writes changes: the rows, and what was acknowledged with a key.
async fn write(transaction: &mut Transaction, changes: &[Change]) -> Result<(), Error> {
    let kind = transaction.kind();
    let mut rows = Table::new(CHANGED);
    for Change { task, .. } in changes {
        let (lease, cancellation) = (task.lease.as_ref(), task.cancellation.as_ref());
        rows.push([
            (&task.id).into(),
            task.status.into(),
            task.worker_id.as_ref().into(),
            task.result.as_ref().into(),
            task.error.as_ref().into(),
            task.attempt.into(),
            task.updated_at.into(),
            task.started_at.into(),
            task.completed_at.into(),
            lease.map(|lease| &lease.token).into(),
            lease.and_then(|lease| lease.length).map(|length| length.as_secs()).into(),
            lease.and_then(|lease| lease.expires_at).into(),
            lease.map(|lease| lease.heard_at).into(),
            task.lost_attempts.into(),
            task.stall_check_at.into(),
            task.stalled_at.into(),
            cancellation.map(|wish| wish.requested_at).into(),
            cancellation.and_then(|wish| wish.reason.as_ref()).into(),
            cancellation.and_then(|wish| wish.deadline).into(),
        ]);
    }
    let set: Vec<String> =
        CHANGED[1..].iter().map(|(name, _)| format!("{name} = changed.{name}")).collect();
    let (set, source) = (set.join(", "), Table::source(CHANGED, kind, 0, "changed"));
    Statement::new(format!(
        "UPDATE tracker_tasks SET {set} FROM {source} WHERE tracker_tasks.id = changed.task"
    ))
    .bind(rows)
    .execute(transaction.executor())
    .await?;
    for Change { task, receipts, .. } in changes {
        for statement in receipt_statements(kind, &task.id, receipts) {
            statement.execute(transaction.executor()).await?;
        }
    }
    Ok(())
}

/// Notes that ends are to be settled. Says the number of the newest entry of each of their histories, which are whole by now.
async fn note_ends<'c>(
    transaction: &mut Transaction,
    changes: &'c [Change],
) -> Result<HashMap<String, u64>, Error> {
    let end = |Change { task, .. }: &'c Change| Some((&task.id, task.completed_at?));
    let ends: Vec<(&TaskId, Timestamp)> = changes.iter().filter_map(end).collect();
    if ends.is_empty() {
        return Ok(HashMap::new());
    }
    let noted: Vec<EndedRow> =
        note_statement(transaction.kind(), &ends).fetch_all(transaction.executor()).await?;
    Ok(noted.into_iter().map(|row| (row.task_id, number(row.last_seq_id))).collect())
}

/// What notes ends, each with when.
pub(super) fn note_statement(kind: Kind, ends: &[(&TaskId, Timestamp)]) -> Statement {
    let mut unsettled = Table::new(UNSETTLED);
    for (id, at) in ends {
        unsettled.push([(*id).into(), (*at).into()]);
    }
    let source = Table::source(UNSETTLED, kind, 0, "ended");
    Statement::new(format!(
        "INSERT INTO tracker_unsettled (task_id, since) SELECT task, since FROM {source}
         RETURNING task_id, coalesce(
             (SELECT last_seq FROM tracker_entries
              WHERE tracker_entries.task_id = tracker_unsettled.task_id
              ORDER BY first_seq DESC LIMIT 1), 0) AS last_seq_id"
    ))
    .bind(unsettled)
}
