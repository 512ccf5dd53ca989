//! Why a task stands where it stands, in words and fields.

use std::time::Duration;

use super::{Result, Tracker};
use crate::domain::{Entry, Status, Task, TaskId, Timestamp, WorkerId};
use crate::storage::Sealed;

/// A type that nobody asked for in so long has no worker: the longest a claim may wait, and some.
const ABSENT_AFTER: Duration = Duration::from_secs(90);

/// Why a task stands where it stands.
#[derive(Debug)]
pub struct Why {
    /// The task.
    pub task: Task,
    /// The reason, for programs.
    pub code: &'static str,
    /// The reason, for people: one or two sentences.
    pub explanation: String,
    /// The newest sign of progress.
    pub latest: Option<Entry>,
    /// Of a task that waits: how many are claimed before it, counted to a thousand.
    pub ahead: Option<u64>,
    /// Of a task that waits: when a worker last asked for its type, to a few seconds, and which.
    pub polled: Option<(Timestamp, WorkerId)>,
}

impl Tracker {
    /// Explains where a task stands.
    #[tracing::instrument(level = "debug", name = "task.why", skip_all, fields(task.id = %id))]
    pub async fn why(&self, id: &TaskId) -> Result<Why> {
        let now = self.clock.now();
        let task = self.existing(id).await?;
        let mut why = Why {
            code: "",
            explanation: String::new(),
            latest: self.latest_of(&task).await?,
            ahead: None,
            polled: None,
            task,
        };
        if why.task.status == Status::Pending {
            why.ahead = Some(self.storage.ahead_of(&why.task).await?);
            let polled = self.last_polled(&why.task.task_type, now).await?;
            why.polled = polled.map(|polled| (polled.at, polled.worker_id));
        }
        (why.code, why.explanation) = match why.task.status {
            Status::Pending => waiting(&why, now),
            Status::InProgress => running(&why, now),
            _ => ended(&why.task),
        };
        Ok(why)
    }

    /// The newest entry; of a running task whose live log is away, the newest that is sealed.
    async fn latest_of(&self, task: &Task) -> Result<Option<Entry>> {
        if task.attempt == 0 {
            return Ok(None);
        }
        if !task.status.is_terminal()
            && let Ok(latest) = self.live.latest(std::slice::from_ref(&task.id)).await
            && let Some(entry) = latest.into_iter().flatten().next()
        {
            return Ok(Some(entry));
        }
        let last = self.storage.last_sealed(&task.id).await?;
        Ok(match self.storage.sealed(&task.id, last.saturating_sub(1)).await? {
            Sealed::Entries(mut entries) => entries.pop(),
            Sealed::Gap(_) | Sealed::Nothing => None,
        })
    }
}

fn waiting(why: &Why, now: Timestamp) -> (&'static str, String) {
    let task = &why.task;
    if task.timeout_at <= now {
        return ("overdue", "Its deadline has passed: the next sweep ends it.".into());
    }
    let task_type = &task.task_type;
    let back = match task.lost_attempts {
        0 => String::new(),
        lost => format!(
            " It was lost {} before, when the lease of its worker ran out; it may be lost {}.",
            times(lost),
            times(task.terms.max_attempts)
        ),
    };
    match &why.polled {
        None => (
            "no_worker",
            format!(
                "It waits: no worker has asked for tasks of type {task_type} in the last week.{back}"
            ),
        ),
        Some((at, worker)) if now.since(*at) > ABSENT_AFTER => (
            "no_worker",
            format!(
                "It waits: no worker has asked for tasks of type {task_type} for {}; the last was {worker}.{back}",
                span(now.since(*at))
            ),
        ),
        Some((_, worker)) => match why.ahead.unwrap_or(0) {
            0 => (
                "next",
                format!(
                    "It is the next of type {task_type}: the next worker that asks gets it; the last that asked was {worker}.{back}"
                ),
            ),
            ahead => (
                "workers_busy",
                format!(
                    "It waits behind {}{ahead} older of type {task_type}; the last worker that asked was {worker}.{back}",
                    if ahead >= 1000 { "more than " } else { "" }
                ),
            ),
        },
    }
}

fn running(why: &Why, now: Timestamp) -> (&'static str, String) {
    let task = &why.task;
    let by = task.worker_id.as_ref().map_or_else(
        || "A worker that gave no name has it".to_owned(),
        |worker| format!("{worker} has it"),
    );
    let progressed = why.latest.as_ref().map(|entry| entry.timestamp);
    let heard =
        progressed.max(task.lease.as_ref().map(|lease| lease.heard_at)).max(task.started_at);
    let silent =
        heard.map_or_else(String::new, |at| format!(", last heard {} ago", span(now.since(at))));
    let expires = task.lease.as_ref().and_then(|lease| lease.expires_after(progressed));
    let lease = match expires {
        Some(at) if at <= now => {
            "; its lease has run out, and the next sweep gives it to another".to_owned()
        }
        Some(at) => {
            format!("; if nothing more is heard, another worker gets it in {}", span(at.since(now)))
        }
        None => "; it has no lease, so a worker that died keeps it until its deadline".to_owned(),
    };
    let deadline = format!(" Its deadline is in {}.", span(task.timeout_at.since(now)));
    if task.timeout_at <= now {
        return (
            "overdue",
            format!("{by}{silent}, but its deadline has passed: the next sweep ends it."),
        );
    }
    if let Some(wish) = &task.cancellation {
        let cut = wish
            .deadline
            .map_or_else(String::new, |at| format!(", and is cut off in {}", span(at.since(now))));
        return (
            "cancel_requested",
            format!("{by}{silent}; it is asked to end it{cut}.{deadline}"),
        );
    }
    if let Some(at) = task.stalled_at {
        return (
            "stalled",
            format!(
                "{by}{silent}, but there has been no progress: it was flagged {} ago{lease}.{deadline}",
                span(now.since(at))
            ),
        );
    }
    if expires.is_some_and(|at| at <= now) {
        return ("lease_expired", format!("{by}{silent}{lease}.{deadline}"));
    }
    ("running", format!("{by}{silent}{lease}.{deadline}"))
}

fn ended(task: &Task) -> (&'static str, String) {
    let by = task
        .worker_id
        .as_ref()
        .map_or_else(String::new, |worker| format!(" Its worker was {worker}."));
    match task.status {
        Status::Completed => ("completed", format!("Its worker said that it is done.{by}")),
        Status::Failed if task.lost_attempts >= task.terms.max_attempts => (
            "lease_exhausted",
            format!(
                "It was lost {}: each time its worker fell silent until the lease ran out, and it may not be lost more often.{by}",
                times(task.lost_attempts)
            ),
        ),
        Status::Failed => {
            let said = task.error.as_ref().and_then(|error| {
                let error: serde_json::Value = serde_json::from_str(error.as_str()).ok()?;
                error.get("message")?.as_str().map(|message| format!(": {message}"))
            });
            (
                "failed",
                format!("Its worker said that it went wrong{}.{by}", said.unwrap_or_default()),
            )
        }
        Status::Timeout => (
            "timed_out",
            format!(
                "It was not done {} after it was registered, or somebody said that its time is over.{by}",
                span(task.terms.timeout)
            ),
        ),
        _ => {
            let wish = task.cancellation.as_ref();
            let reason = wish.and_then(|wish| wish.reason.as_ref());
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            ("cancelled", format!("Somebody wanted it to end{reason}.{by}"))
        }
    }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        count => format!("{count} times"),
    }
}

/// `3s`, `2h 5m`: to the second.
fn span(duration: Duration) -> String {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    format!("{:#}", jiff::SignedDuration::from_secs(seconds))
}
