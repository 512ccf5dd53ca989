//! JSON bodies of every kind, and bodies of lines.

use std::convert::Infallible;
use std::fmt::Debug;

use axum::body::{Body, Bytes};
use futures::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;

use super::refused;
use crate::domain::JsonObject;
use crate::domain::json::Members;
use crate::domain::progress::SEQ_ID;
use crate::http::bulk::BulkRequest;
use crate::http::claims::{ClaimRequest, HeartbeatRequest, ReleaseRequest, StartRequest};
use crate::http::endings::{CancelRequest, CompleteRequest, FailRequest, TimeoutRequest};
use crate::http::extract::parse;
use crate::http::many::{CancelBulkRequest, RetryBulkRequest};
use crate::http::problem::{Code, Problem};
use crate::http::progress::{self, ProgressRequest};
use crate::http::tasks::RegisterRequest;

/// Bytes of an entry at most: within the reach of small inputs.
const ENTRY_BYTES: usize = 200;

/// A body, read as each kind of body there is, is taken or refused; what is taken means the same however it is written.
///
/// # Panics
///
/// Where that does not hold.
pub fn bodies(input: &[u8]) {
    body(input, as_read::<RegisterRequest>);
    body(input, as_read::<ClaimRequest>);
    body(input, as_read::<StartRequest>);
    body(input, as_read::<HeartbeatRequest>);
    body(input, as_read::<ReleaseRequest>);
    body(input, as_read::<CompleteRequest>);
    body(input, as_read::<FailRequest>);
    body(input, as_read::<TimeoutRequest>);
    body(input, as_read::<CancelRequest>);
    body(input, as_read::<CancelBulkRequest>);
    body(input, as_read::<RetryBulkRequest>);
    body(input, of_progress);
    body(input, of_many);
}

/// What a body means, as text that is equal where it is.
type Meaning = Result<String, Problem>;

fn as_read<T: DeserializeOwned + Debug>(bytes: &[u8]) -> Meaning {
    parse::<T>(bytes).map(|request| format!("{request:?}"))
}

fn of_progress(bytes: &[u8]) -> Meaning {
    let request = parse::<ProgressRequest>(bytes)?;
    let entries = request.entries(ENTRY_BYTES)?;
    Ok(format!("{entries:?} {:?} {:?}", request.worker_id, request.lease_token))
}

/// Of each task by itself: what is wrong with one is no refusal of all.
fn of_many(bytes: &[u8]) -> Meaning {
    let (registrations, items) = parse::<BulkRequest>(bytes)?.read()?;
    assert_eq!(registrations.len(), items.iter().filter(|item| item.is_ok()).count());
    let items: Vec<_> = items.iter().map(|item| item.as_ref().map_err(refused)).collect();
    Ok(format!("{registrations:?} {items:?}"))
}

fn body(bytes: &[u8], read: fn(&[u8]) -> Meaning) {
    let text = std::str::from_utf8(bytes).ok();
    let is_json = text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let can_be_told = text.is_some_and(|text| serde_json::from_str::<Value>(text).is_ok());
    let read_once = match read(bytes) {
        Ok(meaning) => Ok(meaning),
        Err(problem) => Err(refused(&problem)),
    };
    match &read_once {
        Ok(_) => assert!(is_json, "what is no JSON was taken"),
        // What no value can be made of, as half a surrogate pair or 1e999, may be either.
        Err(Code::MalformedBody) => assert!(!can_be_told, "JSON was called malformed"),
        Err(Code::ValidationFailed) => assert!(is_json, "what is no JSON was called invalid"),
        Err(Code::BodyTooLarge) => assert!(bytes.len() > ENTRY_BYTES),
        Err(code) => panic!("refused with {code:?}"),
    }
    let Some(Members(members)) =
        text.filter(|_| can_be_told).and_then(|text| serde_json::from_str(text).ok())
    else {
        return;
    };
    let members: Vec<(&str, &RawValue)> =
        members.iter().map(|(key, value)| (&*key.0, *value)).collect();
    // Of what is refused one is enough.
    let others = if read_once.is_ok() { 5 } else { 1 };
    for written in written_otherwise(&members).into_iter().take(others) {
        match (&read_once, read(written.as_bytes())) {
            (Ok(meaning), Ok(other)) => assert_eq!(*meaning, other, "{written}"),
            (Ok(_), Err(problem)) => panic!("{problem:?}: {written}"),
            (Err(_), Ok(meaning)) => panic!("taken: {meaning}: {written}"),
            // Which of several faults is told depends on which comes first.
            (Err(_), Err(problem)) => {
                assert_ne!(refused(&problem), Code::MalformedBody, "{written}");
            }
        }
    }
}

