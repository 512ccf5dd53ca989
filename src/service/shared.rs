//! Reads that many ask for at the same moment, done once for all of them.
//!
//! When a node restarts, its readers come back together, and all of a task's readers ask for the same: whether it
//! has ended, and what comes behind the same entry. So a read has a name, its key, and at any time at most one of a name
//! is under way while those who ask meanwhile gather for the next. A thousand readers cost a page two
//! reads or three, not a thousand; readers of many tasks, who share nothing, take turns, so that they
//! do not take every connection from the workers.
//!
//! **A read is joined before it begins, never while it is under way.** A reader subscribes first and reads then: what was
//! published before it subscribed it finds only in a log that was read after. A read that had begun before may have looked
//! before the entry was there, and a reader that was given it would miss the entry and never know. Whoever joins before
//! the beginning is given nothing older than its own asking, as by a read of its own.
//!
//! What is held: for each name somebody waits for, who waits; and the pages of the reads under way, as many as there are
//! turns. A name goes with its last read.

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use super::track::Past;
use super::{Error, Result, Tracker};
use crate::domain::{Event, Gap, TaskId};
use crate::live::Delivery;

/// Reads of the durable truth under way at once, and of running tasks, which need the live log as well: when that is
/// away, they are slow, and must not be in the way of the others. Fewer in all than there are connections, for
/// workers need some, too.
const TURNS: (usize, usize) = (6, 10);
/// How long a read waits for its turn before those who asked for it hear that the node is overloaded.
const PATIENCE: Duration = Duration::from_secs(5);

/// The reads that streams share.
#[derive(Debug)]
pub(super) struct Reads {
    ended: Arc<Shared<TaskId, bool>>,
    newest: Arc<Shared<TaskId, u64>>,
    sealed: Arc<Shared<(TaskId, u64), Page>>,
    past: Arc<Shared<(TaskId, u64), Page>>,
}

/// What the log says behind a cursor, for any number of readers: an entry is put into bytes once.
#[derive(Debug, Clone)]
pub(super) enum Page {
    Entries(Arc<[Arc<Delivery>]>),
    Gap(Gap),
    CaughtUp,
    Ended(Arc<Delivery>),
}

impl From<Past> for Page {
    fn from(past: Past) -> Self {
        match past {
            Past::Entries(entries) => {
                Self::Entries(entries.into_iter().map(Event::Progress).map(Delivery::new).collect())
            }
            Past::Gap(gap) => Self::Gap(gap),
            Past::CaughtUp => Self::CaughtUp,
            Past::Ended(end) => Self::Ended(Delivery::new(Event::Status(end))),
        }
    }
}

impl Reads {
    pub(super) fn new() -> Self {
        let (durable, live) =
            (Arc::new(Semaphore::new(TURNS.0)), Arc::new(Semaphore::new(TURNS.1)));
        Self {
            ended: Shared::new("stream", &durable, PATIENCE),
            sealed: Shared::new("stream", &durable, PATIENCE),
            newest: Shared::new("stream", &live, PATIENCE),
            past: Shared::new("stream", &live, PATIENCE),
        }
    }
}

impl Tracker {
    /// Whether the task has ended; it must be there.
    pub(super) async fn has_ended(&self, id: &TaskId) -> Result<bool> {
        let (tracker, key) = (self.clone(), id.clone());
        let read = move || {
            let (tracker, id) = (tracker.clone(), key.clone());
            async move { Ok(tracker.existing(&id).await?.status.is_terminal()) }
        };
        self.reads.ended.read(id.clone(), &self.detached, read).await
    }

    /// The number of the newest entry, sealed or live.
    pub(super) async fn newest_shared(&self, id: &TaskId) -> Result<u64> {
        let (tracker, key) = (self.clone(), id.clone());
        let read = move || {
            let (tracker, id) = (tracker.clone(), key.clone());
            async move { tracker.newest(&id).await }
        };
        self.reads.newest.read(id.clone(), &self.detached, read).await
    }

