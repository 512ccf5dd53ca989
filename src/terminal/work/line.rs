//! What a line that a program printed says.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::domain::JsonObject;

/// Bytes of a message at most: what is longer becomes several. Written as JSON a byte may take six.
pub(super) const LONGEST_MESSAGE: usize = 32 << 10;
/// Bytes of a JSON object on a line at most, which the service takes only where it is configured to.
pub(super) const LONGEST_OBJECT: usize = 1 << 20;
/// What the line of a result begins with.
pub(super) const RESULT: &str = "result:";
/// Digits of a count at most: so many are exact in every JSON.
const MOST_DIGITS: usize = 15;

/// Where a line was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Stdout,
    Stderr,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Entries of the history: one, or several of a long text.
    Entries(Vec<JsonObject>),
    /// What comes of the task, if it ends well.
    Result(JsonObject),
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn level(self) -> &'static str {
        match self {
            Self::Stdout => "info",
            Self::Stderr => "error",
        }
    }
}

/// Reads a line.
pub(super) fn read(line: &str, source: Source) -> Said {
    let text = console::strip_ansi_codes(line);
    let trimmed = text.trim();
    if let Some(rest) = trimmed.strip_prefix(RESULT)
        && source == Source::Stdout
        && let Some(result) = object(rest.trim())
    {
        return Said::Result(result);
    }
    let progress = object(trimmed).or_else(|| progress(trimmed).as_ref().map(stored));
    Said::Entries(progress.map_or_else(|| messages(&text, source), |entry| vec![entry]))
}

/// The bytes that a line may have which begins like this.
pub(super) fn limit(begin: &[u8]) -> usize {
    let may_be_long = begin.starts_with(b"{") || begin.starts_with(RESULT.as_bytes());
    if may_be_long { LONGEST_OBJECT } else { LONGEST_MESSAGE }
}

fn object(text: &str) -> Option<JsonObject> {
    if !text.starts_with('{') {
        return None;
    }
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    JsonObject::from_raw(raw).ok()
}

fn stored(value: &Value) -> JsonObject {
    JsonObject::from_stored(value.to_string())
}

/// `42%`, `3/10`, `[ 42%] text`, `[3/10] text`. Without brackets nothing may stand beside it: a sentence that begins with a
/// number is a sentence.
fn progress(text: &str) -> Option<Value> {
    let Some((inner, message)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']'))
    else {
        return counted(text);
    };
    let mut entry = counted(inner.trim())?;
    let message = message.trim();
    if !message.is_empty() {
        entry["message"] = message.into();
    }
    Some(entry)
}

fn counted(text: &str) -> Option<Value> {
    if let Some(percent) = text.strip_suffix('%') {
        return self::percent(percent.trim_end());
    }
    let (current, total) = text.split_once('/')?;
    let (current, total) = (count(current.trim_end())?, count(total.trim_start())?);
    (current <= total && total > 0).then(|| json!({ "current": current, "total": total }))
}

fn percent(text: &str) -> Option<Value> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || text.len() > MOST_DIGITS {
        return None;
    }
    let percent: f64 = text.parse().ok()?;
    if percent > 100.0 {
        return None;
    }
    // 42 and not 42.0.
    let whole = count(whole).filter(|_| fraction.bytes().all(|digit| digit == b'0'));
    Some(whole.map_or_else(|| json!({ "percent": percent }), |whole| json!({ "percent": whole })))
}

