//! What a reader was told, gaps and all.

use task_tracker::app::App;
use task_tracker::domain::TaskId;

use crate::harness::{Event, Events};

/// A stream from an entry on, in either format.
pub async fn from(node: &App, task: &TaskId, last: &str, accept: &str) -> Events {
    let url = format!("http://{}/api/v1/tasks/{task}/track", node.address());
    let request = reqwest::Client::new().get(url).header("accept", accept);
    Events::open(request.header("last-event-id", last)).await
}

/// What a reader was told: an entry, a gap, or the end with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Entry(u64),
    Gap(u64, u64),
    End(String),
}

/// What these events tell.
pub fn told(events: &[Event]) -> Vec<Told> {
    let one = |event: &Event| match &*event.event {
        "progress" => Told::Entry(event.seq_id().expect("a number")),
        "gap" => {
            let number = |name: &str| event.data["data"][name].as_u64().expect("a number");
            let (from, to) = (number("from"), number("to"));
            assert_eq!(event.id, Some(to.to_string()), "a reader that resumes goes on behind it");
            assert_eq!(event.data["event"], "gap");
            assert!(event.data["timestamp"].is_string() && event.data["taskId"].is_string());
            Told::Gap(from, to)
        }
        _ => Told::End(event.id.clone().unwrap_or_default()),
    };
    events.iter().map(one).collect()
}

/// Entries, one after the other.
pub fn entries(numbers: impl Iterator<Item = u64>) -> Vec<Told> {
    numbers.map(Told::Entry).collect()
}

/// The same with gaps that follow each other made one.
pub fn joined(told: &[Told]) -> Vec<Told> {
    let mut joined: Vec<Told> = Vec::new();
    for one in told {
        match (joined.last_mut(), one) {
            (Some(Told::Gap(_, to)), Told::Gap(from, further)) if *from == *to + 1 => {
                *to = *further;
            }
            _ => joined.push(one.clone()),
        }
    }
    joined
}
