//! How entries are added to the sealed history of tasks, many tasks at once.
//!
//! Whoever adds holds the row of the task, looks where its history ends, and adds what comes behind, so
//! rows never overlap, whoever seals, ends or settles at once. What follows leaves no number out: where entries
//! are missing, or were lost behind the last, a row says so (`lost_at`).
//!
//! A task that says a little now and then would get many small rows. Neighbours are therefore put
//! together, lazily: once [`RUN`] or more at the end are no larger than all that came after them. So an
//! entry is written a few times (a logarithm of a row's entries) and small rows are a few dozen at most. A
//! row is replaced by one that holds the same entries and more, in one commit: a reader, who asks for
//! the row that holds what is above a number, finds either.

use std::collections::HashMap;

use super::change::Change;
use super::entries::number;
use super::tasks::texts;
use super::{Error, Storage, dialect};
use crate::database::{Kind, Statement, Table, Transaction, Type};
use crate::domain::{Entry, TaskId, Timestamp, progress};

/// Entries in a row at most: a reader that pages does not read a long history at once.
const ROW_ENTRIES: u64 = 1000;
/// Bytes in a row at about most, for the same reason.
const ROW_BYTES: u64 = 1 << 20;
/// Rows that are put together at least.
const RUN: usize = 8;

/// A row of sealed history.
const ROW: &[(&str, Type)] = &[
    ("task_id", Type::Text),
    ("first_seq", Type::Integer),
    ("last_seq", Type::Integer),
    ("entries", Type::Text),
    ("latest", Type::Text),
    ("lost_in", Type::Text),
    ("lost_at", Type::Instant),
];

/// The live log lost its memory: behind what is sealed, numbers may have been given that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The generation that was found instead; a task notes it once.
    pub generation: String,
    /// How many numbers may have been given behind the newest entry that is there.
    pub numbers: u64,
    /// When it was noticed.
    pub at: Timestamp,
}

/// What is to be added to the history of one task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extension<'a> {
    task: &'a TaskId,
    /// In order. Those that are sealed are passed over.
    entries: &'a [Entry],
    loss: Option<&'a Loss>,
}

impl<'a> Extension<'a> {
    /// What a change adds, if anything.
    pub(super) fn of(change: &'a Change) -> Option<Self> {
        let Change { task, entries, loss, .. } = change;
        let extension = Self { task: &task.id, entries, loss: loss.as_ref() };
        (!entries.is_empty() || loss.is_some()).then_some(extension)
    }
}

/// A row that is there: the end of a history is a few of them, oldest first.
#[derive(Debug, sqlx::FromRow)]
struct TailRow {
    task_id: String,
    first_seq: i64,
    last_seq: i64,
    bytes: i64,
    lost_in: Option<String>,
}

/// A row that is to be written.
#[derive(Debug)]
struct NewRow<'a> {
    task: &'a TaskId,
    first: u64,
    last: u64,
    entries: String,
    latest: String,
    hole: Option<Hole<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Hole<'a> {
    generation: &'a str,
    at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct IdRow {
    id: String,
}

#[derive(sqlx::FromRow)]
struct TakenRow {
    first_seq: i64,
    entries: String,
}

impl Storage {
    /// Seals entries of tasks that are in progress, all in one transaction; says how far each is sealed
    /// now. Tasks that are not, or that somebody else holds just now, are passed over.
    pub async fn seal_running(
        &self,
        logs: &[(TaskId, Vec<Entry>)],
    ) -> Result<Vec<(TaskId, u64)>, Error> {
        let mut transaction = self.database.begin().await?;
        let tasks = logs.iter().map(|(task, _)| task);
        let held: Vec<IdRow> = hold_running_statement(transaction.kind(), tasks)
            .fetch_all(transaction.executor())
            .await?;
        let held: std::collections::HashSet<&str> = held.iter().map(|row| &*row.id).collect();
        let extensions: Vec<Extension<'_>> = logs
            .iter()
            .filter(|(task, _)| held.contains(task.as_str()))
            .map(|(task, entries)| Extension { task, entries, loss: None })
            .collect();
        let sealed = extend(&mut transaction, &extensions).await?;
        transaction.commit().await?;
        Ok(extensions.iter().map(|extension| extension.task.clone()).zip(sealed).collect())
    }

    /// Seals entries of a task whatever its status, and notes what was lost behind them; says how far
    /// it is sealed now. Sealing the same twice leaves it once. Where the task is not there nothing is done,
    /// and of one that has ended nothing can be lost any more: 0.
    pub async fn seal(
        &self,
        id: &TaskId,
        entries: &[Entry],
        loss: Option<&Loss>,
    ) -> Result<u64, Error> {
        let mut transaction = self.database.begin().await?;
        let lock = dialect::for_update(transaction.kind());
        let active = if loss.is_some() { " AND completed_at IS NULL" } else { "" };
        let held: Option<IdRow> =
            Statement::new(format!("SELECT id FROM tracker_tasks WHERE id = $1{active}{lock}"))
                .bind(id)
                .fetch_optional(transaction.executor())
                .await?;
        if held.is_none() {
            transaction.roll_back().await?;
            return Ok(0);
        }
        let sealed = extend(&mut transaction, &[Extension { task: id, entries, loss }]).await?;
        transaction.commit().await?;
        Ok(sealed.first().copied().unwrap_or(0))
    }
}

