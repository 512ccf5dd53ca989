//! Claiming from a backlog. Checked: no task goes to two workers, each is of a type that was asked
//! for, and none is denied while more are pending than other workers could just be taking.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;

use crate::client::{API, Connection};
use crate::drive::{Sample, Stage, Step, Worker, drive};
use crate::seed;
use crate::wire::Claimed;

/// How many tasks of each type are left, as far as answers have come in.
struct Backlog {
    unclaimed: Vec<AtomicU64>,
    workers: u64,
}

struct Claim {
    path: String,
    body: Bytes,
    asked: Vec<usize>,
    backlog: Arc<Backlog>,
    claimed: Vec<usize>,
}

impl Worker for Claim {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let reply = connection
            .post(&self.path, self.body.clone())
            .await?
            .expect(StatusCode::OK, "claim")?;
        let Some(task) = reply.json::<Option<Claimed>>("claim")? else {
            let left: u64 = self
                .asked
                .iter()
                .map(|&index| self.backlog.unclaimed[index].load(Ordering::Relaxed))
                .sum();
            ensure!(left < self.backlog.workers, "claim answered null with {left} tasks pending");
            return Ok(Step::Exhausted);
        };
        let number = task.id.strip_prefix("claim-").and_then(|number| number.parse::<usize>().ok());
        let number =
            number.with_context(|| format!("claim gave a task of another run: {}", task.id))?;
        let task_type = number % self.backlog.unclaimed.len();
        ensure!(
            self.asked.contains(&task_type),
            "claim gave {}, a task of a type nobody asked for",
            task.id
        );
        let before = self.backlog.unclaimed[task_type].fetch_sub(1, Ordering::Relaxed);
        ensure!(
            before > 0,
            "more tasks of one type were claimed than there are: one went to two workers"
        );
        self.claimed.push(number);
        Ok(Step::Did(1))
    }
}

pub(super) async fn run(
    stage: &Stage<'_>,
    workers: usize,
    types: usize,
    asked: usize,
) -> Result<Sample> {
    let total = stage.options.backlog;
    let modulus = u64::try_from(types)?;
    seed::pending(stage.address, u64::try_from(total)?, move |index| {
        (format!("claim-{index}"), type_name(index % modulus))
    })
    .await?;

    let of_type = |index: usize| {
        AtomicU64::new(u64::try_from((total + types - 1 - index) / types).unwrap_or(0))
    };
    let backlog = Arc::new(Backlog {
        unclaimed: (0..types).map(of_type).collect(),
        workers: u64::try_from(workers)?,
    });
    let worker = |index| Claim {
        path: format!("{API}/tasks/claim"),
        body: request(index, types, asked),
        asked: asked_by(index, types, asked),
        backlog: Arc::clone(&backlog),
        claimed: Vec::new(),
    };
    let driven = drive(stage, (0..workers).map(worker).collect())
        .await
        .with_context(|| format!("with {total} tasks, see --backlog"))?;

    let mut seen = vec![false; total];
    for number in driven.workers.iter().flat_map(|worker| &worker.claimed) {
        let first = seen
            .get_mut(*number)
            .with_context(|| format!("claim gave task {number}, which was never registered"))?;
        ensure!(!*first, "task {number} went to two workers");
        *first = true;
    }
    Ok(driven.sample)
}

/// What the worker of this index sends.
pub(super) fn request(index: usize, types: usize, asked: usize) -> Bytes {
    let names: Vec<String> = asked_by(index, types, asked).into_iter().map(type_name).collect();
    Bytes::from(
        json!({ "taskTypes": names, "workerId": format!("{}-{index}", seed::WORKER) }).to_string(),
    )
}

/// The types of one worker overlap with its neighbours', as they do where machines are of several
/// makes.
fn asked_by(index: usize, types: usize, asked: usize) -> Vec<usize> {
    (0..asked).map(|offset| (index + offset) % types).collect()
}

fn type_name(index: impl std::fmt::Display) -> String {
    format!("type-{index}")
}
