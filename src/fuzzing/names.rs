//! Ids, names and time stamps.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::{LeaseToken, Reason, TaskId, TaskType, Timestamp, WorkerId};
use crate::live::redis::keys::Keys;

/// What is taken for a name or a time is printed as it was read, and is safe where it will stand.
///
/// # Panics
///
/// Where that does not hold.
pub fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    name::<TaskType>(text);
    name::<WorkerId>(text);
    name::<LeaseToken>(text);
    name::<Reason>(text);
    if let Some(id) = name::<TaskId>(text) {
        let path = format!("/api/v1/tasks/{id}/why");
        let uri: Uri = path.parse().expect("a path");
        assert_eq!((uri.path(), uri.query()), (&*path, None), "it is no segment of a path");
        let keys = Keys::new("tracker");
        assert_eq!(keys.task_of_live(&keys.live(&id)), Some(text));
        // The first braces of a key say its slot.
        let slot = keys
            .live(&id)
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'))
            .map(|(tag, _)| tag.to_owned());
        assert_eq!(slot.as_deref(), Some(text));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        time(at);
    }
}

fn name<T>(text: &str) -> Option<T>
where
    T: FromStr + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let name = text.parse::<T>().ok();
    let json = serde_json::json!(text).to_string();
    assert_eq!(serde_json::from_str::<T>(&json).ok(), name, "another in JSON");
    let name = name?;
    assert_eq!(name.to_string(), text);
    assert_eq!(serde_json::to_string(&name).expect("text"), json);
    assert!((1..=4000).contains(&text.len()), "{} bytes", text.len());
    assert!(!text.contains('\0'), "no database takes it");
    Some(name)
}

fn time(at: Timestamp) {
    let printed = at.to_string();
    assert!(printed.ends_with('Z') && printed.as_bytes()[printed.len() - 5] == b'.', "{printed}");
    let read: Timestamp = printed.parse().expect("what was printed");
    assert_eq!(read.as_millis(), at.as_millis());
    assert_eq!(read.to_string(), printed);
    assert_eq!(at.end_of_millisecond().to_string(), printed);
    assert_eq!(Timestamp::from_micros(at.as_micros()), Some(at));
    assert!(read <= at && at <= at.end_of_millisecond());
    for by in
        [Duration::ZERO, Duration::from_micros(1), Duration::from_hours(24 * 366), Duration::MAX]
    {
        let (later, earlier) = (at.plus(by), at.minus(by));
        assert!(earlier <= at && at <= later);
        for moved in [earlier, later] {
            assert_eq!(Timestamp::from_micros(moved.as_micros()), Some(moved), "no instant");
        }
    }
}
