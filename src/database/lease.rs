//! A connection on loan from a pool, on which nobody waits without end.
//!
//! sqlx bounds how long a connection is acquired, and nothing else: on a network that has fallen silent a
//! statement, a COMMIT, and the ping by which the pool takes a connection back would each wait until
//! the kernel gives the socket up, a quarter of an hour later, and hold a place in the pool meanwhile. The server's own
//! limits do not help, for their message does not arrive either.
//!
//! So every word to a server is said through a [`Lease`], under a deadline. A connection that missed one is thrown
//! away, and its place in the pool is free at once: what it was asked may have been done or not, and nobody
//! may hear a late answer as that to another question.

use std::time::Duration;

use sqlx::Connection;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::stock::{Driver, Stock, Taken, let_go};

/// How long a statement may take. Longer than Postgres waits for a lock, so that it may say so itself.
pub(super) const DEADLINE: Duration = Duration::from_secs(6);
/// How long a connection that lay idle has for a sign of life, before another is made in its place.
const PROBE: Duration = Duration::from_secs(1);

/// A connection on loan; dropping it gives it back.
pub struct Lease<D: Driver> {
    stock: Stock<D>,
    /// `None` where it missed a deadline and was thrown away.
    taken: Option<Taken<D>>,
    /// A transaction was begun on it and neither committed nor rolled back.
    is_open: bool,
    /// It did the last thing it was told.
    is_well: bool,
}

impl<D: Driver> std::fmt::Debug for Lease<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

impl<D: Driver> Lease<D> {
    /// Takes a connection, waiting no longer than the pool says.
    pub(super) async fn take(stock: &Stock<D>) -> Result<Self, sqlx::Error> {
        let taken = Some(stock.take().await?);
        Ok(Self { stock: stock.clone(), taken, is_open: false, is_well: true })
    }

    /// Takes a connection and begins a transaction on it.
    pub(super) async fn begin(stock: &Stock<D>, sql: &'static str) -> Result<Self, sqlx::Error> {
        let mut lease = Self::take(stock).await?;
        // Before it is said: a caller that goes away in the middle must leave no transaction open.
        lease.is_open = true;
        lease.say(sql).await?;
        Ok(lease)
    }

    /// Ends the transaction, if one was begun, one way or the other.
    pub(super) async fn end(mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        if self.is_open {
            self.say(sql).await?;
            self.is_open = false;
        }
        Ok(())
    }

    /// Where a statement is run, under a deadline, what came of which is then handed to [`Lease::ended`].
    pub(super) fn connection(&mut self) -> Result<&mut D::Connection, sqlx::Error> {
        self.is_well = false;
        self.taken.as_mut().map(|taken| &mut *taken.connection).ok_or_else(missed)
    }

    /// The answer to a statement. Without one in time the connection is thrown away.
    pub(super) fn ended<T>(
        &mut self,
        answer: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, sqlx::Error> {
        let answer = answer.unwrap_or_else(|Elapsed { .. }| {
            self.taken.take().map(|taken| taken.connection.detach());
            metrics::counter!("database_deadlines_missed_total").increment(1);
            Err(missed())
        });
        self.is_well = answer.is_ok();
        if matches!(answer, Err(sqlx::Error::Io(_))) {
            self.stock.distrust();
        }
        answer
    }

    async fn say(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        let said = timeout(DEADLINE, D::say(self.connection()?, sql)).await;
        self.ended(said)
    }
}

impl<D: Driver> Drop for Lease<D> {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else {
            return;
        };
        if self.is_well && !self.is_open {
            self.stock.keep(taken);
        } else {
            let_go(taken, self.is_open);
        }
    }
}

/// Whether a connection that lay idle is alive. sqlx' own test of it has no bound but that of the whole acquiring: one
/// dead connection would cost its caller the time in which another could be made.
pub(super) async fn is_alive<C: Connection>(connection: &mut C) -> bool {
    matches!(timeout(PROBE, connection.ping()).await, Ok(Ok(())))
}

fn missed() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}
