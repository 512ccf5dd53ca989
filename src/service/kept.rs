//! The entries of one task that were taken here and are not sealed, so that whoever seals need not read back what was
//! here a moment ago.
//!
//! They are a copy of what the log has. They are taken for what is to be sealed only where they follow what is known
//! to be sealed without a gap: a gap is an append whose caller hung up, or that another node took, or that is on
//! its way here.

use crate::domain::{Entry, JsonObject, Timestamp};

/// What an entry takes beside its text.
const ENTRY_BYTES: u64 = 64;

/// What is kept of one task.
#[derive(Debug)]
pub(super) struct Kept {
    /// Up to where the task is known to be sealed.
    sealed: Option<u64>,
    /// In the order in which the answers of their appends came, which is nearly that of their numbers.
    entries: Vec<Entry>,
    bytes: u64,
}

impl Kept {
    /// Of a task the first entry of which to come here has this number: nothing is before 1.
    pub(super) fn beginning_with(first: u64) -> Self {
        let sealed = (first <= 1).then_some(0);
        Self { sealed, entries: Vec::new(), bytes: 0 }
    }

    /// Bytes of all that is kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps entries that were taken `at`, from number `first` on, if they take no more than `room` bytes and can be of use.
    pub(super) fn add(&mut self, first: u64, entries: &[JsonObject], at: Timestamp, room: u64) {
        let bytes: u64 = entries.iter().map(size).sum();
        if bytes > room || self.sealed.is_none() {
            return;
        }
        self.bytes += bytes;
        let numbered = (first..).zip(entries.iter().cloned());
        self.entries.extend(numbered.map(|(seq_id, progress)| Entry {
            seq_id,
            timestamp: at,
            progress,
        }));
    }

    /// Gives away the entries that follow what is sealed; none: they are to be read of the log.
    pub(super) fn take_next(&mut self) -> Vec<Entry> {
        let Some(sealed) = self.sealed else { return Vec::new() };
        self.let_go(sealed);
        self.entries.sort_by_key(|entry| entry.seq_id);
        let follows = |(entry, number): &(&Entry, u64)| entry.seq_id == *number;
        let run = self.entries.iter().zip(sealed + 1..).take_while(follows).count();
        let is_twice = |pair: &[Entry]| pair[0].seq_id == pair[1].seq_id;
        let is_any_twice = self.entries.windows(2).any(is_twice);
        let behind = self.entries.split_off(run);
        let mut next = std::mem::replace(&mut self.entries, behind);
        // What is missing near the end is on its way here. What is missing near the beginning is only in the
        // log, as is all that is here. A number that was given twice is that of a log that forgot: what it has counts.
        if run < self.entries.len() || is_any_twice {
            self.entries.clear();
            next.clear();
        }
        self.weigh();
        next
    }

    /// The task is sealed up to entry `sealed`.
    pub(super) fn sealed(&mut self, sealed: u64) {
        self.sealed = Some(sealed.max(self.sealed.unwrap_or(0)));
        self.let_go(sealed);
        self.weigh();
    }

    fn let_go(&mut self, sealed: u64) {
        self.entries.retain(|entry| entry.seq_id > sealed);
    }

    /// Counts what is kept anew: an append only adds to it.
    fn weigh(&mut self) {
        self.bytes = self.entries.iter().map(|entry| size(&entry.progress)).sum();
    }
}

fn size(progress: &JsonObject) -> u64 {
    progress.as_str().len() as u64 + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Kept {
        /// Adds one entry with each of these numbers.
        fn add_each(&mut self, numbers: impl IntoIterator<Item = u64>) {
            let at = Timestamp::from_micros(0).unwrap();
            for number in numbers {
                self.add(number, &[JsonObject::from_stored(r#"{"a":1}"#)], at, u64::MAX);
            }
        }

        fn next_numbers(&mut self) -> Vec<u64> {
            self.take_next().iter().map(|entry| entry.seq_id).collect()
        }
    }

    #[test]
    fn what_is_here_is_given_in_the_order_of_its_numbers() {
        let mut kept = Kept::beginning_with(1);
        kept.add_each([1, 2, 3, 5, 4, 6]);
        assert_eq!(kept.next_numbers(), [1, 2, 3, 4, 5, 6]);
        assert_eq!((kept.take_next(), kept.bytes()), (Vec::new(), 0), "it is given once");
        kept.sealed(6);
        kept.add_each([7, 8]);
        assert_eq!(kept.next_numbers(), [7, 8], "behind what is sealed");
    }

    #[test]
    fn what_is_missing_near_the_end_is_waited_for() {
        let mut kept = Kept::beginning_with(1);
        kept.add_each([1, 2, 3, 5]);
        assert_eq!(kept.next_numbers(), [1, 2, 3]);
        kept.sealed(3);
        kept.add_each([4]);
        assert_eq!(kept.next_numbers(), [4, 5]);
    }

    #[test]
    fn what_is_missing_elsewhere_is_read_with_all_behind_it() {
        let mut kept = Kept::beginning_with(1);
        // Another node took 2, or its caller hung up.
        kept.add_each([1, 3, 4, 5]);
        assert_eq!((kept.take_next(), kept.bytes()), (Vec::new(), 0));
        kept.sealed(5);
        kept.add_each([6]);
        assert_eq!(kept.next_numbers(), [6], "what was read is known to be sealed");
    }

    #[test]
    fn what_follows_something_unknown_is_read() {
        let mut kept = Kept::beginning_with(8);
        kept.add_each([8, 9]);
        assert!(kept.take_next().is_empty(), "who knows whether 7 is sealed");
        kept.sealed(9);
        kept.add_each([10]);
        assert_eq!(kept.next_numbers(), [10]);
    }

    #[test]
    fn a_number_that_was_given_twice_is_read() {
        let mut kept = Kept::beginning_with(1);
        // The log forgot that it had given 5.
        kept.add_each([1, 2, 3, 4, 5, 5]);
        assert!(kept.take_next().is_empty());
    }

    #[test]
    fn what_was_taken_and_not_sealed_is_read_the_next_time() {
        let mut kept = Kept::beginning_with(1);
        kept.add_each(1..=4);
        assert_eq!(kept.next_numbers(), [1, 2, 3, 4]);
        kept.add_each(5..=9);
        // The commit failed.
        assert!(kept.take_next().is_empty());
    }

    #[test]
    fn what_another_sealed_meanwhile_is_let_go() {
        let mut kept = Kept::beginning_with(1);
        kept.add_each(1..=4);
        kept.sealed(3);
        assert_eq!(kept.next_numbers(), [4]);
    }
}
