//! What happens without a request: one loop, many small duties.
//!
//! A duty is a row of `duties`: a name, a pace, and one round of the service. The loop owns the rest: jitter, so
//! that nodes do not march in step; a time limit; panics; cancellation; span and figures. Every node
//! does every duty; the rounds share the work among themselves.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::service::{Error, Outage, Result, Tracker};

/// A round that takes longer is given up: the next one begins anew.
const TIME_LIMIT: Duration = Duration::from_mins(1);

/// What is said of a duty whose dependency is away.
const AWAY: &str = "failed, and will be tried again";

/// One round: how much it did.
type Round = fn(Tracker) -> BoxFuture<'static, Result<u64>>;

struct Duty {
    name: &'static str,
    every: Duration,
    round: Round,
}

/// Every duty of a node.
fn duties(sweep_every: Duration, seal_every: Duration) -> [Duty; 14] {
    let seconds = Duration::from_secs;
    [
        // Ends overdue tasks.
        Duty {
            name: "sweep",
            every: sweep_every,
            round: |tracker| async move { tracker.sweep().await }.boxed(),
        },
        // Takes tasks from workers that have fallen silent.
        Duty {
            name: "expire_leases",
            every: sweep_every,
            round: |tracker| async move { tracker.expire_leases().await }.boxed(),
        },
        // Ends cancelled tasks whose workers do not.
        Duty {
            name: "cut_off",
            every: sweep_every,
            round: |tracker| async move { tracker.cut_off().await }.boxed(),
        },
        // Flags tasks that run without progress.
        Duty {
            name: "find_stalls",
            every: sweep_every,
            round: |tracker| async move { tracker.find_stalls().await }.boxed(),
        },
        // Moves what is live of running tasks to the durable truth.
        Duty {
            name: "seal",
            every: seal_every,
            round: |tracker| async move { tracker.seal().await }.boxed(),
        },
        // Notices that the live log lost a memory, if nobody else has.
        Duty {
            name: "note_generations",
            every: seal_every * 8,
            round: |tracker| async move { tracker.note_generations().await.map(|()| 0) }.boxed(),
        },
        // Seals what a node left that died.
        Duty {
            name: "seal_left",
            every: seal_every * 120,
            round: |tracker| async move { tracker.seal_left().await }.boxed(),
        },
        // Publishes ends that a crash left committed and unpublished.
        Duty {
            name: "settle",
            every: seconds(5),
            round: |tracker| async move { tracker.settle_abandoned().await }.boxed(),
        },
        // Has streams catch up whose publications were lost.
        Duty {
            name: "audit_streams",
            every: seconds(10),
            round: |tracker| async move { tracker.audit_streams().await }.boxed(),
        },
        // Wakes waiting workers whose wake was lost.
        Duty {
            name: "recheck_waiters",
            every: seconds(2),
            round: |tracker| async move { tracker.recheck_waiters().await }.boxed(),
        },
        // Writes down who asked for work.
        Duty {
            name: "call_roll",
            every: seconds(5),
            round: |tracker| async move { tracker.call_roll().await }.boxed(),
        },
        // Forgets answers that nobody may ask for again.
        Duty {
            name: "forget_answers",
            every: seconds(60),
            round: |tracker| async move { tracker.forget_answers().await }.boxed(),
        },
        // Sets the gauges that need the database.
        Duty {
            name: "gauge_tasks",
            every: seconds(15),
            round: |tracker| async move { tracker.gauge_tasks().await }.boxed(),
        },
        // Says that this node is there.
        Duty {
            name: "note_node",
            every: seconds(5),
            round: |tracker| async move { tracker.note_node().await }.boxed(),
        },
    ]
}

/// Starts every duty on `tasks`; they end when the service closes, after the round they are in.
pub fn start(tracker: &Tracker, sweep_every: Duration, seal_every: Duration, tasks: &TaskTracker) {
    for duty in duties(sweep_every, seal_every) {
        tasks.spawn(keep(duty, tracker.clone()));
    }
}

async fn keep(duty: Duty, tracker: Tracker) {
    let outage = Outage::default();
    loop {
        let pause = duty.every.mul_f64(0.75 + fastrand::f64() / 2.0);
        tokio::select! {
            () = tracker.closing().cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let span = tracing::info_span!("duty", duty = duty.name);
        run_once(&duty, tracker.clone(), &outage).instrument(span).await;
    }
}

async fn run_once(duty: &Duty, tracker: Tracker, outage: &Outage) {
    let began = Instant::now();
    let round = AssertUnwindSafe((duty.round)(tracker)).catch_unwind();
    let outcome = match tokio::time::timeout(TIME_LIMIT, round).await {
        Ok(Ok(Ok(done))) => {
            outage.heard(&Ok::<_, Error>(()), AWAY);
            if done > 0 {
                tracing::debug!(done, "done");
            }
            "done"
        }
        // Every two seconds for as long as it takes: once is enough.
        Ok(Ok(away @ Err(Error::Unavailable(_)))) => {
            outage.heard(&away, AWAY);
            "failed"
        }
        Ok(Ok(Err(error))) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed, and will be tried again"
            );
            "failed"
        }
        Ok(Err(_)) => {
            tracing::error!("panicked, and will be tried again");
            "panicked"
        }
        Err(_) => {
            tracing::error!(limit = ?TIME_LIMIT, "took too long, and will be tried again");
            "timed_out"
        }
    };
    metrics::counter!("duty_runs_total", "duty" => duty.name, "outcome" => outcome).increment(1);
    metrics::histogram!("duty_seconds", "duty" => duty.name).record(began.elapsed().as_secs_f64());
}
