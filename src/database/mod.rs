//! A handle on one SQL database, Postgres or SQLite, and one way to say a statement to either.
//!
//! It stands under [`crate::storage`] and under the embedded live log, and knows neither. A
//! [`Statement`] is one SQL text for both: `$n` parameters, every value bound. What truly
//! differs between the two is chosen by [`Kind`] where the SQL is written.

mod fold;
mod lease;
mod statement;
mod stock;
mod table;
mod time;

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Postgres, Sqlite};

pub use fold::Fold;
pub use lease::Lease;
pub use statement::{Executor, FromEitherRow, Statement, Value};
pub use stock::Stock;
pub use table::{Table, Type};

/// How long a caller waits for a free connection before it hears that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How much of a file its writer has in memory at most, in KiB behind a minus: what is written to of a few ten thousand tasks. SQLite's
/// own 2 MB are gone through within a second.
const WRITER_CACHE: &str = "-16384";
/// How long SQLite waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// Which of the two a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Postgres 14 or later.
    Postgres,
    /// SQLite, in a file of this process.
    Sqlite,
}

/// A database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is away, overloaded or shutting down: the same call may succeed later.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// It answered with an error: a defect of ours or of its contents.
    #[error("a database statement failed")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let away = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            // A connection in disorder, as one that was cut in the middle of a word.
            | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(database) => {
                database.code().is_some_and(|code| is_passing(&code))
            }
            _ => false,
        };
        if away { Self::Unavailable(error) } else { Self::Failed(error) }
    }
}

/// Postgres: connection exceptions (08), serialization and deadlock (40), insufficient resources
/// (53), operator intervention and time limits (57), lock not available (55P03), read-only (25006: a
/// fail-over under way), a transaction that was idle for too long (25P03). SQLite: busy (5), locked (6), I/O (10), full (13), and their extended codes.
fn is_passing(code: &str) -> bool {
    // A SQLSTATE has five characters; SQLite's codes have fewer.
    if code.len() == 5 {
        let class = &code[..2];
        return matches!(class, "08" | "40" | "53" | "57")
            || matches!(code, "55P03" | "25006" | "25P03");
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13))
}

/// A pool of connections to one database; cheap to clone.
#[derive(Debug, Clone)]
pub enum Database {
    /// A pool on a Postgres server.
    Postgres(Stock<Postgres>),
    /// One writer and many readers on a SQLite file: SQLite admits one writer at a time, and
    /// waiting for it in our queue is fairer and cheaper than in its busy loop.
    Sqlite {
        /// The only connection that writes.
        writer: Stock<Sqlite>,
        /// Connections that read beside it.
        readers: Stock<Sqlite>,
        /// What folds back what was written.
        fold: Fold,
    },
}

