//! How much room a log takes and may take, and making some: what is sealed leaves the file.

use super::{EmbeddedLive, Error};
use crate::database::{Database, Statement};
use crate::domain::TaskId;
use crate::live::{Appended, LEFT, Limits, Verified, WINDOW, WINDOW_BYTES};

/// What is known of the size of one log.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The newest entry that is known to be sealed.
    pub(super) last_sealed: u64,
    /// Bytes of all entries ever.
    total: u64,
    /// Bytes in the file.
    live: u64,
}

impl Room {
    /// Whether entries up to `last_seq_id` of so many bytes must not come behind `before`, as `append.lua` has it.
    pub(super) fn refuses(
        &self,
        before: u64,
        last_seq_id: u64,
        bytes: u64,
        limits: Limits,
    ) -> Option<Appended> {
        if last_seq_id > limits.entries || self.total + bytes > limits.bytes {
            return Some(Appended::TooLong);
        }
        let has_unsealed = before > self.last_sealed;
        let is_full = last_seq_id - self.last_sealed > WINDOW
            || (has_unsealed && self.live + bytes > WINDOW_BYTES);
        is_full.then_some(Appended::Full)
    }

    /// Counts what was kept.
    pub(super) fn take(&mut self, bytes: u64) {
        self.total += bytes;
        self.live += bytes;
    }
}

#[derive(sqlx::FromRow)]
struct SizeRow {
    live: i64,
    unsealed: i64,
}

#[derive(sqlx::FromRow)]
struct BoundsRow {
    first: i64,
    last: i64,
}

#[derive(sqlx::FromRow)]
struct GenerationRow {
    generation: String,
}

/// The generation of a file: made with it, and gone with it.
pub(super) async fn generation(database: &Database) -> Result<String, Error> {
    Statement::new(
        "INSERT INTO live_generation (one, generation) VALUES (1, $1) ON CONFLICT DO NOTHING",
    )
    .bind(format!("{:016x}", fastrand::u64(..)))
    .execute(database.writer())
    .await?;
    let row: Option<GenerationRow> = Statement::new("SELECT generation FROM live_generation")
        .fetch_optional(database.writer())
        .await?;
    row.map(|row| row.generation).ok_or_else(|| Error::Failed("no generation".into()))
}

impl EmbeddedLive {
    /// The number behind which a log begins, and its newest; zeros where there is none.
    pub(super) async fn bounds(&self, task: &TaskId) -> Result<(u64, u64), Error> {
        let row: Option<BoundsRow> = Statement::new(
            "SELECT coalesce((SELECT min(seq_id) FROM live_entries WHERE task_id = $1), 1) AS first,
                 coalesce((SELECT max(seq_id) FROM live_entries WHERE task_id = $1), 0) AS last",
        )
        .bind(task)
        .fetch_optional(self.database.reader())
        .await?;
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(row.map_or((0, 0), |row| (number(row.first) - 1, number(row.last))))
    }

    /// Measures a log that was verified. One that ends before what is sealed is older than that: all
    /// of it is sealed, and it begins anew.
    pub(super) async fn measure(
        &self,
        task: &TaskId,
        newest: u64,
        verified: &Verified,
    ) -> Result<Room, Error> {
        let last_sealed = verified.last_sealed;
        if newest < last_sealed {
            Statement::new("DELETE FROM live_entries WHERE task_id = $1")
                .bind(task)
                .execute(self.database.writer())
                .await?;
        }
        let row: Option<SizeRow> = Statement::new(
            "SELECT coalesce(sum(octet_length(line)), 0) AS live,
                 coalesce(sum(iif(seq_id > $2, octet_length(line), 0)), 0) AS unsealed
             FROM live_entries WHERE task_id = $1",
        )
        .bind(task)
        .bind(last_sealed)
        .fetch_optional(self.database.writer())
        .await?;
        let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        let (live, unsealed) = row.map_or((0, 0), |row| (bytes(row.live), bytes(row.unsealed)));
        Ok(Room { last_sealed, total: verified.sealed_bytes + unsealed, live })
    }

    /// Deletes what is sealed, but for the newest entries of the log.
    pub(super) async fn let_go(&self, task: &TaskId, last_sealed: u64) -> Result<(), Error> {
        let log = self.lock().by_task.get(task).cloned();
        // Nobody has asked for it in this process: its first append measures it.
        let Some(log) = log else {
            return self.delete_sealed(task, last_sealed).await.map(drop);
        };
        let mut log = log.lock().await;
        let freed = self.delete_sealed(task, last_sealed).await?;
        log.room.last_sealed = log.room.last_sealed.max(last_sealed);
        log.room.live = log.room.live.saturating_sub(freed);
        Ok(())
    }

    async fn delete_sealed(&self, task: &TaskId, last_sealed: u64) -> Result<u64, Error> {
        #[derive(sqlx::FromRow)]
        struct FreedRow {
            bytes: i64,
        }
        let rows: Vec<FreedRow> = Statement::new(
            "DELETE FROM live_entries WHERE task_id = $1 AND seq_id <= $2
                 AND seq_id <= (SELECT max(seq_id) FROM live_entries WHERE task_id = $1) - $3
             RETURNING octet_length(line) AS bytes",
        )
        .bind(task)
        .bind(last_sealed)
        .bind(LEFT)
        .fetch_all(self.database.writer())
        .await?;
        Ok(rows.iter().map(|row| u64::try_from(row.bytes).unwrap_or(0)).sum())
    }
}
