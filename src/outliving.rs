//! Work that is done to its end although its caller goes away.
//!
//! It is done where its caller waits for it. A caller that goes away in the middle, for a client hung up or a deadline passed, leaves
//! the rest to a task of its own. To give it to a task from the beginning would cost every request two hand-overs between threads, for
//! the few that are given up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What was to be done has panicked; its hook reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("work has panicked")]
pub struct Panicked;

/// Work that goes on when this is dropped, once it has begun. Its panic is its own: whoever waits is told.
#[derive(Debug)]
pub struct Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// Not there while it is done: what panics is not gone on with.
    work: Option<Pin<Box<F>>>,
    has_begun: bool,
    tasks: TaskTracker,
    /// Who waits for the tasks waits for this as well.
    _token: TaskTrackerToken,
}

impl<F> Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// `work`, whose rest may become one of `tasks`.
    pub fn new(work: F, tasks: &TaskTracker) -> Self {
        let (tasks, token) = (tasks.clone(), tasks.token());
        Self { work: Some(Box::pin(work)), has_begun: false, tasks, _token: token }
    }
}

impl<F> Future for Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        self.has_begun = true;
        // Nobody sees it again after it has panicked.
        let Ok(polled) = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) else {
            return Poll::Ready(Err(Panicked));
        };
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled.map(Ok)
    }
}

impl<F> Drop for Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        if let Some(work) = self.work.take().filter(|_| self.has_begun) {
            leave(async move { drop(work.await) }, &self.tasks);
        }
    }
}

/// Leaves `work` to one of `tasks`, from where nothing can be awaited. Where the runtime ends it is not done.
pub fn leave(work: impl Future<Output = ()> + Send + 'static, tasks: &TaskTracker) {
    if let Ok(runtime) = Handle::try_current() {
        tasks.spawn_on(work, &runtime);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use tokio::sync::Notify;

    use super::*;

    /// Work that waits to be told to go on, and counts how often it came to its end.
    fn scene() -> (Arc<Notify>, Arc<AtomicUsize>, impl Future<Output = usize> + Send + 'static) {
        let (go_on, ends) = (Arc::<Notify>::default(), Arc::<AtomicUsize>::default());
        let (told, counted) = (Arc::clone(&go_on), Arc::clone(&ends));
        let work = async move {
            told.notified().await;
            counted.fetch_add(1, Ordering::SeqCst) + 1
        };
        (go_on, ends, work)
    }

    #[tokio::test]
    async fn who_waits_hears_what_came_of_it_and_nothing_is_left() {
        let (go_on, _, work) = scene();
        let tasks = TaskTracker::new();
        go_on.notify_one();
        assert_eq!(Outliving::new(work, &tasks).await, Ok(1));
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn what_has_begun_goes_on_without_its_caller_and_is_waited_for() {
        let (go_on, ends, work) = scene();
        let tasks = TaskTracker::new();
        assert!(Outliving::new(work, &tasks).now_or_never().is_none());
        assert_eq!(tasks.len(), 1);
        go_on.notify_one();
        tasks.close();
        tasks.wait().await;
        assert_eq!(ends.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_has_not_begun_does_not_begin() {
        let (_, _, work) = scene();
        let tasks = TaskTracker::new();
        let waiting = Outliving::new(work, &tasks);
        assert_eq!(tasks.len(), 1, "who waits for the tasks waits for it");
        drop(waiting);
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn what_panics_is_not_gone_on_with() {
        let tasks = TaskTracker::new();
        let unlucky: Result<(), Panicked> =
            Outliving::new(async { panic!("unlucky") }, &tasks).await;
        assert_eq!(unlucky, Err(Panicked));
        assert!(tasks.is_empty());
    }
}
