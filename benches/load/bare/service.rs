//! The barest service: an axum endpoint on one thread that has Redis number, keep and publish each entry by one script, and
//! Postgres write each task, those that come meanwhile by one statement. It knows no task, no fence, no key and no limit, and
//! answers with a number: what HTTP, a parsed body, Redis and Postgres leave to be had on this machine.

use std::env;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use redis::Script;
use redis::aio::MultiplexedConnection;
use serde_json::value::RawValue;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};
use task_tracker::coalescer::{Coalescer, Width};
use tokio_util::task::TaskTracker;

use super::statements::{bare_table, new_ids};
use crate::cli::{self, Options};
use crate::client::Connection;
use crate::companion::{Companion, listener};
use crate::drive::{Meter, Sample, Stage, Step, Worker, drive};
use crate::scenarios::EchoLoad;
use crate::stores::{Lease, Stores};

/// What the process is told of the servers, in its environment.
const DATABASE: &str = "BENCH_BARE_DATABASE_URL";
const REDIS: &str = "BENCH_BARE_REDIS_URL";
const NAMESPACE: &str = "BENCH_BARE_NAMESPACE";

/// Tasks that entries are appended to.
const TASKS: usize = 100;

const APPEND: &str = r#"
    local number = redis.call('INCR', KEYS[1])
    local line = string.format('{"seqId":%d,"progress":', number) .. ARGV[1] .. '}'
    redis.call('RPUSH', KEYS[2], line)
    redis.call('PUBLISH', KEYS[1], line)
    return number"#;

const INSERT: &str = "
    INSERT INTO bare_tasks (id, task_type, status, params, timeout_seconds, created_at, timeout_at)
    SELECT id, 'load', 'pending', params, 86400, now(), now() + interval '1 day'
    FROM unnest($1::text[], $2::text[]) AS new (id, params)";

#[derive(Clone)]
struct Service {
    redis: MultiplexedConnection,
    append: Arc<Script>,
    namespace: Arc<str>,
    inserts: Arc<Coalescer<String, bool>>,
}

/// Serves until the driver is gone.
pub(crate) async fn serve() -> Result<()> {
    let told = |name| env::var(name).with_context(|| format!("{name} is not set"));
    let redis = redis::Client::open(told(REDIS)?)?.get_multiplexed_async_connection().await?;
    let pool = PgPoolOptions::new().max_connections(2).connect(&told(DATABASE)?).await?;
    let width = Width { lanes: 2, jobs: 500, weight: usize::MAX };
    let inserts = Coalescer::new(
        width,
        |_| 0,
        TaskTracker::new(),
        move |bodies| {
            let pool = pool.clone();
            async move { Ok(vec![insert(&pool, &bodies).await.is_ok(); bodies.len()]) }
        },
    );
    let service = Service {
        redis,
        append: Arc::new(Script::new(APPEND)),
        namespace: told(NAMESPACE)?.into(),
        inserts: Arc::new(inserts),
    };
    let routes = Router::new()
        .route("/append/{task}", post(append))
        .route("/register", post(register))
        .with_state(service);
    axum::serve(listener().await?, routes).await?;
    Ok(())
}

async fn append(
    State(service): State<Service>,
    Path(task): Path<usize>,
    Json(body): Json<Box<RawValue>>,
) -> Result<Json<u64>, StatusCode> {
    let key = |what| format!("{}:{{{task}}}:{what}", service.namespace);
    let mut redis = service.redis.clone();
    let mut call = service.append.key(key("count"));
    let number = call.key(key("list")).arg(body.get()).invoke_async(&mut redis).await;
    number.map(Json).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn register(
    State(service): State<Service>,
    Json(body): Json<Box<RawValue>>,
) -> Result<Json<u64>, StatusCode> {
    match service.inserts.call(body.get().to_owned()).await {
        Ok(true) => Ok(Json(1)),
        _ => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

async fn insert(pool: &PgPool, bodies: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query(INSERT).bind(new_ids(bodies.len())).bind(bodies).execute(pool).await.map(drop)
}

// ---- the driver's side -------------------------------------------------------------------------

/// A connection that sends the same body again and again.
struct Client {
    paths: Arc<Vec<String>>,
    next: usize,
    body: Bytes,
    answered: usize,
}

impl Worker for Client {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let path = &self.paths[self.next % self.paths.len()];
        self.next += 1;
        let reply = connection.post(path, self.body.clone()).await?;
        reply.expect(StatusCode::OK, "the barest service")?;
        self.answered += 1;
        Ok(Step::Did(1))
    }
}

/// The appends of a scenario, one entry a request.
pub(super) async fn appends(options: &Options, stores: &Stores, load: EchoLoad) -> Result<Sample> {
    let lease = stores.lend().await?;
    let paths = (0..TASKS).map(|task| format!("/append/{task}")).collect();
    let (sample, answered) = run(options, stores, &lease, paths, load).await?;
    let mut redis =
        redis::Client::open(&*lease.redis_url)?.get_multiplexed_async_connection().await?;
    let mut kept = 0;
    for task in 0..TASKS {
        let list = format!("{}:{{{task}}}:list", lease.namespace);
        let length: usize = redis::Cmd::llen(list).query_async(&mut redis).await?;
        kept += length;
    }
    ensure!(kept == answered, "{kept} entries are kept of {answered}");
    Ok(sample)
}

/// The registrations of a scenario, one task a request.
pub(super) async fn registrations(
    options: &Options,
    stores: &Stores,
    load: EchoLoad,
) -> Result<Sample> {
    use sqlx::Executor as _;
    let lease = stores.lend().await?;
    let mut clerk = bare_table(&lease).await?;
    let paths = vec!["/register".to_owned()];
    let (sample, answered) = run(options, stores, &lease, paths, load).await?;
    let there: i64 = clerk.fetch_one("SELECT count(*) FROM bare_tasks").await?.try_get(0)?;
    ensure!(usize::try_from(there)? == answered, "{there} rows are there of {answered}");
    Ok(sample)
}

async fn run(
    options: &Options,
    stores: &Stores,
    lease: &Lease,
    paths: Vec<String>,
    EchoLoad { connections, body }: EchoLoad,
) -> Result<(Sample, usize)> {
    let told = [
        (DATABASE, &*lease.database_url),
        (REDIS, &*lease.redis_url),
        (NAMESPACE, &*lease.namespace),
    ];
    let service = Companion::start_told(cli::BARE_SERVICE, &told)?;
    let meter = Meter { server: service.id(), stores: stores.process_ids(), profile: None };
    let (address, seconds) = (service.address, options.echo_seconds());
    let stage = Stage { address, meter, place: None, options, seconds };
    let paths = Arc::new(paths);
    let client = |next| Client { paths: Arc::clone(&paths), next, body: body.clone(), answered: 0 };
    let driven = drive(&stage, (0..connections).map(client).collect()).await?;
    Ok((driven.sample, driven.workers.iter().map(|client| client.answered).sum()))
}
