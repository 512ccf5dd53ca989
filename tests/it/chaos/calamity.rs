//! Who is killed when, for how long, and with whom: a schedule made by the seed. Some are not killed but made to stand
//! still for a while, which is worse: nobody is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;

use super::attempt::{Attempt, Said};
use super::client::Outcome;
use super::world::{Part, RECOVERY, World};
use super::{Stage, pause};

/// Kills and starts again until the time is over; then everything works again, or that is told.
pub async fn strike(world: &mut World, stage: &Arc<Stage>) {
    let mut chance = stage.chance("calamity");
    let mut probe = Probe::new(stage).await;
    let began = Instant::now();
    while began.elapsed() < stage.settings.length {
        pause(&mut chance, 200..1200).await;
        let victims = victims(world, &mut chance);
        if chance.u8(..6) == 0 {
            freeze(world, stage, &victims, &mut chance).await;
        } else {
            kill(world, stage, &victims, &mut chance).await;
        }
        let started = Instant::now();
        // The next blow may come before all has recovered from this.
        let rest = match chance.u8(..4) {
            0 => Duration::from_millis(chance.u64(50..1500)),
            _ => RECOVERY,
        };
        match tokio::time::timeout(rest, probe.recovered(world)).await {
            Ok(()) => {
                for part in victims {
                    stage.ledger.recovered(part, started.elapsed());
                }
            }
            Err(_) if rest < RECOVERY => {}
            Err(_) => {
                let what = format!("nothing works {RECOVERY:?} after {victims:?} came back");
                stage.ledger.violation(what);
            }
        }
    }
    if tokio::time::timeout(RECOVERY, probe.recovered(world)).await.is_err() {
        stage.ledger.violation(format!("nothing works {RECOVERY:?} after the last blow"));
    }
    probe.attempt.complete(&mut chance).await;
}

/// `kill -9`, a moment without them, and a start.
async fn kill(world: &mut World, stage: &Stage, victims: &[Part], chance: &mut Rng) {
    for part in victims {
        stage.ledger.killed(*part);
        world.program(*part).kill();
        if chance.bool() {
            pause(chance, 0..300).await;
        }
    }
    // Half are back at once, as under a supervisor.
    if chance.bool() {
        pause(chance, 100..1500).await;
    }
    for part in victims {
        world.program(*part).start();
        if chance.u8(..3) == 0 {
            pause(chance, 0..500).await;
        }
    }
}

/// Connections that are open and silent, and then what was half done goes on as if no time had passed.
async fn freeze(world: &mut World, stage: &Stage, victims: &[Part], chance: &mut Rng) {
    for part in victims {
        stage.ledger.tally("freezes");
        world.program(*part).freeze();
    }
    let longest = stage.settings.freeze.as_millis().try_into().unwrap_or(u64::MAX);
    pause(chance, 300..longest.max(301)).await;
    for part in victims {
        world.program(*part).thaw();
    }
}

/// One part most of the time, two together now and then, everything once in a while.
fn victims(world: &World, chance: &mut Rng) -> Vec<Part> {
    let mut parts = world.parts();
    chance.shuffle(&mut parts);
    let count = match chance.u8(..20) {
        0 => parts.len(),
        1..6 => 2,
        _ => 1,
    };
    parts.truncate(count);
    parts
}

/// Asks every node for something that needs all it stands on.
struct Probe {
    stage: Arc<Stage>,
    attempt: Attempt,
}

impl Probe {
    async fn new(stage: &Arc<Stage>) -> Self {
        let (task, worker) = ("chaos-probe", "probe");
        let register = json!({ "taskId": task, "taskType": "probe" });
        let post =
            async |path: &str, body| match stage.client.post(0, path, &body, &stage.ledger).await {
                Outcome::Done(answer) => answer,
                other => panic!("the probe was not let in: {other:?}"),
            };
        post("/tasks", register).await;
        stage.ledger.with(task, |record| record.max_attempts = 3);
        let asked = Instant::now();
        let start = json!({ "workerId": worker });
        let started = post(&format!("/tasks/{task}/start"), start).await;
        let attempt = Attempt::new(stage, worker, &started, None, asked);
        Self { stage: Arc::clone(stage), attempt }
    }

    /// Waits until every node appends and every node renews.
    async fn recovered(&mut self, world: &mut World) {
        for node in 0..self.stage.client.nodes() {
            // Every server of a broker is needed, not that of this task alone.
            let ready = format!("{}/readyz", world.urls[node]);
            while self.stage.forgets
                && !reqwest::get(&ready).await.is_ok_and(|reply| reply.status().is_success())
            {
                for died in world.revive() {
                    self.stage.ledger.violation(died);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            loop {
                for died in world.revive() {
                    self.stage.ledger.violation(died);
                }
                let entry = [format!("{}.0/1", self.stage.unique())];
                if self.attempt.append_at(node, &entry).await == Said::Done
                    && self.attempt.heartbeat(node).await == Said::Done
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