fn count(text: &str) -> Option<u64> {
    let is_count =
        (1..=MOST_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_count { text.parse().ok() } else { None }
}

fn messages(text: &str, source: Source) -> Vec<JsonObject> {
    let entry = |message: &str| {
        stored(&json!({ "message": message, "level": source.level(), "stream": source.name() }))
    };
    let mut entries = Vec::new();
    let mut rest = text.trim_end();
    while rest.len() > LONGEST_MESSAGE {
        let (piece, more) = rest.split_at(rest.floor_char_boundary(LONGEST_MESSAGE));
        entries.push(entry(piece));
        rest = more;
    }
    entries.push(entry(rest));
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(line: &str) -> Value {
        match read(line, Source::Stdout) {
            Said::Entries(entries) => {
                let [only] = &*entries else { panic!("one entry of {line:?}") };
                serde_json::from_str(only.as_str()).unwrap()
            }
            Said::Result(result) => panic!("a result: {result:?}"),
        }
    }

    #[test]
    fn percents_counts_and_objects_are_progress() {
        for (line, expected) in [
            ("42%", json!({ "percent": 42 })),
            ("  7.5 % ", json!({ "percent": 7.5 })),
            ("100.00%", json!({ "percent": 100 })),
            ("0%", json!({ "percent": 0 })),
            ("[ 42%] Building C object", json!({ "percent": 42, "message": "Building C object" })),
            ("3/10", json!({ "current": 3, "total": 10 })),
            ("0 / 7", json!({ "current": 0, "total": 7 })),
            ("[3/10] linking", json!({ "current": 3, "total": 10, "message": "linking" })),
            ("\u{1b}[32m[10/10]\u{1b}[0m", json!({ "current": 10, "total": 10 })),
            (
                r#" {"stage": "load", "n": 18446744073709551615}"#,
                json!({ "stage": "load", "n": u64::MAX }),
            ),
        ] {
            assert_eq!(entry(line), expected, "{line:?}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_a_message() {
        for line in [
            "101%",
            "-1%",
            "+1%",
            "1e2%",
            "%",
            ".5%",
            "5.%",
            "1.2.3%",
            "٤٢%",
            "5% off",
            "4/3",
            "0/0",
            "1/2/3",
            "3/10 tests failed",
            "10/12/2025",
            "1/",
            "/2",
            "[x] done",
            "[3/10",
            "[101%] x",
            "[]",
            "{",
            "{}{}",
            "[1,2]",
            "\"a\"",
            "1234567890123456/1234567890123456",
        ] {
            let expected = json!({ "message": line, "level": "info", "stream": "stdout" });
            assert_eq!(entry(line), expected, "{line:?}");
        }
        let deep = format!("{}{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        assert_eq!(entry(&deep)["message"], deep, "what the service would refuse is a message");
    }

    #[test]
    fn a_result_is_said_on_stdout_and_is_an_object() {
        let line = r#"result: {"rows": 42}"#;
        let result = JsonObject::from_stored(r#"{"rows":42}"#);
        assert_eq!(read(line, Source::Stdout), Said::Result(result));
        let Said::Entries(entries) = read(line, Source::Stderr) else { panic!("of stderr") };
        assert!(entries[0].as_str().contains(r#""level":"error","message":"result:"#));
        assert_eq!(entry("result: 42")["message"], "result: 42");
    }

    #[test]
    fn a_long_line_becomes_several_messages() {
        let line = "ü".repeat(LONGEST_MESSAGE);
        let Said::Entries(entries) = read(&line, Source::Stdout) else { panic!("messages") };
        let text = |entry: &JsonObject| serde_json::from_str::<Value>(entry.as_str()).unwrap();
        let joined: String = entries
            .iter()
            .map(|entry| text(entry)["message"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!((entries.len(), joined), (2, line));
    }

    proptest! {
        #[test]
        fn any_line_says_something_the_service_takes(line in any::<String>()) {
            check(&line)?;
        }

        #[test]
        fn any_line_that_nearly_is_progress_says_something_the_service_takes(
            line in r"[\[{ ]{0,2}[0-9.]{0,4} ?[%/]? ?[0-9]{0,4}[\]}% ]{0,2}[a-z ]{0,4}"
        ) {
            check(&line)?;
        }

        #[test]
        fn a_percent_is_between_nothing_and_all(percent in 0_u32..1000) {
            let entry = entry(&format!("{percent}%"));
            prop_assert_eq!(entry["percent"].as_u64(), (percent <= 100).then_some(percent.into()));
        }
    }

    fn check(line: &str) -> Result<(), TestCaseError> {
        for source in [Source::Stdout, Source::Stderr] {
            let entries = match read(line, source) {
                Said::Entries(entries) => entries,
                Said::Result(result) => vec![result],
            };
            prop_assert!(!entries.is_empty());
            for entry in entries {
                let raw: &RawValue = serde_json::from_str(entry.as_str()).unwrap();
                prop_assert_eq!(JsonObject::from_raw(raw).unwrap(), entry.clone());
                let value: Value = serde_json::from_str(entry.as_str()).unwrap();
                if let (Some(current), Some(total)) =
                    (value["current"].as_u64(), value["total"].as_u64())
                {
                    prop_assert!(current <= total);
                }
            }
        }
        Ok(())
    }
}
