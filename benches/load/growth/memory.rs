//! The memory of a server on which tasks have lived and ended, after some and after as many again: what
//! has ended must leave nothing behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Field, Held, Pair, Side};
use crate::bound::Bound;
use crate::client::{API, Connection};
use crate::drive::{Stage, float};
use crate::procfs;
use crate::scenarios::entries;
use crate::seed;
use crate::server::Server;
use crate::wire::Claimed;

const CONNECTIONS: usize = 32;
const ENTRIES: usize = 10;
/// For what the server gives back after a burst.
const SETTLE: Duration = Duration::from_secs(8);

pub(super) async fn measure(field: &Field<'_>) -> Result<Vec<Pair>> {
    let lease = field.lend().await?;
    let server = Server::start(field.options, lease.as_ref(), &[]).await?;
    let stage = field.stage(&server);
    let lives = field.sizes.lives;
    let little = after(&stage, lives).await?;
    let much = after(&stage, lives).await?;
    let place = stage.place.as_ref().context("the tables are out of reach")?;
    let ended = "SELECT count(*) FROM tracker_tasks WHERE status = 'completed'";
    let ended = place.open().await?.number(ended).await?;
    // Lives are shared out evenly, so a few fewer may have been lived than were asked for.
    ensure!(usize::try_from(ended)? == 2 * (lives / CONNECTIONS) * CONNECTIONS, "{ended} ended");
    Ok(vec![Pair {
        about: format!("memory when idle, after {lives} and {} tasks", 2 * lives),
        unit: "KiB",
        little,
        much,
        held: Held::Value(Bound::AtMost(1.1)),
    }])
}

async fn after(stage: &Stage<'_>, lives: usize) -> Result<Side> {
    let mut crew = JoinSet::new();
    for mut connection in Connection::open_many(stage.address, CONNECTIONS).await? {
        crew.spawn(async move {
            for _ in 0..lives / CONNECTIONS {
                live(&mut connection).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = crew.join_next().await {
        done.context("a connection panicked")??;
    }
    tokio::time::sleep(SETTLE).await;
    let resident = float(procfs::resident_kib(stage.meter.server)?);
    Ok(Side { value: resident, p99: 0.0, cpu: None })
}

async fn live(connection: &mut Connection) -> Result<()> {
    let reply =
        connection.post(&format!("{API}/tasks"), seed::registration(None, seed::TASK_TYPE)).await?;
    reply.expect(StatusCode::CREATED, "register")?;
    let claim = json!({ "taskTypes": [seed::TASK_TYPE], "workerId": seed::WORKER }).to_string();
    let reply = connection.post(&format!("{API}/tasks/claim"), Bytes::from(claim)).await?;
    let claimed: Option<Claimed> = reply.expect(StatusCode::OK, "claim")?.json("claim")?;
    let task = claimed.context("nothing to claim, and one is pending")?.id;
    let path = format!("{API}/tasks/{task}/progress");
    connection.post(&path, entries(ENTRIES)).await?.expect(StatusCode::OK, "progress")?;
    seed::complete(connection, &task, seed::WORKER).await
}
