//! When the live log lost its memory.

use super::{Error, Storage};
use crate::database::Statement;
use crate::domain::Timestamp;

#[derive(sqlx::FromRow)]
struct InstantRow {
    at: Option<Timestamp>,
}

impl Storage {
    /// Notes a generation of the live log's memory that is seen now, if it is new, and says when the
    /// newest but the first was noticed: tasks that had begun by then may have lost entries.
    ///
    /// Nodes' clocks differ. A task that began before the loss was noticed is in the table by now, so the
    /// instant that is noted is not before any beginning that is there.
    pub async fn note_generation(
        &self,
        generation: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let newest: Option<InstantRow> = Statement::new(
            "SELECT max(began) AS at
             FROM (SELECT max(created_at) AS began FROM tracker_tasks
                   UNION ALL
                   SELECT max(started_at) FROM tracker_tasks WHERE status = 'in_progress'
                   UNION ALL
                   SELECT max(seen_at) FROM tracker_generations) AS beginnings",
        )
        .fetch_optional(self.database.reader())
        .await?;
        let newest = newest.and_then(|row| row.at);
        Statement::new(
            "INSERT INTO tracker_generations (generation, seen_at) VALUES ($1, $2)
             ON CONFLICT DO NOTHING",
        )
        .bind(generation.to_owned())
        .bind(newest.map_or(now, |newest| newest.max(now)))
        .execute(self.database.writer())
        .await?;
        let loss: Option<InstantRow> = Statement::new(
            "SELECT CASE WHEN count(*) > 1 THEN max(seen_at) END AS at FROM tracker_generations",
        )
        .fetch_optional(self.database.reader())
        .await?;
        Ok(loss.and_then(|row| row.at))
    }
}
