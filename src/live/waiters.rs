//! Workers of this node that wait for a task of some types.
//!
//! A task that appears wakes one of them, the one that has waited longest, not all: whoever is
//! woken asks the database, and a crowd would ask in vain. A woken waiter that goes away without having asked
//! passes the wake on.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::domain::TaskType;

#[derive(Debug, Default)]
struct Seat {
    woken: AtomicBool,
    notify: Notify,
}

/// Who waits for what.
#[derive(Debug, Default)]
pub struct Waiters {
    by_type: Mutex<HashMap<TaskType, VecDeque<Arc<Seat>>>>,
}

impl Waiters {
    /// Joins the queue of each of `types`. A wake from now on is not lost, whether or not it is awaited yet.
    pub fn join<'a>(&'a self, types: &'a [TaskType]) -> Waiter<'a> {
        let seat = Arc::<Seat>::default();
        self.enqueue(types, &seat);
        Waiter { waiters: self, types, seat, asking: false }
    }

    /// Wakes the waiter of `task_type` that has waited longest and is not woken yet.
    pub fn wake(&self, task_type: &TaskType) {
        let by_type = self.lock();
        let Some(seats) = by_type.get(task_type) else {
            return;
        };
        for seat in seats {
            if !seat.woken.swap(true, Ordering::AcqRel) {
                seat.notify.notify_one();
                return;
            }
        }
    }

    /// Wakes everybody: wakes may have been lost.
    pub fn wake_all(&self) {
        for seat in self.lock().values().flatten() {
            seat.woken.store(true, Ordering::Release);
            seat.notify.notify_one();
        }
    }

    /// The types somebody waits for.
    pub fn types(&self) -> Vec<TaskType> {
        self.lock().keys().cloned().collect()
    }

    fn enqueue(&self, types: &[TaskType], seat: &Arc<Seat>) {
        let mut by_type = self.lock();
        for task_type in types {
            by_type.entry(task_type.clone()).or_default().push_back(Arc::clone(seat));
        }
    }

    fn dequeue(&self, types: &[TaskType], seat: &Arc<Seat>) {
        let mut by_type = self.lock();
        for task_type in types {
            if let Some(seats) = by_type.get_mut(task_type) {
                seats.retain(|other| !Arc::ptr_eq(other, seat));
                if seats.is_empty() {
                    by_type.remove(task_type);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskType, VecDeque<Arc<Seat>>>> {
        self.by_type.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queues; leaving it is dropping it.
#[derive(Debug)]
pub struct Waiter<'a> {
    waiters: &'a Waiters,
    types: &'a [TaskType],
    seat: Arc<Seat>,
    /// It was woken and has not said yet what came of it.
    asking: bool,
}

impl Waiter<'_> {
    /// Waits to be woken. It can be woken again from then on, while it still asks.
    pub async fn woken(&mut self) {
        self.asking = false;
        self.seat.notify.notified().await;
        self.asking = true;
        self.seat.woken.store(false, Ordering::Release);
    }

    /// It got a task: the wake is used up.
    pub fn served(&mut self) {
        self.asking = false;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiters.dequeue(self.types, &self.seat);
        // Woken, and gone before it could ask: the task is still there for somebody.
        if self.asking || self.seat.woken.load(Ordering::Acquire) {
            for task_type in self.types {
                self.waiters.wake(task_type);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn types(names: &[&str]) -> Vec<TaskType> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_wake_wakes_one_and_the_one_that_waited_longest() {
        let waiters = Waiters::default();
        let (a, b) = (types(&["a"]), types(&["b", "a"]));
        let (mut first, mut second) = (waiters.join(&a), waiters.join(&b));
        waiters.wake(&a[0]);
        assert!(first.woken().now_or_never().is_some());
        assert!(second.woken().now_or_never().is_none());
        waiters.wake(&b[0]);
        assert!(second.woken().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_woken_waiter_that_leaves_passes_the_wake_on() {
        let waiters = Waiters::default();
        let a = types(&["a"]);
        let (mut first, mut second) = (waiters.join(&a), waiters.join(&a));
        waiters.wake(&a[0]);
        assert!(first.woken().now_or_never().is_some());
        drop(first);
        assert!(second.woken().now_or_never().is_some(), "the first left while it asked");
        let third = waiters.join(&a);
        waiters.wake(&a[0]);
        second.served();
        drop(third);
        drop(second);
        assert!(waiters.types().is_empty());
    }
}
