//! The file: what it holds when it is opened, and what is in doubt since.

use std::collections::HashMap;

use super::index::{Index, Kept};
use super::{Error, once};
use crate::database::{Database, Statement};
use crate::domain::TaskId;

/// Reads [`KeptRow`]s.
const KEPT: &str = "SELECT place, task_id, seq_id, octet_length(line) AS bytes FROM live_journal";

/// An entry of the file without its line.
#[derive(sqlx::FromRow)]
struct KeptRow {
    place: i64,
    task_id: String,
    seq_id: i64,
    bytes: i64,
}

#[derive(sqlx::FromRow)]
struct GenerationRow {
    generation: String,
}

#[derive(sqlx::FromRow)]
struct TableRow {}

impl From<&KeptRow> for Kept {
    fn from(row: &KeptRow) -> Self {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        Self { seq_id: number(row.seq_id), place: row.place, bytes: number(row.bytes) }
    }
}

/// Makes the tables that are not there.
pub(super) async fn prepare(database: &Database) -> Result<(), Error> {
    // One statement at a time: a prepared one is but the first of its text.
    for statement in include_str!("schema.sql").split(";\n").filter(|sql| sql.contains("CREATE")) {
        Statement::new(statement).execute(database.writer()).await?;
    }
    Statement::new(once::SCHEMA).execute(database.writer()).await?;
    take_over(database).await
}

/// Moves entries from the table that earlier versions kept them in, by task.
async fn take_over(database: &Database) -> Result<(), Error> {
    let is_there = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'live_entries'";
    let there: Option<TableRow> =
        Statement::new(is_there).fetch_optional(database.writer()).await?;
    if there.is_none() {
        return Ok(());
    }
    let mut transaction = database.begin().await?;
    for statement in [
        "INSERT INTO live_journal (task_id, seq_id, line)
         SELECT task_id, seq_id, line FROM live_entries ORDER BY task_id, seq_id",
        "DROP TABLE live_entries",
    ] {
        Statement::new(statement).execute(transaction.executor()).await?;
    }
    Ok(transaction.commit().await?)
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

/// Where all entries stand, and the first place that is free behind them.
pub(super) async fn indexes(database: &Database) -> Result<(HashMap<TaskId, Index>, i64), Error> {
    let rows: Vec<KeptRow> =
        Statement::new(format!("{KEPT} ORDER BY place")).fetch_all(database.writer()).await?;
    let mut indexes: HashMap<TaskId, Index> = HashMap::new();
    for row in &rows {
        let task = row.task_id.parse().map_err(|_| Error::Failed("no id of a task".into()))?;
        indexes.entry(task).or_default().extend([row.into()]);
    }
    Ok((indexes, rows.last().map_or(1, |last| last.place + 1)))
}

/// Where the entries of one task stand: all of the file is read for it.
pub(super) async fn index(database: &Database, task: &TaskId) -> Result<Index, Error> {
    let rows: Vec<KeptRow> = Statement::new(format!("{KEPT} WHERE task_id = $1 ORDER BY place"))
        .bind(task)
        .fetch_all(database.writer())
        .await?;
    let mut index = Index::default();
    index.extend(rows.iter().map(Kept::from));
    Ok(index)
}
