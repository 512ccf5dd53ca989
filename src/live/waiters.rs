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
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    by_type: HashMap<TaskType, VecDeque<Arc<Seat>>>,
    /// Who waits, each once, for however many types.
    waiting: usize,
}

/// How many may wait, and for how many types in all: each type that somebody waits for is asked for every few
/// seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Waiters.
    pub waiters: usize,
    /// Types somebody waits for.
    pub types: usize,
}

impl Waiters {
    /// Joins the queue of each of `types`, if there is room. A wake from now on is not lost, whether or not it is
    /// awaited yet.
    pub fn join<'a>(&'a self, types: &'a [TaskType], room: Room) -> Option<Waiter<'a>> {
        let seat = Arc::<Seat>::default();
        // A waiter that was not let in must not be made: it would leave queues that it is not in.
        let joined = self.enqueue(types, &seat, room);
        joined.then(|| Waiter { waiters: self, types, seat, asking: false })
    }

    /// Wakes the waiter of `task_type` that has waited longest and is not woken yet.
    pub fn wake(&self, task_type: &TaskType) {
        let queues = self.lock();
        let Some(seats) = queues.by_type.get(task_type) else {
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
        for seat in self.lock().by_type.values().flatten() {
            seat.woken.store(true, Ordering::Release);
            seat.notify.notify_one();
        }
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.lock().waiting
    }

    /// The types somebody waits for.
    pub fn types(&self) -> Vec<TaskType> {
        self.lock().by_type.keys().cloned().collect()
    }

    /// Says whether there was room.
    fn enqueue(&self, types: &[TaskType], seat: &Arc<Seat>, room: Room) -> bool {
        let mut queues = self.lock();
        let new = types.iter().filter(|task_type| !queues.by_type.contains_key(task_type)).count();
        if queues.waiting >= room.waiters || queues.by_type.len() + new > room.types {
            metrics::counter!("claims_refused_total").increment(1);
            return false;
        }
        queues.waiting += 1;
        metrics::gauge!("claims_waiting").increment(1.0);
        for task_type in types {
            queues.by_type.entry(task_type.clone()).or_default().push_back(Arc::clone(seat));
        }
        true
    }

    fn dequeue(&self, types: &[TaskType], seat: &Arc<Seat>) {
        let mut queues = self.lock();
        queues.waiting -= 1;
        metrics::gauge!("claims_waiting").decrement(1.0);
        for task_type in types {
            if let Some(seats) = queues.by_type.get_mut(task_type) {
                seats.retain(|other| !Arc::ptr_eq(other, seat));
                if seats.is_empty() {
                    queues.by_type.remove(task_type);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
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

    const ROOM: Room = Room { waiters: 3, types: 3 };

    fn types(names: &[&str]) -> Vec<TaskType> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_wake_wakes_one_and_the_one_that_waited_longest() {
        let waiters = Waiters::default();
        let (a, b) = (types(&["a"]), types(&["b", "a"]));
        let (mut first, mut second) =
            (waiters.join(&a, ROOM).unwrap(), waiters.join(&b, ROOM).unwrap());
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
        let (mut first, mut second) =
            (waiters.join(&a, ROOM).unwrap(), waiters.join(&a, ROOM).unwrap());
        waiters.wake(&a[0]);
        assert!(first.woken().now_or_never().is_some());
        drop(first);
        assert!(second.woken().now_or_never().is_some(), "the first left while it asked");
        let third = waiters.join(&a, ROOM).unwrap();
        waiters.wake(&a[0]);
        second.served();
        drop(third);
        drop(second);
        assert!(waiters.types().is_empty());
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_waiters_and_so_many_types() {
        let waiters = Waiters::default();
        let (a, abc, d) = (types(&["a"]), types(&["a", "b", "c"]), types(&["d"]));
        let first = waiters.join(&abc, ROOM).unwrap();
        assert!(waiters.join(&d, ROOM).is_none(), "a fourth type");
        let _second = waiters.join(&a, ROOM).unwrap();
        let third = waiters.join(&a, ROOM).unwrap();
        assert!(waiters.join(&a, ROOM).is_none(), "a fourth waiter");
        drop(third);
        let _third = waiters.join(&a, ROOM).unwrap();
        drop(first);
        let _fourth = waiters.join(&d, ROOM).unwrap();
    }
}
