//! What is to be shown of a task, from its events. Pure: it knows no terminal, and time is an argument.

use std::collections::VecDeque;

use serde_json::Value;

use super::show::plain;
use crate::client::Event;
use crate::client::wire::{Change, Gone, Item, Why};
use crate::domain::{Status, Timestamp};

/// The rate is that of this time, or of this many entries if those took longer.
const WINDOW_MS: i64 = 30_000;
const SAMPLES: usize = 20;
const MOST_SAMPLES: usize = 600;
/// Below that two times say nothing of a rate.
const SHORTEST_MS: i64 = 1_000;

/// What is known of a task.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) status: Option<Status>,
    /// 0 to 100.
    pub(super) percent: Option<f64>,
    /// How many of how many, where the newest entry counts.
    pub(super) count: Option<(f64, f64)>,
    pub(super) message: Option<String>,
    pub(super) stage: Option<String>,
    /// Of the message.
    pub(super) is_error: bool,
    /// Why it is not well, or why it waits.
    pub(super) reason: Option<String>,
    pub(super) is_stalled: bool,
    pub(super) is_cancelling: bool,
    /// Since when it is known to stand there.
    status_at: i64,
    samples: VecDeque<(i64, f64)>,
    /// What the worker said of the time left: when, and how many milliseconds.
    eta: Option<(i64, f64)>,
    /// How far the server's clock is ahead of ours, in milliseconds: what has just happened says it best.
    ahead: Option<i64>,
}

/// The well-known fields of an entry; what is of another type is as if it were not there.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Known {
    pub(super) percent: Option<f64>,
    pub(super) count: Option<(f64, f64)>,
    pub(super) message: Option<String>,
    pub(super) stage: Option<String>,
    pub(super) is_error: bool,
    eta_seconds: Option<f64>,
}

impl Known {
    /// Of an entry.
    pub(super) fn of(entry: &str) -> Self {
        let Ok(Value::Object(entry)) = serde_json::from_str(entry) else { return Self::default() };
        let number = |name: &str| entry.get(name).and_then(Value::as_f64);
        let text = |name: &str| {
            let text = entry.get(name).and_then(Value::as_str)?.trim();
            (!text.is_empty()).then(|| plain(text).into_owned())
        };
        let count = number("current").zip(number("total")).filter(|(_, total)| *total > 0.0);
        let counted = count.map(|(current, total)| 100.0 * current / total);
        let level = text("level").unwrap_or_default().to_lowercase();
        Self {
            percent: number("percent").or(counted).map(|percent| percent.clamp(0.0, 100.0)),
            count,
            message: text("message"),
            stage: text("stage"),
            is_error: matches!(&*level, "error" | "fatal" | "critical"),
            eta_seconds: number("etaSeconds").filter(|seconds| *seconds >= 0.0),
        }
    }
}

impl View {
    /// Takes an event of its stream, at `now` by our clock.
    pub(super) fn take(&mut self, event: &Event, now: Timestamp) {
        let at = event.timestamp.as_millis();
        self.heard(at, now);
        match &*event.event {
            "progress" => self.progress(event.data.get(), at),
            "status_change" => {
                if let Some(change) = event.read() {
                    self.change(&change, at);
                }
            }
            "stalled" => self.is_stalled = true,
            "recovered" => self.is_stalled = false,
            "cancel_requested" => self.is_cancelling = true,
            _ => {}
        }
    }

    /// Takes the whole task as it stands.
    pub(super) fn stand(&mut self, item: &Item, now: Timestamp) {
        self.heard(item.updated_at.as_millis(), now);
        if let Some(entry) = &item.latest_progress {
            self.progress(entry.get(), item.updated_at.as_millis());
        }
        let (reason, error) = (item.cancel_reason.clone(), item.error.clone());
        let change = Change { status: item.status.clone(), reason, error };
        self.change(&change, item.updated_at.as_millis());
        self.is_stalled = item.stalled_at.is_some();
        self.is_cancelling = item.cancel_requested_at.is_some();
    }

    /// Takes where it stands and why.
    pub(super) fn explained(&mut self, why: &Why) {
        self.status = Some(why.status);
        self.status_at = why.server_time.as_millis();
        self.is_stalled = why.stalled_at.is_some();
        self.is_cancelling = why.cancel_requested;
        self.reason = (why.status == Status::Pending).then(|| plain(&why.explanation).into_owned());
    }

