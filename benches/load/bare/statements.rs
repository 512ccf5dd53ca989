//! Bare statements on the Postgres of the run, with as many connections as the scenario has, but no
//! more than the server would open.

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::cli::Options;
use crate::clock;
use crate::drive::{Meter, Sample, Step, Turn, Window, drive_turns};
use crate::server;
use crate::sql::Place;
use crate::stores::{Lease, Stores};

/// What a server opens unless it is told otherwise.
const SERVER_CONNECTIONS: usize = 20;

/// The leanest table that a queue can do with.
const TABLE: &str = "
    CREATE TABLE bare_tasks (
        id text COLLATE \"C\" PRIMARY KEY, task_type text COLLATE \"C\" NOT NULL, status text NOT NULL,
        metadata text, params text, worker_id text, timeout_seconds bigint NOT NULL,
        created_at timestamptz NOT NULL, timeout_at timestamptz NOT NULL);
    CREATE INDEX ON bare_tasks (task_type, created_at, id) WHERE status = 'pending'";

const ROWS: usize = 100;

const INSERT: &str = "
    INSERT INTO bare_tasks (id, task_type, status, metadata, params, timeout_seconds, created_at, timeout_at)
    SELECT id, 'load', 'pending', $2, $3, 86400, now(), now() + interval '1 day' FROM unnest($1::text[]) AS new (id)";

const METADATA: &str = r#"{"tenant":"acme","source":"load"}"#;
const PARAMS: &str = r#"{"rows":1000,"from":"s3://bucket/in.csv","to":"s3://bucket/out.csv"}"#;

