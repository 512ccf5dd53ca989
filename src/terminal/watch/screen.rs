//! How it is shown what becomes of tasks: bars on a terminal, lines in a pipe, or events as JSON.

use std::io;

use super::super::end::Failure;
use super::super::show::{self, note};
use super::super::view::{self, View};
use super::bars::Bars;
use crate::client::{Error, Told};
use crate::domain::{TaskId, Timestamp};

pub(super) enum Screen {
    Json,
    Plain { is_away: bool },
    Bars(Box<Bars>),
}

/// What stands below all bars.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// What has become of those that are not shown any more; empty where it says nothing.
    pub(super) text: String,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        match show::terminal() {
            _ if json => Self::Json,
            Some(_) => Self::Bars(Box::new(Bars::new())),
            None => Self::Plain { is_away: false },
        }
    }

    /// Whether it has to be drawn now and then.
    pub(super) fn is_drawn(&self) -> bool {
        matches!(self, Self::Bars(_))
    }

    /// Something happened to a task, of which `view` is what is known now.
    pub(super) fn told(&mut self, id: &TaskId, told: &Told, view: &View) -> Result<(), Failure> {
        match self {
            Self::Json => show::line(&told.line)?,
            Self::Plain { is_away } => {
                *is_away = false;
                let words = view::in_words(&told.event);
                plain(id, told.event.timestamp, &words)?;
            }
            Self::Bars(bars) => {
                bars.is_there();
                if view.has_ended() {
                    bars.ended(id, view)?;
                }
            }
        }
        Ok(())
    }

    /// A task stands somewhere else now, of which `told` is the whole of it.
    pub(super) fn stands(
        &mut self,
        id: &TaskId,
        told: &Told,
        view: &View,
        is_new: bool,
    ) -> Result<(), Failure> {
        match self {
            Self::Json => show::line(&told.line)?,
            Self::Plain { is_away } => {
                *is_away = false;
                if is_new {
                    let status = view.status.map_or("of an unknown status", |s| s.as_str());
                    let why =
                        view.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
                    plain(id, told.event.timestamp, &format!("{status}{why}"))?;
                }
            }
            Self::Bars(bars) => {
                bars.is_there();
                if is_new && view.has_ended() {
                    bars.ended(id, view)?;
                }
            }
        }
        Ok(())
    }

    /// The server is away; a watch goes on when it is back.
    pub(super) fn away(&mut self, error: Option<&Error>) {
        match self {
            // Events only.
            Self::Json => {}
            Self::Plain { is_away } => {
                // Once per outage, and not where a node just hands its streams over.
                if let Some(error) = error
                    && !std::mem::replace(is_away, true)
                {
                    note(&format!("{error}; waiting for it"));
                }
            }
            Self::Bars(bars) => bars.away(error),
        }
    }

    pub(super) fn draw<'a>(
        &mut self,
        tasks: impl Iterator<Item = (&'a TaskId, &'a View)>,
        summary: &Summary,
        now: Timestamp,
    ) {
        if let Self::Bars(bars) = self {
            bars.draw(tasks, summary, now);
        }
    }

    /// Takes away what is drawn.
    pub(super) fn clear(&mut self) {
        if let Self::Bars(bars) = self {
            bars.clear();
        }
    }
}

fn plain(id: &TaskId, at: Timestamp, words: &str) -> io::Result<()> {
    show::line(&format!("{at}  {id}  {words}"))
}
