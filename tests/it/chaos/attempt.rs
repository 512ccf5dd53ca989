//! One worker's hold on one task: what it says under its token, and what it is promised.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use super::client::Outcome;
use super::ledger::End;
use super::{Stage, pause};

/// A claimed task.
#[derive(Debug, Clone)]
pub struct Attempt {
    stage: Arc<Stage>,
    /// The task.
    pub task: String,
    worker: String,
    number: u64,
    token: Value,
    /// How long the worker may be silent, and since when it is at the latest.
    lease: Option<Duration>,
    renewed: Instant,
    /// Something was said that ends it, and no answer came.
    may_be_over: bool,
    /// Somebody wants the task to end.
    pub cancel_requested: bool,
}

/// What came of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It was done.
    Done,
    /// The attempt is over.
    Over,
    /// Nobody answered.
    Unknown,
}

impl Attempt {
    /// The one that a claim or a start gave, asked for at `asked`.
    pub fn new(
        stage: &Arc<Stage>,
        worker: &str,
        claimed: &Value,
        lease: Option<Duration>,
        asked: Instant,
    ) -> Self {
        let task = claimed["id"].as_str().or_else(|| claimed["taskId"].as_str());
        let task = task.expect("an id").to_owned();
        let number = claimed["attempt"].as_u64().expect("an attempt");
        let before = stage.ledger.with(&task, |record| {
            let before = record.clone();
            record.claims.insert(number, asked);
            before
        });
        let mut wrong = Vec::new();
        if before.claims.contains_key(&number) {
            wrong.push("it is given to two workers".to_owned());
        }
        // A cancellation may overtake the answer to a claim; nothing else may.
        if !before.ends.is_empty() && before.cancelled.is_none() {
            wrong.push(format!("it is given to a worker although it has ended: {:?}", before.ends));
        }
        if before.cancelled.is_some_and(|since| since < asked) {
            wrong.push("it is given to a worker although it is to end".to_owned());
        }
        // A lost promise is the verdict's; here it is what the next worker is handed.
        let known = before.acknowledged.last_key_value().filter(|(_, (_, at))| *at < asked);
        // Where some may be gone their number says nothing.
        let known = known.filter(|_| !stage.forgets);
        let handed = claimed["progressHistory"].as_array().map_or(u64::MAX, |all| all.len() as u64);
        if let Some((last, _)) = known.filter(|(last, _)| **last > handed) {
            wrong.push(format!("its next worker is handed {handed} of {last} entries"));
        }
        for wrong in wrong {
            stage.ledger.violation(format!("{task}: attempt {number}: {wrong}"));
        }
        Self {
            stage: Arc::clone(stage),
            task,
            worker: worker.to_owned(),
            number,
            token: claimed["leaseToken"].clone(),
            lease,
            renewed: asked,
            may_be_over: false,
            cancel_requested: claimed["cancelRequested"] == json!(true),
        }
    }

    /// How long it may be silent.
    pub fn lease(&self) -> Duration {
        self.lease.unwrap_or_default()
    }

    /// Says something at a node, and takes what is heard with every answer.
    async fn say(&mut self, node: usize, verb: &str, mut body: Value) -> Outcome {
        body["workerId"] = json!(self.worker);
        body["leaseToken"] = self.token.clone();
        let path = format!("/tasks/{}/{verb}", self.task);
        let asked = Instant::now();
        let outcome = self.stage.client.post(node, &path, &body, &self.stage.ledger).await;
        match &outcome {
            Outcome::Done(answer) => {
                self.cancel_requested |= answer["cancelRequested"] == json!(true);
                if matches!(verb, "heartbeat" | "progress") {
                    self.renewed = asked;
                }
            }
            Outcome::Refused(problem) => self.judge_refusal(verb, problem),
            Outcome::Unreached | Outcome::Unknown => {}
        }
        outcome
    }

    /// Whether a refusal is one that may come: the attempt is over, and with reason.
    fn judge_refusal(&self, verb: &str, problem: &Value) {
        let ledger = &self.stage.ledger;
        let code = problem["code"].as_str().unwrap_or_default();
        let about = || format!("{}: attempt {}: {verb}", self.task, self.number);
        if !matches!(code, "lease_lost" | "invalid_transition") {
            ledger.violation(format!("{} is refused with {problem}", about()));
            return;
        }
        ledger.tally("over");
        let held = self.lease.is_none_or(|lease| self.renewed.elapsed() < lease);
        let reason = ledger.with(&self.task, |record| {
            record.cancelled.is_some() || !record.possible.is_empty() || !record.ends.is_empty()
        });
        if held && !reason && !self.may_be_over && self.stage.forgets {
            // Progress renews a lease in the live log alone, and that forgot it.
            ledger.tally("leases forgotten");
        } else if held && !reason && !self.may_be_over {
            let silent = self.renewed.elapsed();
            ledger.violation(format!(
                "{} is refused with {code} {silent:?} after its lease of {:?} was renewed: {}",
                about(),
                self.lease,
                problem["detail"]
            ));
        }
    }

