//! Cancel or retry many tasks, each as if it came alone: what is said of one harms no other.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use futures::stream;

use super::{Cancel, Error, Result, Tracker};
use crate::domain::{Caller, Task, TaskId};

/// How many are under way at once: a thousand must not take every connection from the others.
const AT_ONCE: usize = 8;

/// What became of one: `None` where it was not begun, because a dependency was away when another was.
pub type Fate = Option<Result<Task>>;

impl Tracker {
    /// [`Tracker::cancel`] of each, by nobody's worker.
    #[tracing::instrument(level = "debug", name = "tasks.cancel", skip_all)]
    pub async fn cancel_many(&self, ids: Vec<TaskId>, cancel: Cancel) -> Result<Vec<Fate>> {
        let tracker = self.clone();
        self.each(ids, move |id| {
            let (tracker, cancel) = (tracker.clone(), cancel.clone());
            async move { tracker.cancel(id, Caller::default(), cancel).await }
        })
        .await
    }

    /// [`Tracker::retry`] of each: the new tasks.
    #[tracing::instrument(level = "debug", name = "tasks.retry", skip_all)]
    pub async fn retry_many(&self, ids: Vec<TaskId>) -> Result<Vec<Fate>> {
        let tracker = self.clone();
        self.each(ids, move |id| {
            let tracker = tracker.clone();
            async move {
                let child = tracker.retry(id, None).await?.now();
                child.ok_or_else(|| {
                    Error::Internal("it came without a key, and was answered as if with one".into())
                })
            }
        })
        .await
    }

    /// Does `one` for each, some at once, and goes on when the caller hangs up. While a dependency is away each would wait for it:
    /// after the first that hears so no other is begun.
    async fn each<F, Fut>(&self, ids: Vec<TaskId>, one: F) -> Result<Vec<Fate>>
    where
        F: Fn(TaskId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Task>> + Send + 'static,
    {
        self.to_the_end(async move {
            let is_away = AtomicBool::new(false);
            let (is_away, one) = (&is_away, &one);
            let fates = stream::iter(ids).map(async |id| {
                if is_away.load(Ordering::Relaxed) {
                    return None;
                }
                let done = one(id).await;
                if matches!(done, Err(Error::Unavailable(_))) {
                    is_away.store(true, Ordering::Relaxed);
                }
                Some(done)
            });
            Ok(fates.buffered(AT_ONCE).collect().await)
        })
        .await
    }
}
