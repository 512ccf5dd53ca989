//! Which nodes there are.

use super::{Error, Storage, unreadable};
use crate::database::Statement;
use crate::domain::Timestamp;

/// Nodes that are told of at most.
const MOST: u32 = 1000;

/// A node that runs, as it said of itself last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Made at its start.
    pub node_id: String,
    /// Of the service.
    pub version: String,
    /// `embedded` or `node`.
    pub mode: String,
    /// The machine it runs on.
    pub host: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it said so.
    pub seen_at: Timestamp,
    /// Streams that were open on it.
    pub open_streams: u64,
    /// Workers that waited for a task there.
    pub waiting_workers: u64,
}

#[derive(sqlx::FromRow)]
struct NodeRow {
    node_id: String,
    version: String,
    mode: String,
    host: String,
    started_at: Timestamp,
    seen_at: Timestamp,
    open_streams: i64,
    waiting_workers: i64,
}

impl Storage {
    /// Notes what a node says of itself.
    pub async fn note_node(&self, node: &Node) -> Result<(), Error> {
        Statement::new(
            "INSERT INTO tracker_nodes (node_id, version, mode, host, started_at, seen_at,
                 open_streams, waiting_workers)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (node_id) DO UPDATE SET seen_at = excluded.seen_at,
                 open_streams = excluded.open_streams, waiting_workers = excluded.waiting_workers",
        )
        .bind(node.node_id.clone())
        .bind(node.version.clone())
        .bind(node.mode.clone())
        .bind(node.host.clone())
        .bind(node.started_at)
        .bind(node.seen_at)
        .bind(node.open_streams)
        .bind(node.waiting_workers)
        .execute(self.database.writer())
        .await
        .map(drop)
    }

    /// Nodes that said something since `since`, those that run for the longest time first.
    pub async fn nodes(&self, since: Timestamp) -> Result<Vec<Node>, Error> {
        let rows: Vec<NodeRow> = Statement::new(
            "SELECT node_id, version, mode, host, started_at, seen_at, open_streams, waiting_workers
             FROM tracker_nodes WHERE seen_at >= $1 ORDER BY started_at, node_id LIMIT $2",
        )
        .bind(since)
        .bind(MOST)
        .fetch_all(self.database.reader())
        .await?;
        let number = |count: i64| u64::try_from(count).map_err(|_| unreadable("a node"));
        rows.into_iter()
            .map(|row| {
                Ok(Node {
                    node_id: row.node_id,
                    version: row.version,
                    mode: row.mode,
                    host: row.host,
                    started_at: row.started_at,
                    seen_at: row.seen_at,
                    open_streams: number(row.open_streams)?,
                    waiting_workers: number(row.waiting_workers)?,
                })
            })
            .collect()
    }

    /// Forgets a node that ends.
    pub async fn forget_node(&self, node_id: &str) -> Result<(), Error> {
        Statement::new("DELETE FROM tracker_nodes WHERE node_id = $1")
            .bind(node_id.to_owned())
            .execute(self.database.writer())
            .await
            .map(drop)
    }

    /// Forgets nodes that said nothing since `before`.
    pub async fn forget_nodes(&self, before: Timestamp) -> Result<u64, Error> {
        Statement::new("DELETE FROM tracker_nodes WHERE seen_at < $1")
            .bind(before)
            .execute(self.database.writer())
            .await
    }
}