    /// Appends one entry or a few, and tries again as often as it takes or until it gives up on them.
    pub async fn append(&mut self, chance: &mut Rng) -> Said {
        let count = if chance.u8(..4) == 0 { chance.usize(2..7) } else { 1 };
        let batch = self.stage.unique();
        let ids: Vec<String> = (0..count).map(|part| format!("{batch}.{part}/{count}")).collect();
        loop {
            let node = self.stage.any_node(chance);
            let said = self.append_at(node, &ids).await;
            if said != Said::Unknown || chance.u8(..4) == 0 || self.stage.is_over() {
                return said;
            }
            pause(chance, 30..400).await;
        }
    }

    /// Sends entries to a node once.
    pub async fn append_at(&mut self, node: usize, ids: &[String]) -> Said {
        let entry = |id: &String| json!({ "entry": id, "attempt": self.number });
        let body = match ids {
            [only] => json!({ "progress": entry(only) }),
            many => json!({ "entries": many.iter().map(entry).collect::<Vec<_>>() }),
        };
        self.stage.ledger.with(&self.task, |record| record.sending(ids));
        let outcome = self.say(node, "progress", body).await;
        let said = said(&outcome);
        let wrong = self.stage.ledger.with(&self.task, |record| match &outcome {
            Outcome::Done(answer) => record.kept(ids, answer["seqId"].as_u64().unwrap_or_default()),
            Outcome::Refused(_) | Outcome::Unreached => {
                record.known(ids);
                None
            }
            Outcome::Unknown => None,
        });
        if let Some(wrong) = wrong {
            self.stage.ledger.tally("numbers given twice");
            // With a write that the broker put off it may be so: the verdict knows.
            self.stage.ledger.with(&self.task, |record| record.doubts.push(wrong));
        }
        if said == Said::Done {
            self.stage.ledger.tally_many("acknowledged", ids.len());
        }
        said
    }

    /// Says that it is alive.
    pub async fn heartbeat(&mut self, node: usize) -> Said {
        said(&self.say(node, "heartbeat", json!({})).await)
    }

    /// Gives the task back.
    pub async fn release(&mut self, chance: &mut Rng) -> Said {
        self.end("release", None, chance).await
    }

    /// Ends it well.
    pub async fn complete(&mut self, chance: &mut Rng) -> Said {
        self.end("complete", Some("completed"), chance).await
    }

    /// Ends it badly.
    pub async fn fail(&mut self, chance: &mut Rng) -> Said {
        self.end("fail", Some("failed"), chance).await
    }

    /// Says that it has stopped, as somebody wanted.
    pub async fn stop(&mut self, chance: &mut Rng) -> Said {
        self.end("cancel", Some("cancelled"), chance).await
    }

    /// Says a last word until it is heard.
    async fn end(&mut self, verb: &str, status: Option<&'static str>, chance: &mut Rng) -> Said {
        let mark = match verb {
            "complete" | "fail" => format!("mark-{}", self.stage.unique()),
            _ => String::new(),
        };
        let body = match verb {
            "complete" => json!({ "result": { "mark": mark } }),
            "fail" => json!({ "error": { "mark": mark } }),
            _ => json!({}),
        };
        let end = status.map(|status| End { status, mark });
        loop {
            let node = self.stage.any_node(chance);
            let outcome = self.say(node, verb, body.clone()).await;
            match &outcome {
                Outcome::Done(answer) => {
                    // Giving back what is to end ends it.
                    let ended = answer["status"] == json!("cancelled");
                    let cancelled = End { status: "cancelled", mark: String::new() };
                    let end = if ended { Some(cancelled) } else { end.clone() };
                    self.stage.ledger.with(&self.task, |record| record.ends.extend(end));
                }
                Outcome::Unknown => {
                    self.may_be_over = true;
                    self.stage
                        .ledger
                        .with(&self.task, |record| record.possible.extend(end.clone()));
                }
                Outcome::Refused(_) | Outcome::Unreached => {}
            }
            if !outcome.is_open() || self.stage.is_over() {
                return said(&outcome);
            }
            pause(chance, 50..500).await;
        }
    }
}

fn said(outcome: &Outcome) -> Said {
    match outcome {
        Outcome::Done(_) => Said::Done,
        Outcome::Refused(_) => Said::Over,
        Outcome::Unreached | Outcome::Unknown => Said::Unknown,
    }
}
