//! Reading entries of the file.

use std::collections::HashMap;

use super::{EmbeddedLive, Error, Index};
use crate::database::Statement;
use crate::domain::{Entry, TaskId};
use crate::live::{PAGE_BYTES, Page};

#[derive(sqlx::FromRow)]
struct LineRow {
    place: i64,
    line: String,
}

impl EmbeddedLive {
    /// Reads a page of a log.
    pub(super) async fn page(
        &self,
        task: &TaskId,
        after: u64,
        limit: usize,
    ) -> Result<Page, Error> {
        let (kept, (behind, last_seq_id)) = self.look(task, |index| {
            let bounds = index.bounds();
            // What it begins behind leaves it only when it is sealed.
            let limit = if after < bounds.0 { 0 } else { limit };
            (index.above(after, limit, PAGE_BYTES), bounds)
        });
        let mut page = Page { entries: Vec::with_capacity(kept.len()), behind, last_seq_id };
        let lines = self.lines(kept.iter().map(|kept| kept.place).collect()).await?;
        let mut lines = lines.into_iter().peekable();
        for kept in kept {
            match lines.next_if(|(place, _)| *place == kept.place) {
                Some((_, entry)) if page.behind <= after => page.entries.push(entry),
                // It was sealed and left while we read, perhaps with all that was to be read.
                None if page.entries.is_empty() => page.behind = kept.seq_id,
                _ => break,
            }
        }
        Ok(page)
    }

    /// Reads the newest entry of each task.
    pub(super) async fn newest_of(&self, tasks: &[TaskId]) -> Result<Vec<Option<Entry>>, Error> {
        let places: Vec<Option<i64>> = tasks
            .iter()
            .map(|task| self.look(task, |index| index.last().map(|kept| kept.place)))
            .collect();
        let lines = self.lines(places.iter().flatten().copied().collect()).await?;
        let mut lines: HashMap<i64, Entry> = lines.into_iter().collect();
        Ok(places.into_iter().map(|place| lines.remove(&place?)).collect())
    }

    /// What the index of a task says; that of one without a log is empty.
    pub(super) fn look<T>(&self, task: &TaskId, said: impl FnOnce(&Index) -> T) -> T {
        match self.known(task) {
            Some(log) => said(&log.index()),
            None => said(&Index::default()),
        }
    }

    /// The entries at these places, in their order; those that are gone are left out.
    async fn lines(&self, places: Vec<i64>) -> Result<Vec<(i64, Entry)>, Error> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<LineRow> = Statement::new(
            "SELECT place, line FROM live_journal
             WHERE place IN (SELECT value FROM json_each($1)) ORDER BY place",
        )
        .bind(super::writes::list(&places))
        .fetch_all(self.database.reader())
        .await?;
        let entry = |row: LineRow| {
            let entry = Entry::parse(&row.line).map_err(|error| Error::Failed(error.into()))?;
            Ok((row.place, entry))
        };
        rows.into_iter().map(entry).collect()
    }
}
