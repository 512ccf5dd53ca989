//! What this node took and has not sealed: for which tasks, how much, and, while there is room, the
//! entries themselves (`kept`).
//!
//! ```text
//!   took ─► waits ──3 s──► due ─► sealed: what came meanwhile waits anew
//!                           ▲  └► not sealed, or given up on the way ─┐
//!                           └─────────────────────3 s─────────────────┘
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::kept::Kept;
use crate::domain::{Entry, JsonObject, TaskId, Timestamp};

/// How long an entry waits to be sealed.
pub(super) const DUE_AFTER: Duration = Duration::from_secs(3);
/// Entries of a task that do not wait so long.
const DUE_ENTRIES: u64 = 2000;
/// Bytes of a task that do not.
const DUE_BYTES: u64 = 2 << 20;
/// Tasks that a node remembers at most; those beyond are left to the slower round.
const REMEMBERED: usize = 200_000;
/// Bytes of entries that a node keeps at most; those beyond are read back.
const KEPT_BYTES: u64 = 32 << 20;
/// How often a task is passed over, for somebody else holds it or it has ended, before it is forgotten.
const TRIES: u32 = 3;

/// The tasks whose entries are not sealed.
#[derive(Debug, Default)]
pub(super) struct Unsealed(Mutex<Tasks>);

#[derive(Debug, Default)]
struct Tasks {
    pending: HashMap<TaskId, Pending>,
    /// When each began to wait, oldest first. What says another time than the task does is over.
    waiting: VecDeque<(Timestamp, TaskId)>,
    /// Bytes of all entries that are kept.
    kept_bytes: u64,
}

#[derive(Debug)]
struct Pending {
    since: Timestamp,
    newest: u64,
    entries: u64,
    bytes: u64,
    tries: u32,
    kept: Kept,
}

impl Pending {
    fn is_much(&self) -> bool {
        self.entries >= DUE_ENTRIES || self.bytes >= DUE_BYTES
    }
}

/// A task that is to be sealed.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) task: TaskId,
    /// About how many entries of it.
    pub(super) entries: u64,
}

impl Unsealed {
    /// Remembers entries that were taken, the last of which has the number `newest`; says whether there are by now so
    /// many that they are due at once.
    pub(super) fn took(
        &self,
        task: &TaskId,
        entries: &[JsonObject],
        newest: u64,
        now: Timestamp,
    ) -> bool {
        let first = (newest + 1).saturating_sub(entries.len() as u64);
        let mut tasks = self.lock();
        let Tasks { pending, waiting, kept_bytes } = &mut *tasks;
        if !pending.contains_key(task) {
            if pending.len() >= REMEMBERED {
                return false;
            }
            let (entries, bytes, tries, kept) = (0, 0, 0, Kept::beginning_with(first));
            pending
                .insert(task.clone(), Pending { since: now, newest, entries, bytes, tries, kept });
        }
        let Some(pending) = pending.get_mut(task) else { return false };
        if pending.entries == 0 {
            pending.since = now;
            waiting.push_back((now, task.clone()));
        }
        let was_much = pending.is_much();
        pending.newest = pending.newest.max(newest);
        pending.entries += entries.len() as u64;
        pending.bytes += entries.iter().map(|entry| entry.as_str().len() as u64).sum::<u64>();
        let room = KEPT_BYTES.saturating_sub(*kept_bytes);
        counted(kept_bytes, &mut pending.kept, |kept| kept.add(first, entries, now, room));
        pending.is_much() && !was_much
    }

    /// Those that have waited long enough, and how many are remembered in all. What becomes of them is to be said
    /// (`sealed`, `passed_over`); where it is not, they are due once more.
    pub(super) fn due(&self, now: Timestamp) -> (Vec<Due>, usize) {
        let mut tasks = self.lock();
        let remembered = tasks.pending.len();
        let mut due = Vec::new();
        // A clock that was put back is no reason to wait.
        let is_due = |since: Timestamp| now.since(since).max(since.since(now)) >= DUE_AFTER;
        while let Some((since, task)) = tasks.waiting.pop_front_if(|(since, _)| is_due(*since)) {
            let Some(pending) = tasks.pending.get_mut(&task) else { continue };
            if pending.since != since {
                continue;
            }
            if pending.entries == 0 {
                // Nothing came since all of it was sealed.
                tasks.remove(&task);
                continue;
            }
            pending.since = now;
            let entries = pending.entries;
            tasks.waiting.push_back((now, task.clone()));
            due.push(Due { task, entries });
        }
        (due, remembered)
    }

