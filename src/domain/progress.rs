//! One numbered line of a task's history, and the one text it has wherever it is kept.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::JsonObject;
use super::time::Timestamp;

/// The member of an entry that the server owns; a client's own is replaced.
pub const SEQ_ID: &str = "seqId";

/// One entry. Numbers count 1, 2, 3 … for a task, without a gap and without a repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the history.
    pub seq_id: u64,
    /// When it was appended; the same live and in replay.
    pub timestamp: Timestamp,
    /// What the worker said, without a `seqId`.
    pub progress: JsonObject,
}

/// An entry's text could not be read back: the store holds what this service never wrote.
#[derive(Debug, thiserror::Error)]
#[error("an entry of the history cannot be read")]
pub struct UnreadableEntry(#[from] serde_json::Error);

/// The text of an entry: `{"seqId":6,"timestamp":"…Z","progress":{"percent":40}}`, on one line. It is an
/// item of the live list, an element of a sealed array, and part of a published message, so that
/// none of these is parsed or written anew when it becomes another.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    seq_id: u64,
    timestamp: Timestamp,
    #[serde(borrow)]
    progress: &'a RawValue,
}

impl Entry {
    /// Reads the text of one entry.
    pub fn parse(line: &str) -> Result<Self, UnreadableEntry> {
        let Line { seq_id, timestamp, progress } = serde_json::from_str(line)?;
        Ok(Self { seq_id, timestamp, progress: JsonObject::from_stored(progress.get()) })
    }

    /// Reads a sealed array of entries.
    pub fn parse_sealed(array: &str) -> Result<Vec<Self>, UnreadableEntry> {
        let lines: Vec<Line<'_>> = serde_json::from_str(array)?;
        let entry = |line: Line<'_>| Self {
            seq_id: line.seq_id,
            timestamp: line.timestamp,
            progress: JsonObject::from_stored(line.progress.get()),
        };
        Ok(lines.into_iter().map(entry).collect())
    }

    /// The text of this entry. The Redis script, which gives the number, writes the same by concatenation.
    pub fn line(&self) -> String {
        format!(
            r#"{{"seqId":{}{}"#,
            self.seq_id,
            Self::behind_number(self.timestamp, &self.progress)
        )
    }

    /// What stands behind the number in the text of an entry.
    pub fn behind_number(timestamp: Timestamp, progress: &JsonObject) -> String {
        format!(r#","timestamp":"{timestamp}","progress":{}}}"#, progress.as_str())
    }

    /// What a client sees of it: `{"seqId":6,"percent":40}`.
    pub fn public(&self) -> String {
        let mut public = String::new();
        self.write_public(&mut public);
        public
    }

    /// The same, at the end of `text`.
    pub fn write_public(&self, text: &mut String) {
        self.progress.write_with_first(text, SEQ_ID, self.seq_id);
    }
}

/// Joins entries into the array that is sealed.
pub fn seal<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let mut array = String::from("[");
    for entry in entries {
        if array.len() > 1 {
            array.push(',');
        }
        array.push_str(&entry.line());
    }
    array.push(']');
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq_id: u64, progress: &str) -> Entry {
        let timestamp = Timestamp::from_micros(1_763_640_000_123_000).unwrap();
        Entry { seq_id, timestamp, progress: JsonObject::from_stored(progress) }
    }

    #[test]
    fn a_line_reads_back_as_the_entry_it_was() {
        let one = entry(6, r#"{"n":18446744073709551615,"ü":"\u0000"}"#);
        assert_eq!(Entry::parse(&one.line()).unwrap(), one);
        assert_eq!(one.public(), r#"{"seqId":6,"n":18446744073709551615,"ü":"\u0000"}"#);
    }

    #[test]
    fn a_sealed_array_reads_back_in_order() {
        let entries = vec![entry(1, "{}"), entry(2, r#"{"a":1}"#)];
        assert_eq!(Entry::parse_sealed(&seal(entries.iter())).unwrap(), entries);
        assert!(Entry::parse_sealed(&seal([].iter())).unwrap().is_empty());
    }
}