const CLAIM: &str = "
    UPDATE bare_tasks SET status = 'in_progress', worker_id = $2 WHERE id = (
        SELECT id FROM bare_tasks WHERE status = 'pending' AND task_type = $1
        ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, task_type, metadata, params";

/// A connection that inserts a hundred rows at a time.
struct Insert {
    connection: PgConnection,
    inserted: u64,
}

impl Turn for Insert {
    async fn turn(&mut self) -> Result<Step> {
        let insert = sqlx::query(INSERT).bind(new_ids(ROWS)).bind(METADATA).bind(PARAMS);
        let done = insert.execute(&mut self.connection).await?;
        self.inserted += done.rows_affected();
        Ok(Step::Did(done.rows_affected()))
    }
}

/// A connection that claims, of one type after the other.
struct Claim {
    connection: PgConnection,
    next_type: usize,
    types: usize,
    claimed: u64,
}

impl Turn for Claim {
    async fn turn(&mut self) -> Result<Step> {
        let task_type = format!("type-{}", self.next_type % self.types);
        self.next_type += 1;
        let claim = sqlx::query(CLAIM).bind(task_type).bind("bare");
        match claim.fetch_optional(&mut self.connection).await? {
            Some(row) => {
                let _: String = row.try_get(0)?;
                self.claimed += 1;
                Ok(Step::Did(1))
            }
            None => Ok(Step::Exhausted),
        }
    }
}

pub(super) async fn insert(
    options: &Options,
    stores: &Stores,
    connections: usize,
) -> Result<Sample> {
    let lease = stores.lend().await?;
    let mut clerk = bare_table(&lease).await?;
    let mut crew = Vec::new();
    for connection in open(&lease, connections).await? {
        crew.push(Insert { connection, inserted: 0 });
    }
    let driven = drive_turns(window(options), &meter(stores), crew).await?;
    let inserted: u64 = driven.workers.iter().map(|worker| worker.inserted).sum();
    let there: i64 = clerk.fetch_one("SELECT count(*) FROM bare_tasks").await?.try_get(0)?;
    ensure!(u64::try_from(there)? == inserted, "{there} rows are there of {inserted}");
    Ok(driven.sample)
}

pub(super) async fn claim(
    options: &Options,
    stores: &Stores,
    workers: usize,
    types: usize,
) -> Result<Sample> {
    let lease = stores.lend().await?;
    let mut clerk = bare_table(&lease).await?;
    let backlog = options.backlog;
    clerk
        .execute(AssertSqlSafe(format!(
            "INSERT INTO bare_tasks
             SELECT 'claim-' || n, 'type-' || n % {types}, 'pending', '{METADATA}', '{PARAMS}',
                 NULL, 86400, now() + n * interval '1 microsecond', now() + interval '1 day'
             FROM generate_series(0, {backlog} - 1) AS n;
             ANALYZE bare_tasks"
        )))
        .await?;
    let mut crew = Vec::new();
    for (next_type, connection) in open(&lease, workers).await?.into_iter().enumerate() {
        crew.push(Claim { connection, next_type, types, claimed: 0 });
    }
    let driven = drive_turns(window(options), &meter(stores), crew).await?;
    let claimed: u64 = driven.workers.iter().map(|worker| worker.claimed).sum();
    let taken = "SELECT count(*) FROM bare_tasks WHERE status = 'in_progress'";
    let taken: i64 = clerk.fetch_one(taken).await?.try_get(0)?;
    ensure!(u64::try_from(taken)? == claimed, "{taken} rows are taken of {claimed}");
    Ok(driven.sample)
}

/// The product's own table with all its indexes, and as many running tasks that are overdue as the
/// sweep finds.
pub(super) async fn end_overdue(options: &Options, stores: &Stores) -> Result<Sample> {
    let lease = stores.lend().await?;
    server::migrate(options, &lease)?;
    let overdue = options.overdue;
    let mut sql = Place::Postgres(lease.database_url.clone()).open().await?;
    sql.run(&format!(
        "INSERT INTO tracker_tasks (id, task_type, status, metadata, params, timeout_seconds, worker_id,
             attempt, created_at, updated_at, started_at, timeout_at)
         SELECT 'overdue-' || n, 'load', 'in_progress', '{METADATA}', '{PARAMS}', 60, 'load-worker', 1,
             now() - interval '1 hour', now() - interval '1 hour', now() - interval '1 hour',
             now() - interval '59 minutes'
         FROM generate_series(1, {overdue}) AS n"
    ))
    .await?;
    sql.run("ANALYZE tracker_tasks").await?;
    let mut connection = PgConnection::connect(&lease.database_url).await?;
    let (meter, begun) = (meter(stores), clock::now());
    let before = meter.read()?;
    let ended = connection
        .fetch_all(
            "UPDATE tracker_tasks SET status = 'timeout', completed_at = now(), updated_at = now()
             WHERE timeout_at <= now() AND completed_at IS NULL RETURNING id, worker_id, attempt",
        )
        .await?
        .len();
    let (elapsed, cpu) = (begun.elapsed(), meter.read()?.since(before));
    ensure!(ended == overdue, "{ended} of {overdue} rows were changed");
    let ended = u64::try_from(ended)?;
    Sample::of_rate(ended, elapsed, &[clock::nanoseconds(elapsed)], cpu)
}

/// Ids as long as the server's.
pub(super) fn new_ids(count: usize) -> Vec<String> {
    (0..count).map(|_| format!("{:024x}", fastrand::u128(..) >> 32)).collect()
}

pub(super) async fn bare_table(lease: &Lease) -> Result<PgConnection> {
    let mut clerk = PgConnection::connect(&lease.database_url).await?;
    clerk.execute(TABLE).await?;
    Ok(clerk)
}

async fn open(lease: &Lease, wanted: usize) -> Result<Vec<PgConnection>> {
    let mut connections = Vec::new();
    for _ in 0..wanted.min(SERVER_CONNECTIONS) {
        connections.push(PgConnection::connect(&lease.database_url).await?);
    }
    Ok(connections)
}

fn window(options: &Options) -> Window {
    Window::after_warmup(options, options.echo_seconds())
}

/// There is no server in between: what is its own is the driver's.
fn meter(stores: &Stores) -> Meter {
    Meter { server: std::process::id(), stores: stores.process_ids(), profile: None }
}
