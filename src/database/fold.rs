//! Folds SQLite's write-ahead log back into its file, beside the writer.
//!
//! A commit that finds the log long folds it back itself, and everybody behind it waits for the disk, twice. So another
//! connection does it, a moment after something was written, while commits go on. As long as they go on it never comes to
//! the end of the log, and only there can the log begin anew: that is what is left to a commit now and then, which folds what
//! came in that moment. (A checkpoint in the mode PASSIVE: <https://sqlite.org/wal.html>.)

use std::sync::Arc;
use std::time::Duration;

use sqlx::Sqlite;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::{Executor, Statement, Stock};

/// Pages of the log, of 4 KiB each, at which a commit folds it. At a thousand, SQLite's own measure, a busy file stood still for
/// some milliseconds eight times a second.
pub(super) const LONGEST: &str = "12000";
/// How long what is written waits to be folded. Shorter is smoother: to fold keeps a processor and the disk busy.
const AFTER: Duration = Duration::from_millis(20);
/// How long it may take where the disk is slow.
const DEADLINE: Duration = Duration::from_mins(1);

/// What folds the log of one file, until it is dropped; cheap to clone.
#[derive(Debug, Clone)]
pub struct Fold(Arc<Folding>);

#[derive(Debug)]
struct Folding {
    connection: Stock<Sqlite>,
    due: Arc<Notify>,
    task: AbortHandle,
}

impl Fold {
    /// Folds on this connection, which nobody else uses: it may take long, and nobody is to wait for it.
    pub(super) fn on(connection: Stock<Sqlite>) -> Self {
        let due = Arc::new(Notify::new());
        let task = tokio::spawn(fold(connection.clone(), Arc::clone(&due))).abort_handle();
        Self(Arc::new(Folding { connection, due, task }))
    }

    /// Something is about to be written.
    pub(super) fn due(&self) {
        self.0.due.notify_one();
    }

    /// Leaves what is left to the file's last connection, which folds it when it is closed.
    pub(super) async fn stop(&self) {
        self.0.task.abort();
        self.0.connection.close().await;
    }
}

impl Drop for Folding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn fold(connection: Stock<Sqlite>, due: Arc<Notify>) {
    loop {
        due.notified().await;
        sleep(AFTER).await;
        let checkpoint = Statement::new("PRAGMA wal_checkpoint(PASSIVE)").within(DEADLINE);
        if let Err(error) = checkpoint.execute(Executor::SqlitePool(&connection)).await {
            // The writer folds it as well, when it becomes long.
            tracing::debug!(error = &error as &dyn std::error::Error, "a log was not folded back");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::database::Database;

    /// A file with one table.
    async fn with_a_table(file: &Path) -> Database {
        let database = Database::sqlite(file, 1).await.expect("a database");
        write(&database, "CREATE TABLE kept (text TEXT)").await;
        database
    }

    async fn write(database: &Database, sql: &'static str) {
        Statement::new(sql).execute(database.writer()).await.expect("a statement");
    }

    /// How often the log began anew: a number in its head (<https://sqlite.org/fileformat2.html#the_write_ahead_log>).
    fn beginnings(file: &Path) -> u32 {
        let log = std::fs::read(file.with_extension("db-wal")).expect("the log");
        u32::from_be_bytes(log[12..16].try_into().expect("four bytes"))
    }

    #[tokio::test]
    async fn a_log_that_is_written_without_pause_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("some.db");
        let database = with_a_table(&file).await;
        let first = beginnings(&file);
        let until_anew = async || {
            while beginnings(&file) == first {
                write(&database, "INSERT INTO kept SELECT hex(zeroblob(1000000))").await;
            }
        };
        timeout(Duration::from_mins(2), until_anew()).await.expect("it begins anew");
        database.close().await;
    }

    #[tokio::test]
    async fn what_is_written_is_in_the_file_soon_after_however_little_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("some.db");
        let database = with_a_table(&file).await;
        write(&database, "INSERT INTO kept SELECT hex(zeroblob(50000))").await;
        let is_folded = async || {
            while std::fs::metadata(&file).expect("the file").len() < 100_000 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), is_folded()).await.expect("it is folded back");
        database.close().await;
    }
}