    fn heard(&mut self, at: i64, now: Timestamp) {
        let ahead = at - now.as_millis();
        self.ahead = Some(self.ahead.map_or(ahead, |known| known.max(ahead)));
    }

    fn progress(&mut self, entry: &str, at: i64) {
        let known = Known::of(entry);
        // That it began may have been said while nobody listened. Older entries are those of a worker before.
        if !self.has_ended() && at >= self.status_at {
            self.status = Some(Status::InProgress);
            self.reason = None;
        }
        self.is_stalled = false;
        self.stage = known.stage.or(self.stage.take());
        if known.message.is_some() {
            (self.message, self.is_error) = (known.message, known.is_error);
        }
        self.eta = known.eta_seconds.map(|seconds| (at, seconds * 1000.0)).or(self.eta);
        let Some(percent) = known.percent else { return };
        self.count = known.count;
        if self.percent.is_some_and(|before| percent < before) {
            // It began anew.
            self.samples.clear();
        }
        self.percent = Some(percent);
        self.samples.push_back((at, percent));
        let is_old = |samples: &VecDeque<(i64, f64)>| {
            samples.len() > SAMPLES && samples.get(1).is_some_and(|(then, _)| at - then > WINDOW_MS)
        };
        while is_old(&self.samples) || self.samples.len() > MOST_SAMPLES {
            self.samples.pop_front();
        }
    }

    fn change(&mut self, change: &Change, at: i64) {
        self.status = Status::parse(&change.status).or(self.status);
        self.status_at = at;
        self.is_stalled = false;
        self.is_cancelling &= self.status == Some(Status::InProgress);
        if self.status == Some(Status::Pending) {
            // Whoever takes it next may be faster or slower.
            self.samples.clear();
            self.eta = None;
        }
        if self.status == Some(Status::Completed) {
            self.percent = Some(100.0);
        }
        let error = change.error.as_ref().map(|error| said(error.get()));
        let reason = change.reason.as_deref().map(|reason| plain(reason).into_owned());
        self.reason = error.or(reason);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.status.is_some_and(Status::is_terminal)
    }

    /// The seconds left, as the worker says it, or else by the rate of late; `None` where nobody knows.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this age fit a double")]
    pub(super) fn seconds_left(&self, now: Timestamp) -> Option<f64> {
        if self.status != Some(Status::InProgress) || self.is_stalled {
            return None;
        }
        let there = now.as_millis() + self.ahead.unwrap_or_default();
        let said = self.eta.map(|(at, left)| left - (there - at) as f64).filter(|left| *left > 0.0);
        let left = said.or_else(|| self.left_by_rate(there)).filter(|left| *left > 0.0);
        left.map(|milliseconds| milliseconds / 1000.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "as above")]
    fn left_by_rate(&self, there: i64) -> Option<f64> {
        let ((began, from), (at, to)) = (*self.samples.front()?, *self.samples.back()?);
        let (took, done) = (at - began, to - from);
        if to >= 100.0 || took < SHORTEST_MS || done <= 0.0 {
            return None;
        }
        Some((100.0 - to) * took as f64 / done - (there - at) as f64)
    }
}

/// An error in words: its message, or all of it.
pub(super) fn said(error: &str) -> String {
    let message = Known::of(error).message;
    message.unwrap_or_else(|| plain(error).into_owned())
}

