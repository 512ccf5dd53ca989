//! What the live log remembers of a task, and what it may have lost.
//!
//! The log is Redis' memory, or a file: it may come back empty or older. Then numbers that were given are not
//! in it any more, and must not be given again. How many those can be is known: a log holds at
//! most [`WINDOW`] entries unsealed. So counting goes on that far behind the newest sealed entry, and the
//! numbers between are noted as gone, in the sealed history itself, where everybody finds them in their place.
//!
//! Whether a task is concerned is seen by its log: it was begun in another generation of the memory; or
//! it is not there although the task began before the loss was noticed, when it cannot be known whether
//! it had said anything.
//!
//! A cluster has several memories, and a task is in one of them, by its place: only those whose place was
//! lost are concerned. A place may also move from one memory to another. Then the log is of a generation that is
//! the present one of another memory, so nothing was lost there, and nothing is lost: the log is sealed, and goes on
//! where it is now. No log is begun in a memory before the durable truth says that it holds the place,
//! or its loss would not be known for one.

use std::sync::{Mutex, PoisonError};

use super::query::PAGE;
use super::{Error, Result, Tracker};
use crate::domain::{Entry, Task, TaskId, Timestamp};
use crate::live::{Generation, Memory, Page, WINDOW};
use crate::storage::{Loss, Memories};

/// Generations of the log's memories as this node knows them.
#[derive(Debug, Default)]
pub(super) struct Generations(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What the durable truth said last, if it was asked yet.
    memories: Option<Memories>,
    /// Something was seen that is not in there, where it could not be noted.
    is_stale: bool,
}

impl Known {
    /// Whether the memory of a task is known to hold it.
    fn know(&self, memory: &Memory) -> bool {
        let hold = |memories: &Memories| memories.hold(&memory.present, memory.place);
        self.memories.as_ref().is_some_and(hold)
    }
}

impl Tracker {
    /// Looks closely at every memory of the log, and notes what is new about them: that it lost one, if nobody who uses the
    /// log has noticed yet.
    pub async fn note_generations(&self) -> Result<()> {
        let generations = self.live.generations().await?;
        self.note(generations).await
    }

    async fn note(&self, generations: Vec<Generation>) -> Result<()> {
        let is_one = generations.len() == 1;
        let present: Vec<_> = generations.into_iter().map(|one| (one.name, one.places)).collect();
        {
            let known = self.generations();
            let agrees = |memories: &Memories| memories.agree_with(&present);
            // Where there are several, another node may have noted a loss of places that have come back since.
            if is_one && !known.is_stale && known.memories.as_ref().is_some_and(agrees) {
                return Ok(());
            }
        }
        let (memories, is_loss) = self.storage.note_generations(&present, self.clock.now()).await?;
        if is_loss {
            tracing::warn!(?present, "the live log lost its memory");
            metrics::counter!("live_log_losses_total").increment(1);
        }
        let mut known = self.generations();
        known.memories = Some(memories);
        known.is_stale = false;
        Ok(())
    }

    /// Notes what [`Tracker::loss`] could not look up; says whether it may be asked again.
    async fn note_unnoted(&self) -> Result<bool> {
        if !self.generations().is_stale {
            return Ok(false);
        }
        self.note_generations().await.map(|()| true)
    }

    /// Looks which generations there are, if this node has not yet. While the log is away it does not know, and
    /// what needs the log fails by itself.
    async fn know_generations(&self) -> Result<()> {
        if self.generations().memories.is_some() {
            return Ok(());
        }
        match self.live.generations().await {
            Ok(generations) => self.note(generations).await,
            Err(_) => Ok(()),
        }
    }

    /// Does what closes a log, and once more where the log lost its memory just then, which is noted in between.
    pub(super) async fn closing_logs<T, F>(&self, work: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.know_generations().await?;
        let done = work().await;
        let is_away = matches!(done, Err(Error::Unavailable(_)));
        if is_away && self.note_unnoted().await? { work().await } else { done }
    }

    /// What the log may have lost of a task. It asks nobody, for its caller may hold a row of the
    /// database: a generation that was never noted here, or not of this task's place, is refused, and noted by
    /// [`Tracker::note_unnoted`].
    pub(super) fn loss(&self, task: &Task, memory: &Memory) -> Result<Option<Loss>> {
        let mut known = self.generations();
        let memories = match &known.memories {
            Some(memories) if known.know(memory) => memories,
            _ => {
                known.is_stale = true;
                let why = "the live log lost its memory just now, or the place of the task moves";
                return Err(Error::Unavailable(why.into()));
            }
        };
        let lost_at = memories.lost_at(memory.place);
        let is_lost = match &memory.log {
            Some(generation) if *generation == memory.present => false,
            // It came whole from another memory. What was lost in its place since it can have been begun was of
            // another one: this is an older copy.
            Some(generation) if memory.is_moved => {
                memories.seen_at(generation).is_none_or(|seen| lost_at.is_some_and(|at| seen < at))
            }
            Some(_) => true,
            None => task.attempt > 0 && lost_at.is_some_and(|at| began(task) <= at),
        };
        let at = lost_at.unwrap_or(task.updated_at);
        // A place that moves may be lost more than once without another name for what holds it.
        let generation = match lost_at {
            Some(at) => format!("{} {}", memory.present, at.as_micros()),
            None => memory.present.clone(),
        };
        Ok(is_lost.then_some(Loss { generation, numbers: WINDOW, at }))
    }

    /// Seals what is left of a log that was begun in another generation, notes what was lost, and says how
    /// far the task is sealed and with how many bytes. Of a log that nothing is missing from that is `size`.
    pub(super) async fn sealed_after_loss(
        &self,
        task: &Task,
        size: (u64, u64),
        memory: &Memory,
    ) -> Result<(u64, u64)> {
        if !self.generations().know(memory) {
            self.note_generations().await?;
        }
        let loss = self.loss(task, memory)?;
        let is_present = memory.log.as_ref() == Some(&memory.present);
        if loss.is_none() && (is_present || memory.last_seq_id <= size.0) {
            return Ok(size);
        }
        let left = self.log_of(&task.id, Page::default(), memory.last_seq_id).await?;
        self.storage.seal(&task.id, &left, loss.as_ref()).await?;
        Ok(self.storage.sealed_size(&task.id).await?)
    }

    /// What is in the log of a task up to entry `newest`, sealed or not, of which `first` was read already.
    pub(super) async fn log_of(&self, id: &TaskId, first: Page, newest: u64) -> Result<Vec<Entry>> {
        let mut entries = first.entries;
        let mut after = entries.last().map_or(first.behind, |last| last.seq_id);
        while after < newest {
            let page = self.live.read(id, after, PAGE).await?;
            match page.entries.last() {
                Some(last) => after = last.seq_id,
                None if after < page.behind => after = page.behind,
                None => {
                    tracing::error!(task.id = %id, after, newest, "entries are missing from the live log");
                    break;
                }
            }
            entries.extend(page.entries);
        }
        Ok(entries)
    }

    fn generations(&self) -> std::sync::MutexGuard<'_, Known> {
        self.generations.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a task can have begun to report. Of a later attempt only that it was not before it was registered.
fn began(task: &Task) -> Timestamp {
    match task.started_at {
        Some(started) if task.attempt <= 1 => started,
        _ => task.created_at,
    }
}
