//! Registering: each request makes a task under an id of the server's. Checked: no id comes twice,
//! and a sample of the tasks is there afterwards.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;

use crate::client::{API, Connection};
use crate::drive::{Sample, Stage, Step, Worker, drive};
use crate::seed;

/// How many of the tasks are asked for again; all of them would take longer than the round.
const SAMPLE: usize = 200;

/// What is read of the answer to a registration, and of a task that is asked for.
#[derive(Deserialize)]
struct Registered {
    #[serde(rename = "taskId", alias = "id")]
    id: String,
    status: String,
}

struct Register {
    path: String,
    body: Bytes,
    ids: Vec<String>,
}

impl Worker for Register {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let reply = connection
            .post(&self.path, self.body.clone())
            .await?
            .expect(StatusCode::CREATED, "register")?;
        self.ids.push(reply.json::<Registered>("register")?.id);
        Ok(Step::Did(1))
    }
}

pub(super) async fn run(stage: &Stage<'_>, connections: usize) -> Result<Sample> {
    let body = seed::registration(None, seed::TASK_TYPE);
    let worker = || Register { path: format!("{API}/tasks"), body: body.clone(), ids: Vec::new() };
    let driven = drive(stage, (0..connections).map(|_| worker()).collect()).await?;

    let ids: Vec<String> = driven.workers.into_iter().flat_map(|worker| worker.ids).collect();
    let distinct = ids.iter().collect::<HashSet<_>>().len();
    ensure!(distinct == ids.len(), "{} ids were given more than once", ids.len() - distinct);

    let mut connection = Connection::open(stage.address).await?;
    for id in ids.iter().step_by((ids.len() / SAMPLE).max(1)) {
        let reply = connection
            .get(&format!("{API}/tasks/{id}"))
            .await?
            .expect(StatusCode::OK, "a registered task")?;
        let task: Registered = reply.json("a registered task")?;
        ensure!(
            task.id == *id && task.status == "pending",
            "task {id} is there as {} {}",
            task.status,
            task.id
        );
    }
    Ok(driven.sample)
}
