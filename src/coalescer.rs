//! Many callers, one round trip: while one batch is under way, the next one gathers.
//!
//! Without a timer: who comes alone is served at once, and the more come, the larger are the batches. A batch is
//! run to its end whoever of its callers goes away meanwhile. (It is what databases call group commit.)

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// How much is done at once.
#[derive(Debug, Clone, Copy)]
pub struct Width {
    /// Batches that are under way at the same time.
    pub lanes: usize,
    /// Jobs of a batch at most.
    pub jobs: usize,
    /// What the jobs of a batch weigh at about most; one that is heavier goes alone.
    pub weight: usize,
}

/// A batch was given up: what runs it has panicked.
#[derive(Debug, thiserror::Error)]
#[error("a batch was given up")]
pub struct GivenUp;

/// What came of a batch: an answer for each of its jobs, in their order; or the one answer for everybody, those included who
/// wait for the next batch: what is away is away for all, and nobody waits for it twice.
pub type Answers<A> = Result<Vec<A>, Box<dyn Fn() -> A + Send>>;

/// Runs a batch.
type Run<J, A> = dyn Fn(Vec<J>) -> BoxFuture<'static, Answers<A>> + Send + Sync;

/// What gathers jobs of one kind.
pub struct Coalescer<J, A>(Arc<Shared<J, A>>);

struct Shared<J, A> {
    width: Width,
    weigh: fn(&J) -> usize,
    run: Box<Run<J, A>>,
    tasks: TaskTracker,
    gathered: Mutex<Gathered<J, A>>,
}

struct Gathered<J, A> {
    waiting: VecDeque<(J, oneshot::Sender<A>)>,
    busy: usize,
}

impl<J, A> std::fmt::Debug for Coalescer<J, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coalescer").field("width", &self.0.width).finish_non_exhaustive()
    }
}