/// What holds those of `tasks` that are in progress and that nobody else holds.
pub(super) fn hold_running_statement<'t>(
    kind: Kind,
    tasks: impl IntoIterator<Item = &'t TaskId>,
) -> Statement {
    let (member, status) = (dialect::in_first_parameter(kind), dialect::status_of_found(kind));
    let lock = dialect::for_extension_skip_locked(kind);
    Statement::new(format!(
        "SELECT id FROM tracker_tasks WHERE id{member} AND {status} = 'in_progress'{lock}"
    ))
    .bind(texts(tasks))
}

/// Adds to histories whose tasks the transaction holds; says how far each is sealed then.
pub(super) async fn extend(
    transaction: &mut Transaction,
    extensions: &[Extension<'_>],
) -> Result<Vec<u64>, Error> {
    if extensions.is_empty() {
        return Ok(Vec::new());
    }
    let tasks = texts(extensions.iter().map(|extension| extension.task));
    let rows: Vec<TailRow> = Statement::new(dialect::tails(transaction.kind()))
        .bind(tasks)
        .fetch_all(transaction.executor())
        .await?;
    let mut tails: HashMap<&str, Vec<&TailRow>> = HashMap::new();
    for row in &rows {
        tails.entry(&row.task_id).or_default().push(row);
    }
    let (mut new, mut sealed) = (Vec::new(), Vec::with_capacity(extensions.len()));
    for extension in extensions {
        let tail = tails.remove(extension.task.as_str()).unwrap_or_default();
        let mut added = added(*extension, &tail);
        if let Some(from) = added.first().and_then(|first| begin_of_run(first, &tail)) {
            put_together(transaction, &mut added[0], from).await?;
        }
        let last = tail.last().map_or(0, |row| number(row.last_seq));
        sealed.push(added.last().map_or(last, |row| row.last));
        new.extend(added);
    }
    insert(transaction, new).await?;
    Ok(sealed)
}

/// The rows that are to come behind a history that ends with `tail`.
fn added<'a>(extension: Extension<'a>, tail: &[&TailRow]) -> Vec<NewRow<'a>> {
    let Extension { task, entries, loss } = extension;
    let newest = tail.last();
    let mut last = newest.map_or(0, |row| number(row.last_seq));
    let hole = |first, last, generation, at| NewRow {
        task,
        first,
        last,
        entries: "[]".to_owned(),
        latest: String::new(),
        hole: Some(Hole { generation, at }),
    };
    let mut rows = Vec::new();
    let mut rest = &entries[entries.partition_point(|entry| entry.seq_id <= last)..];
    while let Some(first) = rest.first() {
        if first.seq_id > last + 1 {
            // The log let go of them, or was robbed of them, although nobody has sealed them.
            tracing::error!(task.id = %task, from = last + 1, to = first.seq_id - 1, "entries are gone");
            rows.push(hole(last + 1, first.seq_id - 1, "", first.timestamp));
        }
        let mut bytes = 0;
        let fits = |(entry, number): &(&Entry, u64)| {
            bytes += entry.progress.as_str().len() as u64;
            bytes <= ROW_BYTES && entry.seq_id == *number && number - first.seq_id < ROW_ENTRIES
        };
        let count = rest.iter().zip(first.seq_id..).take_while(fits).count().max(1);
        let (row, later) = rest.split_at(count);
        let latest = &row[count - 1];
        last = latest.seq_id;
        rows.push(NewRow {
            task,
            first: first.seq_id,
            last,
            entries: progress::seal(row.iter()),
            latest: latest.line(),
            hole: None,
        });
        rest = later;
    }
    if let Some(loss) = loss {
        let is_noted = newest.is_some_and(|row| row.lost_in.as_ref() == Some(&loss.generation));
        if !is_noted || !rows.is_empty() {
            rows.push(hole(last + 1, last + loss.numbers, &loss.generation, loss.at));
        }
    }
    rows
}

