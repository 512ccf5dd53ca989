//! `work`: makes a worker of any program.
//!
//! | module | says |
//! | --- | --- |
//! | [`line`] | what a line that a program printed says |
//! | [`output`] | what a program prints, cut into lines and held back where nobody takes them |
//! | [`report`] | entries, sent in their order |
//! | [`link`] | what a worker and the service say to each other about one task |
//! | [`program`] | a process group that ends as a whole |
//! | [`attempt`] | one task, from the start of its program to the report of its end |
//! | [`notes`] | what the worker says of itself |

mod attempt;
mod line;
mod link;
mod notes;
mod output;
mod program;
mod report;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::calls::{LONGEST_WAIT, rest_if_early, this_worker};
use super::end::{End, Ended, Failure, SIGINT};
use crate::cli::terminal::WorkArgs;
use crate::client::wire::Claimed;
use crate::client::{Call, Client, Error, Patience};
use crate::domain::WorkerId;
use attempt::{Outcome, attempt};
use notes::Notes;

/// What all attempts of this process share.
struct Worker {
    client: Client,
    args: WorkArgs,
    id: WorkerId,
    notes: Arc<Notes>,
}

/// What the worker is told from outside.
#[derive(Debug, Clone, Default)]
struct Orders {
    /// To claim no more.
    stop: CancellationToken,
    /// To end what runs, and give it back.
    give_back: CancellationToken,
    /// The signal that said so.
    signal: Arc<AtomicU8>,
}

/// Works until it is told to stop.
pub(super) async fn work(args: WorkArgs) -> Ended {
    let (client, _) = super::connect(&args.connect)?;
    let id = args.worker_id.clone().map_or_else(this_worker, Ok)?;
    let notes = Arc::new(Notes::new(args.quiet));
    let worker = Arc::new(Worker { client, args, id, notes });
    let orders = Orders::default();
    let _listener =
        AbortOnDropHandle::new(tokio::spawn(listen(Arc::clone(&worker), orders.clone())?));
    let slots = Arc::new(Semaphore::new(worker.args.concurrency as usize));
    let broken = Arc::new(Mutex::new(None));
    let mut running = JoinSet::new();
    let mut refused = None;
    let mut worst = End::Done;
    let types: Vec<_> = worker.args.types.iter().map(ToString::to_string).collect();
    worker.notes.good(&format!("{} waits for tasks of {}", worker.id, types.join(", ")));
    loop {
        let place = tokio::select! {
            biased;
            () = orders.stop.cancelled() => break,
            place = Arc::clone(&slots).acquire_owned() => place,
        };
        let claimed = tokio::select! {
            biased;
            () = orders.stop.cancelled() => break,
            claimed = claim(&worker) => claimed,
        };
        let task = match claimed {
            Ok(task) => task,
            Err(error) => {
                refused = Some(error);
                break;
            }
        };
        let (worker_, orders_, broken_) = (worker.clone(), orders.clone(), Arc::clone(&broken));
        running.spawn(async move {
            let _place = place;
            let outcome = one(&worker_, task, orders_.give_back).await;
            if let Outcome::NotStarted(why) = &outcome {
                // Every other task would fare the same.
                *broken_.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
                orders_.stop.cancel();
            }
            outcome
        });
        while let Some(ended) = running.try_join_next() {
            worst = worst.and(end_of(ended.ok().as_ref(), &orders));
        }
        if worker.args.once {
            break;
        }
    }
    while let Some(ended) = running.join_next().await {
        worst = worst.and(end_of(ended.ok().as_ref(), &orders));
    }
    if let Some(error) = refused {
        return Err(error.into());
    }
    if let Some(why) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let program = worker.args.command.first().map(|program| program.to_string_lossy());
        let program = program.unwrap_or_default();
        return Err(Failure::Other(format!(
            "cannot start {program}: {why}; the task was given back"
        )));
    }
    Ok(match worst {
        End::Signal(_) => worst,
        _ if worker.args.once => worst,
        _ => End::Done,
    })
}

/// Waits for a task, for as long as it takes.
async fn claim(worker: &Worker) -> Result<Claimed, Error> {
    let body = json!({
        "taskTypes": worker.args.types, "workerId": worker.id, "leaseSeconds": worker.args.lease,
        "waitSeconds": LONGEST_WAIT.as_secs(),
    });
    let call = Call::post("/tasks/claim", body.to_string()).waiting(LONGEST_WAIT);
    loop {
        let asked = Instant::now();
        let told = |error: &Error, _| worker.notes.away(error);
        let answer = worker.client.call(&call, Patience::Endless, told).await?;
        worker.notes.there();
        match worker.client.read::<Option<Claimed>>(&answer)? {
            Some(task) => return Ok(task),
            None => rest_if_early(asked, LONGEST_WAIT).await,
        }
    }
}

/// Does one task, and says so.
async fn one(worker: &Worker, task: Claimed, give_back: CancellationToken) -> Outcome {
    let (id, name) = (task.id.clone(), super::show::plain(&task.task_type).into_owned());
    worker.notes.good(&format!("{id} claimed ({name}, attempt {})", task.attempt));
    let outcome = attempt(worker, task, give_back).await;
    match &outcome {
        Outcome::Completed => worker.notes.good(&format!("{id} completed")),
        Outcome::Failed(why) => worker.notes.say(&format!("{id} failed: {why}")),
        Outcome::Cancelled => worker.notes.good(&format!("{id} cancelled")),
        Outcome::Lost => worker.notes.say(&format!("{id} lost: another worker may have it")),
        Outcome::GivenBack => worker.notes.say(&format!("{id} given back")),
        Outcome::NotStarted(_) => {}
    }
    outcome
}

/// How a worker that did only this would end; `None`: the attempt broke down, which is a defect.
fn end_of(outcome: Option<&Outcome>, orders: &Orders) -> End {
    match outcome {
        Some(Outcome::Completed) => End::Done,
        Some(Outcome::Cancelled) => End::Cancelled,
        Some(Outcome::GivenBack) => End::Signal(orders.signal.load(Ordering::Relaxed)),
        Some(Outcome::Failed(_) | Outcome::Lost | Outcome::NotStarted(_)) | None => End::Failed,
    }
}

/// Listens to signals: the first stops claiming, the second gives back what runs, the third ends it all.
fn listen(worker: Arc<Worker>, orders: Orders) -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut next = async move || {
        tokio::select! {
            _ = interrupt.recv() => SIGINT,
            _ = terminate.recv() => 15,
        }
    };
    Ok(async move {
        orders.signal.store(next().await, Ordering::Relaxed);
        orders.stop.cancel();
        worker.notes.good("no more tasks are claimed; once more gives back what runs");
        let drain = async {
            match worker.args.drain {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            signal = next() => orders.signal.store(signal, Ordering::Relaxed),
            () = drain => {}
        }
        orders.give_back.cancel();
        let signal = next().await;
        // What ran has been killed, and its leases run out.
        std::process::exit(128 + i32::from(signal));
    })
}
