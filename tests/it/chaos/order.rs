//! Numbers in their order, and those that are gone among them.

use std::collections::HashMap;

use serde_json::Value;
use task_tracker::database::Statement;

use super::ledger::Reading;
use super::world::World;

/// First and last numbers of what is said to be gone, in order.
pub type Gaps = Vec<(u64, u64)>;

/// Numbers and entries of a task's history.
pub fn entries(task: &Value) -> Vec<(u64, String)> {
    let all = task["progressHistory"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entry = |entry: &Value| {
        let id = entry["entry"].as_str().unwrap_or("(none)");
        (entry["seqId"].as_u64().unwrap_or_default(), id.to_owned())
    };
    all.iter().map(entry).collect()
}

/// What is said to be gone, by task.
pub async fn gaps(world: &World) -> HashMap<String, Gaps> {
    #[derive(sqlx::FromRow)]
    struct Row {
        task_id: String,
        first_seq: i64,
        last_seq: i64,
    }
    let sql = "SELECT task_id, first_seq, last_seq FROM tracker_entries
               WHERE lost_at IS NOT NULL ORDER BY task_id, first_seq";
    let truth = world.truth().await;
    let rows: Vec<Row> = Statement::new(sql).fetch_all(truth.reader()).await.expect("rows");
    let mut gaps: HashMap<String, Gaps> = HashMap::new();
    for row in rows {
        let number = |number: i64| u64::try_from(number).expect("a number");
        gaps.entry(row.task_id).or_default().push((number(row.first_seq), number(row.last_seq)));
    }
    gaps
}

/// Whether a number is.
pub fn is_gone(gaps: &Gaps, number: u64) -> bool {
    gaps.iter().any(|(first, last)| (*first..=*last).contains(&number))
}

/// Whether these follow each other from `next` on; the number behind them.
pub fn follow(mut next: u64, ranges: &[(u64, u64)]) -> Result<u64, u64> {
    for (first, last) in ranges {
        if *first != next || last < first {
            return Err(next);
        }
        next = last + 1;
    }
    Ok(next)
}

/// What is wrong with what a reader saw: every number behind its start once and in order, as an entry or as gone, and one
/// end. It may have seen entries before they were lost.
pub fn misread(
    reading: &Reading,
    history: &[(u64, String)],
    gaps: &Gaps,
    status: &str,
) -> Option<String> {
    let Reading { after, entries, ends, ranges } = reading;
    if let Err(next) = follow(after + 1, ranges) {
        return Some(format!("it saw no {next}: {ranges:?} of {history:?}, {gaps:?}"));
    }
    let kept = |number: u64| !is_gone(gaps, number);
    let behind = history.iter().filter(|(number, _)| number > after);
    if !entries.iter().filter(|(number, _)| kept(*number)).eq(behind) {
        return Some(format!("it saw {entries:?} of {history:?}"));
    }
    let seen = |number: &u64| entries.iter().any(|(seen, _)| seen == number);
    let told = ranges.iter().filter(|(first, last)| !(first == last && seen(first)));
    if let Some(gap) =
        told.clone().find(|(first, last)| !(is_gone(gaps, *first) && is_gone(gaps, *last)))
    {
        return Some(format!("it was told that {gap:?} are gone, and gone are {gaps:?}"));
    }
    let last = history.last().map_or(0, |(number, _)| *number);
    let last = last.max(gaps.last().map_or(0, |(_, last)| *last));
    let reached = ranges.last().map_or(*after, |(_, last)| *last);
    if reached < last && last > *after {
        return Some(format!("it saw up to {reached} of {last}"));
    }
    let end = (format!("{last}-end"), status.to_owned());
    if *ends != [end] {
        return Some(format!("of {last} numbers and {status} it heard {ends:?}"));
    }
    None
}

/// A batch `12.0/3, 12.1/3, 12.2/3` that is not there as a whole, unless what is missing of it is gone.
pub fn broken_batch<'h>(history: &'h [(u64, String)], gaps: &Gaps) -> Option<&'h str> {
    let parts = |entry: &str| -> Option<(String, usize, usize)> {
        let (batch, rest) = entry.split_once('.')?;
        let (part, count) = rest.split_once('/')?;
        Some((batch.to_owned(), part.parse().ok()?, count.parse().ok()?))
    };
    let mut rest = history;
    while let Some((_, first)) = rest.first() {
        let Some((batch, 0, count)) = parts(first) else { return Some(first) };
        let is_part = |part: usize, entry: &str| parts(entry) == Some((batch.clone(), part, count));
        let there = rest.iter().take(count).enumerate();
        let there = there.take_while(|(part, (_, entry))| is_part(*part, entry)).count();
        let is_cut_off = |last: &(u64, String)| is_gone(gaps, last.0 + 1);
        if there < count && !rest[..there].last().is_some_and(is_cut_off) {
            return Some(first);
        }
        rest = &rest[there..];
    }
    None
}
