//! Claiming from a backlog and completing at once, as a worker does whose work is nothing. Checked: no
//! task is given out or completed twice, and as many have ended as were acknowledged.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;

use crate::client::{API, Connection};
use crate::drive::{Sample, Stage, Step, Worker, drive};
use crate::seed;
use crate::wire::Claimed;

struct Process {
    claim: Bytes,
    processed: Vec<String>,
}

impl Worker for Process {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let reply = connection.post(&format!("{API}/tasks/claim"), self.claim.clone()).await?;
        let claimed: Option<Claimed> = reply.expect(StatusCode::OK, "claim")?.json("claim")?;
        let Some(task) = claimed else { return Ok(Step::Exhausted) };
        seed::complete(connection, &task.id, seed::WORKER).await?;
        self.processed.push(task.id);
        Ok(Step::Did(1))
    }
}

pub(super) async fn run(stage: &Stage<'_>, workers: usize) -> Result<Sample> {
    let total = u64::try_from(stage.options.backlog)?;
    seed::pending(stage.address, total, |index| {
        (format!("process-{index}"), seed::TASK_TYPE.to_owned())
    })
    .await?;
    let claim = json!({ "taskTypes": [seed::TASK_TYPE], "workerId": seed::WORKER }).to_string();
    let worker = || Process { claim: Bytes::from(claim.clone()), processed: Vec::new() };
    let driven = drive(stage, (0..workers).map(|_| worker()).collect())
        .await
        .with_context(|| format!("with {total} tasks, see --backlog"))?;
    let processed: Vec<_> =
        driven.workers.into_iter().flat_map(|worker| worker.processed).collect();
    let distinct = processed.iter().collect::<HashSet<_>>().len();
    ensure!(distinct == processed.len(), "{} tasks came twice", processed.len() - distinct);
    if let Some(place) = &stage.place {
        let ended = "SELECT count(*) FROM tracker_tasks WHERE status = 'completed'";
        let ended = place.open().await?.number(ended).await?;
        ensure!(usize::try_from(ended)? == distinct, "{ended} have ended of {distinct}");
    }
    Ok(driven.sample)
}
