//! Sends entries in their order, those together that are there together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::link::{Body, Link, Refusal};
use super::output::Waiting;
use crate::domain::JsonObject;

/// Entries of one request at most, and bytes of them unless one alone is larger.
const ENTRIES: usize = 1000;
const BYTES: usize = 256 << 10;
/// Between the beginnings of two requests: nobody sees more than twenty entries a second come one by one.
const PACE: Duration = Duration::from_millis(50);

/// Sends what comes until no more can. What is sent is kept, or the attempt is over.
pub(super) async fn report(link: Arc<Link>, mut entries: mpsc::UnboundedReceiver<Waiting>) {
    let mut held = None;
    let mut is_full = false;
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => match entries.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let began = Instant::now();
        let mut bytes = first.entry.as_str().len();
        let mut batch = vec![first];
        while batch.len() < ENTRIES
            && let Ok(next) = entries.try_recv()
        {
            bytes += next.entry.as_str().len();
            if bytes > BYTES {
                held = Some(next);
                break;
            }
            batch.push(next);
        }
        // Their places are free when they are kept, and not before.
        let (sent, _places): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.entry.clone(), waiting)).unzip();
        if !is_full && send(&link, sent, &mut is_full).await.is_err() {
            return;
        }
        if held.is_none() && !entries.is_closed() {
            sleep_until(began + PACE).await;
        }
    }
}

/// Sends entries, all or those that are taken: what the service refuses is found by halves, and something that says so
/// stands in its place.
async fn send(link: &Link, entries: Vec<JsonObject>, is_full: &mut bool) -> Result<(), ()> {
    let mut parts = VecDeque::from([entries]);
    while let Some(mut part) = parts.pop_front() {
        let body = Body { entries: Some(&part), ..Body::default() };
        let error = match link.say("progress", body).await {
            Ok(()) => continue,
            Err(Refusal::Lost) => return Err(()),
            Err(Refusal::Wrong(error)) => error,
        };
        if part.len() > 1 {
            let second = part.split_off(part.len() / 2);
            parts.push_front(second);
            parts.push_front(part);
            continue;
        }
        link.notes().say(&format!("{}: a line was not kept: {error}", link.task()));
        if error.code() == Some("log_full") {
            // The task can still end.
            *is_full = true;
            return Ok(());
        }
        let notice = notice(&part);
        if part[0] != notice {
            parts.push_front(vec![notice]);
        }
    }
    Ok(())
}

fn notice(part: &[JsonObject]) -> JsonObject {
    const SAID: &str = "a line of the program was refused by the service";
    let is_notice = part[0].as_str().contains(SAID);
    if is_notice {
        return part[0].clone();
    }
    let bytes = part[0].as_str().len();
    JsonObject::from_stored(
        json!({ "message": format!("{SAID}: {bytes} bytes"), "level": "error" }).to_string(),
    )
}