    /// The entries that follow what is sealed, as far as they are here; none: they are to be read of the log. They are gone
    /// from here then.
    pub(super) fn take(&self, task: &TaskId) -> Vec<Entry> {
        let mut tasks = self.lock();
        let Tasks { pending, kept_bytes, .. } = &mut *tasks;
        let Some(pending) = pending.get_mut(task) else { return Vec::new() };
        counted(kept_bytes, &mut pending.kept, Kept::take_next)
    }

    /// A task is sealed up to entry `sealed`.
    pub(super) fn sealed(&self, task: &TaskId, sealed: u64, now: Timestamp) {
        let mut tasks = self.lock();
        let Tasks { pending, waiting, kept_bytes } = &mut *tasks;
        let Some(pending) = pending.get_mut(task) else { return };
        let entries = pending.newest.saturating_sub(sealed);
        pending.bytes = pending.bytes / pending.entries.max(1) * entries;
        (pending.entries, pending.tries, pending.since) = (entries, 0, now);
        counted(kept_bytes, &mut pending.kept, |kept| kept.sealed(sealed));
        waiting.push_back((now, task.clone()));
    }

    /// A task could not be sealed, for somebody else holds it or it has ended.
    pub(super) fn passed_over(&self, task: &TaskId) {
        let mut tasks = self.lock();
        let Some(pending) = tasks.pending.get_mut(task) else { return };
        pending.tries += 1;
        if pending.tries >= TRIES {
            tasks.remove(task);
        }
    }

