//! What is written to the file: by many tasks at once, in one commit.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::Error;
use super::index::Kept;
use crate::coalescer::{Answers, Coalescer, Width};
use crate::database::{self, Database, Kind, Statement, Table, Type};
use crate::domain::once::KEPT_FOR;
use crate::domain::{Receipt, TaskId};

/// There is one writer. Lines are held, and written, at once.
const WIDTH: Width = Width { lanes: 1, jobs: 500, weight: 4 << 20 };

/// Entries as rows.
const ENTRIES: &[(&str, Type)] = &[
    ("place", Type::Integer),
    ("task_id", Type::Text),
    ("seq_id", Type::Integer),
    ("line", Type::Text),
];

/// Receipts as rows.
const RECEIPTS: &[(&str, Type)] = &[
    ("task_id", Type::Text),
    ("key_hash", Type::Text),
    ("receipt", Type::Text),
    ("given_at", Type::Instant),
];

/// One change of the file.
#[derive(Debug)]
pub(super) enum Write {
    /// Keeps entries of a task, as lines, and the receipt of their append.
    Keep { task: TaskId, entries: Vec<(Kept, String)>, receipt: Option<Receipt> },
    /// Deletes all there is of a task, whose entries are at these places.
    Forget { task: TaskId, places: Vec<i64> },
}

impl Write {
    fn weight(&self) -> usize {
        match self {
            Self::Keep { entries, .. } => entries.iter().map(|(_, line)| line.len()).sum(),
            Self::Forget { .. } => 0,
        }
    }
}

/// Gathers what is to be written to a file.
pub(super) type Writes = Coalescer<Write, Result<(), Error>>;

/// Of the file of `database`.
pub(super) fn gather(database: &Database) -> Writes {
    let database = database.clone();
    Coalescer::new(WIDTH, Write::weight, TaskTracker::new(), move |writes| {
        run(database.clone(), writes)
    })
}

async fn run(database: Database, writes: Vec<Write>) -> Answers<Result<(), Error>> {
    let done = match write(&database, &writes).await {
        Ok(()) => return Ok(writes.iter().map(|_| Ok(())).collect()),
        // What one of them says cannot be written, perhaps: the others are not to blame.
        Err(database::Error::Failed(_)) if writes.len() > 1 => {
            let mut done = Vec::with_capacity(writes.len());
            for alone in &writes {
                let written = write(&database, std::slice::from_ref(alone)).await;
                done.push(written.map_err(Error::from));
            }
            done
        }
        Err(error) => {
            let error = Arc::new(error);
            return Err(Box::new(move || Err(Arc::clone(&error).into())));
        }
    };
    Ok(done)
}

/// All of it or nothing.
async fn write(database: &Database, writes: &[Write]) -> Result<(), database::Error> {
    let mut statements = statements(database.kind(), writes);
    // One is whole by itself.
    if statements.len() == 1 {
        return statements.remove(0).execute(database.writer()).await.map(drop);
    }
    let mut transaction = database.begin().await?;
    for statement in statements {
        statement.execute(transaction.executor()).await?;
    }
    transaction.commit().await
}

/// What says it, in this order.
fn statements(kind: Kind, writes: &[Write]) -> Vec<Statement> {
    let (mut entries, mut receipts) = (Table::new(ENTRIES), Table::new(RECEIPTS));
    let (mut statements, mut dropped, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
    for write in writes {
        match write {
            Write::Keep { task, entries: kept, receipt } => {
                for (Kept { place, seq_id, .. }, line) in kept {
                    let (place, seq_id) = ((*place).into(), (*seq_id).into());
                    entries.push([place, task.into(), seq_id, line.clone().into()]);
                }
                let Some(receipt) = receipt else { continue };
                let (key, text) = (receipt.hash.clone(), receipt.text());
                receipts.push([task.into(), key.into(), text.into(), receipt.at.into()]);
                // Who gives a receipt takes those of its task away that are over.
                statements.push(
                    Statement::new(
                        "DELETE FROM live_receipts WHERE task_id = $1 AND given_at <= $2",
                    )
                    .bind(task)
                    .bind(receipt.at.minus(KEPT_FOR)),
                );
            }
            Write::Forget { task, places } => {
                dropped.extend(places);
                forgotten.push(task.as_str().to_owned());
            }
        }
    }
    for (table, columns, rows) in
        [("live_journal", ENTRIES, entries), ("live_receipts", RECEIPTS, receipts)]
    {
        if !rows.is_empty() {
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            let (names, source) = (names.join(", "), Table::source(columns, kind, 0, "kept"));
            let insert = format!("INSERT INTO {table} ({names}) SELECT {names} FROM {source}");
            statements.push(Statement::new(insert).bind(rows));
        }
    }
    if !dropped.is_empty() {
        statements.push(delete(&dropped));
    }
    if !forgotten.is_empty() {
        let delete = "DELETE FROM live_receipts WHERE task_id IN (SELECT value FROM json_each($1))";
        statements.push(Statement::new(delete).bind(forgotten));
    }
    statements
}

/// What deletes the entries at these places.
pub(super) fn delete(places: &[i64]) -> Statement {
    Statement::new("DELETE FROM live_journal WHERE place IN (SELECT value FROM json_each($1))")
        .bind(list(places))
}

/// Places, as a statement takes them.
pub(super) fn list(places: &[i64]) -> String {
    let places: Vec<String> = places.iter().map(i64::to_string).collect();
    format!("[{}]", places.join(","))
}
