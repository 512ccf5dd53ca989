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

use std::sync::{Mutex, PoisonError};

use super::query::PAGE;
use super::{Error, Result, Tracker};
use crate::domain::{Entry, Task, TaskId, Timestamp};
use crate::live::{Memory, WINDOW};
use crate::storage::Loss;

/// Generations of the log's memory as this node knows them.
#[derive(Debug, Default)]
pub(super) struct Generations(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The newest that is noted in the durable truth.
    generation: Option<String>,
    /// When the newest loss was noticed.
    lost_at: Option<Timestamp>,
    /// One that was seen where it could not be noted.
    unnoted: Option<String>,
}

impl Tracker {
    /// Notes a generation, if it is new to this node.
    pub(super) async fn note_generation(&self, generation: &str) -> Result<()> {
        if self.generations().generation.as_deref() == Some(generation) {
            return Ok(());
        }
        let lost_at = self.storage.note_generation(generation, self.clock.now()).await?;
        if let Some(lost_at) = lost_at {
            tracing::warn!(generation, %lost_at, "the live log lost its memory");
            metrics::counter!("live_log_losses_total").increment(1);
        }
        let mut known = self.generations();
        known.generation = Some(generation.to_owned());
        known.lost_at = lost_at;
        known.unnoted = None;
        Ok(())
    }

    /// Notes what [`Tracker::loss`] could not look up; says whether it may be asked again.
    async fn note_unnoted(&self) -> Result<bool> {
        let unnoted = self.generations().unnoted.take();
        match unnoted {
            Some(generation) => self.note_generation(&generation).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Looks which generation there is, if this node has not yet. While the log is away it does not know, and
    /// what needs the log fails by itself.
    async fn know_generation(&self) -> Result<()> {
        if self.generations().generation.is_some() {
            return Ok(());
        }
        match self.live.generation().await {
            Ok(generation) => self.note_generation(&generation).await,
            Err(_) => Ok(()),
        }
    }

    /// Does what closes a log, and once more where the log lost its memory just then, which is noted in between.
    pub(super) async fn closing_logs<T, F>(&self, work: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.know_generation().await?;
        let done = work().await;
        let is_away = matches!(done, Err(Error::Unavailable(_)));
        if is_away && self.note_unnoted().await? { work().await } else { done }
    }

    /// What the log may have lost of a task. It asks nobody, for its caller may hold a row of the
    /// database: a generation that was never noted here is refused, and noted by
    /// [`Tracker::note_unnoted`].
    pub(super) fn loss(&self, task: &Task, memory: &Memory) -> Result<Option<Loss>> {
        let mut known = self.generations();
        if known.generation.as_ref() != Some(&memory.present) {
            known.unnoted = Some(memory.present.clone());
            return Err(Error::Unavailable("the live log lost its memory just now".into()));
        }
        let is_lost = match &memory.log {
            Some(generation) => *generation != memory.present,
            None => task.attempt > 0 && known.lost_at.is_some_and(|at| began(task) <= at),
        };
        let loss = |at| Loss { generation: memory.present.clone(), numbers: WINDOW, at };
        Ok(is_lost.then(|| loss(known.lost_at.unwrap_or(task.updated_at))))
    }

    /// Seals what is left of a log that was begun in another generation, notes what was lost, and says how
    /// far the task is sealed and with how many bytes. Of a log that nothing is missing from it only says that.
    pub(super) async fn sealed_after_loss(
        &self,
        task: &Task,
        memory: &Memory,
    ) -> Result<(u64, u64)> {
        self.note_generation(&memory.present).await?;
        let loss = self.loss(task, memory)?;
        let size = self.storage.sealed_size(&task.id).await?;
        let is_present = memory.log.as_ref() == Some(&memory.present);
        if loss.is_none() && (is_present || memory.last_seq_id <= size.0) {
            return Ok(size);
        }
        let left = self.log_of(&task.id, memory.last_seq_id).await?;
        self.storage.seal(&task.id, &left, loss.as_ref()).await?;
        Ok(self.storage.sealed_size(&task.id).await?)
    }

    /// What is in the log of a task up to entry `newest`, sealed or not.
    pub(super) async fn log_of(&self, id: &TaskId, newest: u64) -> Result<Vec<Entry>> {
        let (mut entries, mut after) = (Vec::new(), 0);
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
