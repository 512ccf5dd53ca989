//! Appends that may come twice: a receipt is kept in the transaction of the entries.

use super::EmbeddedLive;
use crate::database::Statement;
use crate::domain::once::KEPT_FOR;
use crate::domain::{Key, Receipt, TaskId, Timestamp};
use crate::live::{Appended, Error, Grant};

/// The schema, in one statement.
pub(super) const SCHEMA: &str = include_str!("receipts.sql");

#[derive(sqlx::FromRow)]
struct ReceiptRow {
    key_hash: String,
    receipt: String,
}

impl EmbeddedLive {
    /// What comes of an append whose key has a receipt. The log is locked, so nobody is giving one.
    pub(super) async fn before(
        &self,
        task: &TaskId,
        key: &Key,
        now: Timestamp,
    ) -> Result<Option<Appended>, Error> {
        let row: Option<ReceiptRow> = Statement::new(
            "SELECT key_hash, receipt FROM live_receipts
             WHERE task_id = $1 AND key_hash = $2 AND given_at > $3",
        )
        .bind(task)
        .bind(key.hash.clone())
        .bind(now.minus(KEPT_FOR))
        .fetch_optional(self.database.reader())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let receipt = parse(row)?;
        let is_the_same = receipt.fingerprint == key.fingerprint;
        Ok(Some(if is_the_same { Appended::Before(receipt) } else { Appended::Reused }))
    }

    pub(super) async fn all_receipts(&self, task: &TaskId) -> Result<Vec<Receipt>, Error> {
        let rows: Vec<ReceiptRow> =
            Statement::new("SELECT key_hash, receipt FROM live_receipts WHERE task_id = $1")
                .bind(task)
                .fetch_all(self.database.reader())
                .await?;
        rows.into_iter().map(parse).collect()
    }
}

/// What is kept of an append under `key`.
pub(super) fn receipt(key: Key, last_seq_id: u64, grant: &Grant, at: Timestamp) -> Receipt {
    let Key { hash, fingerprint, .. } = key;
    let (lease, cancel_requested) = (grant.lease, grant.cancel_requested);
    Receipt { hash, fingerprint, last_seq_id, at, lease, cancel_requested }
}

fn parse(row: ReceiptRow) -> Result<Receipt, Error> {
    Receipt::parse(row.key_hash, &row.receipt).map_err(|error| Error::Failed(error.into()))
}
