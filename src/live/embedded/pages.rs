//! Reading a log of the file by pages.

use super::{EmbeddedLive, LineRow, parse};
use crate::database::Statement;
use crate::domain::TaskId;
use crate::live::{Error, PAGE_BYTES, Page};

impl EmbeddedLive {
    /// Reads a page of a log that lies between two numbers.
    pub(super) async fn page(
        &self,
        task: &TaskId,
        (behind, last_seq_id): (u64, u64),
        after: u64,
        limit: usize,
    ) -> Result<Page, Error> {
        let mut page = Page { entries: Vec::new(), behind, last_seq_id };
        // What it begins behind leaves it only when it is sealed.
        let (mut bytes, mut left) = (0, if after < behind { 0 } else { limit });
        'pages: while bytes < PAGE_BYTES && left > 0 {
            let chunk = left.min(64);
            let rows: Vec<LineRow> = Statement::new(
                "SELECT line FROM live_entries WHERE task_id = $1 AND seq_id > $2
                 ORDER BY seq_id LIMIT $3",
            )
            .bind(task)
            .bind(page.entries.last().map_or(after, |entry| entry.seq_id))
            .bind(chunk as u64)
            .fetch_all(self.database.reader())
            .await?;
            let more = rows.len() == chunk;
            for row in rows {
                if bytes >= PAGE_BYTES {
                    break;
                }
                let entry = parse(&row.line)?;
                // What stood before it was sealed and left while we read.
                if entry.seq_id != page.entries.last().map_or(after, |last| last.seq_id) + 1 {
                    page.behind = page.behind.max(entry.seq_id - 1);
                    break 'pages;
                }
                bytes += row.line.len();
                page.entries.push(entry);
            }
            left -= chunk;
            if !more {
                break;
            }
        }
        // Entries may have come since the counter was read.
        if let Some(newest) = page.entries.last() {
            page.last_seq_id = page.last_seq_id.max(newest.seq_id);
        }
        Ok(page)
    }
}
