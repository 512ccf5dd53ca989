//! The use cases, in the words of the domain. It knows no HTTP, no SQL and no Redis.
//!
//! | module | use case |
//! | --- | --- |
//! | `register` | register a task, or many at once; retry an ended one |
//! | `once` | what is said to a request that may come twice |
//! | `claim` | claim the oldest task of some types, waiting for it if asked; start one; release one |
//! | `progress` | append entries to a task in progress |
//! | `lease` | a worker says that it is alive |
//! | `seal` | seal the logs of running tasks, all the time, a few at a time |
//! | `unsealed`, `kept` | for which tasks this node took entries that are not sealed, and those |
//! | `memory` | what the live log remembers, and what it may have lost |
//! | `finish` | complete, fail, time out; settle what a crash left |
//! | `ends` | ends that come at the same moment |
//! | `cancel` | end a task before it is done |
//! | `many` | cancel or retry many, each as if it came alone |
//! | `sweep` | what passes without anybody's word: deadlines, leases, graces, stalls |
//! | `query` | get a task with its history; list tasks |
//! | `track` | the stream: history joined to live |
//! | `shared` | what many streams read at the same moment, read once |
//! | `feed` | many tasks at once: where each stands now, and its progress |
//! | `workers` | who asks for work, and holds what |
//! | `overview` | all tasks at a glance |
//! | `nodes` | which nodes there are |
//! | `why` | why a task stands where it stands |
//! | `watch` | what this node looks after: lost ends, lost wakes, figures |
//! | `batches` | what callers share a round trip for |
//! | `outage` | what is away is said once, not every time |

mod batches;
mod cancel;
mod claim;
mod ends;
mod error;
mod feed;
mod finish;
mod kept;
mod lease;
mod many;
mod memory;
mod nodes;
mod once;
mod outage;
mod overview;
mod progress;
mod query;
mod register;
mod seal;
mod shared;
mod sweep;
mod track;
mod unsealed;
mod watch;
mod why;
mod workers;

use std::ops::Deref;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::clock::Clock;
use crate::live::{Hub, Live};
use crate::outliving::Outliving;
use crate::storage::Storage;
pub use cancel::Cancel;
pub use error::{Error, Result};
pub use feed::{Detail, Feed, TaskNow, Telling, Told, Wish};
pub use many::Fate;
pub use nodes::Identity;
pub use once::Said;
pub use outage::Outage;
pub use overview::{Counts, Overview, Series, Standing, Step};
pub use progress::Accepted;
pub use query::{Listing, Tracked};
pub use register::Registration;
pub use track::{StartAt, Track};
pub use watch::Health;
pub use why::Why;
pub use workers::Worker;

pub use crate::live::{Delivery, Limits as LogLimits, Room};
pub use crate::storage::{By, Cursor, Filter, Listed, Node, Order, progress_scope};

/// The service; cheap to clone, for every request does.
#[derive(Debug, Clone)]
pub struct Tracker(Arc<Parts>);

/// What clients may take of the service.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many workers may wait.
    pub room: Room,
    /// How long the log of a task may become.
    pub log: LogLimits,
}

/// What the use cases work with.
#[derive(Debug)]
pub struct Parts {
    storage: Storage,
    live: Arc<dyn Live>,
    hub: Arc<Hub>,
    clock: Clock,
    bounds: Bounds,
    batches: batches::Batches,
    /// Who asked for work lately.
    roll: workers::Roll,
    /// Whether wakes and announcements are heard: they may be lost, and are not worth a line each.
    hints: Arc<Outage>,
    reads: shared::Reads,
    overviews: overview::Overviews,
    identity: Identity,
    /// Who follows many tasks at once.
    feeds: feed::Room,
    unsealed: unsealed::Unsealed,
    untrimmed: seal::Untrimmed,
    rounds: seal::Rounds,
    generations: memory::Generations,
    /// Work that goes on when its caller hangs up; shutdown waits for it.
    detached: TaskTracker,
    closing: CancellationToken,
}

impl Deref for Tracker {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Tracker {
    /// Joins the durable truth and the live log, within bounds.
    pub fn new(
        storage: Storage,
        live: Arc<dyn Live>,
        hub: Arc<Hub>,
        clock: Clock,
        bounds: Bounds,
        identity: Identity,
    ) -> Self {
        let (detached, hints) = (TaskTracker::new(), Arc::<Outage>::default());
        let room = feed::Room::default();
        Self(Arc::new(Parts {
            batches: batches::Batches::new(&storage, &live, &hints, room.listeners(), &detached),
            feeds: room,
            storage,
            live,
            hub,
            clock,
            bounds,
            roll: workers::Roll::default(),
            hints,
            reads: shared::Reads::new(),
            overviews: overview::Overviews::new(),
            identity,
            unsealed: unsealed::Unsealed::default(),
            untrimmed: seal::Untrimmed::default(),
            rounds: seal::Rounds::default(),
            generations: memory::Generations::default(),
            detached,
            closing: CancellationToken::new(),
        }))
    }

    /// The clock that the use cases go by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Cancelled when the service closes: what waits is let go.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Waits for work in flight, then lets go of files and connections.
    pub async fn shut_down(&self) {
        self.detached.close();
        self.detached.wait().await;
        self.live.shut_down().await;
        self.say_farewell().await;
        self.storage.close().await;
    }

    /// Runs work to its end even if the caller hangs up: a change of several steps is not left
    /// half done because a client closed its connection.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let done = Outliving::new(work.in_current_span(), &self.detached).await;
        done.unwrap_or_else(|panicked| Err(Error::Internal(panicked.into())))
    }
}

/// Counts a use case by the name of its event.
fn count(event: &str) {
    metrics::counter!(format!("tasks_{event}_total")).increment(1);
}
