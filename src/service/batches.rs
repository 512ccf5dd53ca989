//! What callers share a round trip to the database for.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::ends::{EndJob, Together, end_together};
use super::feed::Listeners;
use super::{Error, Outage, Result};
use crate::coalescer::{Coalescer, Width};
use crate::domain::{JsonObject, Moved, Task, TaskId, TaskType};
use crate::live::Live;
use crate::storage::{self, Claim, Measured, Storage};

/// Bytes of a batch at about most: they are held, and sent, at once.
const WEIGHT: usize = 4 << 20;

/// The batches that gather.
#[derive(Debug)]
pub(super) struct Batches {
    /// Tasks to register: whether each is; otherwise its id is taken.
    pub(super) registering: Coalescer<Task, Result<bool>>,
    /// Claims, and what each gets.
    pub(super) claiming: Coalescer<Claim, Result<Option<Task>>>,
    /// Tasks to end.
    pub(super) ending: Coalescer<EndJob, Together>,
    /// Ends of which nothing is live any more.
    pub(super) settling: Coalescer<TaskId, Result<()>>,
    /// Tasks to read.
    pub(super) reading: Coalescer<TaskId, Result<Option<Task>>>,
    /// Tasks to read, with how much of each is sealed.
    pub(super) measuring: Coalescer<TaskId, Result<Option<Measured>>>,
    /// Types of tasks that wait now.
    pub(super) waking: Coalescer<TaskType, ()>,
    /// Tasks that stand elsewhere now, where anybody listens.
    pub(super) moving: Coalescer<Moved, ()>,
}

impl Batches {
    /// Over `storage` and `live`; batches are run as tasks of `tasks`.
    pub(super) fn new(
        storage: &Storage,
        live: &Arc<dyn Live>,
        hints: &Arc<Outage>,
        listeners: &Arc<Listeners>,
        tasks: &TaskTracker,
    ) -> Self {
        // A second batch goes while the first is made durable; more would only be smaller. SQLite has one writer.
        let lanes = if storage.has_one_writer() { 1 } else { 2 };
        let width = |jobs| Width { lanes, jobs, weight: WEIGHT };
        let gathers = (storage, tasks);
        let told = (Arc::clone(live), Arc::clone(hints), Arc::clone(listeners));
        let (live, hints) = (Arc::clone(live), Arc::clone(hints));
        Self {
            registering: gather(gathers, width(500), weight_of_task, |storage, tasks| {
                Box::pin(storage.insert_each(tasks))
            }),
            // One after the other: two would look at the same tasks.
            claiming: gather(
                gathers,
                Width { lanes: 1, ..width(100) },
                |_| 0,
                |storage, claims| Box::pin(storage.claim_each(claims)),
            ),
            ending: Coalescer::new(width(64), EndJob::weight, tasks.clone(), end_together),
            settling: gather(
                gathers,
                width(500),
                |_| 0,
                |storage, ids| {
                    Box::pin(async { storage.settled(ids).await.map(|()| vec![(); ids.len()]) })
                },
            ),
            reading: gather(
                gathers,
                width(100),
                |_| 0,
                |storage, ids| {
                    Box::pin(async {
                        let found = storage.get_each(ids).await?;
                        let of = |id: &TaskId| found.iter().find(|task| task.id == *id).cloned();
                        Ok(ids.iter().map(of).collect())
                    })
                },
            ),
            measuring: gather(
                gathers,
                width(100),
                |_| 0,
                |storage, ids| {
                    Box::pin(async {
                        let found = storage.measure_each(ids).await?;
                        let of = |id: &TaskId| found.iter().find(|one| one.task.id == *id).cloned();
                        Ok(ids.iter().map(of).collect())
                    })
                },
            ),
            waking: Coalescer::new(
                width(1000),
                |_| 0,
                tasks.clone(),
                move |types: Vec<TaskType>| {
                    let (live, hints) = (Arc::clone(&live), Arc::clone(&hints));
                    async move {
                        hints.heard(&live.wake(&types).await, "waiting workers are not woken");
                        Ok(vec![(); types.len()])
                    }
                },
            ),
            moving: Coalescer::new(
                width(1000),
                |_| 0,
                tasks.clone(),
                move |moves: Vec<Moved>| {
                    let (live, hints, listeners) = told.clone();
                    async move {
                        let told = live.tell_moves(&moves).await;
                        hints.heard(&told, "feeds hear late of what has moved");
                        if matches!(told, Ok(false)) {
                            listeners.none(Instant::now());
                        }
                        Ok(vec![(); moves.len()])
                    }
                },
            ),
        }
    }
}

/// Does some jobs by one round trip, or by one commit.
type AtOnce<J, A> =
    for<'j> fn(&'j Storage, &'j [J]) -> BoxFuture<'j, std::result::Result<Vec<A>, storage::Error>>;

fn gather<J: Send + Sync + 'static, A: Send + 'static>(
    (storage, tasks): (&Storage, &TaskTracker),
    width: Width,
    weigh: fn(&J) -> usize,
    at_once: AtOnce<J, A>,
) -> Coalescer<J, Result<A>> {
    let storage = storage.clone();
    Coalescer::new(width, weigh, tasks.clone(), move |jobs: Vec<J>| {
        let storage = storage.clone();
        async move { each(&storage, &jobs, at_once).await.map_err(for_all) }
    })
}

/// Does jobs at once. Where that fails by what one of them is each is done by itself, for the others are not to
/// blame.
async fn each<J, A>(
    storage: &Storage,
    jobs: &[J],
    at_once: AtOnce<J, A>,
) -> Result<Vec<Result<A>>> {
    match at_once(storage, jobs).await {
        Ok(done) => Ok(done.into_iter().map(Ok).collect()),
        Err(storage::Error::Failed(_)) if jobs.len() > 1 => {
            let mut done = Vec::with_capacity(jobs.len());
            for job in jobs {
                let alone = at_once(storage, std::slice::from_ref(job)).await;
                done.push(alone.map(|mut alone| alone.remove(0)).map_err(Error::from));
            }
            Ok(done)
        }
        Err(error) => Err(error.into()),
    }
}

/// One refusal for everybody.
pub(super) fn for_all<A>(error: Error) -> Box<dyn Fn() -> Result<A> + Send> {
    let error = Arc::new(error);
    Box::new(move || Err(Arc::clone(&error).shared()))
}

fn weight_of_task(task: &Task) -> usize {
    weight(task.metadata.as_ref()) + weight(task.params.as_ref())
}

/// Bytes of a part of a job.
pub(super) fn weight(object: Option<&JsonObject>) -> usize {
    object.map_or(0, |object| object.as_str().len())
}
