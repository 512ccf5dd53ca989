//! A task as a row of `tracker_tasks`.

use std::time::Duration;

use super::{Error, unreadable};
use crate::domain::{
    Cancellation, JsonObject, Lease, Reason, Status, Task, TaskId, Terms, Timestamp, WorkerId,
};

/// Every column of a task, by name: `*` would break statements prepared before a migration.
macro_rules! columns {
    () => {
        columns!("metadata, params, result")
    };
    ($large:literal) => {
        concat!(
            "id, task_type, status, ",
            $large,
            ", error, timeout_seconds, worker_id, \
             original_task_id, retry_count, attempt, created_at, updated_at, started_at, \
             completed_at, timeout_at, lease_token, lease_seconds, lease_expires_at, heard_at, \
             max_attempts, lost_attempts, stall_seconds, stall_check_at, stalled_at, \
             cancel_requested_at, cancel_reason, cancel_deadline"
        )
    };
}
/// The same without reading what may be large.
macro_rules! brief_columns {
    () => {
        columns!("NULL AS metadata, NULL AS params, NULL AS result")
    };
}
pub(super) use {brief_columns, columns};

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
    lease_token: Option<String>,
    lease_seconds: Option<i64>,
    lease_expires_at: Option<Timestamp>,
    heard_at: Option<Timestamp>,
    max_attempts: i64,
    lost_attempts: i64,
    stall_seconds: Option<i64>,
    stall_check_at: Option<Timestamp>,
    stalled_at: Option<Timestamp>,
    cancel_requested_at: Option<Timestamp>,
    cancel_reason: Option<String>,
    cancel_deadline: Option<Timestamp>,
}

impl TryFrom<TaskRow> for Task {
    type Error = Error;

    fn try_from(row: TaskRow) -> Result<Self, Error> {
        let id = row.id;
        let wrong = |column: &str| unreadable(&format!("task {id:?}, column {column}"));
        let lease = match row.lease_token {
            None => None,
            Some(token) => Some(Lease {
                token: token.parse().map_err(|_| wrong("lease_token"))?,
                length: row.lease_seconds.map(seconds),
                expires_at: row.lease_expires_at,
                heard_at: row.heard_at.ok_or_else(|| wrong("heard_at"))?,
            }),
        };
        let reason = row.cancel_reason.map(Reason::try_from).transpose();
        let reason = reason.map_err(|_| wrong("cancel_reason"))?;
        let cancellation = row.cancel_requested_at.map(|requested_at| Cancellation {
            requested_at,
            reason,
            deadline: row.cancel_deadline,
        });
        Ok(Self {
            task_type: row.task_type.parse().map_err(|_| wrong("task_type"))?,
            status: Status::parse(&row.status).ok_or_else(|| wrong("status"))?,
            metadata: row.metadata.map(JsonObject::from_stored),
            params: row.params.map(JsonObject::from_stored),
            result: row.result.map(JsonObject::from_stored),
            error: row.error.map(JsonObject::from_stored),
            terms: Terms {
                timeout: seconds(row.timeout_seconds),
                max_attempts: u32::try_from(row.max_attempts).map_err(|_| wrong("max_attempts"))?,
                stall: row.stall_seconds.map(seconds),
            },
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
            lost_attempts: u32::try_from(row.lost_attempts).map_err(|_| wrong("lost_attempts"))?,
            lease,
            stalled_at: row.stalled_at,
            stall_check_at: row.stall_check_at,
            cancellation,
            created_at: row.created_at,
            updated_at: row.updated_at,
            started_at: row.started_at,
            completed_at: row.completed_at,
            timeout_at: row.timeout_at,
            id: id.parse().map_err(|_| wrong("id"))?,
        })
    }
}

fn seconds(column: i64) -> Duration {
    Duration::from_secs(u64::try_from(column).unwrap_or(0))
}
