//! What has moved lately, for those who watch many tasks.

use super::lists::{LATEST, ListedRow};
use super::row::columns;
use super::tasks::{names, texts};
use super::{Error, Listed, Storage, dialect, unreadable};
use crate::database::{Kind, Statement};
use crate::domain::{TaskId, TaskType, Timestamp};

#[derive(sqlx::FromRow)]
struct MovedRow {
    id: String,
    at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct IdRow {
    id: String,
}

impl Storage {
    /// Tasks of these types (all, if there are none) that have moved since `since`, and when; at most `limit` of each kind of
    /// move. A task may be there several times.
    pub async fn moved_since(
        &self,
        types: &[TaskType],
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<(TaskId, Timestamp)>, Error> {
        let rows: Vec<MovedRow> = moved_statement(self.database.kind(), types, since, limit)
            .fetch_all(self.database.reader())
            .await?;
        rows.into_iter().map(|row| Ok((id(&row.id)?, row.at))).collect()
    }

    /// Tasks of these types (all, if there are none) that run, the newest first.
    pub async fn running(&self, types: &[TaskType], limit: u32) -> Result<Vec<TaskId>, Error> {
        let rows: Vec<IdRow> = running_statement(self.database.kind(), types, limit)
            .fetch_all(self.database.reader())
            .await?;
        rows.into_iter().map(|row| id(&row.id)).collect()
    }

    /// Reads tasks as a list has them; those that are not there are left out.
    pub async fn listed_each(&self, ids: &[TaskId]) -> Result<Vec<Listed>, Error> {
        let (member, columns) = (dialect::in_first_parameter(self.database.kind()), columns!());
        let rows: Vec<ListedRow> = Statement::new(format!(
            "SELECT {columns}, {LATEST} FROM tracker_tasks WHERE id{member}"
        ))
        .bind(texts(ids))
        .fetch_all(self.database.reader())
        .await?;
        rows.into_iter().map(Listed::try_from).collect()
    }
}

fn id(text: &str) -> Result<TaskId, Error> {
    text.parse().map_err(|_| unreadable("an id"))
}

/// A condition on the types bound to `$1`, if there are any, and the number of the next parameter.
fn of_types(kind: Kind, types: &[TaskType]) -> (String, usize) {
    if types.is_empty() {
        (String::new(), 1)
    } else {
        (format!(" AND task_type{}", dialect::in_first_parameter(kind)), 2)
    }
}

fn bind_types(statement: Statement, types: &[TaskType]) -> Statement {
    if types.is_empty() { statement } else { statement.bind(names(types)) }
}

/// Each kind of move by the index that has it: there is none of all, for every write would have to keep it.
pub(super) fn moved_statement(
    kind: Kind,
    types: &[TaskType],
    since: Timestamp,
    limit: u32,
) -> Statement {
    let (of_types, since_at) = of_types(kind, types);
    let limit_at = since_at + 1;
    // A stall and a wish to cancel change no status, and leave `updated_at` as it is.
    let newest =
        "CASE WHEN coalesce(stalled_at, updated_at) >= coalesce(cancel_requested_at, updated_at)
                        AND coalesce(stalled_at, updated_at) >= updated_at
                       THEN coalesce(stalled_at, updated_at)
                       WHEN coalesce(cancel_requested_at, updated_at) >= updated_at
                       THEN coalesce(cancel_requested_at, updated_at)
                       ELSE updated_at END";
    let running = format!(
        "status = 'in_progress' AND (updated_at >= ${since_at} OR stalled_at >= ${since_at}
             OR cancel_requested_at >= ${since_at})"
    );
    let begins = |column: &str| format!("{column} >= ${since_at}");
    let kinds = [
        ("created_at", " INDEXED BY tracker_tasks_newest", begins("created_at")),
        ("completed_at", " INDEXED BY tracker_tasks_ended", begins("completed_at")),
        (newest, " INDEXED BY tracker_tasks_by_status", running),
        // Given back, or lost.
        (
            "updated_at",
            " INDEXED BY tracker_tasks_returned",
            format!("status = 'pending' AND attempt > 0 AND updated_at >= ${since_at}"),
        ),
    ];
    let kinds = kinds.map(|(at, index, condition)| {
        let by_index = dialect::by_index(kind, index);
        format!(
            "SELECT * FROM (SELECT id, {at} AS at FROM tracker_tasks{by_index}
             WHERE {condition}{of_types} LIMIT ${limit_at}) AS moved"
        )
    });
    bind_types(Statement::new(kinds.join(" UNION ALL ")), types).bind(since).bind(limit)
}

pub(super) fn running_statement(kind: Kind, types: &[TaskType], limit: u32) -> Statement {
    let (of_types, limit_at) = of_types(kind, types);
    let statement = Statement::new(format!(
        "SELECT id FROM tracker_tasks WHERE status = 'in_progress'{of_types}
         ORDER BY created_at DESC, id DESC LIMIT ${limit_at}"
    ));
    bind_types(statement, types).bind(limit)
}
