//! Sealed history: what was live, as rows of many entries.

use super::{Error, Storage, unreadable};
use crate::database::Statement;
use crate::domain::{Entry, Gap, TaskId, Timestamp};

/// What the sealed history holds behind a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// Entries, in order: one row's worth, a page of history.
    Entries(Vec<Entry>),
    /// Entries that are gone for good.
    Gap(Gap),
    /// Nothing: it ends there.
    Nothing,
}

#[derive(sqlx::FromRow)]
struct EntriesRow {
    first_seq: i64,
    last_seq: i64,
    entries: String,
    lost_at: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct SizeRow {
    last_seq: i64,
    bytes: i64,
}

#[derive(sqlx::FromRow)]
struct LastRow {
    last_seq: i64,
}

/// The newest number of a sealed history.
pub(super) const LAST_SEALED: &str = "coalesce(max(last_seq), 0)";
/// The bytes of a sealed history.
pub(super) const SEALED_BYTES: &str = "CAST(coalesce(sum(octet_length(entries)), 0) AS bigint)";

impl Storage {
    /// The sealed history above `after_seq_id`, one page of it.
    pub async fn sealed(&self, id: &TaskId, after_seq_id: u64) -> Result<Sealed, Error> {
        let row: Option<EntriesRow> = Statement::new(
            "SELECT first_seq, last_seq, entries, lost_at FROM tracker_entries
             WHERE task_id = $1 AND last_seq > $2 ORDER BY first_seq LIMIT 1",
        )
        .bind(id)
        .bind(after_seq_id)
        .fetch_optional(self.database.reader())
        .await?;
        let Some(row) = row else {
            return Ok(Sealed::Nothing);
        };
        if let Some(at) = row.lost_at {
            let from = number(row.first_seq).max(after_seq_id + 1);
            return Ok(Sealed::Gap(Gap { from, to: number(row.last_seq), at }));
        }
        let mut entries = Entry::parse_sealed(&row.entries)
            .map_err(|_| unreadable(&format!("history of task {id}")))?;
        entries.retain(|entry| entry.seq_id > after_seq_id);
        Ok(Sealed::Entries(entries))
    }

    /// The newest number of the sealed history; 0 where there is none.
    pub async fn last_sealed(&self, id: &TaskId) -> Result<u64, Error> {
        let row: Option<LastRow> = Statement::new(
            "SELECT last_seq FROM tracker_entries WHERE task_id = $1 ORDER BY first_seq DESC LIMIT 1",
        )
        .bind(id)
        .fetch_optional(self.database.reader())
        .await?;
        Ok(row.map_or(0, |row| number(row.last_seq)))
    }

    /// The newest number of the sealed history, and its bytes.
    pub async fn sealed_size(&self, id: &TaskId) -> Result<(u64, u64), Error> {
        let row: Option<SizeRow> = Statement::new(format!(
            "SELECT {LAST_SEALED} AS last_seq, {SEALED_BYTES} AS bytes
             FROM tracker_entries WHERE task_id = $1"
        ))
        .bind(id)
        .fetch_optional(self.database.reader())
        .await?;
        Ok(row.map_or((0, 0), |row| (number(row.last_seq), number(row.bytes))))
    }
}

pub(super) fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}
