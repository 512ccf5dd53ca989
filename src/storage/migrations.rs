//! The schema, as numbered files in `migrations/`, the same numbers and names for both databases.
//!
//! They run at start and by `task-tracker migrate`, each in a transaction; on Postgres under an
//! advisory lock, so that nodes that start together wait for each other.

use std::time::Duration;

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use crate::database::Database;

/// Every migration: number, name, and its text for each database.
const FILES: [(i64, &str, &str, &str); 9] = [
    (
        1,
        "core",
        include_str!("../../migrations/postgres/0001_core.sql"),
        include_str!("../../migrations/sqlite/0001_core.sql"),
    ),
    (
        2,
        "leases",
        include_str!("../../migrations/postgres/0002_leases.sql"),
        include_str!("../../migrations/sqlite/0002_leases.sql"),
    ),
    (
        3,
        "idempotency",
        include_str!("../../migrations/postgres/0003_idempotency.sql"),
        include_str!("../../migrations/sqlite/0003_idempotency.sql"),
    ),
    (
        4,
        "sealing",
        include_str!("../../migrations/postgres/0004_sealing.sql"),
        include_str!("../../migrations/sqlite/0004_sealing.sql"),
    ),
    (
        5,
        "workers",
        include_str!("../../migrations/postgres/0005_workers.sql"),
        include_str!("../../migrations/sqlite/0005_workers.sql"),
    ),
    (
        6,
        "memories",
        include_str!("../../migrations/postgres/0006_memories.sql"),
        include_str!("../../migrations/sqlite/0006_memories.sql"),
    ),
    (
        7,
        "overview",
        include_str!("../../migrations/postgres/0007_overview.sql"),
        include_str!("../../migrations/sqlite/0007_overview.sql"),
    ),
    (
        8,
        "lists",
        include_str!("../../migrations/postgres/0008_lists.sql"),
        include_str!("../../migrations/sqlite/0008_lists.sql"),
    ),
    (
        9,
        "retries",
        include_str!("../../migrations/postgres/0009_retries.sql"),
        include_str!("../../migrations/sqlite/0009_retries.sql"),
    ),
];

/// The schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database could not be reached, or a migration failed.
    #[error("the database schema could not be brought up to date")]
    Migrate(#[from] MigrateError),
    /// No connection in time.
    #[error("the database could not be reached within {0:?}")]
    Unreachable(Duration, #[source] crate::database::Error),
}

/// Brings the schema up to date, waiting up to `patience` for a database that is still starting.
pub async fn run(database: &Database, patience: Duration) -> Result<(), Error> {
    let asked = std::time::Instant::now();
    while let Err(error) = database.ping().await {
        if asked.elapsed() >= patience {
            return Err(Error::Unreachable(patience, error));
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the database");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    match database {
        Database::Postgres(stock) => {
            // A node that is older than the schema goes on: migrations only add.
            let mut connection = stock.own().await.map_err(MigrateError::Execute)?;
            // The limits of requests are not those of a migration, nor of waiting for another node's.
            sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = 0")
                .execute(&mut *connection)
                .await
                .map_err(MigrateError::Execute)?;
            migrator(|(_, _, postgres, _)| postgres)
                .set_ignore_missing(true)
                .run(&mut *connection)
                .await?;
            connection.close().await.map_err(MigrateError::Execute)?;
        }
        Database::Sqlite { writer, .. } => {
            let mut migrator = migrator(|(_, _, _, sqlite)| sqlite);
            let mut connection = writer.own().await.map_err(MigrateError::Execute)?;
            migrator.set_ignore_missing(true).run(&mut *connection).await?;
        }
    }
    Ok(())
}

fn migrator(sql: fn((i64, &'static str, &'static str, &'static str)) -> &'static str) -> Migrator {
    let migration = |file: (i64, &'static str, &'static str, &'static str)| {
        let (number, name, ..) = file;
        Migration::new(number, name.into(), MigrationType::Simple, sql(file).into_sql_str(), false)
    };
    Migrator::with_migrations(FILES.into_iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use super::FILES;

    /// Table, column and constraint names in the order they are declared.
    fn declared(sql: &str) -> Vec<&str> {
        sql.lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["CREATE", "INDEX", "IF", "NOT", "EXISTS", name, ..]
                | ["CREATE", "TABLE" | "INDEX", name, ..]
                | ["CONSTRAINT", name, ..]
                | ["ALTER", "TABLE", _, "ADD", "COLUMN", name, ..] => Some(name),
                [name, kind, ..] if kind.chars().all(|c| c.is_ascii_alphabetic() || c == ',') => {
                    line.starts_with("    ").then_some(name)
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn both_databases_declare_the_same_names_in_the_same_order() {
        for (number, name, postgres, sqlite) in FILES {
            assert_eq!(declared(postgres), declared(sqlite), "{number:04}_{name}");
        }
    }
}
