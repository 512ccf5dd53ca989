//! What a worker and the service say to each other about one task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::notes::Notes;
use crate::client::call::new_key;
use crate::client::wire::Standing;
use crate::client::{Call, Client, Error, Patience};
use crate::domain::{JsonObject, LeaseToken, TaskId, WorkerId};

/// What the service wants of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    /// To go on.
    Go,
    /// To end soon: somebody cancelled the task.
    Cancel,
    /// Nothing: another worker may have the task.
    Lost,
}

/// Why something was not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The attempt is over.
    Lost,
    /// What was said is wrong.
    Wrong(Error),
}

/// The body of every call of a worker.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    pub(super) worker_id: Option<&'a WorkerId>,
    pub(super) lease_token: Option<&'a LeaseToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entries: Option<&'a [JsonObject]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<&'a JsonObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Value>,
}

/// The line between an attempt and the service.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    task: TaskId,
    worker: WorkerId,
    token: Option<LeaseToken>,
    lease_seconds: u64,
    notes: Arc<Notes>,
    word: watch::Sender<Word>,
    heard_at: Mutex<Instant>,
    /// What keys begin with, and how many there were.
    keys: (String, AtomicU64),
}

impl Link {
    pub(super) fn new(
        client: Client,
        task: TaskId,
        (worker, token): (WorkerId, Option<LeaseToken>),
        lease_seconds: u64,
        notes: Arc<Notes>,
    ) -> Self {
        let word = watch::Sender::new(Word::Go);
        let heard_at = Mutex::new(Instant::now());
        let keys = (new_key(), AtomicU64::default());
        Self { client, task, worker, token, lease_seconds, notes, word, heard_at, keys }
    }

    pub(super) fn task(&self) -> &TaskId {
        &self.task
    }

    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// What the service wants, now and from now on.
    pub(super) fn word(&self) -> watch::Receiver<Word> {
        self.word.subscribe()
    }

    /// Says something until there is an answer. A word that knows keys is sent under one: it is done once, however often
    /// it has to be sent.
    pub(super) async fn say(&self, word: &str, body: Body<'_>) -> Result<(), Refusal> {
        let body = Body { worker_id: Some(&self.worker), lease_token: self.token.as_ref(), ..body };
        // Names and JSON objects become JSON.
        let body = serde_json::to_string(&body).unwrap_or_default();
        let mut call = Call::post(format!("/tasks/{}/{word}", self.task), body);
        if !matches!(word, "heartbeat" | "cancel") {
            let number = self.keys.1.fetch_add(1, Ordering::Relaxed);
            call = call.key(format!("{}-{number}", self.keys.0));
        }
        let told = |error: &Error, _| self.notes.away(error);
        let answer = self.client.call(&call, Patience::Endless, told).await;
        self.notes.there();
        match answer {
            Ok(answer) => {
                *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                let standing = self.client.read::<Standing>(&answer);
                if standing.is_ok_and(|standing| standing.cancel_requested) {
                    self.hear(Word::Cancel);
                }
                Ok(())
            }
            Err(error) => match error.code() {
                Some("lease_lost" | "not_the_worker" | "task_not_found" | "invalid_transition") => {
                    self.hear(Word::Lost);
                    Err(Refusal::Lost)
                }
                _ => Err(Refusal::Wrong(error)),
            },
        }
    }

    /// There is no way back from a word to one before it.
    fn hear(&self, word: Word) {
        self.word.send_if_modified(|known| {
            let is_new = word > *known;
            *known = word.max(*known);
            is_new
        });
    }

    /// Says now and then that the worker is alive, where nothing else does, until the attempt is over.
    pub(super) async fn beat(&self, every: Duration) {
        loop {
            let heard_at = *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner);
            tokio::time::sleep_until(heard_at + every).await;
            if self.heard_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < every {
                continue;
            }
            let body = Body { lease_seconds: Some(self.lease_seconds), ..Body::default() };
            match self.say("heartbeat", body).await {
                Ok(()) => {}
                Err(Refusal::Lost) => return,
                Err(Refusal::Wrong(error)) => {
                    self.notes.say(&format!("{}: {error}", self.task));
                    tokio::time::sleep(every).await;
                }
            }
        }
    }

    /// Whether the task has been cancelled: an answer that says so may have been lost on its way.
    pub(super) async fn is_cancelled(&self) -> bool {
        let call = Call::get(format!("/tasks/{}/why", self.task));
        let why = self.client.ask::<crate::client::wire::Why>(&call, Patience::Endless).await;
        why.is_ok_and(|why| why.status == crate::domain::Status::Cancelled)
    }
}
