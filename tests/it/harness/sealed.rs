//! Where the entries of a task are: in the sealed history, or in the live log.

use task_tracker::config::Mode as ConfigMode;
use task_tracker::database::{Database, Statement};
use task_tracker::domain::Timestamp;

use super::{Ground, eventually, redis_url};

/// One row of a sealed history: from, to, and whether it is a hole.
pub type Row = (u64, u64, bool);

#[derive(sqlx::FromRow)]
struct EntriesRow {
    first_seq: i64,
    last_seq: i64,
    lost_at: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct CountRow(i64);

/// The rows of a sealed history, which must follow each other.
pub async fn rows_in(database: &Database, id: &str) -> Vec<Row> {
    let rows: Vec<EntriesRow> = Statement::new(
        "SELECT first_seq, last_seq, lost_at FROM tracker_entries WHERE task_id = $1
         ORDER BY first_seq",
    )
    .bind(id.to_owned())
    .fetch_all(database.reader())
    .await
    .expect("rows");
    let number = |column: i64| u64::try_from(column).expect("a number");
    let mut next = 1;
    for row in &rows {
        assert_eq!(number(row.first_seq), next, "no overlap and no hole that is not said");
        next = number(row.last_seq) + 1;
    }
    let row =
        |row: EntriesRow| (number(row.first_seq), number(row.last_seq), row.lost_at.is_some());
    rows.into_iter().map(row).collect()
}

impl Ground {
    /// One of its databases, beside the servers that use it.
    pub async fn database(&self, file: &str) -> Database {
        let database = match self.config().mode {
            ConfigMode::Embedded { data_dir } => Database::sqlite(&data_dir.join(file), 1).await,
            ConfigMode::Node { database_url, .. } => Database::postgres(&database_url, 1),
        };
        database.expect("a database")
    }

    /// The rows of a task's sealed history, which must follow each other.
    pub async fn rows(&self, id: &str) -> Vec<Row> {
        let database = self.database("tracker.db").await;
        let rows = rows_in(&database, id).await;
        database.close().await;
        rows
    }

    /// How many entries the live log of a task holds.
    pub async fn live_entries(&self, id: &str) -> usize {
        if self.database_url().is_some() {
            let client = redis::Client::open(redis_url()).expect("a URL");
            let list = &format!("{}:progress:{{{id}}}", self.namespace());
            // A server that has much to do may answer late.
            return eventually(async || {
                let mut redis = client.get_multiplexed_async_connection().await.ok()?;
                redis::cmd("LLEN").arg(list).query_async(&mut redis).await.ok()
            })
            .await;
        }
        let database = self.database("live.db").await;
        let count = Statement::new("SELECT count(*) FROM live_journal WHERE task_id = $1");
        let rows: Vec<CountRow> =
            count.bind(id.to_owned()).fetch_all(database.reader()).await.expect("a count");
        database.close().await;
        usize::try_from(rows[0].0).expect("a count")
    }
}
