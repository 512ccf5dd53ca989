//! The live log of an active task, and its fan-out to whoever watches.
//!
//! | module | holds |
//! | --- | --- |
//! | this one | [`Live`]: what a live log can do, in a dozen sentences |
//! | [`fence`] | [`Fence`]: what makes *acknowledged means kept* true against a concurrent end |
//! | [`hub`] | [`Hub`]: the topics of this node, fed by either log, read by any number of subscribers |
//! | [`waiters`] | [`Waiters`]: workers that wait for a task of some types |
//! | [`redis`] | the log in Redis, shared by all nodes |
//! | [`embedded`] | the log in a SQLite file of this process |
//!
//! A log holds entries only while their task is active, and of those the newest: what is sealed in SQL
//! leaves it, and the end moves the rest. It knows nothing of tasks: who may append is said by a fence, and where a fence says nothing the caller asks the
//! durable truth and comes back with what it found.

pub mod embedded;
pub mod fence;
pub mod hub;
pub mod redis;
pub mod waiters;

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{
    Caller, Entry, Event, JsonObject, Key, Moved, Places, Receipt, StatusChange, TaskId, TaskType,
    Timestamp,
};
pub use fence::{Fence, Grant};
pub use hub::{Delivery, Hub, Signal, Subscription};
pub use waiters::{Room, Waiter, Waiters};

/// How long a closed fence stands when nobody comes to finish what it was closed for: the node
/// that closed it died, or its commit failed. The task then goes on.
pub const CLOSED_FOR: Duration = Duration::from_secs(10);
/// How long a fence may stay between being asked for and being opened.
pub const OPENING_FOR: Duration = Duration::from_secs(30);
/// How long a log outlives the deadline of its task. The sweep ends tasks seconds after it; this is
/// for a service that was down.
pub const KEPT_AFTER_DEADLINE: Duration = Duration::from_hours(7 * 24);
/// How long a log is kept at least, from the moment it is opened.
pub const KEPT_AT_LEAST: Duration = Duration::from_hours(24);
/// Bytes a page of the log holds at about most.
pub const PAGE_BYTES: usize = 1 << 20;
/// Entries of a page at most.
pub const PAGE_ENTRIES: usize = 1000;
/// Entries that a log holds unsealed at most. So the newest number that was ever given is at most this
/// far behind the newest that is sealed, whatever becomes of the log.
pub const WINDOW: u64 = 10_000;
/// Bytes that a log holds at about most while any of them are unsealed.
pub const WINDOW_BYTES: u64 = 16 << 20;
/// Sealed entries that stay in a log, so that its newest is always at hand.
pub const LEFT: u64 = 1;

/// The log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is away: the same call may succeed later.
    #[error("the live log is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered with what this service cannot have asked for or written.
    #[error("the live log failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Entries to append, all or none.
#[derive(Debug, Clone, Copy)]
pub struct Append<'a> {
    /// At least one, without a `seqId`.
    pub entries: &'a [JsonObject],
    /// Who the caller says it is.
    pub caller: &'a Caller,
    /// When.
    pub now: Timestamp,
    /// What the durable truth said, where the fence alone did not let the caller in.
    pub verified: Option<&'a Verified>,
    /// The key of the request, if it may come twice: then it is looked up before the fence is asked.
    pub key: Option<&'a Key>,
    /// How long a log may become.
    pub limits: Limits,
}

/// How long the log of a task may become, sealed entries and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest number an entry may get.
    pub entries: u64,
    /// Bytes of all entries.
    pub bytes: u64,
}

/// One memory of the log, as it is now. A log has one, or several that are lost each by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its name. Another one means that the memory may have forgotten what it acknowledged.
    pub name: String,
    /// What it holds: a task is in one place.
    pub places: Places,
}

/// What the log remembers of a task, and in which memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The generation of that memory now. Another one means that it may have forgotten what it acknowledged.
    pub present: String,
    /// The place of the task.
    pub place: u16,
    /// The generation in which the log of the task in question was begun, or begun anew; `None`
    /// where there is no log.
    pub log: Option<String>,
    /// Whether that is the present generation of another memory, which has lost nothing since it was named: then the
    /// log moved from there.
    pub is_moved: bool,
    /// The number of the newest entry of that log; 0 where there is none.
    pub last_seq_id: u64,
}

impl Memory {
    /// Whether the task has a log that nothing can be missing from.
    pub fn is_whole(&self) -> bool {
        self.log.as_ref() == Some(&self.present) && self.last_seq_id > 0
    }
}

/// What the durable truth says of a task in progress, looked up after `fence` was seen.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The fence that was seen before looking: if it has changed since, what was found may be stale.
    pub fence: Fence,
    /// What the present attempt may do.
    pub grant: Grant,
    /// The newest entry that is sealed already: counting goes on behind it.
    pub last_sealed: u64,
    /// Bytes that are sealed already.
    pub sealed_bytes: u64,
    /// What was remembered of the log before looking. A log of another generation, or none, is begun
    /// anew behind `last_sealed`: what it held is sealed or gone.
    pub memory: Memory,
    /// When the log may be forgotten.
    pub expires_at: Timestamp,
}

