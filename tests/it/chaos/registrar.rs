//! Registers tasks, a bounded number under way at once, cancels some, and has each read to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::client::Outcome;
use super::ledger::End;
use super::{Stage, pause, reader};

/// Registers until the killing is over.
pub struct Registrars {
    stage: Arc<Stage>,
    under_way: Arc<Semaphore>,
    loops: JoinSet<JoinSet<()>>,
}

/// How many register beside each other.
const REGISTRARS: usize = 2;

/// Starts them.
pub fn start(stage: &Arc<Stage>) -> Registrars {
    let under_way = Arc::new(Semaphore::new(stage.settings.tasks));
    let mut loops = JoinSet::new();
    for registrar in 0..REGISTRARS {
        loops.spawn(register_on(Arc::clone(stage), registrar, Arc::clone(&under_way)));
    }
    Registrars { stage: Arc::clone(stage), under_way, loops }
}

impl Registrars {
    /// Has them stop, and waits until every task they registered has ended before every reader's eyes; but no
    /// longer than so.
    pub async fn ended(mut self, limit: Duration) {
        self.under_way.close();
        let all = async {
            while let Some(lives) = self.loops.join_next().await {
                let mut lives = lives.expect("a registrar");
                while let Some(life) = lives.join_next().await {
                    life.expect("the life of a task");
                }
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            let told = format!("not every reader saw the end of its task within {limit:?}");
            self.stage.ledger.violation(told);
        }
    }
}

async fn register_on(
    stage: Arc<Stage>,
    registrar: usize,
    under_way: Arc<Semaphore>,
) -> JoinSet<()> {
    let mut chance = stage.chance(&format!("registrar {registrar}"));
    let mut lives = JoinSet::new();
    for turn in 0.. {
        let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { break };
        let task = format!("chaos-{registrar}-{turn}");
        lives.spawn(live(Arc::clone(&stage), task, chance.fork(), permit));
        while lives.try_join_next().is_some_and(|life| {
            life.expect("the life of a task");
            true
        }) {}
        pause(&mut chance, 10..120).await;
    }
    lives
}

/// One task from its registration until every reader has seen its end.
async fn live(stage: Arc<Stage>, task: String, mut chance: Rng, _permit: OwnedSemaphorePermit) {
    // Nobody asks for the last kind: they wait until they time out or are cancelled.
    let waits = chance.u8(..10) == 0;
    let max_attempts = if chance.u8(..4) == 0 { 2 } else { 100 };
    let mut body = json!({
        "taskId": task, "taskType": if waits { "nobody" } else { "work" },
        "params": { "of": task }, "maxAttempts": max_attempts,
    });
    stage.ledger.with(&task, |record| {
        record.max_attempts = max_attempts;
        if waits {
            record.possible.push(End { status: "timeout", mark: String::new() });
        }
    });
    if waits {
        body["timeoutSeconds"] = json!(chance.u64(2..7));
    }
    if !register(&stage, &task, &body, &mut chance).await {
        return;
    }
    let mut readers = JoinSet::new();
    for _ in 0..chance.usize(1..3) {
        readers.spawn(reader::follow(Arc::clone(&stage), task.clone(), chance.fork()));
    }
    if chance.u8(..8) == 0 {
        pause(&mut chance, 0..1500).await;
        cancel(&stage, &task, &mut chance).await;
    }
    while let Some(reader) = readers.join_next().await {
        reader.expect("a reader");
    }
}

/// Registers a task until somebody says that it is there.
async fn register(stage: &Stage, task: &str, body: &Value, chance: &mut Rng) -> bool {
    let mut may_be_there = false;
    loop {
        let node = stage.any_node(chance);
        match stage.client.post(node, "/tasks", body, &stage.ledger).await {
            Outcome::Done(_) => break,
            Outcome::Refused(problem) if may_be_there && problem["code"] == "task_exists" => break,
            Outcome::Refused(problem) => {
                stage.ledger.violation(format!("{task}: registering is refused with {problem}"));
                return false;
            }
            Outcome::Unknown => may_be_there = true,
            Outcome::Unreached => {}
        }
        if stage.is_over() {
            stage.ledger.violation(format!("{task}: could not be registered"));
            return false;
        }
        pause(chance, 50..500).await;
    }
    stage.ledger.tally("registered");
    true
}

/// Wants a task to end, until somebody hears it.
async fn cancel(stage: &Stage, task: &str, chance: &mut Rng) {
    let mut body = json!({ "reason": "chaos", "graceSeconds": chance.u64(1..4) });
    if chance.u8(..4) == 0 {
        body["force"] = json!(true);
    }
    let cancelled = End { status: "cancelled", mark: String::new() };
    stage.ledger.with(task, |record| record.possible.push(cancelled.clone()));
    while !stage.is_over() {
        let node = stage.any_node(chance);
        let path = format!("/tasks/{task}/cancel");
        match stage.client.post(node, &path, &body, &stage.ledger).await {
            Outcome::Done(answer) => {
                stage.ledger.with(task, |record| {
                    record.cancelled = Some(Instant::now());
                    if answer["status"] == json!("cancelled") {
                        record.ends.push(cancelled);
                    }
                });
                return;
            }
            Outcome::Refused(problem) => {
                if problem["code"] != "invalid_transition" {
                    stage.ledger.violation(format!("{task}: cancel is refused with {problem}"));
                }
                return;
            }
            Outcome::Unreached | Outcome::Unknown => pause(chance, 50..500).await,
        }
    }
}