impl Database {
    /// Prepares a pool on a Postgres server. No connection is made before it is needed, so that a
    /// server that is away is reported by the first use.
    pub fn postgres(url: &str, connections: u32) -> Result<Self, Error> {
        let options = url
            .parse::<PgConnectOptions>()?
            .application_name("task-tracker")
            // A statement that nobody waits for any more is ended by the server, and a lock that is not given
            // before our own deadline.
            .options([("statement_timeout", "10s"), ("lock_timeout", "5s"), ("timezone", "UTC")])
            // Every statement looks up few rows by an index, and takes them in its order. A plan is made once for a connection, perhaps
            // while the table is small and nobody has counted it, and must do when it is large: none may read all of it, nor all of
            // an index to sort it.
            .options([
                ("enable_seqscan", "off"),
                ("enable_bitmapscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
            ])
            // Nor is it made anew for each batch because its length is known: that costs more than the batch.
            .options([("plan_cache_mode", "force_generic_plan"), ("jit", "off")])
            // What a node locked whose end of the connection is gone without a word, the server frees by itself.
            .options([
                ("idle_in_transaction_session_timeout", "15s"),
                ("tcp_keepalives_idle", "30"),
                ("tcp_keepalives_interval", "10"),
                ("tcp_keepalives_count", "3"),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(lease::is_alive(connection).await) })
            })
            .connect_lazy_with(options);
        Ok(Self::Postgres(pool.into()))
    }

    /// Opens a SQLite file, creating it where there is none. What is committed survives the death
    /// of the process; `synchronous = NORMAL` may lose the newest commits when the machine
    /// loses power, and never the file's consistency.
    pub async fn sqlite(file: &Path, readers: u32) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("journal_size_limit", "67108864");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(10))
            // A file does not hang up.
            .test_before_acquire(false)
            // The writer lives as long as the process: its prepared statements stay warm.
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(
                options
                    .clone()
                    .pragma("cache_size", WRITER_CACHE)
                    .pragma("wal_autocheckpoint", fold::LONGEST),
            )
            .await?;
        let beside = options.pragma("query_only", "on");
        let lazily = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
                .connect_lazy_with(beside.clone())
        };
        let (readers, fold) = (lazily(readers).into(), Fold::on(lazily(1).into()));
        Ok(Self::Sqlite { writer: writer.into(), readers, fold })
    }

    /// Which of the two this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Postgres(_) => Kind::Postgres,
            Self::Sqlite { .. } => Kind::Sqlite,
        }
    }

    /// Where statements that only read are run.
    pub fn reader(&self) -> Executor<'_> {
        match self {
            Self::Postgres(pool) => Executor::PostgresPool(pool),
            Self::Sqlite { readers, .. } => Executor::SqlitePool(readers),
        }
    }

    /// Where a single statement that writes is run.
    pub fn writer(&self) -> Executor<'_> {
        match self {
            Self::Postgres(pool) => Executor::PostgresPool(pool),
            Self::Sqlite { writer, fold, .. } => {
                fold.due();
                Executor::SqlitePool(writer)
            }
        }
    }

    /// Where statements are run one after the other between which nothing needs to hold.
    pub async fn hold(&self) -> Result<Held<'_>, Error> {
        Ok(match self {
            Self::Postgres(stock) => Held::Postgres(Lease::take(stock).await?),
            Self::Sqlite { .. } => Held::Sqlite(self),
        })
    }

    /// Begins a transaction that may write. It is rolled back when dropped.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        Ok(match self {
            Self::Postgres(pool) => Transaction::Postgres(Lease::begin(pool, "BEGIN").await?),
            // IMMEDIATE takes the write lock at once: an upgrade in the middle could not wait for it.
            Self::Sqlite { writer, fold, .. } => {
                fold.due();
                Transaction::Sqlite(Lease::begin(writer, "BEGIN IMMEDIATE").await?)
            }
        })
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), Error> {
        Statement::new("SELECT 1").execute(self.reader()).await.map(drop)
    }

    /// Closes every connection; SQLite folds its write-ahead log back into the file.
    pub async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite { writer, readers, fold } => {
                fold.stop().await;
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

/// What several statements are run on, each committed by itself.
#[derive(Debug)]
pub enum Held<'d> {
    /// The same connection: looking for one costs as much as some of them.
    Postgres(Lease<Postgres>),
    /// The file, which has readers and a writer.
    Sqlite(&'d Database),
}

impl Held<'_> {
    /// On which of the two it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Postgres(_) => Kind::Postgres,
            Self::Sqlite(_) => Kind::Sqlite,
        }
    }

    /// Where a statement that only reads is run.
    pub fn reader(&mut self) -> Executor<'_> {
        match self {
            Self::Postgres(lease) => Executor::Postgres(lease),
            Self::Sqlite(database) => database.reader(),
        }
    }

    /// Where a statement that writes is run.
    pub fn writer(&mut self) -> Executor<'_> {
        match self {
            Self::Postgres(lease) => Executor::Postgres(lease),
            Self::Sqlite(database) => database.writer(),
        }
    }
}

/// A transaction on either database.
#[derive(Debug)]
pub enum Transaction {
    /// On Postgres.
    Postgres(Lease<Postgres>),
    /// On SQLite, holding the only writer.
    Sqlite(Lease<Sqlite>),
}

impl Transaction {
    /// On which of the two it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Postgres(_) => Kind::Postgres,
            Self::Sqlite(_) => Kind::Sqlite,
        }
    }

    /// Where the transaction's statements are run.
    pub fn executor(&mut self) -> Executor<'_> {
        match self {
            Self::Postgres(lease) => Executor::Postgres(lease),
            Self::Sqlite(lease) => Executor::Sqlite(lease),
        }
    }

    /// Undoes it now. Dropping it does so, too, but later: its rows would stay locked a while.
    pub async fn roll_back(self) -> Result<(), Error> {
        match self {
            Self::Postgres(lease) => lease.end("ROLLBACK").await?,
            Self::Sqlite(lease) => lease.end("ROLLBACK").await?,
        }
        Ok(())
    }

    /// Makes it durable. Where no answer comes in time it is not known whether it is.
    pub async fn commit(self) -> Result<(), Error> {
        match self {
            Self::Postgres(lease) => lease.end("COMMIT").await?,
            Self::Sqlite(lease) => lease.end("COMMIT").await?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_passing;

    #[test]
    fn what_may_succeed_later_is_told_from_a_defect() {
        for code in
            ["08006", "40P01", "53300", "57P01", "57014", "55P03", "25P03", "5", "261", "13"]
        {
            assert!(is_passing(code), "{code}");
        }
        for code in ["23505", "42P01", "22P05", "1", "19", "1555", "2067"] {
            assert!(!is_passing(code), "{code}");
        }
    }
}
