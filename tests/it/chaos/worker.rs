//! Workers, good and bad ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;

use super::attempt::{Attempt, Said};
use super::client::Outcome;
use super::{Stage, pause};

/// Claims and works until everything is over.
pub async fn work(stage: Arc<Stage>, hand: usize) {
    let mut chance = stage.chance(&format!("worker {hand}"));
    let worker = format!("worker-{hand}");
    let mut zombies = Vec::new();
    while !stage.is_over() {
        let Some(attempt) = claim(&stage, &worker, &mut chance).await else { continue };
        if let Some(silent) = toil(&stage, attempt, &mut chance).await {
            zombies.push(tokio::spawn(come_back(Arc::clone(&stage), silent, chance.fork())));
        }
    }
    for zombie in zombies {
        zombie.await.expect("a zombie");
    }
}

async fn claim(stage: &Arc<Stage>, worker: &str, chance: &mut Rng) -> Option<Attempt> {
    let lease = Duration::from_secs(chance.u64(2..6));
    let body = json!({
        "taskTypes": ["work"], "workerId": worker,
        "waitSeconds": chance.u64(..3), "leaseSeconds": lease.as_secs(),
    });
    let asked = Instant::now();
    let node = stage.any_node(chance);
    match stage.client.post(node, "/tasks/claim", &body, &stage.ledger).await {
        Outcome::Done(claimed) if claimed.is_object() => {
            stage.ledger.tally("claims");
            Some(Attempt::new(stage, worker, &claimed, Some(lease), asked))
        }
        Outcome::Done(_) => {
            pause(chance, 20..100).await;
            None
        }
        Outcome::Refused(problem) => {
            stage.ledger.violation(format!("a claim is refused with {problem}"));
            None
        }
        Outcome::Unreached | Outcome::Unknown => {
            pause(chance, 100..600).await;
            None
        }
    }
}

/// Works on a task. Gives it back where the worker falls silent without a word, to come back too late.
async fn toil(stage: &Arc<Stage>, mut attempt: Attempt, chance: &mut Rng) -> Option<Attempt> {
    let ignores_cancellation = chance.u8(..5) == 0;
    for _ in 0..chance.usize(1..9) {
        let said = match chance.u8(..10) {
            0 => {
                let node = stage.any_node(chance);
                attempt.heartbeat(node).await
            }
            1 => {
                pause(chance, 100..600).await;
                Said::Done
            }
            _ => attempt.append(chance).await,
        };
        if said == Said::Over {
            return None;
        }
        if attempt.cancel_requested && !ignores_cancellation {
            if chance.bool() {
                attempt.stop(chance).await;
            } else {
                attempt.complete(chance).await;
            }
            return None;
        }
        pause(chance, 5..80).await;
    }
    // What was begun is to end some time.
    match if stage.is_settling() { 99 } else { chance.u8(..100) } {
        0..6 => return None,
        6..14 => return Some(attempt),
        14..24 => attempt.release(chance).await,
        24..34 => attempt.fail(chance).await,
        _ => attempt.complete(chance).await,
    };
    None
}

/// A zombie: says what it had to say when its lease has long run out. It may still be heard, if nobody has had
/// the occasion to take the task away from it; the verdict holds it to that.
async fn come_back(stage: Arc<Stage>, mut attempt: Attempt, mut chance: Rng) {
    tokio::time::sleep(attempt.lease()).await;
    pause(&mut chance, 200..2000).await;
    stage.ledger.tally("zombies");
    let mut said = Said::Unknown;
    for _ in 0..chance.usize(1..4) {
        said = attempt.append(&mut chance).await;
    }
    if chance.bool() {
        said = attempt.complete(&mut chance).await;
    }
    if said == Said::Over {
        stage.ledger.tally("zombies refused");
    }
}
