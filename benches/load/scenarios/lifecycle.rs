//! Whole lives of tasks: register, claim, ten entries, complete. Every connection registers before
//! it claims, so a task is pending whenever one claims, and a null is a fault. Checked besides:
//! every status, and the numbers 1 to 10.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;

use crate::client::{API, Connection};
use crate::drive::{Sample, Stage, Step, Worker, drive};
use crate::scenarios::progress;
use crate::seed;
use crate::wire::{Appended, Claimed};

const ENTRIES: u64 = 10;

/// Register, claim, the entries, complete.
pub(super) const REQUESTS: f64 = 13.0;

/// One connection, which is a client and a worker in turn. All carry one worker id, as replicas of
/// one worker do; the task is this connection's own because the claim gave it here.
struct Life {
    registration: Bytes,
    claim: Bytes,
    entry: Bytes,
    lived: Vec<String>,
}

impl Worker for Life {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        connection
            .post(&format!("{API}/tasks"), self.registration.clone())
            .await?
            .expect(StatusCode::CREATED, "register")?;
        let reply = connection
            .post(&format!("{API}/tasks/claim"), self.claim.clone())
            .await?
            .expect(StatusCode::OK, "claim")?;
        let task: Option<Claimed> = reply.json("claim")?;
        let task = task.context("claim answered null with a task pending")?.id;
        let path = format!("{API}/tasks/{task}/progress");
        for expected in 1..=ENTRIES {
            let reply = connection
                .post(&path, self.entry.clone())
                .await?
                .expect(StatusCode::OK, "progress")?;
            let seq_id = reply.json::<Appended>("progress")?.seq_id;
            ensure!(seq_id == expected, "entry {expected} of {task} became number {seq_id}");
        }
        seed::complete(connection, &task, seed::WORKER).await?;
        self.lived.push(task);
        Ok(Step::Did(1))
    }
}

pub(super) async fn run(stage: &Stage<'_>, connections: usize) -> Result<Sample> {
    let worker = || Life {
        registration: seed::registration(None, seed::TASK_TYPE),
        claim: Bytes::from(
            json!({ "taskTypes": [seed::TASK_TYPE], "workerId": seed::WORKER }).to_string(),
        ),
        entry: progress::request(1),
        lived: Vec::new(),
    };
    let driven = drive(stage, (0..connections).map(|_| worker()).collect()).await?;
    let mut seen = HashSet::new();
    for task in driven.workers.into_iter().flat_map(|worker| worker.lived) {
        if let Some(twice) = seen.replace(task) {
            bail!("task {twice} was completed twice");
        }
    }
    Ok(driven.sample)
}
