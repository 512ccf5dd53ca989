//! Where in the memory of the live log a task is.
//!
//! A log may have several memories, as a cluster of Redis has, and each is lost by itself. Tasks are in numbered places,
//! as many as a cluster has slots, and each memory has some of them. A log in one piece has them all.

use std::fmt;
use std::str::FromStr;

/// How many there are.
const PLACES: u16 = 16384;
const WORDS: usize = PLACES as usize / 64;

/// Some of the places. Their text is that of a cluster's slots: `0-5460,7000`, and nothing for none.
#[derive(Clone, PartialEq, Eq)]
pub struct Places(Box<[u64; WORDS]>);

/// What should be places is not.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no place")]
pub struct NoPlace(String);

impl Places {
    /// None of them.
    pub fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// All of them.
    pub fn all() -> Self {
        Self(Box::new([u64::MAX; WORDS]))
    }

    /// Adds those from `first` to `last`; of numbers that are no places nothing.
    pub fn add_range(&mut self, first: u16, last: u16) {
        for place in first..=last.min(PLACES - 1) {
            self.0[usize::from(place) / 64] |= 1 << (place % 64);
        }
    }

    /// Whether `place` is among them.
    pub fn has(&self, place: u16) -> bool {
        place < PLACES && self.0[usize::from(place) / 64] & (1 << (place % 64)) != 0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The first and the last of them.
    pub fn ends(&self) -> Option<(u16, u16)> {
        let ranges = self.ranges();
        Some((ranges.first()?.0, ranges.last()?.1))
    }

    /// Adds those of `others`.
    pub fn add(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0.iter()).for_each(|(word, other)| *word |= other);
    }

    /// Takes those of `others` away.
    pub fn remove(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0.iter()).for_each(|(word, other)| *word &= !other);
    }

    /// Those that are in both.
    #[must_use]
    pub fn shared_with(&self, others: &Self) -> Self {
        let mut both = self.clone();
        both.0.iter_mut().zip(others.0.iter()).for_each(|(word, other)| *word &= other);
        both
    }

    fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for place in (0..PLACES).filter(|place| self.has(*place)) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == place => *last = place,
                _ => ranges.push((place, place)),
            }
        }
        ranges
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges().into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Places({self})")
    }
}

impl FromStr for Places {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let mut places = Self::none();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse().ok().filter(|place| *place < PLACES);
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Err(NoPlace(range.to_owned()));
            };
            places.add_range(first, last);
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for text in ["", "0-16383", "7", "0-63,65,128-5460,16383"] {
            let places: Places = text.parse().unwrap();
            assert_eq!(places.to_string(), text);
        }
        assert_eq!(Places::all().to_string(), "0-16383");
        for wrong in ["16384", "1-", "x", "0-16384"] {
            assert!(wrong.parse::<Places>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn places_are_added_and_taken_away() {
        let mut places: Places = "0-10".parse().unwrap();
        places.remove(&"3-5,20".parse().unwrap());
        assert_eq!(places.to_string(), "0-2,6-10");
        places.add(&"3,100".parse().unwrap());
        assert_eq!(places.to_string(), "0-3,6-10,100");
        assert_eq!(places.shared_with(&"2-7".parse().unwrap()).to_string(), "2-3,6-7");
        assert_eq!(places.ends(), Some((0, 100)));
        assert!(places.has(100) && !places.has(5) && !places.has(u16::MAX));
        assert!(Places::none().is_empty() && Places::none().ends().is_none());
    }
}
