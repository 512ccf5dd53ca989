//! A request that may come twice and is done once.
//!
//! A client that did not hear the answer sends its request again under the same key, and is answered
//! what was answered first (draft-ietf-httpapi-idempotency-key-header). Only what was done is
//! remembered. A refusal has changed nothing: it is found anew, so that a client is never held to one
//! whose reason has passed, and refused requests fill no table.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::time::Timestamp;

/// How long an answer is remembered.
pub const KEPT_FOR: Duration = Duration::from_hours(24);

/// A client's key for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where keys are told apart: the use case, and its task where it has one.
    pub scope: String,
    /// The hash of what the client chose: of one length, and nothing of it shows.
    pub hash: String,
    /// The hash of the request: the same key must come with the same one.
    pub fingerprint: String,
}

impl Key {
    /// The key `chosen` by the client, for a request of these `parts`.
    pub fn new(scope: impl Into<String>, chosen: &str, parts: &[&[u8]]) -> Self {
        Self { scope: scope.into(), hash: hash(&[chosen.as_bytes()]), fingerprint: hash(parts) }
    }
}

/// Each part with its length before it, so that no two lists of parts read alike.
fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    URL_SAFE_NO_PAD.encode(hasher.finalize())
}

/// What was acknowledged to a request with a key that appended entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// [`Key::hash`].
    pub hash: String,
    /// [`Key::fingerprint`].
    pub fingerprint: String,
    /// The number of the last of the entries.
    pub last_seq_id: u64,
    /// When.
    pub at: Timestamp,
    /// How long the worker could be silent from then on, as it was told.
    pub lease: Option<Duration>,
    /// Whether it was told that somebody wants the task to end.
    pub cancel_requested: bool,
}

/// The text of a receipt is none.
#[derive(Debug, thiserror::Error)]
#[error("not a receipt: {0:?}")]
pub struct NotAReceipt(String);

impl Receipt {
    /// What is kept under the key's hash, wherever it is: `<fingerprint> <number> <lease, ms> <cancel: 0 or 1>
    /// <microseconds>`; no lease is 0. The Redis script writes the same.
    pub fn text(&self) -> String {
        let Self { fingerprint, last_seq_id, at, lease, cancel_requested, .. } = self;
        let (lease, at) = (lease.map_or(0, |lease| lease.as_millis()), at.as_micros());
        format!("{fingerprint} {last_seq_id} {lease} {} {at}", u8::from(*cancel_requested))
    }

    /// Reads what was kept under `hash`.
    pub fn parse(hash: String, text: &str) -> Result<Self, NotAReceipt> {
        let [fingerprint, last, lease, cancel, micros] = text.split(' ').collect::<Vec<_>>()[..]
        else {
            return Err(NotAReceipt(text.to_owned()));
        };
        let read = || {
            let at = Timestamp::from_micros(micros.parse().ok()?)?;
            let lease = lease.parse().ok().map(Duration::from_millis)?;
            Some((last.parse().ok()?, Some(lease).filter(|lease| !lease.is_zero()), at))
        };
        let (last_seq_id, lease, at) = read().ok_or_else(|| NotAReceipt(text.to_owned()))?;
        let (fingerprint, cancel_requested) = (fingerprint.to_owned(), cancel == "1");
        Ok(Self { hash, fingerprint, last_seq_id, at, lease, cancel_requested })
    }

    /// Whether it may still be asked for.
    pub fn is_kept(&self, now: Timestamp) -> bool {
        now < self.at.plus(KEPT_FOR)
    }
}

/// A request with a key, and how what came of it is put into the text that is remembered.
pub struct Keyed<T> {
    /// The key.
    pub key: Key,
    /// Called before the outcome is committed.
    pub answer: Arc<dyn Fn(&T) -> String + Send + Sync>,
}

// Derived it would ask the same of what is answered for.
impl<T> Clone for Keyed<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), answer: Arc::clone(&self.answer) }
    }
}

impl<T> fmt::Debug for Keyed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_reads_back_as_it_was_written() {
        let at = Timestamp::from_micros(1_763_640_000_123_456).unwrap();
        let fingerprint = Key::new("s", "k", &[b"x"]).fingerprint;
        let (hash, lease) = ("h".to_owned(), Some(Duration::from_secs(30)));
        let receipt =
            Receipt { hash, fingerprint, last_seq_id: 7, at, lease, cancel_requested: true };
        let bare = Receipt { lease: None, cancel_requested: false, ..receipt.clone() };
        for receipt in [&receipt, &bare] {
            assert_eq!(Receipt::parse("h".to_owned(), &receipt.text()).unwrap(), *receipt);
        }
        for rubbish in ["", "a", "a 1 0 0", "a b 0 0 1", "a 1 0 0 x", "a 1 0 0 1 1"] {
            assert!(Receipt::parse("h".to_owned(), rubbish).is_err(), "{rubbish:?}");
        }
        assert!(receipt.is_kept(at) && !receipt.is_kept(at.plus(KEPT_FOR)));
    }

    #[test]
    fn the_same_request_has_the_same_key_and_any_other_another() {
        let key = Key::new("register", "k", &[b"", b"{}"]);
        assert_eq!(key, Key::new("register", "k", &[b"", b"{}"]));
        assert_eq!(key.hash.len(), 43);
        assert_ne!(key.hash, Key::new("register", "K", &[]).hash);
        for other in [&[b"{}" as &[u8], b""][..], &[b"{}"], &[b"", b"{ }"], &[b"", b"{}", b""]] {
            assert_ne!(key.fingerprint, Key::new("register", "k", other).fingerprint);
        }
    }
}
