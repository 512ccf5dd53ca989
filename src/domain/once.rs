//! A request that may come twice and is done once.
//!
//! A client that did not hear the answer sends its request again under the same key, and is answered
//! what was answered first (draft-ietf-httpapi-idempotency-key-header). Only what was done is
//! remembered. A refusal has changed nothing: it is found anew, so that a client is never held to one
//! whose reason has passed, and refused requests fill no table.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

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

/// A request with a key, and how what came of it is put into the text that is remembered.
pub struct Keyed<T> {
    /// The key.
    pub key: Key,
    /// Called once, before the outcome is committed.
    pub answer: Box<dyn FnOnce(&T) -> String + Send + Sync>,
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
