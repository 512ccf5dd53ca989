//! Sealed history: what was live, as rows of many entries.

use super::{Error, Storage, unreadable};
use crate::database::Statement;
use crate::domain::{Entry, TaskId, progress};

/// Entries in a row at most: a reader that pages does not read a long history at once.
const ROW_ENTRIES: usize = 1000;
/// Bytes in a row at about most, for the same reason.
const ROW_BYTES: usize = 1 << 20;

#[derive(sqlx::FromRow)]
struct EntriesRow {
    entries: String,
}

#[derive(sqlx::FromRow)]
struct LastRow {
    last_seq: i64,
}

impl Storage {
    /// Sealed entries above `after_seq_id`, in order: one row's worth, a page of history. Empty at the end.
    pub async fn sealed(&self, id: &TaskId, after_seq_id: u64) -> Result<Vec<Entry>, Error> {
        let row: Option<EntriesRow> = Statement::new(
            "SELECT entries FROM tracker_entries WHERE task_id = $1 AND last_seq > $2
             ORDER BY first_seq LIMIT 1",
        )
        .bind(id)
        .bind(after_seq_id)
        .fetch_optional(self.database.reader())
        .await?;
        let Some(row) = row else {
            return Ok(Vec::new());
        };
        let mut entries = Entry::parse_sealed(&row.entries)
            .map_err(|_| unreadable(&format!("history of task {id}")))?;
        entries.retain(|entry| entry.seq_id > after_seq_id);
        Ok(entries)
    }

    /// The number of the newest sealed entry; 0 where there is none.
    pub async fn last_sealed(&self, id: &TaskId) -> Result<u64, Error> {
        let row: Option<LastRow> = Statement::new(
            "SELECT last_seq FROM tracker_entries WHERE task_id = $1 ORDER BY first_seq DESC LIMIT 1",
        )
        .bind(id)
        .fetch_optional(self.database.reader())
        .await?;
        Ok(row.map_or(0, |row| u64::try_from(row.last_seq).unwrap_or(0)))
    }

    /// Seals entries of a task that has ended: those acknowledged while its end was being committed.
    /// Sealing the same entries twice leaves them once; of two rows that begin alike the longer stays.
    pub async fn seal(&self, id: &TaskId, entries: &[Entry]) -> Result<(), Error> {
        for statement in seal_statements(id, entries) {
            statement.execute(self.database.writer()).await?;
        }
        Ok(())
    }
}

/// The statements that seal `entries`, which follow each other.
pub(super) fn seal_statements(id: &TaskId, entries: &[Entry]) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.progress.as_str().len();
            bytes <= ROW_BYTES
        };
        let count = rest.iter().take(ROW_ENTRIES).take_while(fits).count().max(1);
        let (row, later) = rest.split_at(count);
        let latest = &row[count - 1];
        statements.push(
            Statement::new(
                "INSERT INTO tracker_entries (task_id, first_seq, last_seq, entries, latest)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (task_id, first_seq) DO UPDATE
                 SET last_seq = excluded.last_seq, entries = excluded.entries, latest = excluded.latest
                 WHERE excluded.last_seq > tracker_entries.last_seq",
            )
            .bind(id)
            .bind(first.seq_id)
            .bind(latest.seq_id)
            .bind(progress::seal(row.iter()))
            .bind(latest.line()),
        );
        rest = later;
    }
    statements
}
