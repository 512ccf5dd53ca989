//! Where the entries of one task stand in the file: what SQL would need an index for, and a page of it for every task at each commit.

use std::collections::VecDeque;

/// Entries of one task, in the order of their numbers, each at a place of its own in the file. The places ascend as well.
#[derive(Debug, Default)]
pub(super) struct Index(VecDeque<Kept>);

/// An entry of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) seq_id: u64,
    pub(super) place: i64,
    /// Of its line.
    pub(super) bytes: u64,
}

impl Index {
    /// The number behind which the entries begin, and the newest; zeros where there are none.
    pub(super) fn bounds(&self) -> (u64, u64) {
        (self.0.front().map_or(0, |first| first.seq_id - 1), self.newest())
    }

    /// The number of the newest entry; 0 where there is none.
    pub(super) fn newest(&self) -> u64 {
        self.0.back().map_or(0, |last| last.seq_id)
    }

    /// The newest entry.
    pub(super) fn last(&self) -> Option<Kept> {
        self.0.back().copied()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all, and of those above `seq_id`.
    pub(super) fn bytes(&self, seq_id: u64) -> (u64, u64) {
        let above = |kept: &&Kept| kept.seq_id > seq_id;
        let sum = |kept: &mut dyn Iterator<Item = &Kept>| kept.map(|kept| kept.bytes).sum();
        (sum(&mut self.0.iter()), sum(&mut self.0.iter().filter(above)))
    }

    /// Adds entries above all others.
    pub(super) fn extend(&mut self, kept: impl IntoIterator<Item = Kept>) {
        self.0.extend(kept);
    }

    /// Entries above `after`, at most `limit` and, but for the first, until they have so many bytes.
    pub(super) fn above(&self, after: u64, limit: usize, most_bytes: usize) -> Vec<Kept> {
        let from = self.0.partition_point(|kept| kept.seq_id <= after);
        let mut bytes = 0;
        let fits = |kept: &&Kept| {
            let has_room = bytes < most_bytes as u64;
            bytes += kept.bytes;
            has_room
        };
        self.0.range(from..).take(limit).take_while(fits).copied().collect()
    }

    /// Takes entries up to `seq_id` away, but for the newest `left` of all; says where they stand and how many bytes they have.
    pub(super) fn take_up_to(&mut self, seq_id: u64, left: u64) -> (Vec<i64>, u64) {
        let most = self.newest().saturating_sub(left).min(seq_id);
        let count = self.0.partition_point(|kept| kept.seq_id <= most);
        let taken = self.0.drain(..count);
        let mut bytes = 0;
        let places = taken.inspect(|kept| bytes += kept.bytes).map(|kept| kept.place).collect();
        (places, bytes)
    }

    /// The places of all.
    pub(super) fn all(&self) -> Vec<i64> {
        self.0.iter().map(|kept| kept.place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let mut index = Index::default();
        let kept = |(seq_id, place): (u64, i64)| Kept { seq_id, place: 10 * place, bytes: 100 };
        index.extend((4..=9).zip(4..).map(kept));
        index
    }

    #[test]
    fn a_page_is_bounded_by_entries_and_by_bytes_and_is_never_empty_for_an_entry_is_large() {
        let index = index();
        let above = |after, limit, bytes| {
            let kept = index.above(after, limit, bytes).into_iter();
            kept.map(|kept| kept.place).collect::<Vec<_>>()
        };
        assert_eq!(index.bounds(), (3, 9));
        assert_eq!(above(3, 2, 1000), [40, 50]);
        assert_eq!(above(5, 10, 150), [60, 70]);
        assert_eq!(above(7, 10, 1), [80]);
        assert!(above(9, 10, 1000).is_empty());
    }

    #[test]
    fn what_is_sealed_goes_but_for_the_newest() {
        let mut index = index();
        assert_eq!(index.bytes(6), (600, 300));
        assert_eq!(index.take_up_to(5, 1), (vec![40, 50], 200));
        assert_eq!(index.take_up_to(20, 1), (vec![60, 70, 80], 300));
        assert_eq!(index.take_up_to(20, 1), (Vec::new(), 0));
        assert_eq!((index.bounds(), index.all()), ((8, 9), vec![90]));
    }
}
