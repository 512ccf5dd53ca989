//! Connections at hand, between a pool and those who use it.
//!
//! sqlx pings a connection each time it goes back to its pool, and tests one that comes from there: two round trips around each
//! statement, as long as a short statement itself. A connection that did what it was told a moment ago needs
//! neither: it goes to whoever waits for one, or stays at hand for whoever comes next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Pool, Postgres, Sqlite};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// How long a connection that did what it was told is taken for alive.
const FRESH: Duration = Duration::from_millis(100);
/// After how long a connection goes back to its pool all the same, which knows when it has lived long enough.
const ROUND: Duration = Duration::from_mins(1);
/// How long a connection may take to come back to the pool: a rollback, and what is left of an answer.
const RETURN: Duration = Duration::from_secs(3);

/// What is said to either database without a parameter.
pub trait Driver: sqlx::Database {
    /// Says it.
    fn say<'c>(
        connection: &'c mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send + 'c;
}

impl Driver for Postgres {
    async fn say(connection: &mut Self::Connection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(connection).await.map(drop)
    }
}

impl Driver for Sqlite {
    async fn say(connection: &mut Self::Connection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(connection).await.map(drop)
    }
}

/// A pool, and those of its connections that are at hand; cheap to clone.
pub struct Stock<D: Driver>(Arc<Shared<D>>);

struct Shared<D: Driver> {
    pool: Pool<D>,
    /// As many as the pool may have connections: for each one that is made, or tested, for a caller who may be gone by then.
    makings: Arc<Semaphore>,
    hand: Mutex<Hand<D>>,
}

struct Hand<D: Driver> {
    /// The one that was used last is the last.
    idle: Vec<Idle<D>>,
    /// Who waits, the first to come first; the pool may serve them sooner.
    waiting: VecDeque<oneshot::Sender<Taken<D>>>,
    is_closed: bool,
}

struct Idle<D: Driver> {
    taken: Taken<D>,
    since: Instant,
}

/// A connection, and when it came from the pool.
pub(super) struct Taken<D: Driver> {
    pub(super) connection: PoolConnection<D>,
    at: Instant,
}

impl<D: Driver> Taken<D> {
    fn now(connection: PoolConnection<D>) -> Self {
        Self { connection, at: Instant::now() }
    }
}

impl<D: Driver> Clone for Stock<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Driver> std::fmt::Debug for Stock<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stock").field(&self.0.pool).finish()
    }
}

impl<D: Driver> From<Pool<D>> for Stock<D> {
    fn from(pool: Pool<D>) -> Self {
        let hand =
            Mutex::new(Hand { idle: Vec::new(), waiting: VecDeque::new(), is_closed: false });
        let most = pool.options().get_max_connections() as usize;
        Self(Arc::new(Shared { pool, makings: Arc::new(Semaphore::new(most)), hand }))
    }
}

impl<D: Driver> Stock<D> {
    /// A connection for whoever does with it what he likes; it comes back to the pool, or is closed.
    pub async fn own(&self) -> Result<PoolConnection<D>, sqlx::Error> {
        Ok(self.take().await?.connection)
    }

