//! What was answered to requests that may come twice, written in the transaction of what they did.
//!
//! ```text
//!   reserve the key ─► do it ─► remember the answer ─► commit
//! ```
//!
//! The reservation is a row nobody else sees. A twin that comes meanwhile, on whatever node, waits for that row, and
//! finds the answer where we commit, or the key free where we do not. So of any number of twins one does it.

use super::change::{Change, Changed, Selection};
use super::{Error, Storage, dialect, unreadable};
use crate::database::{Kind, Statement, Table, Transaction, Type};
use crate::domain::once::KEPT_FOR;
use crate::domain::{Key, Keyed, Receipt, Task, TaskId, Timestamp};

/// Answers that are forgotten in one statement.
const BATCH: u32 = 1000;
/// Receipts that are kept by one statement.
const RECEIPTS: usize = 5000;

/// A receipt as a row.
const RECEIPT: &[(&str, Type)] = &[
    ("key_hash", Type::Text),
    ("fingerprint", Type::Text),
    ("answer", Type::Text),
    ("expires_at", Type::Instant),
];

/// What came of a request with a key.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It was done now.
    Now(T),
    /// It was done before, and this was the answer.
    Before(String),
    /// The key stands for another request.
    Reused,
}

/// A transaction in which the key is reserved, or why there is none.
#[derive(Debug)]
pub(super) enum Reserved {
    Free(Transaction),
    Before(String),
    Reused,
}

#[derive(sqlx::FromRow)]
struct AnswerRow {
    fingerprint: String,
    answer: Option<String>,
}

impl Storage {
    /// [`Storage::change`] of one task, once for all requests of one key. The answer is committed with what it stands for; what is
    /// refused leaves the key free.
    pub async fn change_once<D, F, E>(
        &self,
        id: &TaskId,
        keyed: Keyed<Task>,
        now: Timestamp,
        decide: D,
    ) -> Result<Outcome<Vec<Changed>>, E>
    where
        D: FnOnce(Vec<Task>) -> F,
        F: Future<Output = Result<Vec<Change>, E>>,
        E: From<Error>,
    {
        Ok(match self.reserve(&keyed.key, now).await.map_err(E::from)? {
            Reserved::Free(transaction) => {
                let one = Selection::One(id);
                Outcome::Now(self.change_in(transaction, one, Some(keyed), decide).await?)
            }
            Reserved::Before(answer) => Outcome::Before(answer),
            Reserved::Reused => Outcome::Reused,
        })
    }

    /// Begins a transaction that holds `key`, after any other that does.
    pub(super) async fn reserve(&self, key: &Key, now: Timestamp) -> Result<Reserved, Error> {
        let mut transaction = self.database.begin().await?;
        loop {
            // An answer whose time is over and that is not deleted yet makes room.
            let reserved = Statement::new(
                "INSERT INTO tracker_idempotency (scope, key_hash, fingerprint, expires_at)
                 VALUES ($1, $2, $3, $4)
                 ON CONFLICT (scope, key_hash) DO UPDATE SET fingerprint = excluded.fingerprint,
                     answer = NULL, expires_at = excluded.expires_at
                 WHERE tracker_idempotency.expires_at <= $5",
            )
            .bind(key.scope.clone())
            .bind(key.hash.clone())
            .bind(key.fingerprint.clone())
            .bind(now.plus(KEPT_FOR))
            .bind(now)
            .execute(transaction.executor())
            .await?;
            if reserved > 0 {
                return Ok(Reserved::Free(transaction));
            }
            let kept: Option<AnswerRow> = Statement::new(
                "SELECT fingerprint, answer FROM tracker_idempotency
                 WHERE scope = $1 AND key_hash = $2",
            )
            .bind(key.scope.clone())
            .bind(key.hash.clone())
            .fetch_optional(transaction.executor())
            .await?;
            // By another node's clock its time was over, and it is deleted: the key is free.
            let Some(kept) = kept else { continue };
            // The row is free before the caller hears of it.
            transaction.roll_back().await?;
            if kept.fingerprint != key.fingerprint {
                return Ok(Reserved::Reused);
            }
            let answer = kept.answer.ok_or_else(|| unreadable("an answer that was committed"))?;
            return Ok(Reserved::Before(answer));
        }
    }

    /// What was answered to a request that is not to be done now: `Now(())` where it was not done before.
    pub async fn answer(&self, key: &Key, now: Timestamp) -> Result<Outcome<()>, Error> {
        let kept: Option<AnswerRow> = Statement::new(
            "SELECT fingerprint, answer FROM tracker_idempotency
             WHERE scope = $1 AND key_hash = $2 AND expires_at > $3",
        )
        .bind(key.scope.clone())
        .bind(key.hash.clone())
        .bind(now)
        .fetch_optional(self.database.reader())
        .await?;
        Ok(match kept {
            None => Outcome::Now(()),
            Some(kept) if kept.fingerprint != key.fingerprint => Outcome::Reused,
            Some(kept) => Outcome::Before(
                kept.answer.ok_or_else(|| unreadable("an answer that was committed"))?,
            ),
        })
    }

    /// Keeps receipts of a task that has ended: those given while its end was being committed.
    pub async fn keep_receipts(&self, id: &TaskId, receipts: &[Receipt]) -> Result<(), Error> {
        for statement in receipt_statements(self.database.kind(), id, receipts) {
            statement.execute(self.database.writer()).await?;
        }
        Ok(())
    }

    /// Forgets answers whose time is over, a bounded number of them; says how many.
    pub async fn forget_answers(&self, now: Timestamp) -> Result<u64, Error> {
        self.forget_statement(now).execute(self.database.writer()).await
    }

    pub(super) fn forget_statement(&self, now: Timestamp) -> Statement {
        Statement::new(dialect::forget_answers(self.database.kind())).bind(now).bind(BATCH)
    }
}

/// The scope of the keys of appends to a task. Their answers are kept beside its live log until it ends, as receipts.
pub fn progress_scope(id: &TaskId) -> String {
    format!("progress {id}")
}

/// The statements that keep `receipts`; keeping one twice leaves it once.
pub(super) fn receipt_statements(kind: Kind, id: &TaskId, receipts: &[Receipt]) -> Vec<Statement> {
    let statement = |receipts: &[Receipt]| {
        let mut table = Table::new(RECEIPT);
        for receipt in receipts {
            table.push([
                receipt.hash.clone().into(),
                receipt.fingerprint.clone().into(),
                receipt.text().into(),
                receipt.at.plus(KEPT_FOR).into(),
            ]);
        }
        let source = Table::source(RECEIPT, kind, 1, "receipts");
        Statement::new(format!(
            "INSERT INTO tracker_idempotency (scope, key_hash, fingerprint, answer, expires_at)
             SELECT $1, key_hash, fingerprint, answer, expires_at FROM {source} WHERE TRUE
             ON CONFLICT DO NOTHING"
        ))
        .bind(progress_scope(id))
        .bind(table)
    };
    receipts.chunks(RECEIPTS).map(statement).collect()
}

/// Keeps the answer with what it stands for.
pub(super) async fn remember(
    transaction: &mut Transaction,
    key: &Key,
    answer: String,
) -> Result<(), Error> {
    Statement::new("UPDATE tracker_idempotency SET answer = $3 WHERE scope = $1 AND key_hash = $2")
        .bind(key.scope.clone())
        .bind(key.hash.clone())
        .bind(answer)
        .execute(transaction.executor())
        .await
        .map(drop)
}
