//! What a node looks after without being asked: ends and entries whose publication was lost, wakes that
//! were lost, and figures.

use std::time::{Duration, Instant};

use super::{Result, Tracker};
use crate::domain::{Status, TaskId};

/// Topics that are audited in one statement.
const AUDIT_BATCH: usize = 500;
/// How long a dependency has for a sign of life. A little longer than the live log's own patience with a connection, so that
/// one which is silent is found out and given up.
const PING_TIMEOUT: Duration = Duration::from_millis(2300);

/// How a dependency does.
#[derive(Debug)]
pub struct Health {
    /// Its name: `database` or `live_log`.
    pub name: &'static str,
    /// Whether it answered.
    pub is_up: bool,
    /// How long that took.
    pub took: Duration,
}

impl Tracker {
    /// Compares every topic watched on this node with the log and the durable truth, and has readers
    /// catch up where a publication was lost. Says how many topics that were. While the durable truth is away,
    /// the log is looked at all the same.
    pub async fn audit_streams(&self) -> Result<u64> {
        let topics = self.hub.topics();
        let (mut behind, mut failed) = (0, None);
        for batch in topics.chunks(AUDIT_BATCH) {
            let tasks: Vec<TaskId> = batch.iter().map(|(task, _)| task.clone()).collect();
            match self.storage.ended_among(&tasks).await {
                Ok(ended) => {
                    for task in ended {
                        self.hub.resync(&task.id, 0);
                        behind += 1;
                    }
                }
                Err(error) => failed = Some(error),
            }
            let newest = self.live.last_seq_ids(&tasks).await?;
            for ((task, seen), newest) in batch.iter().zip(newest) {
                if newest > *seen {
                    self.hub.resync(task, newest);
                    behind += 1;
                }
            }
        }
        failed.map_or(Ok(behind), |error| Err(error.into()))
    }

    /// Wakes a waiting worker for each type of which a task waits. One statement for all who wait here.
    pub async fn recheck_waiters(&self) -> Result<u64> {
        let types = self.hub.waiters().types();
        if types.is_empty() {
            return Ok(0);
        }
        let pending = self.storage.pending_types(&types).await?;
        for task_type in &pending {
            self.hub.waiters().wake(task_type);
        }
        Ok(pending.len() as u64)
    }

    /// Sets the gauges of waiting and running tasks.
    pub async fn gauge_tasks(&self) -> Result<u64> {
        let counts = self.storage.count_active().await?;
        let of = |status: Status| {
            counts.iter().find(|(counted, _)| *counted == status).map_or(0, |(_, tasks)| *tasks)
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float; so many tasks do not exist"
        )]
        for (gauge, status) in
            [("tasks_pending", Status::Pending), ("tasks_in_progress", Status::InProgress)]
        {
            metrics::gauge!(gauge).set(of(status) as f64);
        }
        Ok(counts.len() as u64)
    }

    /// Asks each dependency for a sign of life.
    pub async fn health(&self) -> Vec<Health> {
        let (database, live_log) = tokio::join!(
            check("database", async { self.storage.ping().await.is_ok() }),
            check("live_log", async { self.live.ping().await.is_ok() }),
        );
        vec![database, live_log]
    }
}

async fn check(name: &'static str, ping: impl Future<Output = bool>) -> Health {
    let asked = Instant::now();
    let is_up = tokio::time::timeout(PING_TIMEOUT, ping).await.unwrap_or(false);
    Health { name, is_up, took: asked.elapsed() }
}
