//! Claims alone, and claims beside the sweep of a great many overdue tasks, which the server finds by
//! itself: it must take them in batches that leave room.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;

use super::{Field, Held, Pair, Side};
use crate::bound::Bound;
use crate::client::{API, Connection};
use crate::clock;
use crate::drive::{Stage, Step, Worker, drive, float};
use crate::seed;
use crate::server::Server;
use crate::sql::Sql;
use crate::wire::Claimed;

const WORKERS: usize = 8;
const SWEEP_LIMIT: Duration = Duration::from_mins(10);

struct Claim(Bytes);

impl Worker for Claim {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let reply = connection.post(&format!("{API}/tasks/claim"), self.0.clone()).await?;
        let claimed: Option<Claimed> = reply.expect(StatusCode::OK, "claim")?.json("claim")?;
        Ok(if claimed.is_some() { Step::Did(1) } else { Step::Exhausted })
    }
}

pub(super) async fn measure(field: &Field<'_>) -> Result<Vec<Pair>> {
    let options = field.options;
    let (overdue, pending) = (field.sizes.overdue_beside, field.sizes.pending_beside);
    let lease = field.lend().await?;
    let directory = Server::prepare(options, lease.as_ref())?;
    let mut sql = Server::place(lease.as_ref(), &directory).open().await?;
    fill(&mut sql, overdue, pending).await.context("filling the table")?;
    let server = Server::start_in(options, lease.as_ref(), &[], directory).await?;
    let stage = field.stage(&server);
    let alone = claims(&stage).await.context("claims alone")?;
    let begun = clock::now();
    let past = "UPDATE tracker_tasks SET timeout_at = created_at WHERE worker_id = 'silent'";
    sql.run(past).await?;
    let beside = claims(&stage).await.context("claims beside a sweep")?;
    let left =
        "SELECT count(*) FROM tracker_tasks WHERE worker_id = 'silent' AND completed_at IS NULL";
    // Otherwise they were claims alone for some of the time.
    ensure!(
        sql.number(left).await? > 0,
        "the sweep was over before the claims were: more overdue tasks are needed"
    );
    while sql.number(left).await? > 0 {
        ensure!(begun.elapsed() < SWEEP_LIMIT, "the sweep did not end within {SWEEP_LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let swept = float(u64::try_from(overdue)?) / begun.elapsed().as_secs_f64();
    let wrong =
        "SELECT count(*) FROM tracker_tasks WHERE (worker_id = 'silent') <> (status = 'timeout')";
    ensure!(sql.number(wrong).await? == 0, "not exactly the overdue have timed out");
    Ok(vec![Pair {
        about: format!("claims, alone and beside a sweep of {overdue} ({swept:.0} ended a second)"),
        unit: "claims/s",
        little: alone,
        much: beside,
        held: Held::Value(Bound::AtLeast(0.5)),
    }])
}

async fn claims(stage: &Stage<'_>) -> Result<Side> {
    let body = Bytes::from(
        json!({ "taskTypes": [seed::TASK_TYPE], "workerId": seed::WORKER }).to_string(),
    );
    let driven = drive(stage, (0..WORKERS).map(|_| Claim(body.clone())).collect()).await?;
    Ok(driven.sample.into())
}

/// Running tasks of a worker that is silent, not overdue yet, and a backlog to claim from.
async fn fill(sql: &mut Sql, overdue: usize, pending: usize) -> Result<()> {
    let silent = "SELECT 'silent-' || n, 'silent', 'in_progress', 31536000, 'silent', 1, {now}, {now}, {now}, {far}";
    insert(sql, silent, overdue).await?;
    let waiting =
        "SELECT 'pending-' || n, 'load', 'pending', 31536000, NULL, 0, {now}, {now}, NULL, {far}";
    insert(sql, waiting, pending).await?;
    sql.run_either("VACUUM ANALYZE tracker_tasks", "PRAGMA wal_checkpoint(TRUNCATE)").await?;
    Ok(())
}

/// `count` rows of a query in which instants are still to be filled in.
async fn insert(sql: &mut Sql, select: &str, count: usize) -> Result<()> {
    let into = "INSERT INTO tracker_tasks (id, task_type, status, timeout_seconds, worker_id, attempt, \
                created_at, updated_at, started_at, timeout_at)";
    let said = |now: &str, far: &str| select.replace("{now}", now).replace("{far}", far);
    let postgres = said("now()", "now() + interval '365 days'");
    let sqlite = said("unixepoch() * 1000000", "unixepoch() * 1000000 + 31536000000000");
    let made = sql
        .run_either(
            &format!("{into} {postgres} FROM generate_series(1, {count}) AS numbers (n)"),
            &format!(
                "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
                 {into} {sqlite} FROM numbers"
            ),
        )
        .await?;
    ensure!(made == u64::try_from(count)?, "{made} tasks were made of {count}");
    Ok(())
}