    /// A task has ended.
    pub(super) fn forget(&self, task: &TaskId) {
        self.lock().remove(task);
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    fn remove(&mut self, task: &TaskId) {
        if let Some(pending) = self.pending.remove(task) {
            self.kept_bytes -= pending.kept.bytes();
        }
    }
}

/// Changes what is kept of a task, and how much is kept of all.
fn counted<T>(all: &mut u64, kept: &mut Kept, change: impl FnOnce(&mut Kept) -> T) -> T {
    *all -= kept.bytes();
    let said = change(kept);
    *all += kept.bytes();
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> Timestamp {
        Timestamp::from_micros(1_763_640_000_000_000).unwrap().plus(SECOND * seconds)
    }

    fn task(name: &str) -> TaskId {
        name.parse().unwrap()
    }

    fn texts(count: usize) -> Vec<JsonObject> {
        vec![JsonObject::from_stored(r#"{"a":1}"#); count]
    }

    impl Unsealed {
        /// Takes one entry with each of these numbers.
        fn took_each(&self, task: &TaskId, numbers: impl IntoIterator<Item = u64>, now: Timestamp) {
            for number in numbers {
                self.took(task, &texts(1), number, now);
            }
        }

        fn take_numbers(&self, task: &TaskId) -> Vec<u64> {
            self.take(task).iter().map(|entry| entry.seq_id).collect()
        }

        fn due_tasks(&self, now: Timestamp) -> Vec<(String, u64)> {
            let (due, _) = self.due(now);
            due.into_iter().map(|due| (due.task.to_string(), due.entries)).collect()
        }

        fn kept_bytes(&self) -> u64 {
            self.lock().kept_bytes
        }
    }

    #[test]
    fn a_task_is_due_three_seconds_after_what_is_not_sealed() {
        let (unsealed, t) = (Unsealed::default(), task("t"));
        unsealed.took_each(&t, [1], at(0));
        unsealed.took_each(&t, [2], at(2));
        assert!(unsealed.due_tasks(at(2)).is_empty());
        assert_eq!(unsealed.due_tasks(at(3)), [("t".to_owned(), 2)]);
        assert!(unsealed.due_tasks(at(4)).is_empty(), "it is being sealed");
        unsealed.took_each(&t, [3], at(4));
        unsealed.sealed(&t, 2, at(5));
        assert!(unsealed.due_tasks(at(7)).is_empty());
        assert_eq!(unsealed.due_tasks(at(8)), [("t".to_owned(), 1)], "what came meanwhile");
        assert_eq!(
            unsealed.due_tasks(at(11)),
            [("t".to_owned(), 1)],
            "nobody said what became of it"
        );
    }

    /// A task the one entry of which is sealed when three seconds have passed.
    fn resting() -> (Unsealed, TaskId) {
        let (unsealed, t) = (Unsealed::default(), task("t"));
        unsealed.took_each(&t, [1], at(0));
        unsealed.due(at(3));
        unsealed.sealed(&t, 1, at(3));
        (unsealed, t)
    }

    #[test]
    fn a_task_that_says_nothing_more_is_forgotten() {
        let (unsealed, _) = resting();
        assert_eq!(unsealed.due(at(5)).1, 1, "it may go on in a moment");
        assert!(unsealed.due_tasks(at(6)).is_empty());
        assert_eq!(unsealed.due(at(6)).1, 0);
        assert!(unsealed.lock().waiting.is_empty());
    }

    #[test]
    fn a_task_that_rests_and_goes_on_is_due_again() {
        let (unsealed, t) = resting();
        unsealed.took_each(&t, [2], at(5));
        assert!(unsealed.due_tasks(at(6)).is_empty(), "2 is a second old");
        assert_eq!(unsealed.due_tasks(at(8)), [("t".to_owned(), 1)]);
        assert_eq!(unsealed.take_numbers(&t), [2]);
    }

    #[test]
    fn a_task_that_has_ended_keeps_nothing() {
        let (unsealed, t) = (Unsealed::default(), task("t"));
        unsealed.took_each(&t, 1..=4, at(0));
        unsealed.forget(&t);
        assert_eq!(unsealed.kept_bytes(), 0);
        assert!(unsealed.due_tasks(at(3)).is_empty());
    }

    #[test]
    fn many_entries_are_due_at_once_and_said_so_once() {
        let (unsealed, t) = (Unsealed::default(), task("t"));
        let half = usize::try_from(DUE_ENTRIES / 2).unwrap();
        assert!(!unsealed.took(&t, &texts(half), DUE_ENTRIES / 2, at(0)));
        assert!(unsealed.took(&t, &texts(half), DUE_ENTRIES, at(0)));
        assert!(!unsealed.took(&t, &texts(1), DUE_ENTRIES + 1, at(0)));
    }

    #[test]
    fn a_task_that_is_passed_over_is_tried_a_few_times() {
        let (unsealed, t) = (Unsealed::default(), task("t"));
        unsealed.took_each(&t, [1], at(0));
        for turn in 1..=TRIES {
            assert_eq!(unsealed.due_tasks(at(3 * turn)).len(), 1);
            unsealed.passed_over(&t);
        }
        assert!(unsealed.due_tasks(at(60)).is_empty());
    }

    #[test]
    fn a_clock_that_is_put_back_keeps_nothing_waiting() {
        let (unsealed, t) = (Unsealed::default(), task("t"));
        unsealed.took_each(&t, [1], at(3600));
        assert_eq!(unsealed.due_tasks(at(0)).len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let unsealed = Unsealed::default();
        let long = JsonObject::from_stored(format!(r#"{{"a":"{}"}}"#, "x".repeat(60_000)));
        let most = KEPT_BYTES / 60_000;
        for number in 0..2 * most {
            unsealed.took(&task(&format!("t{number}")), std::slice::from_ref(&long), 1, at(0));
        }
        assert!((KEPT_BYTES - 70_000..=KEPT_BYTES).contains(&unsealed.kept_bytes()));
        assert_eq!(unsealed.take_numbers(&task("t0")), [1]);
        assert!(unsealed.take(&task(&format!("t{}", 2 * most - 1))).is_empty(), "it is read");
        let (due, _) = unsealed.due(at(3));
        assert_eq!(due.len() as u64, 2 * most, "but none is forgotten");
    }
}
