//! Registering a thousand tasks a request. Checked: each gets an outcome of its own in its order, no
//! id comes twice, and the table holds exactly as many.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;

use crate::client::{API, Connection};
use crate::drive::{Sample, Stage, Step, Worker, drive};
use crate::seed;

#[derive(Deserialize)]
struct Outcomes {
    results: Vec<Outcome>,
    created: u64,
    failed: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    index: usize,
    task_id: String,
}

struct Register {
    path: String,
    body: Bytes,
    tasks: usize,
    ids: Vec<String>,
}

impl Worker for Register {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let reply = connection
            .post(&self.path, self.body.clone())
            .await?
            .expect(StatusCode::OK, "register in bulk")?;
        let outcomes: Outcomes = reply.json("register in bulk")?;
        let in_order = outcomes.results.iter().enumerate().all(|(at, each)| each.index == at);
        ensure!(
            in_order && outcomes.results.len() == self.tasks && outcomes.failed == 0,
            "of {} tasks {} were registered",
            self.tasks,
            outcomes.created
        );
        self.ids.extend(outcomes.results.into_iter().map(|outcome| outcome.task_id));
        Ok(Step::Did(outcomes.created))
    }
}

pub(super) async fn run(stage: &Stage<'_>, connections: usize, tasks: usize) -> Result<Sample> {
    let body = request(tasks);
    let path = format!("{API}/tasks/bulk");
    let worker = || Register { path: path.clone(), body: body.clone(), tasks, ids: Vec::new() };
    let driven = drive(stage, (0..connections).map(|_| worker()).collect()).await?;

    let ids: Vec<String> = driven.workers.into_iter().flat_map(|worker| worker.ids).collect();
    let distinct = ids.iter().collect::<HashSet<_>>().len();
    ensure!(distinct == ids.len(), "{} ids were given more than once", ids.len() - distinct);
    if let Some(place) = &stage.place {
        let there = place.open().await?.number("SELECT count(*) FROM tracker_tasks").await?;
        ensure!(usize::try_from(there)? == ids.len(), "{there} of {} are there", ids.len());
    }
    Ok(driven.sample)
}

/// A request with this many tasks, each as it would be registered alone.
pub(super) fn request(tasks: usize) -> Bytes {
    let one = seed::registration(None, seed::TASK_TYPE);
    let one = String::from_utf8_lossy(&one);
    Bytes::from(format!("{{\"tasks\":[{}]}}", vec![&*one; tasks].join(",")))
}
