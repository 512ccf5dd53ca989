//! Ids and names that were checked once and need no checking again.

use std::fmt::{self, Write};
use std::str::FromStr;

/// A name broke its rule; `Display` says the rule, in words for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(&'static str);

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(std::sync::Arc<str>);

        impl $type {
            /// The rule, in words for the client.
            pub const RULE: &'static str = $rule;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidName($rule)) }
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A task's id: made by [`TaskId::new`], or given by the client. It is safe in a URL path, in a
    /// Redis key between braces and in an SSE line.
    TaskId,
    "must be 1 to 64 characters of A-Z a-z 0-9 _ . : -",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}

name! {
    /// What kind of work a task is; workers claim by it.
    TaskType,
    "must be 1 to 128 characters without control characters",
    is_plain_name
}

name! {
    /// Who holds a task.
    WorkerId,
    "must be 1 to 128 characters without control characters",
    is_plain_name
}

name! {
    /// What proves that a call comes from the worker that has the present attempt of a task: made anew by every
    /// claim and start, and told to that worker alone.
    LeaseToken,
    "must be a lease token: 1 to 64 of A-Z a-z 0-9",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

name! {
    /// Why somebody wants a task to end, in words for people.
    Reason,
    "must be 1 to 1000 characters without control characters but line breaks and tabs",
    |text| (1..=1000).contains(&text.chars().count())
        && !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

name! {
    /// What somebody looks for in the texts of tasks.
    Search,
    "must be 1 to 128 characters without control characters",
    is_plain_name
}

impl Search {
    /// Every way in which it may stand in JSON: as part of the text itself, and inside a string, with other
    /// characters than ASCII as they are or escaped, as many libraries write them.
    pub fn in_json(&self) -> Vec<String> {
        let mut inside = String::with_capacity(self.as_str().len());
        for character in self.as_str().chars() {
            if matches!(character, '"' | '\\') {
                inside.push('\\');
            }
            inside.push(character);
        }
        let mut escaped = String::with_capacity(inside.len());
        for character in inside.chars() {
            if character.is_ascii() {
                escaped.push(character);
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to memory cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
        let mut ways = vec![self.as_str().to_owned(), inside, escaped];
        ways.dedup();
        ways
    }
}

impl LeaseToken {
    /// A new one, unguessable (cuid2 hashes what a cryptographic generator gave).
    #[expect(clippy::new_without_default, reason = "there is no default secret")]
    pub fn new() -> Self {
        Self(cuid2::CuidConstructor::new().with_length(32).create_id().into())
    }
}

impl TaskId {
    /// A new id, unguessable and unique without coordination (cuid2).
    pub fn new() -> Self {
        Self(cuid2::create_id().into())
    }
}

impl Default for TaskId {
    fn default() -> Self {
        Self::new()
    }
}

/// Characters are counted as Unicode scalar values, as JSON Schema's `maxLength` does.
fn is_plain_name(text: &str) -> bool {
    (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_id_obeys_its_own_rule() {
        assert!(TaskId::new().as_str().parse::<TaskId>().is_ok());
    }

    #[test]
    fn an_id_keeps_to_its_alphabet_and_length() {
        assert!("a.B_3:-".parse::<TaskId>().is_ok());
        for wrong in ["", "a b", "ä", "a/b", "{a}", "a\n", &"x".repeat(65)] {
            assert!(wrong.parse::<TaskId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_searched_is_looked_for_as_json_may_spell_it() {
        let ways = |text: &str| text.parse::<Search>().unwrap().in_json();
        assert_eq!(ways("a B-1"), ["a B-1"]);
        assert_eq!(ways("\"a\\"), ["\"a\\", "\\\"a\\\\"]);
        assert_eq!(ways("ä🦀"), ["ä🦀", "\\u00e4\\ud83e\\udd80"]);
        assert_eq!(ways("\"ä"), ["\"ä", "\\\"ä", "\\\"\\u00e4"]);
    }

    #[test]
    fn a_type_may_be_any_text_of_128_characters_without_controls() {
        assert!("ä".repeat(128).parse::<TaskType>().is_ok());
        for wrong in ["", "a\u{0}", "a\u{85}", &"ä".repeat(129)] {
            assert!(wrong.parse::<TaskType>().is_err(), "{wrong:?}");
        }
    }
}
