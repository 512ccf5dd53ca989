//! One statement, said to whichever database is there.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, FromRow, Postgres, SqlSafeStr, SqlStr, Sqlite};
use tokio::time::timeout;

use super::lease::{DEADLINE, Lease};
use super::stock::Stock;
use super::{Error, Table};
use crate::domain::{
    JsonObject, LeaseToken, Reason, Status, TaskId, TaskType, Timestamp, WorkerId,
};

/// Where a statement is run.
#[derive(Debug)]
pub enum Executor<'c> {
    /// Any connection to Postgres.
    PostgresPool(&'c Stock<Postgres>),
    /// Any connection to SQLite.
    SqlitePool(&'c Stock<Sqlite>),
    /// A Postgres transaction.
    Postgres(&'c mut Lease<Postgres>),
    /// A SQLite transaction.
    Sqlite(&'c mut Lease<Sqlite>),
}

/// A row type that both drivers can fill; `#[derive(sqlx::FromRow)]` is enough.
pub trait FromEitherRow:
    for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}

impl<T> FromEitherRow for T where
    T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}

/// A value bound to `$n`.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text, or NULL.
    Text(Option<String>),
    /// A 64-bit integer, or NULL.
    Integer(Option<i64>),
    /// An instant, or NULL.
    Instant(Option<Timestamp>),
    /// A list of texts: `text[]` on Postgres, a JSON array on SQLite (see `dialect::TEXTS`).
    Texts(Vec<String>),
    /// Rows; it must be the last parameter, for on Postgres it is as many as it has columns.
    Table(Table),
}

/// A SQL text with its values.
#[derive(Debug, Clone)]
pub struct Statement {
    sql: Cow<'static, str>,
    values: Vec<Value>,
    deadline: Duration,
}

impl Statement {
    /// A statement whose text is fixed, or composed of fixed fragments: no value ever stands in it.
    pub fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new(), deadline: DEADLINE }
    }

    /// Binds the next parameter.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Sets how long its answer is waited for, once it has a connection.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same statement behind `prefix`, for `EXPLAIN`.
    #[must_use]
    pub fn behind(mut self, prefix: &str) -> Self {
        self.sql = format!("{prefix} {}", self.sql).into();
        self
    }

    /// Asks Postgres how it would run it whatever the values are, as it runs what it keeps prepared (`force_generic_plan`): to be
    /// said one after the other on one connection. An `EXPLAIN` of the statement itself would plan for its values.
    #[must_use]
    pub fn explained_in_general(self) -> [Self; 3] {
        let columns = |value: &Value| match value {
            Value::Table(table) => table.width(),
            _ => 1,
        };
        let nulls = vec!["NULL"; self.values.iter().map(columns).sum()].join(", ");
        let values = if nulls.is_empty() { nulls } else { format!("({nulls})") };
        [
            Self::new(format!("PREPARE asked AS {}", self.sql)),
            Self::new(format!("EXPLAIN EXECUTE asked {values}")),
            Self::new("DEALLOCATE asked"),
        ]
    }

    /// Runs it and says how many rows it touched.
    pub async fn execute(self, on: Executor<'_>) -> Result<u64, Error> {
        let deadline = self.deadline;
        macro_rules! run {
            ($parts:expr, $lease:expr) => {{
                let (sql, arguments) = $parts?;
                let lease = $lease;
                let query = sqlx::query_with(sql, arguments);
                let answer = timeout(deadline, query.execute(lease.connection()?)).await;
                lease.ended(answer)?.rows_affected()
            }};
        }
        Ok(match on {
            Executor::PostgresPool(pool) => {
                run!(self.for_postgres(), &mut Lease::take(pool).await?)
            }
            Executor::Postgres(lease) => run!(self.for_postgres(), lease),
            Executor::SqlitePool(pool) => run!(self.for_sqlite(), &mut Lease::take(pool).await?),
            Executor::Sqlite(lease) => run!(self.for_sqlite(), lease),
        })
    }

    /// Runs it and takes every row.
    pub async fn fetch_all<R: FromEitherRow>(self, on: Executor<'_>) -> Result<Vec<R>, Error> {
        let deadline = self.deadline;
        macro_rules! run {
            ($parts:expr, $lease:expr) => {{
                let (sql, arguments) = $parts?;
                let lease = $lease;
                let query = sqlx::query_as_with(sql, arguments);
                let answer = timeout(deadline, query.fetch_all(lease.connection()?)).await;
                lease.ended(answer)?
            }};
        }
        Ok(match on {
            Executor::PostgresPool(pool) => {
                run!(self.for_postgres(), &mut Lease::take(pool).await?)
            }
            Executor::Postgres(lease) => run!(self.for_postgres(), lease),
            Executor::SqlitePool(pool) => run!(self.for_sqlite(), &mut Lease::take(pool).await?),
            Executor::Sqlite(lease) => run!(self.for_sqlite(), lease),
        })
    }

    /// Runs it and takes the first row, if there is one. The statement itself says that there is
    /// at most one: it runs to its end, so that a write is whole.
    pub async fn fetch_optional<R: FromEitherRow>(
        self,
        on: Executor<'_>,
    ) -> Result<Option<R>, Error> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    fn for_postgres(self) -> Result<(SqlStr, PgArguments), Error> {
        let mut arguments = PgArguments::default();
        for value in self.values {
            match value {
                Value::Text(text) => arguments.add(text),
                Value::Integer(integer) => arguments.add(integer),
                Value::Instant(instant) => arguments.add(instant),
                Value::Texts(texts) => arguments.add(texts),
                Value::Table(table) => table.bind_to_postgres(&mut arguments),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok((text(self.sql), arguments))
    }

    fn for_sqlite(self) -> Result<(SqlStr, SqliteArguments), Error> {
        let mut arguments = SqliteArguments::default();
        for value in self.values {
            match value {
                Value::Text(text) => arguments.add(text),
                Value::Integer(integer) => arguments.add(integer),
                Value::Instant(instant) => arguments.add(instant),
                Value::Texts(texts) => arguments.add(serde_json::Value::from(texts).to_string()),
                Value::Table(table) => arguments.add(table.to_json()),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok((text(self.sql), arguments))
    }
}

fn text(sql: Cow<'static, str>) -> SqlStr {
    match sql {
        Cow::Borrowed(text) => text.into_sql_str(),
        // Composed of fixed fragments: see `Statement::new`.
        Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
    }
}

macro_rules! text_values {
    ($($type:ty),+) => {$(
        impl From<&$type> for Value {
            fn from(value: &$type) -> Self {
                Self::Text(Some(value.as_str().to_owned()))
            }
        }
        impl From<Option<&$type>> for Value {
            fn from(value: Option<&$type>) -> Self {
                Self::Text(value.map(|value| value.as_str().to_owned()))
            }
        }
    )+};
}

text_values!(TaskId, TaskType, WorkerId, LeaseToken, Reason, JsonObject);

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Status> for Value {
    fn from(value: Status) -> Self {
        Self::Text(Some(value.as_str().to_owned()))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(Some(value.into()))
    }
}

/// Numbers of entries and durations in seconds: far from the end of an `i64`, and held there.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Integer(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<Option<u64>> for Value {
    fn from(value: Option<u64>) -> Self {
        value.map_or(Self::Integer(None), Self::from)
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Instant(Some(value))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(value: Option<Timestamp>) -> Self {
        Self::Instant(value)
    }
}

impl From<Vec<String>> for Value {
    fn from(value: Vec<String>) -> Self {
        Self::Texts(value)
    }
}

impl From<Table> for Value {
    fn from(value: Table) -> Self {
        Self::Table(value)
    }
}