    /// What comes behind entry `after` of a task that had ended, or had not, when the reader came.
    pub(super) async fn past_shared(
        &self,
        id: &TaskId,
        after: u64,
        had_ended: bool,
    ) -> Result<Page> {
        let (tracker, key) = (self.clone(), id.clone());
        let read = move || {
            let (tracker, id) = (tracker.clone(), key.clone());
            async move { Ok(tracker.past(&id, after).await?.into()) }
        };
        let reads = if had_ended { &self.reads.sealed } else { &self.reads.past };
        reads.read((id.clone(), after), &self.detached, read).await
    }
}

/// Who waits for a read to begin and end.
type Asking<V> = oneshot::Sender<std::result::Result<V, Arc<Error>>>;

/// Reads of one kind, by what is read.
#[derive(Debug)]
pub(super) struct Shared<K, V> {
    /// Whose reads these are, as they are counted.
    whose: &'static str,
    /// A name is here while one of its reads is under way or waits for its turn.
    gathering: Mutex<HashMap<K, Vec<Asking<V>>>>,
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl<K, V> Shared<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    pub(super) fn new(
        whose: &'static str,
        turns: &Arc<Semaphore>,
        patience: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { whose, gathering: Mutex::default(), turns: Arc::clone(turns), patience })
    }

    /// What `read` says when it is done at some time from now on. Every `read` of one key must be the same.
    pub(super) async fn read<F, R>(
        self: &Arc<Self>,
        key: K,
        tasks: &TaskTracker,
        read: F,
    ) -> Result<V>
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<V>> + Send + 'static,
    {
        let (asking, answer) = oneshot::channel();
        let is_first = {
            let mut gathering = self.lock();
            let others = gathering.get_mut(&key);
            let is_first = others.is_none();
            match others {
                Some(others) => others.push(asking),
                None => drop(gathering.insert(key.clone(), vec![asking])),
            }
            is_first
        };
        metrics::counter!(format!("{}_reads_asked_total", self.whose)).increment(1);
        if is_first {
            // On a task of its own: the first to ask may hang up, and the others wait on.
            tasks.spawn(Arc::clone(self).run(key, read));
        }
        match answer.await {
            Ok(read) => read.map_err(Error::shared),
            Err(gone) => Err(Error::Internal(gone.into())),
        }
    }

    /// Reads for those who have gathered, and again for those who gathered meanwhile.
    async fn run<F, R>(self: Arc<Self>, key: K, read: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<V>> + Send + 'static,
    {
        loop {
            let turn = tokio::time::timeout(self.patience, self.turns.acquire()).await;
            let Some(asking) = self.begin(&key) else { return };
            let said = match turn {
                Ok(Ok(_turn)) => {
                    metrics::counter!(format!("{}_reads_done_total", self.whose)).increment(1);
                    // A read that panics must not leave its name behind: nobody would read it again.
                    let said = AssertUnwindSafe(read()).catch_unwind().await;
                    said.unwrap_or_else(|_| Err(Error::Internal("a shared read panicked".into())))
                }
                _ => Err(Error::Unavailable("too many reads wait for their turn".into())),
            };
            let said = said.map_err(Arc::new);
            for asking in asking {
                // It fails where a reader has gone.
                let _ = asking.send(said.clone());
            }
        }
    }

    /// Takes those who have gathered; from now on others gather for the next read. `None` where nobody waits
    /// any more: the name is gone, under the same lock under which somebody would have joined it.
    fn begin(&self, key: &K) -> Option<Vec<Asking<V>>> {
        let mut gathering = self.lock();
        let asking = gathering.get_mut(key)?;
        asking.retain(|asking| !asking.is_closed());
        if asking.is_empty() {
            gathering.remove(key);
            return None;
        }
        Some(std::mem::take(asking))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Vec<Asking<V>>>> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One error, told to several.
#[derive(Debug, thiserror::Error)]
#[error("a shared read failed")]
struct Told(#[source] Arc<Error>);

impl Error {
    /// The same error, for one of several who are told it.
    pub(super) fn shared(self: Arc<Self>) -> Self {
        match &*self {
            Self::TaskNotFound(id) => Self::TaskNotFound(id.clone()),
            Self::Unavailable(_) => Self::Unavailable(Told(self).into()),
            _ => Self::Internal(Told(self).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// A log of which a test says when a read that has looked may answer.
    #[derive(Default)]
    struct Log {
        newest: AtomicU64,
        reads: AtomicU64,
        looked: Notify,
        may_answer: Notify,
    }

    struct Scene {
        log: Arc<Log>,
        shared: Arc<Shared<&'static str, u64>>,
        tasks: TaskTracker,
    }

    impl Scene {
        fn new() -> Self {
            Self::with_patience(PATIENCE)
        }

        fn with_patience(patience: Duration) -> Self {
            let shared = Shared::new("test", &Arc::new(Semaphore::new(1)), patience);
            Self { log: Arc::default(), shared, tasks: TaskTracker::new() }
        }

        /// Asks for the newest number; the answer of each read waits for the test.
        async fn newest(&self) -> Result<u64> {
            let log = Arc::clone(&self.log);
            let read = move || {
                let log = Arc::clone(&log);
                async move {
                    let newest = log.newest.load(Ordering::SeqCst);
                    log.reads.fetch_add(1, Ordering::SeqCst);
                    log.looked.notify_one();
                    log.may_answer.notified().await;
                    Ok(newest)
                }
            };
            self.shared.read("log", &self.tasks, read).await
        }
    }

    #[tokio::test]
    async fn nobody_is_given_what_was_read_before_it_asked() {
        let scene = Scene::new();
        let mut early = Box::pin(scene.newest());
        assert!(early.as_mut().now_or_never().is_none());
        scene.log.looked.notified().await;
        // The first read has looked, and has not answered. Now something is appended, and others ask.
        scene.log.newest.store(1, Ordering::SeqCst);
        let mut late: Vec<_> = (0..1000).map(|_| Box::pin(scene.newest())).collect();
        for late in &mut late {
            assert!(late.as_mut().now_or_never().is_none());
        }
        scene.log.may_answer.notify_one();
        assert_eq!(early.await.unwrap(), 0, "it asked before");
        scene.log.looked.notified().await;
        scene.log.may_answer.notify_one();
        let late: Vec<u64> = join_all(late).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(late, [1; 1000], "what was there when they asked");
        assert_eq!(scene.log.reads.load(Ordering::SeqCst), 2, "and one read for all of them");
        scene.tasks.close();
        scene.tasks.wait().await;
        assert!(scene.shared.lock().is_empty(), "nothing is left of it");
    }

    #[tokio::test]
    async fn a_read_outlives_who_asked_first_and_is_not_done_for_nobody() {
        let scene = Scene::new();
        let mut first = Box::pin(scene.newest());
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(scene.newest());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        scene.log.may_answer.notify_one();
        assert_eq!(second.await.unwrap(), 0);
        let blocked = scene.shared.turns.acquire().await.unwrap();
        let mut nobody = Box::pin(scene.newest());
        assert!(nobody.as_mut().now_or_never().is_none());
        drop(nobody);
        drop(blocked);
        scene.tasks.close();
        scene.tasks.wait().await;
        assert_eq!(scene.log.reads.load(Ordering::SeqCst), 1);
        assert!(scene.shared.lock().is_empty());
    }

    #[tokio::test]
    async fn an_error_is_told_to_all_and_a_panic_leaves_nothing_behind() {
        let scene = Scene::new();
        let (shared, tasks) = (&scene.shared, &scene.tasks);
        let id: TaskId = "nobody".parse().unwrap();
        let missing = join_all((0..10).map(|_| {
            let id = id.clone();
            shared.read("none", tasks, move || {
                let id = id.clone();
                async move { Err(Error::TaskNotFound(id)) }
            })
        }));
        for told in missing.await {
            assert!(matches!(told, Err(Error::TaskNotFound(_))), "{told:?}");
        }
        let away =
            shared.read("away", tasks, async || Err(Error::Unavailable("away".into()))).await;
        assert!(matches!(away, Err(Error::Unavailable(_))), "{away:?}");
        let panicked = shared.read("panic", tasks, async || panic!("a defect")).await;
        assert!(matches!(panicked, Err(Error::Internal(_))), "{panicked:?}");
        assert_eq!(shared.read("panic", tasks, async || Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn reads_take_turns_and_wait_a_bounded_time() {
        let scene = Scene::with_patience(Duration::from_millis(10));
        let _taken = scene.shared.turns.acquire().await.unwrap();
        let told = scene.newest().await;
        assert!(matches!(told, Err(Error::Unavailable(_))), "{told:?}");
    }
}
