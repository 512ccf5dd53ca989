//! What a worker says of itself, on stderr.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::show;
use crate::client::Error;

#[derive(Debug)]
pub(super) struct Notes {
    is_quiet: bool,
    is_away: AtomicBool,
}

impl Notes {
    pub(super) fn new(is_quiet: bool) -> Self {
        Self { is_quiet, is_away: AtomicBool::new(false) }
    }

    /// What goes well.
    pub(super) fn good(&self, text: &str) {
        if !self.is_quiet {
            show::note(text);
        }
    }

    /// What does not.
    #[expect(clippy::unused_self, reason = "the other half of `good`")]
    pub(super) fn say(&self, text: &str) {
        show::note(text);
    }

    /// The server is away: said once, however many hear it.
    pub(super) fn away(&self, error: &Error) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            show::note(&format!("{error}; trying again"));
        }
    }

    /// There was an answer.
    pub(super) fn there(&self) {
        if self.is_away.swap(false, Ordering::Relaxed) {
            self.good("the server is back");
        }
    }
}
