//! What is there, held against what was promised.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde_json::Value;
use task_tracker::database::{Database, Statement};

use super::Stage;
use super::ledger::{End, Record};
use super::order::{Gaps, broken_batch, entries, follow, gaps, is_gone, misread};
use super::world::{Part, World};

/// How long an end that its node left behind may take to be settled by another.
const SETTLING: Duration = Duration::from_secs(45);

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Tasks by how they ended.
    pub statuses: BTreeMap<String, usize>,
    /// Entries in histories.
    pub entries: usize,
    /// Attempts that workers heard of.
    pub attempts: usize,
    /// Readers that saw everything.
    pub readers: usize,
    /// Entries with an outcome that was not known, and of these those that are there.
    pub unknown: usize,
    /// See `unknown`.
    pub unknown_kept: usize,
    /// Entries that are there more than once, for they were sent more than once.
    pub repeated: usize,
    /// Acknowledged entries that are not there; all of them are within what the fsync policy allows, or told.
    pub lost: usize,
    /// Those that are in a gap of the history, where the broker lost its memory.
    pub gone: usize,
    /// Gaps in histories.
    pub gaps: usize,
    /// How long it took until nothing was left of finished tasks where only live ones have something.
    pub settled: Duration,
    /// And what that was.
    pub last_left: String,
}

/// Looks at everything and tells the ledger what is not as it must be.
pub async fn reach(stage: &Stage, world: &World) -> Found {
    let mut found = Found::default();
    (found.settled, found.last_left) = nothing_left(stage, world).await;
    let kills: Vec<Instant> = stage
        .ledger
        .kills()
        .into_iter()
        .filter(|(part, _)| matches!(part, Part::Redis(_)))
        .map(|(_, at)| at)
        .collect();
    let mut all_gaps = gaps(world).await;
    for (task, record) in stage.ledger.records() {
        let allowed = world.may_forget();
        let gaps = all_gaps.remove(&task).unwrap_or_default();
        found.gaps += gaps.len();
        let mut trial = Trial { kills: &kills, allowed, gaps, ..Trial::default() };
        if !trial.gaps.is_empty() && !world.forgets() {
            trial.wrong.push(format!("gaps {:?}, and nothing was lost", trial.gaps));
        }
        let mut seen = Vec::new();
        for node in 0..stage.client.nodes() {
            let request = stage.client.get(node, &format!("/tasks/{task}"));
            match request.send().await {
                Ok(answer) => seen.push(answer.json().await.unwrap_or(Value::Null)),
                Err(error) => trial.wrong.push(format!("GET at node {node}: {error}")),
            }
        }
        if let Some(first) = seen.first() {
            trial.of_task(first, &record, &mut found);
            if seen.iter().any(|other| other != first) {
                trial.wrong.push(format!("the nodes do not agree: {seen:?}"));
            }
        }
        for wrong in trial.wrong {
            stage.ledger.violation(format!("{task}: {wrong}"));
        }
    }
    for error in world.errors() {
        stage.ledger.violation(format!("a node logged an error: {error}"));
    }
    found
}

