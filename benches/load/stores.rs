//! Postgres and Redis, which the driver does not start: it borrows a database and a namespace for
//! each round, and gives both back empty.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use redis::InfoDict;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::cli::Options;
use crate::drive::Behind;
use crate::procfs;

/// The two servers of node mode.
pub(crate) struct Stores {
    database_url: String,
    redis_url: String,
    postgres_pid: Option<u32>,
    redis_pid: Option<u32>,
    /// What they are and how durable they were set, for the conditions.
    pub(crate) description: String,
    lent: Mutex<Vec<Lease>>,
    count: AtomicU32,
}

/// What one server process is given.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) database_url: String,
    pub(crate) redis_url: String,
    pub(crate) namespace: String,
}

impl Stores {
    /// Looks at both, so that a wrong URL is found before anything is measured.
    pub(crate) async fn connect(
        database_url: &str,
        redis_url: &str,
        options: &Options,
    ) -> Result<Self> {
        let (postgres, postgres_pid) =
            look_at_postgres(database_url).await.context("BENCH_DATABASE_URL")?;
        let (redis, redis_pid) = look_at_redis(redis_url).await.context("BENCH_REDIS_URL")?;
        Ok(Self {
            database_url: database_url.to_owned(),
            redis_url: redis_url.to_owned(),
            postgres_pid: options.postgres_pid.or(postgres_pid),
            redis_pid: options.redis_pid.or(redis_pid),
            description: format!("{postgres}; {redis}"),
            lent: Mutex::default(),
            count: AtomicU32::new(0),
        })
    }

    /// The processes whose CPU time is the databases': both or none, since half of it would look
    /// like all.
    pub(crate) fn process_ids(&self) -> Option<Behind<u32>> {
        let both = self.postgres_pid.zip(self.redis_pid);
        both.map(|(postgres, redis)| Behind { postgres, redis })
    }

    /// For whoever needs no namespace.
    pub(crate) fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// A fresh database and an unused namespace.
    pub(crate) async fn lend(&self) -> Result<Lease> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("tracker_load_{}_{count}", std::process::id());
        let lease = Lease {
            database_url: with_database(&self.database_url, &name)?,
            redis_url: self.redis_url.clone(),
            namespace: name.clone(),
        };
        // Noted first: if this is interrupted, what may have been made is known.
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).push(lease.clone());
        let mut connection = PgConnection::connect(&self.database_url).await?;
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
        connection.close().await?;
        Ok(lease)
    }

    /// Removes everything that was lent. Only names this process made are touched.
    pub(crate) async fn sweep(&self) -> Result<()> {
        loop {
            let Some(lease) = self.lent.lock().unwrap_or_else(PoisonError::into_inner).pop() else {
                return Ok(());
            };
            let mut connection = PgConnection::connect(&self.database_url).await?;
            let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", lease.namespace);
            connection.execute(AssertSqlSafe(drop)).await?;
            connection.close().await?;
            remove_keys(&self.redis_url, &lease.namespace).await?;
        }
    }
}

async fn look_at_postgres(url: &str) -> Result<(String, Option<u32>)> {
    let mut connection = PgConnection::connect(url).await?;
    let row = connection
        .fetch_one(
            "SELECT current_setting('server_version'), current_setting('fsync'), \
             current_setting('synchronous_commit'), \
             pg_backend_pid(), host(inet_server_addr())",
        )
        .await?;
    let version: String = row.try_get(0)?;
    let (fsync, commit): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let backend: i32 = row.try_get(3)?;
    let host: Option<String> = row.try_get(4)?;
    // A Unix socket has no address; anything else but loopback is another machine, or another view
    // of this one.
    let here = host.is_none_or(|host| host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback()));
    let postmaster = u32::try_from(backend)
        .ok()
        .filter(|_| here)
        .and_then(|pid| procfs::parent_named(pid, "postgres"));
    // Not before: the backend would be gone, and with it the way to its parent.
    connection.close().await?;
    Ok((format!("Postgres {version} (fsync {fsync}, synchronous_commit {commit})"), postmaster))
}

async fn look_at_redis(url: &str) -> Result<(String, Option<u32>)> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let facts: InfoDict = redis::cmd("INFO").query_async(&mut connection).await?;
    let version: String =
        facts.get("redis_version").unwrap_or_else(|| "of unknown version".to_owned());
    let append_only =
        facts.get::<u8>("aof_enabled").map_or("unknown", |on| if on == 0 { "off" } else { "on" });
    let pid = facts.get::<u32>("process_id").and_then(|pid| procfs::named(pid, "redis-server"));
    Ok((format!("Redis {version} (append-only file {append_only})"), pid))
}

async fn remove_keys(url: &str, namespace: &str) -> Result<()> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{namespace}:*")).arg("COUNT").arg(1_000);
        let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
        if !keys.is_empty() {
            let _: u64 = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// The same server and parameters, another database.
fn with_database(url: &str, name: &str) -> Result<String> {
    let (scheme, rest) = url.split_once("://").context("BENCH_DATABASE_URL is no URL")?;
    let (location, query) =
        rest.split_once('?').map_or((rest, None), |(location, query)| (location, Some(query)));
    let authority = location.split_once('/').map_or(location, |(authority, _)| authority);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{scheme}://{authority}/{name}{query}"))
}