/// The same object, written otherwise: printed; with white space; its members the other way round; each key in escapes;
/// with members that nobody knows.
fn written_otherwise(members: &[(&str, &RawValue)]) -> [String; 5] {
    let plain = |key: &str| Value::from(key).to_string();
    let escaped = |key: &str| {
        let escapes: Vec<_> = key.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{}\"", escapes.concat())
    };
    let print =
        |members: &[(&str, &RawValue)], key: &dyn Fn(&str) -> String, [colon, comma]: [&str; 2]| {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{}{colon}{}", key(name), value.get()))
                .collect();
            members.join(comma)
        };
    let reversed: Vec<_> = members.iter().rev().copied().collect();
    let tight = [":", ","];
    let comma = if members.is_empty() { "" } else { "," };
    let unknown = r#"" nobody ":[{"":null}],"nobody":{"taskType":0}"#;
    [
        format!("{{{}}}", print(members, &plain, tight)),
        format!(" \n{{\t{}\r}}\n ", print(members, &plain, [" \n: ", "\r, \t"])),
        format!("{{{}}}", print(&reversed, &plain, tight)),
        format!("{{{}}}", print(members, &escaped, tight)),
        format!("{{{unknown}{comma}{}}}", print(members, &plain, tight)),
    ]
}

/// A body of lines is kept up to the first that is wrong, in whatever pieces it arrives, and as if each line had come as
/// an entry.
///
/// # Panics
///
/// Where that does not hold.
pub fn lines(input: &[u8]) {
    let whole = kept(input, input.len().max(1));
    for piece in [1, 2, 7, 64] {
        assert_eq!(kept(input, piece), whole, "in pieces of {piece}");
    }
    let (mut alone, mut wrong) = (Vec::new(), None);
    for line in input.split(|byte| *byte == b'\n') {
        if line.len() > ENTRY_BYTES {
            wrong = Some(Code::BodyTooLarge);
            break;
        }
        if std::str::from_utf8(line).is_ok_and(|line| line.trim().is_empty()) {
            continue;
        }
        let body = [br#"{"progress":"#, line, b"}"].concat();
        // Within braces a line might be more than one value.
        if serde_json::from_slice::<&RawValue>(line).is_err() {
            wrong = Some(Code::MalformedBody);
            break;
        }
        match parse::<ProgressRequest>(&body).and_then(|request| request.entries(ENTRY_BYTES)) {
            Ok((entries, _)) => alone.extend(entries),
            Err(problem) => {
                wrong = Some(refused(&problem));
                break;
            }
        }
    }
    assert_eq!(whole.0, alone);
    assert_eq!(whole.1, wrong);
    for entry in &whole.0 {
        assert_eq!(*entry, entry.clone().without(SEQ_ID), "a number of its own");
    }
}

/// What is kept of a body that arrives in pieces of this size, and why no more.
fn kept(input: &[u8], piece: usize) -> (Vec<JsonObject>, Option<Code>) {
    let pieces: Vec<_> = input
        .chunks(piece)
        .map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece)))
        .collect();
    let mut lines = progress::lines(Body::from_stream(futures::stream::iter(pieces)), ENTRY_BYTES);
    let mut entries = Vec::new();
    futures::executor::block_on(async {
        while let Some(chunk) = lines.next().await {
            let (kept, wrong) = progress::read_lines(chunk, entries.len() as u64, ENTRY_BYTES);
            entries.extend(kept);
            if let Some(problem) = wrong {
                return (entries, Some(refused(&problem)));
            }
        }
        (entries, None)
    })
}
