//! An append behind a short history and behind a long one, one connection each, in turn on one server.

use anyhow::{Result, ensure};
use axum::http::StatusCode;
use bytes::Bytes;

use super::{Field, Held, Pair, SAME, Side};
use crate::bound::Bound;
use crate::client::{API, Connection};
use crate::drive::{Stage, Step, Worker, drive};
use crate::scenarios::entries;
use crate::seed;
use crate::server::Server;
use crate::wire::Appended;

const SHORT: usize = 10;
const PER_REQUEST: usize = 100;

struct Append {
    path: String,
    body: Bytes,
    reached: u64,
}

impl Worker for Append {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let reply = connection.post(&self.path, self.body.clone()).await?;
        let appended: Appended = reply.expect(StatusCode::OK, "progress")?.json("progress")?;
        self.reached += 1;
        let seq_id = appended.seq_id;
        ensure!(seq_id == self.reached, "entry {} became number {seq_id}", self.reached);
        Ok(Step::Did(1))
    }
}

pub(super) async fn measure(field: &Field<'_>) -> Result<Vec<Pair>> {
    let lease = field.lend().await?;
    let server = Server::start(field.options, lease.as_ref(), &[]).await?;
    let stage = field.stage(&server);
    let tasks = seed::running(server.address(), 2).await?;
    let little = behind(&stage, &tasks[0], SHORT).await?;
    let much = behind(&stage, &tasks[1], field.sizes.long).await?;
    Ok(vec![Pair {
        about: format!("append, behind {SHORT} and {} entries", field.sizes.long),
        unit: "entries/s",
        little,
        much,
        held: Held::Cpu(Bound::AtMost(SAME)),
    }])
}

async fn behind(stage: &Stage<'_>, task: &str, length: usize) -> Result<Side> {
    let path = format!("{API}/tasks/{task}/progress");
    let mut connection = Connection::open(stage.address).await?;
    let mut missing = length;
    while missing > 0 {
        let batch = missing.min(PER_REQUEST);
        let reply = connection.post(&path, entries(batch)).await?;
        reply.expect(StatusCode::OK, "progress")?;
        missing -= batch;
    }
    let reached = u64::try_from(length)?;
    let append = Append { path, body: entries(1), reached };
    Ok(drive(stage, vec![append]).await?.sample.into())
}
