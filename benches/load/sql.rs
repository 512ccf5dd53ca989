//! The tables behind a server, reached past it: to make in seconds what a million requests would,
//! and to look whether something has come to pass.

use std::path::PathBuf;

use anyhow::Result;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};

/// Where a server keeps its tasks.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A database on Postgres, by its URL.
    Postgres(String),
    /// The file of an embedded server.
    Sqlite(PathBuf),
}

/// A connection to it.
pub(crate) enum Sql {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Place {
    pub(crate) async fn open(&self) -> Result<Sql> {
        Ok(match self {
            Self::Postgres(url) => Sql::Postgres(PgConnection::connect(url).await?),
            Self::Sqlite(file) => {
                // The file is there: a server or a migration has made it.
                let options = SqliteConnectOptions::new()
                    .filename(file)
                    .busy_timeout(std::time::Duration::from_mins(1));
                Sql::Sqlite(options.connect().await?)
            }
        })
    }
}

impl Sql {
    /// Runs what is the same on both.
    pub(crate) async fn run(&mut self, statement: &str) -> Result<u64> {
        self.run_either(statement, statement).await
    }

    /// Runs what is not, and tells how many rows it changed.
    pub(crate) async fn run_either(&mut self, postgres: &str, sqlite: &str) -> Result<u64> {
        Ok(match self {
            Self::Postgres(connection) => {
                connection.execute(AssertSqlSafe(postgres.to_owned())).await?.rows_affected()
            }
            Self::Sqlite(connection) => {
                connection.execute(AssertSqlSafe(sqlite.to_owned())).await?.rows_affected()
            }
        })
    }

    /// The one number a query gives.
    pub(crate) async fn number(&mut self, query: &str) -> Result<i64> {
        let query = AssertSqlSafe(query.to_owned());
        Ok(match self {
            Self::Postgres(connection) => connection.fetch_one(query).await?.try_get(0)?,
            Self::Sqlite(connection) => connection.fetch_one(query).await?.try_get(0)?,
        })
    }
}
