//! What was promised to whom. At the end it is held against what is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::world::Part;

/// A violation beyond these is only counted.
const TOLD: usize = 40;

/// Of one run.
#[derive(Debug, Default)]
pub struct Ledger {
    records: Mutex<BTreeMap<String, Record>>,
    violations: Mutex<Vec<String>>,
    tallies: Mutex<BTreeMap<&'static str, u64>>,
    kills: Mutex<Vec<(Part, Instant)>>,
    recoveries: Mutex<Vec<(Part, Duration)>>,
}

/// Of one task.
#[derive(Debug, Default, Clone)]
pub struct Record {
    /// How many workers may lose it.
    pub max_attempts: u64,
    /// The attempts that workers heard of, and when they had asked.
    pub claims: BTreeMap<u64, Instant>,
    /// How many requests with this entry have an outcome that is not known.
    pub unknown: HashMap<String, usize>,
    /// The entries that were acknowledged, by number, and when.
    pub acknowledged: BTreeMap<u64, (String, Instant)>,
    /// What cannot be, unless the broker lost a write.
    pub doubts: Vec<String>,
    /// The ends that were acknowledged.
    pub ends: Vec<End>,
    /// The ends that may have happened without anybody hearing it.
    pub possible: Vec<End>,
    /// Since when a worker was to hear that the task is to end.
    pub cancelled: Option<Instant>,
    /// What each reader saw.
    pub readings: Vec<Reading>,
}

/// One end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The status.
    pub status: &'static str,
    /// What was said with it, unlike any other; empty where nothing can be.
    pub mark: String,
}

/// What one reader saw.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Behind which number it began.
    pub after: u64,
    /// Numbers and entries, as they came.
    pub entries: Vec<(u64, String)>,
    /// The terminal events: their ids and statuses.
    pub ends: Vec<(String, String)>,
    /// The first and the last number of each event, as they came: an entry is one, a `gap` is many.
    pub ranges: Vec<(u64, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Looks at a task's record, or changes it.
    pub fn with<T>(&self, task: &str, look: impl FnOnce(&mut Record) -> T) -> T {
        look(lock(&self.records).entry(task.to_owned()).or_default())
    }

    /// Every record.
    pub fn records(&self) -> BTreeMap<String, Record> {
        lock(&self.records).clone()
    }

    /// Notes that something is not as it must be.
    pub fn violation(&self, what: String) {
        let mut violations = lock(&self.violations);
        if violations.len() < TOLD {
            println!("chaos: VIOLATION: {what}");
        }
        violations.push(what);
    }

    /// Everything that is not as it must be, as far as it is told.
    pub fn violations(&self) -> Vec<String> {
        let violations = lock(&self.violations);
        let mut told: Vec<String> = violations.iter().take(TOLD).cloned().collect();
        if violations.len() > TOLD {
            told.push(format!("and {} more", violations.len() - TOLD));
        }
        told
    }

    /// How many those are.
    pub fn violated(&self) -> usize {
        lock(&self.violations).len()
    }

    /// Counts one.
    pub fn tally(&self, what: &'static str) {
        self.tally_many(what, 1);
    }

    /// Counts some.
    pub fn tally_many(&self, what: &'static str, count: usize) {
        *lock(&self.tallies).entry(what).or_default() += count as u64;
    }

    /// How many were counted.
    pub fn tallied(&self, what: &'static str) -> u64 {
        lock(&self.tallies).get(what).copied().unwrap_or_default()
    }

    /// Notes a kill.
    pub fn killed(&self, part: Part) {
        lock(&self.kills).push((part, Instant::now()));
    }

    /// Every kill.
    pub fn kills(&self) -> Vec<(Part, Instant)> {
        lock(&self.kills).clone()
    }

    /// Notes how long everything took to work again after this part was started again.
    pub fn recovered(&self, part: Part, took: Duration) {
        lock(&self.recoveries).push((part, took));
    }

    /// How long it took each time.
    pub fn recoveries(&self) -> Vec<(Part, Duration)> {
        lock(&self.recoveries).clone()
    }
}

impl Record {
    /// Before entries are sent: what becomes of them is not known.
    pub fn sending(&mut self, entries: &[String]) {
        for entry in entries {
            *self.unknown.entry(entry.clone()).or_default() += 1;
        }
    }

    /// It is known now: they were not kept, or [`Record::kept`].
    pub fn known(&mut self, entries: &[String]) {
        for entry in entries {
            *self.unknown.entry(entry.clone()).or_default() -= 1;
        }
    }

    /// They were acknowledged, the last with this number. Says what is wrong with that.
    pub fn kept(&mut self, entries: &[String], last: u64) -> Option<String> {
        self.known(entries);
        let Some(before) = last.checked_sub(entries.len() as u64) else {
            return Some(format!("{} entries end with number {last}", entries.len()));
        };
        let mut wrong = None;
        for (entry, number) in entries.iter().zip(before + 1..) {
            let given = (entry.clone(), Instant::now());
            if let Some((other, _)) = self.acknowledged.insert(number, given) {
                wrong = Some(format!("number {number} is given to {other} and to {entry}"));
            }
        }
        wrong
    }
}