    /// Takes a connection, waiting no longer than the pool says.
    pub(super) async fn take(&self) -> Result<Taken<D>, sqlx::Error> {
        let (mut waiting, stale) = {
            let mut hand = self.lock();
            match hand.idle.pop() {
                Some(idle) if idle.since.elapsed() < FRESH => return Ok(idle.taken),
                // The others were used before it.
                stale => {
                    // Those whom the pool served, or refused: while a server is away nobody else takes them out.
                    while hand.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                        hand.waiting.pop_front();
                    }
                    let (handed, waiting) = oneshot::channel();
                    hand.waiting.push_back(handed);
                    let stale: Vec<_> = stale.into_iter().chain(hand.idle.drain(..)).collect();
                    (Waiting { stock: self, handed: waiting }, stale)
                }
            }
        };
        for idle in stale {
            let_go(idle.taken, false);
        }
        tokio::select! {
            biased;
            Ok(taken) = &mut waiting.handed => Ok(taken),
            // It is large, and seldom needed.
            acquired = Box::pin(self.acquire()) => acquired,
        }
    }

    /// A connection from the pool. One that is begun is made to its end, and one that is tested is tested to its end, whoever gets it:
    /// given up whenever somebody else's came back sooner, it would be closed and begun again and again, and cost a server
    /// more than what it is for. Those who wait behind as many others as there may be connections leave nothing begun.
    async fn acquire(&self) -> Result<Taken<D>, sqlx::Error> {
        let Ok(making) = Arc::clone(&self.0.makings).try_acquire_owned() else {
            return Ok(Taken::now(self.0.pool.acquire().await?));
        };
        let (stock, (hand, handed)) = (self.clone(), oneshot::channel());
        let mut waiting = Waiting { stock: self, handed };
        let made = tokio::spawn(async move {
            let taken = Taken::now(stock.0.pool.acquire().await?);
            drop(making);
            if let Err(unneeded) = hand.send(taken) {
                stock.keep(unneeded);
            }
            Ok(())
        });
        made.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))?;
        (&mut waiting.handed).await.map_err(|_| sqlx::Error::WorkerCrashed)
    }

    /// Hands on, or keeps at hand, a connection that did what it was told and has nothing begun.
    pub(super) fn keep(&self, mut taken: Taken<D>) {
        let mut leaving = Vec::new();
        let mut hand = self.lock();
        if hand.is_closed || taken.at.elapsed() > ROUND {
            leaving.push(taken);
        } else {
            loop {
                let Some(waiting) = hand.waiting.pop_front() else {
                    hand.idle.push(Idle { taken, since: Instant::now() });
                    break;
                };
                match waiting.send(taken) {
                    Ok(()) => break,
                    // The pool was faster, or it is gone.
                    Err(back) => taken = back,
                }
            }
        }
        // After a crowd there are more than anybody takes.
        if hand.idle.first().is_some_and(|oldest| oldest.since.elapsed() >= FRESH) {
            leaving.push(hand.idle.remove(0).taken);
        }
        drop(hand);
        for taken in leaving {
            let_go(taken, false);
        }
    }

    /// Takes none of those at hand for alive any more, for one of them was not: the pool tests them before anybody gets one.
    pub(super) fn distrust(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        for Idle { taken, .. } in idle {
            let_go(taken, false);
        }
    }

    /// Closes every connection.
    pub(super) async fn close(&self) {
        let idle = {
            let mut hand = self.lock();
            hand.is_closed = true;
            std::mem::take(&mut hand.idle)
        };
        for Idle { taken, .. } in idle {
            give_back(taken.connection, false).await;
        }
        self.0.pool.close().await;
    }

    fn lock(&self) -> MutexGuard<'_, Hand<D>> {
        // No code that holds the lock can leave what it guards half changed.
        self.0.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits, who may be served twice, or served and gone.
struct Waiting<'a, D: Driver> {
    stock: &'a Stock<D>,
    handed: oneshot::Receiver<Taken<D>>,
}

impl<D: Driver> Drop for Waiting<'_, D> {
    fn drop(&mut self) {
        self.handed.close();
        if let Ok(unneeded) = self.handed.try_recv() {
            self.stock.keep(unneeded);
        }
    }
}

/// Has a connection go back to its pool, on which a transaction may be open.
pub(super) fn let_go<D: Driver>(taken: Taken<D>, is_open: bool) {
    // Without a runtime nobody is left to wait for it.
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(give_back(taken.connection, is_open))),
        Err(_) => drop(taken.connection.detach()),
    }
}

/// Gives a connection back to its pool in order, or not at all.
async fn give_back<D: Driver>(mut connection: PoolConnection<D>, is_open: bool) {
    if is_open {
        let rolled_back = timeout(RETURN, D::say(&mut connection, "ROLLBACK")).await;
        if !matches!(rolled_back, Ok(Ok(()))) {
            drop(connection.detach());
            return;
        }
    }
    // What dropping it does, in a bound. The method is hidden in sqlx' documents and public; dropping would ping the
    // connection for as long as its server is silent.
    if timeout(RETURN, connection.return_to_pool()).await.is_err() {
        metrics::counter!("database_deadlines_missed_total").increment(1);
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    #[tokio::test]
    async fn whoever_waited_in_vain_is_forgotten() {
        let pool = PgPoolOptions::new()
            .acquire_timeout(Duration::from_millis(10))
            .connect_lazy("postgres://nobody@127.0.0.1:1/none")
            .expect("a pool");
        let stock: Stock<Postgres> = pool.into();
        for _ in 0..5 {
            assert!(stock.take().await.is_err(), "nobody is there");
        }
        assert!(stock.lock().waiting.len() <= 1);
    }

    #[tokio::test]
    async fn a_connection_that_is_made_as_its_caller_leaves_is_kept() {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_lazy("sqlite::memory:")
            .expect("a pool");
        let stock: Stock<Sqlite> = pool.into();
        let mut leaving = Box::pin(stock.take());
        assert!(futures::poll!(&mut leaving).is_pending(), "it is being made");
        // It is handed over, and nobody looks.
        while stock.0.pool.num_idle() > 0 || stock.0.pool.size() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(leaving);
        assert_eq!(stock.lock().idle.len(), 1, "it is at hand");
    }
}