/// Waits until every task has ended, every end is settled, and nothing of them is left in the live log.
async fn nothing_left(stage: &Stage, world: &World) -> (Duration, String) {
    let truth = world.truth().await;
    let asked = Instant::now();
    let mut last = "nothing".to_owned();
    loop {
        let open = "SELECT id FROM tracker_tasks WHERE status IN ('pending', 'in_progress')";
        let open = column(&truth, open).await;
        let unsettled = column(&truth, "SELECT task_id FROM tracker_unsettled").await;
        let traces = world.live_traces().await;
        if open.is_empty() && unsettled.is_empty() && traces.is_empty() {
            return (asked.elapsed(), last);
        }
        let first = |left: &[String]| left.first().cloned().unwrap_or_default();
        last = match (&*open, &*unsettled, &*traces) {
            ([], [], traces) => format!("{} keys or rows as {}", traces.len(), first(traces)),
            ([], ends, _) => format!("{} unsettled ends as {}", ends.len(), first(ends)),
            (open, ..) => format!("{} open tasks as {}", open.len(), first(open)),
        };
        if asked.elapsed() > SETTLING {
            for (what, left) in
                [("unsettled ends", unsettled), ("live logs of finished tasks", traces)]
            {
                if !left.is_empty() {
                    stage.ledger.violation(format!("{what} after {SETTLING:?}: {left:?}"));
                }
            }
            for task in open {
                let why = stage.client.get(0, &format!("/tasks/{task}/why")).send().await;
                let why = match why {
                    Ok(answer) => answer.text().await.unwrap_or_default(),
                    Err(error) => error.to_string(),
                };
                stage.ledger.violation(format!("{task} has not ended: {why}"));
            }
            return (asked.elapsed(), last);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The only column of a query.
pub async fn column(database: &Database, sql: &'static str) -> Vec<String> {
    #[derive(sqlx::FromRow)]
    struct Row(String);
    let rows: Vec<Row> = Statement::new(sql).fetch_all(database.reader()).await.expect("rows");
    rows.into_iter().map(|Row(value)| value).collect()
}

#[derive(Default)]
struct Trial<'a> {
    /// What the history says is gone.
    gaps: Gaps,
    /// When the broker was killed, and how much it may forget each time.
    kills: &'a [Instant],
    allowed: Duration,
    wrong: Vec<String>,
    /// The broker lost a write that it was allowed to lose: what readers saw of it is as gone.
    may_have_lost: bool,
}

impl Trial<'_> {
    fn of_task(&mut self, task: &Value, record: &Record, found: &mut Found) {
        let history: Vec<(u64, String)> = entries(task);
        found.entries += history.len();
        found.attempts += record.claims.len();
        self.of_acknowledged(&history, record, found);
        self.of_history(task, &history, record, found);
        self.of_end(task, record);
        let status = task["status"].as_str().unwrap_or("(none)");
        *found.statuses.entry(status.to_owned()).or_default() += 1;
        if self.may_have_lost {
            return;
        }
        self.wrong.extend(record.doubts.iter().cloned());
        for reading in &record.readings {
            if let Some(wrong) = misread(reading, &history, &self.gaps, status) {
                self.wrong.push(format!("a reader behind {}: {wrong}", reading.after));
            } else {
                found.readers += 1;
            }
        }
    }

    /// Every acknowledged entry is where it was said to be.
    fn of_acknowledged(&mut self, history: &[(u64, String)], record: &Record, found: &mut Found) {
        for (number, (entry, at)) in &record.acknowledged {
            let there = history.iter().find(|(there, _)| there == number);
            if there.is_some_and(|(_, there)| there == entry) {
                continue;
            }
            if is_gone(&self.gaps, *number) {
                found.gone += 1;
                continue;
            }
            found.lost += 1;
            let is_allowed = |kill: &Instant| *at <= *kill && *at + self.allowed > *kill;
            if self.kills.iter().any(is_allowed) {
                self.may_have_lost = true;
            } else {
                self.wrong.push(format!(
                    "entry {entry} was acknowledged as {number}; there is {there:?}"
                ));
            }
        }
    }

    /// Numbers count without a hole; nothing is there that nobody said, or oftener than it may; batches are whole;
    /// and no attempt speaks after a later one has.
    fn of_history(
        &mut self,
        task: &Value,
        history: &[(u64, String)],
        record: &Record,
        found: &mut Found,
    ) {
        let mut ranges: Vec<(u64, u64)> =
            history.iter().map(|(number, _)| (*number, *number)).collect();
        ranges.extend(&self.gaps);
        ranges.sort_unstable();
        let is_sorted = history.is_sorted_by_key(|(number, _)| *number);
        if !is_sorted || follow(1, &ranges).is_err() {
            self.wrong.push(format!("numbers do not count: {history:?}, {:?}", self.gaps));
        }
        let mut times: HashMap<&str, usize> = HashMap::new();
        for (_, entry) in history {
            *times.entry(entry).or_default() += 1;
        }
        let mut acknowledged: HashMap<&str, usize> = HashMap::new();
        for (entry, _) in record.acknowledged.values() {
            *acknowledged.entry(entry).or_default() += 1;
        }
        for (entry, times) in &times {
            let sent = record.unknown.get(*entry).copied();
            let said = acknowledged.get(entry).copied().unwrap_or_default();
            match sent {
                None => self.wrong.push(format!("nobody said {entry}")),
                Some(unknown) if *times > unknown + said => self.wrong.push(format!(
                    "{entry} is there {times} times; {said} were acknowledged, {unknown} are unknown, the others were refused"
                )),
                Some(_) => {}
            }
            found.repeated += times - 1;
        }
        for (entry, unknown) in &record.unknown {
            let there = times.get(&**entry).copied().unwrap_or_default();
            let said = acknowledged.get(&**entry).copied().unwrap_or_default();
            found.unknown += unknown;
            found.unknown_kept += there.saturating_sub(said).min(*unknown);
        }
        if let Some(broken) = broken_batch(history, &self.gaps) {
            self.wrong.push(format!("a batch is not whole: {broken}"));
        }
        let all = task["progressHistory"].as_array().map(Vec::as_slice).unwrap_or_default();
        let attempts: Vec<u64> = all.iter().filter_map(|entry| entry["attempt"].as_u64()).collect();
        if !attempts.is_sorted() {
            self.wrong.push(format!("an attempt speaks after a later one: {attempts:?}"));
        }
    }

    /// It ended once, as somebody was told, or as somebody wanted.
    fn of_end(&mut self, task: &Value, record: &Record) {
        let status = task["status"].as_str().unwrap_or_default();
        let mark = ["result", "error"].iter().find_map(|member| task[member]["mark"].as_str());
        let is = |end: &End| end.status == status && end.mark == mark.unwrap_or_default();
        match &*record.ends {
            [] => {
                let lost = task["lostAttempts"]
                    .as_u64()
                    .or_else(|| task["error"]["lostAttempts"].as_u64());
                let is_exhausted = status == "failed"
                    && task["error"]["code"] == "lease_expired"
                    && lost.is_some_and(|lost| lost >= record.max_attempts);
                if !is_exhausted && !record.possible.iter().any(is) {
                    self.wrong.push(format!(
                        "it is {status} {mark:?}, which nobody said: {:?}",
                        record.possible
                    ));
                }
            }
            [end] if is(end) => {}
            [end] => {
                self.wrong.push(format!("it is {status} {mark:?}, and {end:?} was acknowledged"));
            }
            ends => self.wrong.push(format!("it ended more than once: {ends:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ledger::Reading;
    use super::*;

    /// A task that ended well in its second attempt, as its workers and its reader saw it.
    fn scene() -> (Value, Record) {
        let entry = |number: u64, entry: &str, attempt: u64| json!({ "seqId": number, "entry": entry, "attempt": attempt });
        let history = json!([entry(1, "1.0/1", 1), entry(2, "2.0/2", 2), entry(3, "2.1/2", 2)]);
        let task =
            json!({ "status": "completed", "result": { "mark": "m" }, "progressHistory": history });
        let mut record = Record { max_attempts: 2, ..Record::default() };
        for (ids, last) in [(vec!["1.0/1"], 1), (vec!["2.0/2", "2.1/2"], 3)] {
            let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
            record.sending(&ids);
            assert_eq!(record.kept(&ids, last), None);
        }
        record.ends.push(End { status: "completed", mark: "m".to_owned() });
        record.readings.push(Reading {
            entries: entries(&task),
            ranges: vec![(1, 1), (2, 2), (3, 3)],
            ends: vec![("3-end".to_owned(), "completed".to_owned())],
            ..Reading::default()
        });
        (task, record)
    }

    fn wrong(change: impl FnOnce(&mut Value, &mut Record)) -> Vec<String> {
        wrong_with(&[], change)
    }

    fn wrong_with(
        gaps: &[(u64, u64)],
        change: impl FnOnce(&mut Value, &mut Record),
    ) -> Vec<String> {
        let (mut task, mut record) = scene();
        change(&mut task, &mut record);
        let mut trial = Trial { gaps: gaps.to_vec(), ..Trial::default() };
        trial.of_task(&task, &record, &mut Found::default());
        trial.wrong
    }

    fn history(task: &mut Value) -> &mut Vec<Value> {
        task["progressHistory"].as_array_mut().expect("a history")
    }

    #[test]
    fn what_was_promised_and_kept_is_right() {
        assert_eq!(wrong(|_, _| ()), [""; 0]);
        // An answer that was lost: it may have been done.
        let unheard = |_: &mut Value, record: &mut Record| {
            record.possible.append(&mut record.ends);
            record.acknowledged.remove(&1);
            record.sending(&["1.0/1".to_owned()]);
        };
        assert_eq!(wrong(unheard), [""; 0]);
    }

    #[test]
    fn every_broken_promise_is_noticed() {
        type Change = fn(&mut Value, &mut Record);
        let changes: [(&str, Change); 13] = [
            ("there is None", |task, _| drop(history(task).pop())),
            ("numbers do not count", |task, _| drop(history(task).remove(0))),
            ("numbers do not count", |task, _| history(task)[1]["seqId"] = json!(1)),
            ("numbers do not count", |task, _| history(task).swap(0, 1)),
            ("there is Some", |task, _| history(task)[0]["entry"] = json!("2.0/2")),
            ("nobody said", |task, _| history(task)[0]["entry"] = json!("9.0/1")),
            ("the others were refused", |_, record| drop(record.acknowledged.remove(&1))),
            ("a batch is not whole", |task, _| history(task)[1]["entry"] = json!("2.1/2")),
            ("after a later one", |task, _| history(task)[0]["attempt"] = json!(3)),
            ("was acknowledged", |task, _| task["status"] = json!("failed")),
            ("nobody said", |_, record| record.ends.clear()),
            ("more than once", |_, record| record.ends.push(record.ends[0].clone())),
            ("it saw", |_, record| drop(record.readings[0].entries.pop())),
        ];
        for (expected, change) in changes {
            let wrong = wrong(change);
            assert!(wrong.iter().any(|wrong| wrong.contains(expected)), "{expected}: {wrong:?}");
        }
        let twice = wrong(|_, record| {
            let end = record.readings[0].ends[0].clone();
            record.readings[0].ends.push(end);
        });
        assert!(twice.iter().any(|wrong| wrong.contains("it heard")), "{twice:?}");
    }

    #[test]
    fn what_is_gone_must_be_said_to_be_to_everybody_and_nothing_else_is() {
        let gone = |task: &mut Value, record: &mut Record| {
            history(task).pop();
            record.readings[0].ends[0].0 = "10003-end".to_owned();
            record.readings[0].ranges.push((4, 10_003));
        };
        // The reader saw the third entry before it was lost.
        assert_eq!(wrong_with(&[(3, 10_003)], gone), [""; 0]);
        let has = |gaps: &[(u64, u64)], change: &dyn Fn(&mut Value, &mut Record), what: &str| {
            let wrong = wrong_with(gaps, |task, record| {
                gone(task, record);
                change(task, record);
            });
            assert!(wrong.iter().any(|wrong| wrong.contains(what)), "{what}: {wrong:?}");
        };
        has(&[], &|_, _| (), "there is None");
        has(&[(4, 10_003)], &|_, _| (), "numbers do not count");
        has(&[(3, 10_003)], &|_, record| record.readings[0].ranges[3].0 = 5, "it saw no 4");
        has(&[(3, 10_003)], &|_, record| record.readings[0].ranges.truncate(3), "it saw up to 3");
        has(&[(3, 10_003)], &|_, record| record.readings[0].ranges[3].1 = 20_000, "are gone");
        has(&[(3, 10_003)], &|_, record| record.readings[0].ends[0].0 = "3-end".into(), "it heard");
        has(&[(2, 10_003)], &|_, _| (), "numbers do not count");
        has(&[(3, 10_003)], &|_, record| record.doubts.push("given twice".into()), "given twice");
    }
}