impl<J: Send + 'static, A: Send + 'static> Coalescer<J, A> {
    /// One whose batches are run by `run`, as tasks of `tasks`.
    pub fn new<F>(
        width: Width,
        weigh: fn(&J) -> usize,
        tasks: TaskTracker,
        run: impl Fn(Vec<J>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answers<A>> + Send + 'static,
    {
        let gathered = Mutex::new(Gathered { waiting: VecDeque::new(), busy: 0 });
        let run = Box::new(move |jobs| run(jobs).boxed());
        Self(Arc::new(Shared { width, weigh, run, tasks, gathered }))
    }

    /// Has `job` done with the next batch, and waits for what came of it.
    pub async fn call(&self, job: J) -> Result<A, GivenUp> {
        self.enter(job).await.map_err(|_| GivenUp)
    }

    /// Has `job` done with the next batch, and waits for nothing.
    pub fn send(&self, job: J) {
        drop(self.enter(job));
    }

    fn enter(&self, job: J) -> oneshot::Receiver<A> {
        let (answer, answered) = oneshot::channel();
        let is_lane_free = {
            let mut gathered = self.0.lock();
            gathered.waiting.push_back((job, answer));
            let is_lane_free = gathered.busy < self.0.width.lanes;
            gathered.busy += usize::from(is_lane_free);
            is_lane_free
        };
        if is_lane_free {
            self.0.tasks.spawn(Arc::clone(&self.0).drive());
        }
        answered
    }
}

impl<J: Send + 'static, A: Send + 'static> Shared<J, A> {
    /// Runs batch after batch until nobody waits.
    async fn drive(self: Arc<Self>) {
        loop {
            // Whoever is ready to call does so first, and comes with this batch and not with the next.
            tokio::task::yield_now().await;
            let Some((jobs, answers)) = self.next_batch() else { return };
            // The panic is reported by its hook; the callers hear that they are not served, and the lane goes on.
            let said = AssertUnwindSafe((self.run)(jobs)).catch_unwind().await;
            // A caller that is gone has its work done all the same.
            match said.unwrap_or_else(|_panic| Ok(Vec::new())) {
                Ok(said) => answers.into_iter().zip(said).for_each(|(answer, said)| {
                    let _ = answer.send(said);
                }),
                Err(said) => answers.into_iter().chain(self.waiting()).for_each(|answer| {
                    let _ = answer.send(said());
                }),
            }
        }
    }

    /// Everybody who waits; their jobs are dropped.
    fn waiting(&self) -> Vec<oneshot::Sender<A>> {
        self.lock().waiting.drain(..).map(|(_, answer)| answer).collect()
    }

    /// The jobs of the next batch; where there are none the lane is given back.
    fn next_batch(&self) -> Option<(Vec<J>, Vec<oneshot::Sender<A>>)> {
        let mut gathered = self.lock();
        let mut weight = 0_usize;
        let fits = |(job, _): &&(J, _)| {
            weight = weight.saturating_add((self.weigh)(job));
            weight <= self.width.weight
        };
        let count = gathered.waiting.iter().take(self.width.jobs).take_while(fits).count();
        if gathered.waiting.is_empty() {
            gathered.busy -= 1;
            return None;
        }
        Some(gathered.waiting.drain(..count.max(1)).unzip())
    }

    fn lock(&self) -> MutexGuard<'_, Gathered<J, A>> {
        // No code that holds the lock can leave what it guards half changed.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    /// Doubles numbers, a batch for each permit; says how large the batches were.
    struct Scene {
        coalescer: Arc<Coalescer<usize, usize>>,
        permits: Arc<Semaphore>,
        batches: Arc<Mutex<Vec<usize>>>,
        tasks: TaskTracker,
    }

    fn scene(width: Width) -> Scene {
        let (permits, batches) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (of_run, sizes) = (Arc::clone(&permits), Arc::clone(&batches));
        let tasks = TaskTracker::new();
        let run = move |jobs: Vec<usize>| {
            sizes.lock().unwrap().push(jobs.len());
            let permits = Arc::clone(&of_run);
            async move {
                permits.acquire().await.unwrap().forget();
                assert!(!jobs.contains(&13), "unlucky");
                let answers = jobs.iter().map(|job| 2 * job).collect();
                if jobs.contains(&17) { Err(Box::new(|| 0_usize) as Box<_>) } else { Ok(answers) }
            }
        };
        let coalescer = Arc::new(Coalescer::new(width, |job| *job, tasks.clone(), run));
        Scene { coalescer, permits, batches, tasks }
    }

    impl Scene {
        /// Calls for each of `jobs`, and comes back when all of them wait.
        async fn call(&self, jobs: impl IntoIterator<Item = usize>) -> Vec<Call> {
            let mut calls = Vec::new();
            for job in jobs {
                let coalescer = Arc::clone(&self.coalescer);
                calls.push(tokio::spawn(async move { coalescer.call(job).await }));
            }
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            calls
        }

        fn batches(&self) -> Vec<usize> {
            self.batches.lock().unwrap().clone()
        }
    }

    type Call = tokio::task::JoinHandle<Result<usize, GivenUp>>;

    async fn heard(calls: Vec<Call>) -> Vec<usize> {
        let said = futures::future::join_all(calls).await;
        said.into_iter().map(|said| said.unwrap().unwrap()).collect()
    }

    const ONE_LANE: Width = Width { lanes: 1, jobs: 100, weight: usize::MAX };

    #[tokio::test]
    async fn what_comes_while_a_batch_is_under_way_is_the_next_batch() {
        let scene = scene(ONE_LANE);
        let first = scene.call([1]).await;
        let rest = scene.call(2..12).await;
        assert_eq!(scene.batches(), [1]);
        scene.permits.add_permits(2);
        assert_eq!(heard(first).await, [2]);
        assert_eq!(heard(rest).await, (2..12).map(|job| 2 * job).collect::<Vec<_>>());
        assert_eq!(scene.batches(), [1, 10]);
    }

    #[tokio::test]
    async fn who_comes_together_goes_together() {
        let scene = scene(ONE_LANE);
        scene.permits.add_permits(1);
        assert_eq!(heard(scene.call(1..=5).await).await.len(), 5);
        assert_eq!(scene.batches(), [5]);
    }

    #[tokio::test]
    async fn a_batch_is_bounded_in_number_and_in_weight_and_the_heaviest_goes_alone() {
        let scene = scene(Width { lanes: 1, jobs: 3, weight: 10 });
        scene.permits.add_permits(10);
        let calls = scene.call([1, 1, 1, 1, 5, 5, 99, 6, 3]).await;
        assert_eq!(heard(calls).await, [2, 2, 2, 2, 10, 10, 198, 12, 6]);
        assert_eq!(scene.batches(), [3, 2, 1, 1, 2]);
    }

    #[tokio::test]
    async fn several_lanes_go_beside_each_other() {
        let scene = scene(Width { lanes: 2, ..ONE_LANE });
        let one = scene.call([1]).await;
        let two = scene.call([2]).await;
        let three = scene.call([3, 4]).await;
        assert_eq!(scene.batches(), [1, 1]);
        scene.permits.add_permits(3);
        assert_eq!(
            (heard(one).await, heard(two).await, heard(three).await),
            (vec![2], vec![4], vec![6, 8])
        );
    }

    #[tokio::test]
    async fn a_batch_goes_on_without_its_callers_and_is_waited_for() {
        let scene = scene(ONE_LANE);
        for call in scene.call([1, 2]).await {
            call.abort();
        }
        scene.permits.add_permits(1);
        scene.tasks.close();
        scene.tasks.wait().await;
        assert_eq!((scene.batches(), scene.permits.available_permits()), (vec![2], 0));
    }

    #[tokio::test]
    async fn what_is_away_is_away_for_all_who_wait() {
        let scene = scene(ONE_LANE);
        let first = scene.call([17, 1]).await;
        let rest = scene.call([2, 3]).await;
        scene.permits.add_permits(1);
        assert_eq!((heard(first).await, heard(rest).await), (vec![0, 0], vec![0, 0]));
        scene.permits.add_permits(1);
        assert_eq!(heard(scene.call([4]).await).await, [8]);
        assert_eq!(scene.batches(), [2, 1]);
    }

    #[tokio::test]
    async fn a_panic_costs_its_batch_and_no_other() {
        let scene = scene(ONE_LANE);
        scene.permits.add_permits(2);
        for said in scene.call([1, 13]).await {
            assert!(said.await.unwrap().is_err());
        }
        assert_eq!(heard(scene.call([4]).await).await, [8]);
    }
}