/// What came of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// The entries are kept and published; the last has this number.
    Kept {
        /// The number of the last entry.
        last_seq_id: u64,
        /// What the caller's worker is to hear.
        grant: Grant,
    },
    /// The fence does not let this caller in. Ask the durable truth, and come back with [`Verified`].
    Unverified {
        /// The fence.
        fence: Fence,
        /// What was remembered of the log at that instant, where it is known without asking again.
        memory: Option<Memory>,
    },
    /// An earlier request of this key was acknowledged; nothing is appended now.
    Before(Receipt),
    /// The key stands for another request; nothing is appended.
    Reused,
    /// Too much of the log is unsealed: seal it, [`Live::trim`] it, and come again.
    Full,
    /// The log would become longer than it may.
    TooLong,
}

/// A page of the log.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Entries in order; none where the reader is at the end, or before the beginning.
    pub entries: Vec<Entry>,
    /// The log begins behind this number: what is up to it is sealed, or gone.
    pub behind: u64,
    /// The number of the newest entry of the whole log; 0 where there is no log.
    pub last_seq_id: u64,
}

/// What a log that is closed holds.
#[derive(Debug, Clone)]
pub struct Closed {
    /// What is remembered of it.
    pub memory: Memory,
    /// Its first page; where the log is short, all of it.
    pub page: Page,
    /// The receipts of appends with a key that may still be asked for.
    pub receipts: Vec<Receipt>,
}

/// What came of ending a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The end is published and the log is gone.
    Gone,
    /// Entries above the sealed ones are in the log: seal them and come again.
    Unsealed,
}

/// How much a log that is trimmed may keep its appends waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// It is full, or nearly: somebody may wait for the room.
    AtOnce,
    /// Nobody waits for it: appends go first.
    Aside,
}

/// The live log of every active task. Two real ones exist: Redis and embedded.
#[async_trait]
pub trait Live: Send + Sync + std::fmt::Debug {
    /// Appends entries if the fence lets the caller in: counts them, keeps them, publishes them, at once.
    async fn append(&self, task: &TaskId, append: Append<'_>) -> Result<Appended, Error>;

    /// Reads entries above `after`, at most `limit` of them and about [`PAGE_BYTES`]. None where the log
    /// begins further on: see [`Page::behind`].
    async fn read(&self, task: &TaskId, after: u64, limit: usize) -> Result<Page, Error>;

    /// Reads the newest entry of each task.
    async fn latest(&self, tasks: &[TaskId]) -> Result<Vec<Option<Entry>>, Error>;

    /// Reads the number of the newest entry of each task; 0 where there is no log.
    async fn last_seq_ids(&self, tasks: &[TaskId]) -> Result<Vec<u64>, Error>;

    /// Closes the fence of `attempt` for [`CLOSED_FOR`], and says what the log holds at that instant: no entry of
    /// this attempt is acknowledged after.
    async fn close(&self, task: &TaskId, attempt: u32, now: Timestamp) -> Result<Closed, Error>;

    /// Reads the receipts of appends with a key that may still be asked for.
    async fn receipts(&self, task: &TaskId, now: Timestamp) -> Result<Vec<Receipt>, Error>;

    /// Says what the log remembers of `task`.
    async fn memory(&self, task: &TaskId) -> Result<Memory, Error>;

    /// Looks closely whether the log may have lost a memory, and says the generation of each that answers, which
    /// is one at least.
    async fn generations(&self) -> Result<Vec<Generation>, Error>;

    /// Lets go of entries that are sealed, of each task up to the number beside it, but for the newest [`LEFT`] of its log.
    async fn trim(&self, sealed: &[(TaskId, u64)], haste: Haste) -> Result<(), Error>;

    /// Publishes the end and deletes the log, if no entry above `end.last_seq_id` is in it; otherwise
    /// closes the fence again and leaves all as it is. Doing it twice does no harm.
    async fn end(
        &self,
        task: &TaskId,
        attempt: u32,
        end: &StatusChange,
        now: Timestamp,
    ) -> Result<Ended, Error>;

    /// Has the next append ask the durable truth again, for that has changed: the fence is taken away if
    /// it is open or being opened, or if it is closed for `closed`, an attempt that goes on after all.
    async fn recheck(&self, task: &TaskId, closed: Option<u32>) -> Result<(), Error>;

    /// Publishes an event that is neither an entry nor an end. It may be lost: nothing depends on it.
    async fn announce(&self, task: &TaskId, event: &Event) -> Result<(), Error>;

    /// Wakes one waiting worker on every node for each of these types, which may be there several times.
    async fn wake(&self, types: &[TaskType]) -> Result<(), Error>;

    /// Tells every node that listens that these tasks stand elsewhere now; whether any does. It may be lost: whoever
    /// listens looks for itself as well.
    async fn tell_moves(&self, moves: &[Moved]) -> Result<bool, Error>;

    /// Asks the log for a sign of life.
    async fn ping(&self) -> Result<(), Error>;

    /// Lets go of files and connections.
    async fn shut_down(&self);
}