/// Where the run of small neighbours begins that `first` is to be put together with, if it is long enough.
fn begin_of_run(first: &NewRow<'_>, tail: &[&TailRow]) -> Option<u64> {
    let newest = tail.last().map_or(0, |row| number(row.last_seq));
    if first.hole.is_some() || first.first != newest + 1 {
        return None;
    }
    let (mut entries, mut bytes) = (first.last + 1 - first.first, first.entries.len() as u64);
    let (mut begin, mut rows) = (None, 1);
    for row in tail.iter().rev() {
        let count = number(row.last_seq) + 1 - number(row.first_seq);
        let fits = entries + count <= ROW_ENTRIES && bytes + number(row.bytes) <= ROW_BYTES;
        if row.lost_in.is_some() || count > entries || !fits {
            break;
        }
        entries += count;
        bytes += number(row.bytes);
        begin = Some(number(row.first_seq));
        rows += 1;
    }
    begin.filter(|_| rows >= RUN)
}

/// Takes the rows from `from` on, and puts their entries before those of `row`.
async fn put_together(
    transaction: &mut Transaction,
    row: &mut NewRow<'_>,
    from: u64,
) -> Result<(), Error> {
    let mut taken: Vec<TakenRow> = Statement::new(
        "DELETE FROM tracker_entries WHERE task_id = $1 AND first_seq >= $2
         RETURNING first_seq, entries",
    )
    .bind(row.task)
    .bind(from)
    .fetch_all(transaction.executor())
    .await?;
    taken.sort_by_key(|row| row.first_seq);
    let mut entries = String::from("[");
    for array in taken.iter().map(|row| &*row.entries).chain([&*row.entries]) {
        if entries.len() > 1 {
            entries.push(',');
        }
        entries.push_str(&array[1..array.len() - 1]);
    }
    entries.push(']');
    row.entries = entries;
    row.first = from;
    Ok(())
}

async fn insert(transaction: &mut Transaction, rows: Vec<NewRow<'_>>) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(ROW);
    for row in rows {
        table.push([
            row.task.into(),
            row.first.into(),
            row.last.into(),
            row.entries.into(),
            row.latest.into(),
            row.hole.map(|hole| hole.generation.to_owned()).into(),
            row.hole.map(|hole| hole.at).into(),
        ]);
    }
    let source = Table::source(ROW, transaction.kind(), 0, "sealed");
    Statement::new(format!(
        "INSERT INTO tracker_entries (task_id, first_seq, last_seq, entries, latest, lost_in, lost_at)
         SELECT task_id, first_seq, last_seq, entries, latest, lost_in, lost_at FROM {source}"
    ))
    .bind(table)
    .execute(transaction.executor())
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JsonObject;

    /// Seals `count` entries at a time, as many times; says how many rows there are then and how many
    /// entries were written for each that was sealed.
    fn rows_and_writes(count: u64, times: u64) -> (usize, f64) {
        let task: TaskId = "t".parse().unwrap();
        let timestamp = Timestamp::from_micros(0).unwrap();
        let mut tail: Vec<TailRow> = Vec::new();
        let mut written = 0;
        for turn in 0..times {
            let entries: Vec<Entry> = (turn * count + 1..=(turn + 1) * count)
                .map(|seq_id| Entry {
                    seq_id,
                    timestamp,
                    progress: JsonObject::from_stored(r#"{"percent":40}"#),
                })
                .collect();
            let extension = Extension { task: &task, entries: &entries, loss: None };
            let newest: Vec<&TailRow> = tail.iter().skip(tail.len().saturating_sub(24)).collect();
            let mut rows = added(extension, &newest);
            assert_eq!(rows.len(), 1);
            let mut bytes = rows[0].entries.len();
            if let Some(from) = begin_of_run(&rows[0], &newest) {
                rows[0].first = from;
                while let Some(row) = tail.pop_if(|row| number(row.first_seq) >= from) {
                    bytes += usize::try_from(row.bytes).unwrap();
                }
            }
            written += rows[0].last + 1 - rows[0].first;
            tail.push(TailRow {
                task_id: String::new(),
                first_seq: i64::try_from(rows[0].first).unwrap(),
                last_seq: i64::try_from(rows[0].last).unwrap(),
                bytes: i64::try_from(bytes).unwrap(),
                lost_in: None,
            });
        }
        let sizes = tail.iter().map(|row| row.last_seq + 1 - row.first_seq);
        assert_eq!(u64::try_from(sizes.sum::<i64>()).unwrap(), count * times);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let factor = written as f64 / (count * times) as f64;
        (tail.len(), factor)
    }

    #[test]
    fn a_task_that_reports_now_and_then_makes_few_rows_and_few_writes() {
        // A day of one entry a second, sealed every three seconds.
        let (rows, writes) = rows_and_writes(3, 28_800);
        assert!(rows < 200, "{rows} rows");
        assert!(writes < 9.0, "each entry is written {writes} times");
        let (rows, writes) = rows_and_writes(1, 10_000);
        assert!(rows < 50, "{rows} rows");
        assert!(writes < 10.0, "each entry is written {writes} times");
        // Large ones are left as they are.
        assert_eq!(rows_and_writes(1000, 50), (50, 1.0));
    }
}