/// A number without a fraction that says nothing.
pub(super) fn number(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// One event in words, for a line of its own.
pub(super) fn in_words(event: &Event) -> String {
    let all = || format!("{} {}", event.event, plain(event.data.get()));
    match &*event.event {
        "progress" => {
            let known = Known::of(event.data.get());
            let counted =
                known.count.map(|(of, total)| format!("{}/{}", number(of), number(total)));
            let percent = known.percent.map(|percent| format!("{}%", number(percent)));
            let parts = [counted.or(percent), known.stage, known.message];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            if parts.is_empty() { plain(event.data.get()).into_owned() } else { parts.join("  ") }
        }
        "status_change" => match event.read::<Change>() {
            Some(Change { status, reason, error }) => {
                let error = error.map(|error| said(error.get()));
                let why = error.or_else(|| Some(plain(&reason?).into_owned()));
                why.map_or_else(|| status.clone(), |why| format!("{status}: {why}"))
            }
            None => all(),
        },
        "gap" => match event.read() {
            Some(Gone { from, to }) => format!("entries {from} to {to} are gone"),
            None => all(),
        },
        "stalled" => "stalled: there is no progress".to_owned(),
        "recovered" => "recovered: there is progress again".to_owned(),
        "cancel_requested" => "asked to end".to_owned(),
        _ => all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, second: u32, data: &str) -> Event {
        let text = format!(
            r#"{{"event":"{kind}","data":{data},"taskId":"t","timestamp":"2026-11-20T12:00:{second:02}.000Z"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn at(second: u32) -> Timestamp {
        format!("2026-11-20T12:00:{second:02}Z").parse().unwrap()
    }

    #[test]
    fn well_known_fields_are_seen_and_what_is_of_another_type_is_not() {
        let known = Known::of(
            r#"{"current":3,"total":12,"message":" a\u001b[2Jb ","stage":"s","level":"ERROR"}"#,
        );
        assert_eq!((known.percent, known.count), (Some(25.0), Some((3.0, 12.0))));
        assert_eq!((known.message.as_deref(), known.is_error), (Some("ab"), true));
        let odd =
            r#"{"percent":"40","current":1,"total":0,"message":7,"stage":"","etaSeconds":-1}"#;
        assert_eq!(Known::of(odd), Known::default());
        assert_eq!(Known::of(r#"{"percent":1000}"#).percent, Some(100.0));
    }

    #[test]
    fn the_time_left_is_what_the_worker_says_or_the_rate() {
        let mut view = View::default();
        view.take(&event("progress", 0, r#"{"seqId":1,"percent":0}"#), at(0));
        view.take(&event("progress", 10, r#"{"seqId":2,"percent":20}"#), at(10));
        assert_eq!(view.seconds_left(at(12)), Some(38.0));
        view.take(&event("progress", 12, r#"{"seqId":3,"etaSeconds":5}"#), at(12));
        assert_eq!(view.seconds_left(at(13)), Some(4.0));
        assert_eq!(view.seconds_left(at(20)), Some(30.0), "what was said is over: the rate again");
        view.take(&event("stalled", 21, "{}"), at(21));
        assert_eq!(view.seconds_left(at(21)), None);
        view.take(&event("status_change", 30, r#"{"status":"completed"}"#), at(30));
        assert_eq!((view.percent, view.seconds_left(at(30))), (Some(100.0), None));
    }

    #[test]
    fn a_clock_that_differs_does_not_matter() {
        let mut view = View::default();
        view.take(&event("progress", 40, r#"{"seqId":1,"etaSeconds":10}"#), at(0));
        assert_eq!(view.seconds_left(at(4)), Some(6.0));
    }

    #[test]
    fn what_a_worker_before_said_does_not_make_a_task_run_again() {
        let mut view = View::default();
        view.take(&event("status_change", 9, r#"{"status":"pending"}"#), at(9));
        view.take(&event("progress", 5, r#"{"seqId":1,"percent":40}"#), at(9));
        assert_eq!((view.status, view.percent), (Some(Status::Pending), Some(40.0)));
        view.take(&event("progress", 10, r#"{"seqId":2,"percent":50}"#), at(10));
        assert_eq!(view.status, Some(Status::InProgress));
    }

    #[test]
    fn events_are_said_in_words() {
        let said = |kind, data| in_words(&event(kind, 0, data));
        assert_eq!(said("progress", r#"{"seqId":1,"percent":12.5,"message":"m"}"#), "12.5%  m");
        assert_eq!(said("progress", r#"{"seqId":1,"x":1}"#), r#"{"seqId":1,"x":1}"#);
        let failed = r#"{"status":"failed","error":{"message":"no disk","code":7}}"#;
        assert_eq!(said("status_change", failed), "failed: no disk");
        let cancelled = r#"{"status":"cancelled","reason":"why not"}"#;
        assert_eq!(said("status_change", cancelled), "cancelled: why not");
        assert_eq!(said("gap", r#"{"from":2,"to":9}"#), "entries 2 to 9 are gone");
    }
}
