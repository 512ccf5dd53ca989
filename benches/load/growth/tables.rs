//! Claim, register, get and list over a table of few tasks and over one of many, nine of ten of which
//! have ended. Made by one statement before the server starts; a million requests would take an hour.

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;

use super::{Field, Held, Pair, SAME, Side};
use crate::bound::Bound;
use crate::client::{API, Connection};
use crate::drive::{Stage, Step, Worker, drive};
use crate::seed;
use crate::server::Server;
use crate::sql::Sql;
use crate::wire::Claimed;

const WORKERS: usize = 8;
/// Pending tasks of the type that is claimed, in both tables, so that neither runs out first.
const CLAIMABLE: usize = 5_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Claim,
    Register,
    Get,
    List,
}

struct Hand {
    work: Work,
    tasks: usize,
    body: Bytes,
}

impl Worker for Hand {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        match self.work {
            Work::Claim => {
                let reply =
                    connection.post(&format!("{API}/tasks/claim"), self.body.clone()).await?;
                let claimed: Option<Claimed> =
                    reply.expect(StatusCode::OK, "claim")?.json("claim")?;
                if claimed.is_none() {
                    return Ok(Step::Exhausted);
                }
            }
            Work::Register => {
                let reply = connection.post(&format!("{API}/tasks"), self.body.clone()).await?;
                reply.expect(StatusCode::CREATED, "register")?;
            }
            Work::Get => {
                let id = format!("grown-{}", fastrand::usize(0..self.tasks));
                let reply = connection.get(&format!("{API}/tasks/{id}")).await?;
                let found: Claimed = reply.expect(StatusCode::OK, "get")?.json("get")?;
                ensure!(found.id == id, "asked for {id}, and got {}", found.id);
            }
            Work::List => {
                let query = match fastrand::u8(0..4) {
                    0 => String::new(),
                    1 => format!("&taskType=type-{}", fastrand::u8(0..50)),
                    2 => "&status=pending".to_owned(),
                    _ => format!("&workerId=worker-{}", fastrand::u8(0..50)),
                };
                let reply = connection.get(&format!("{API}/tasks?limit=50{query}")).await?;
                reply.expect(StatusCode::OK, "list")?;
            }
        }
        Ok(Step::Did(1))
    }
}

pub(super) async fn measure(field: &Field<'_>) -> Result<Vec<Pair>> {
    let little = over(field, field.sizes.small).await.context("the small table")?;
    let much = over(field, field.sizes.large).await.context("the large table")?;
    let sizes = format!("{} and {} tasks", field.sizes.small, field.sizes.large);
    let names = ["claim", "register", "get", "list of 50"];
    let pairs = names.into_iter().zip(little.into_iter().zip(much));
    Ok(pairs
        .map(|(name, (little, much))| Pair {
            about: format!("{name}, {sizes}"),
            unit: "requests/s",
            little,
            much,
            held: Held::Cpu(Bound::AtMost(SAME)),
        })
        .collect())
}

async fn over(field: &Field<'_>, tasks: usize) -> Result<Vec<Side>> {
    let options = field.options;
    let lease = field.lend().await?;
    let directory = Server::prepare(options, lease.as_ref())?;
    let mut sql = Server::place(lease.as_ref(), &directory).open().await?;
    fill(&mut sql, tasks).await.context("filling the table")?;
    drop(sql);
    let server = Server::start_in(options, lease.as_ref(), &[], directory).await?;
    let stage = field.stage(&server);
    let mut sides = Vec::new();
    for work in [Work::Claim, Work::Register, Work::Get, Work::List] {
        sides.push(one(&stage, work, tasks).await?);
    }
    Ok(sides)
}

async fn one(stage: &Stage<'_>, work: Work, tasks: usize) -> Result<Side> {
    let body = match work {
        Work::Claim => {
            Bytes::from(json!({ "taskTypes": ["claimable"], "workerId": seed::WORKER }).to_string())
        }
        _ => seed::registration(None, "type-0"),
    };
    let hand = || Hand { work, tasks, body: body.clone() };
    Ok(drive(stage, (0..WORKERS).map(|_| hand()).collect()).await?.sample.into())
}

/// Nine of ten have ended, a second apart from each other until now; the last ones can be claimed.
async fn fill(sql: &mut Sql, tasks: usize) -> Result<()> {
    let columns = "id, task_type, status, metadata, params, timeout_seconds, worker_id, attempt, \
                   created_at, updated_at, started_at, completed_at, timeout_at";
    let metadata = r#"'{"tenant":"acme","source":"load"}'"#;
    let params = r#"'{"rows":1000,"from":"s3://bucket/in.csv","to":"s3://bucket/out.csv"}'"#;
    let others = tasks.saturating_sub(CLAIMABLE);
    // Which of them has which fate, in words that both databases read alike.
    let select = |created: &str, later: &str, far: &str| {
        format!(
            "SELECT 'grown-' || n,
                 CASE WHEN n >= {others} THEN 'claimable' ELSE 'type-' || (n % 50) END,
                 CASE WHEN n >= {others} OR n % 10 = 0 THEN 'pending' ELSE 'completed' END,
                 {metadata}, {params}, 31536000,
                 CASE WHEN n >= {others} OR n % 10 = 0 THEN NULL ELSE 'worker-' || (n % 50) END,
                 CASE WHEN n >= {others} OR n % 10 = 0 THEN 0 ELSE 1 END,
                 {created}, {created},
                 CASE WHEN n >= {others} OR n % 10 = 0 THEN NULL ELSE {created} END,
                 CASE WHEN n >= {others} OR n % 10 = 0 THEN NULL ELSE {later} END,
                 {far}"
        )
    };
    let created = format!("now() - ({tasks} - n) * interval '1 second'");
    let postgres = format!(
        "INSERT INTO tracker_tasks ({columns}) {} FROM generate_series(0, {tasks} - 1) AS n",
        select(&created, &created, "now() + interval '365 days'")
    );
    let created = format!("unixepoch() * 1000000 - ({tasks} - n) * 1000000");
    let sqlite = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {tasks} - 1)
         INSERT INTO tracker_tasks ({columns}) {} FROM numbers",
        select(&created, &created, "unixepoch() * 1000000 + 31536000000000")
    );
    let filled = sql.run_either(&postgres, &sqlite).await?;
    ensure!(filled == u64::try_from(tasks)?, "{filled} tasks were made of {tasks}");
    // What a database does by itself in the minutes that this took it no time to be filled.
    sql.run_either("VACUUM ANALYZE tracker_tasks", "PRAGMA wal_checkpoint(TRUNCATE)").await?;
    sql.run_either("CHECKPOINT", "PRAGMA optimize").await?;
    Ok(())
}
