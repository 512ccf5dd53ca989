//! Connections that are given up when they fall silent.
//!
//! The redis crate makes a connection anew that was closed, and goes on for ever with one from which nothing comes
//! any more: to it a time-out is no sign that another connection would do better. Behind a firewall that forgot, or a
//! host that lost its power, that is a quarter of an hour of refusals after the broker is back. So a connection that
//! leaves a command unanswered is not asked again. Whoever else waits on it may still get an answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime, Timeouts};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, RedisError, RedisFuture,
    RedisResult, Value,
};
use tokio::time::timeout;

use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// Connections for pages to one server at most.
const PAGE_CONNECTIONS: usize = 8;
/// How long a connection for pages may take that lay idle, before another is made in its place.
const PROBE: Duration = Duration::from_secs(1);

/// The one connection of the hot path, on which everybody's commands pipeline by themselves; cheap to clone.
#[derive(Clone)]
pub(super) struct Commands(Arc<Shared>);

struct Shared {
    client: Client,
    /// The present connection, and which in a row it is.
    present: Mutex<(u64, ConnectionManager)>,
}

impl Commands {
    /// No connection is made before it is needed.
    pub(super) fn new(client: Client) -> RedisResult<Self> {
        let present = Mutex::new((0, manager(&client)?));
        Ok(Self(Arc::new(Shared { client, present })))
    }

    fn present(&self) -> (u64, ConnectionManager) {
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives up connection `number` if it left a command unanswered, unless somebody has done so already.
    fn judge<T>(&self, number: u64, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.as_ref().is_err_and(RedisError::is_timeout) {
            let mut present = self.0.present.lock().unwrap_or_else(PoisonError::into_inner);
            if present.0 == number {
                *present = (number + 1, manager(&self.0.client)?);
                metrics::counter!("broker_connections_given_up_total").increment(1);
            }
        }
        answer
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (number, mut connection) = self.present();
            self.judge(number, connection.send_packed_command(command).await)
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (number, mut connection) = self.present();
            self.judge(number, connection.send_packed_commands(pipeline, offset, count).await)
        })
    }

    fn get_db(&self) -> i64 {
        self.present().1.get_db()
    }
}

fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    client.get_connection_manager_lazy(
        ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            // A caller hears of an outage at once; the manager tries again for the next one.
            .set_number_of_retries(0),
    )
}

/// A few connections for large replies, one command on each at a time; cheap to clone.
#[derive(Clone)]
pub(super) struct Pages(Pool);

impl Pages {
    /// No connection is made before it is needed.
    pub(super) fn new(info: ConnectionInfo) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let pool = Pool::builder(Manager::new_with_config(info, config)?)
            .max_size(PAGE_CONNECTIONS)
            .timeouts(Timeouts::wait_millis(2000))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(PROBE))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| RedisError::from(std::io::Error::other(error)))?;
        Ok(Self(pool))
    }

    pub(super) fn close(&self) {
        self.0.close();
    }

    async fn take(&self) -> RedisResult<Connection> {
        match timeout(CONNECT_TIMEOUT, Box::pin(self.0.get())).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error))) => Err(self.judge(error)),
            Ok(Err(_)) | Err(_) => Err(self.judge(timed_out())),
        }
    }

    /// After one silent connection nobody shall try those beside it one by one.
    fn judge(&self, error: RedisError) -> RedisError {
        if error.is_timeout() {
            self.0.retain(|_, _| false);
            metrics::counter!("broker_connections_given_up_total").increment(1);
        }
        error
    }

    fn failed(&self, connection: Connection, error: RedisError) -> RedisError {
        if error.is_io_error() {
            drop(Connection::take(connection));
        }
        self.judge(error)
    }
}

impl ConnectionLike for Pages {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let mut connection = self.take().await?;
            let answer = connection.req_packed_command(command).await;
            answer.map_err(|error| self.failed(connection, error))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let mut connection = self.take().await?;
            let answer = connection.req_packed_commands(pipeline, offset, count).await;
            answer.map_err(|error| self.failed(connection, error))
        })
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// Waits for the answer to a call as long as a caller of ours may have to: a connection, a script and a page each
/// have a bound of their own, and together they would take longer.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    timeout(limit, call).await.unwrap_or_else(|_| Err(timed_out()))
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
