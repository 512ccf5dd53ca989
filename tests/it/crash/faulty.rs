//! A live log that stops where a test says: between the service and a real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use task_tracker::domain::{
    Entry, Event, Moved, Receipt, StatusChange, TaskId, TaskType, Timestamp,
};
use task_tracker::live::{
    Append, Appended, Closed, Ended, Error, Generation, Haste, Live, Memory, Page,
};
use tokio::sync::Semaphore;

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// Where the node dies: from then on it reaches nothing.
    pub dies: Option<Death>,
    /// Whether it waits for [`Faulty::go_on`] when it has closed and read a log: a slow commit, or an attempt that is
    /// taken away slowly.
    pub closes_slowly: bool,
    /// What becomes of ends.
    pub ends: Ends,
    /// Whether wakes are forgotten.
    pub loses_wakes: bool,
    /// Whose log can be neither closed nor ended.
    pub stuck: Option<TaskId>,
}

/// What becomes of the end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ends {
    /// It is done.
    #[default]
    Done,
    /// It is refused, as by a broker that is away just then.
    Refused,
    /// It is said to be done, and neither published nor done.
    Forgotten,
}

/// A place in the life of a node where it dies. Calls of `end` are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    BeforeTheClose,
    AfterTheClose,
    BeforeTheEnd(usize),
    AfterTheEnd(usize),
    /// When the entries of a running task are read and not sealed yet.
    AfterTheRead,
    /// When they are sealed and still in the log.
    BeforeTheTrim,
}

/// The log with a fault.
#[derive(Debug)]
pub struct Faulty {
    real: Arc<dyn Live>,
    fault: Fault,
    is_dead: AtomicBool,
    ends: AtomicUsize,
    reached: Semaphore,
    may_go_on: Semaphore,
}

impl Faulty {
    pub fn new(real: Arc<dyn Live>, fault: Fault) -> Self {
        Self {
            real,
            fault,
            is_dead: AtomicBool::new(false),
            ends: AtomicUsize::new(0),
            reached: Semaphore::new(0),
            may_go_on: Semaphore::new(0),
        }
    }

    /// Waits until an end has read the log and is about to commit.
    pub async fn is_committing(&self) {
        self.reached.acquire().await.expect("a semaphore").forget();
    }

    /// Lets it commit.
    pub fn go_on(&self) {
        self.may_go_on.add_permits(1);
    }

    fn alive(&self) -> Result<&dyn Live, Error> {
        if self.is_dead.load(Ordering::SeqCst) { Err(dead()) } else { Ok(&*self.real) }
    }

    fn moves(&self, task: &TaskId) -> Result<(), Error> {
        if self.fault.stuck.as_ref() == Some(task) {
            return Err(Error::Failed("this log is stuck".into()));
        }
        Ok(())
    }

    fn dies(&self, at: Death) -> Result<(), Error> {
        if self.fault.dies == Some(at) {
            self.is_dead.store(true, Ordering::SeqCst);
            return Err(dead());
        }
        Ok(())
    }
}

fn dead() -> Error {
    Error::Unavailable("this node is dead".into())
}

#[async_trait]
impl Live for Faulty {
    async fn append(&self, task: &TaskId, append: Append<'_>) -> Result<Appended, Error> {
        self.alive()?.append(task, append).await
    }

    async fn read(&self, task: &TaskId, after: u64, limit: usize) -> Result<Page, Error> {
        let page = self.alive()?.read(task, after, limit).await?;
        self.dies(Death::AfterTheRead)?;
        Ok(page)
    }

    async fn latest(&self, tasks: &[TaskId]) -> Result<Vec<Option<Entry>>, Error> {
        self.alive()?.latest(tasks).await
    }

    async fn last_seq_ids(&self, tasks: &[TaskId]) -> Result<Vec<u64>, Error> {
        self.alive()?.last_seq_ids(tasks).await
    }

    async fn close(&self, task: &TaskId, attempt: u32, now: Timestamp) -> Result<Closed, Error> {
        self.dies(Death::BeforeTheClose)?;
        self.moves(task)?;
        let closed = self.alive()?.close(task, attempt, now).await?;
        self.dies(Death::AfterTheClose)?;
        if self.fault.closes_slowly {
            self.reached.add_permits(1);
            self.may_go_on.acquire().await.expect("a semaphore").forget();
        }
        Ok(closed)
    }

    async fn receipts(&self, task: &TaskId, now: Timestamp) -> Result<Vec<Receipt>, Error> {
        self.alive()?.receipts(task, now).await
    }

    async fn memory(&self, task: &TaskId) -> Result<Memory, Error> {
        self.alive()?.memory(task).await
    }

    async fn generations(&self) -> Result<Vec<Generation>, Error> {
        self.alive()?.generations().await
    }

    async fn trim(&self, sealed: &[(TaskId, u64)], haste: Haste) -> Result<(), Error> {
        self.dies(Death::BeforeTheTrim)?;
        self.alive()?.trim(sealed, haste).await
    }

    async fn end(
        &self,
        task: &TaskId,
        attempt: u32,
        end: &StatusChange,
        now: Timestamp,
    ) -> Result<Ended, Error> {
        let count = self.ends.fetch_add(1, Ordering::SeqCst) + 1;
        self.dies(Death::BeforeTheEnd(count))?;
        self.moves(task)?;
        match self.fault.ends {
            Ends::Done => {}
            Ends::Refused => return Err(Error::Unavailable("not now".into())),
            Ends::Forgotten => return Ok(Ended::Gone),
        }
        let ended = self.alive()?.end(task, attempt, end, now).await?;
        self.dies(Death::AfterTheEnd(count))?;
        Ok(ended)
    }

    async fn recheck(&self, task: &TaskId, closed: Option<u32>) -> Result<(), Error> {
        self.alive()?.recheck(task, closed).await
    }

    async fn announce(&self, task: &TaskId, event: &Event) -> Result<(), Error> {
        self.alive()?.announce(task, event).await
    }

    async fn tell_moves(&self, moves: &[Moved]) -> Result<bool, Error> {
        self.alive()?.tell_moves(moves).await
    }

    async fn wake(&self, types: &[TaskType]) -> Result<(), Error> {
        if self.fault.loses_wakes {
            return Ok(());
        }
        self.alive()?.wake(types).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.alive()?.ping().await
    }

    async fn shut_down(&self) {
        self.real.shut_down().await;
    }
}
