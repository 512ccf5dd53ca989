//! One server, its connections, and what is said over them.

use std::time::Duration;

use ::redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult, Script,
    ServerErrorKind, ToRedisArgs, Value, cmd, pipe,
};
use deadpool_redis::{Manager, Pool, PoolError, Runtime, Timeouts};

use super::slots::Address;
use super::target::Target;
use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// Connections for pages to one server at most.
const PAGE_CONNECTIONS: usize = 8;

/// One server.
#[derive(Clone)]
pub(super) struct Node {
    /// Where it is.
    pub(super) address: Address,
    /// The connection that all short requests share.
    pub(super) commands: ConnectionManager,
    /// A few connections for large replies: on a shared one they would make everybody behind them wait.
    pub(super) pages: Pool,
}

/// Which connection carries a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over {
    /// The one that all short requests share.
    Commands,
    /// One of a few.
    Pages,
}

/// A command, and the script it calls by its hash.
pub(super) struct Request<'a> {
    cmd: Cmd,
    script: Option<&'a Script>,
}

impl<'a> Request<'a> {
    /// A call of a script on `keys`, all of one task.
    pub(super) fn script(script: &'a Script, keys: &[String]) -> Self {
        let mut cmd = cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(keys.len()).arg(keys);
        Self { cmd, script: Some(script) }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, value: impl ToRedisArgs) -> Self {
        self.cmd.arg(value);
        self
    }

    /// Sends it, loading the script where the server has forgotten it. `asking` has a server answer for a slot
    /// that is on its way there.
    async fn send(&self, to: &mut impl ConnectionLike, asking: bool) -> RedisResult<Value> {
        let sent = self.send_once(to, asking).await;
        match (&sent, self.script) {
            (Err(error), Some(script))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                script.load_async(to).await?;
                self.send_once(to, asking).await
            }
            _ => sent,
        }
    }

    async fn send_once(&self, to: &mut impl ConnectionLike, asking: bool) -> RedisResult<Value> {
        if !asking {
            return self.cmd.query_async(to).await;
        }
        let mut both = pipe();
        both.cmd("ASKING").ignore().add_command(self.cmd.clone());
        let (answer,) = both.query_async(to).await?;
        Ok(answer)
    }
}

impl From<Cmd> for Request<'_> {
    fn from(cmd: Cmd) -> Self {
        Self { cmd, script: None }
    }
}

impl Node {
    /// Sends a request over one of its connections.
    pub(super) async fn send(
        &self,
        request: &Request<'_>,
        over: Over,
        asking: bool,
    ) -> RedisResult<Value> {
        match over {
            Over::Commands => request.send(&mut self.commands.clone(), asking).await,
            Over::Pages => {
                let mut connection = self.pages.get().await.map_err(of_pool)?;
                request.send(&mut *connection, asking).await
            }
        }
    }

    /// Prepares connections. None is made before it is needed, and each is made again after it was lost.
    pub(super) fn new(target: &Target, address: &Address) -> RedisResult<Self> {
        let info = target.connection(address);
        let commands = Client::open(info.clone())?.get_connection_manager_lazy(
            ConnectionManagerConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(RESPONSE_TIMEOUT))
                // A caller hears of an outage at once; the manager goes on trying for the next one.
                .set_number_of_retries(1)
                .set_max_delay(Duration::from_millis(500)),
        )?;
        let page_config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let pages = Pool::builder(Manager::new_with_config(info, page_config)?)
            .max_size(PAGE_CONNECTIONS)
            .timeouts(Timeouts::wait_millis(2000))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(RESPONSE_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| RedisError::from(std::io::Error::other(error)))?;
        Ok(Self { address: address.clone(), commands, pages })
    }
}

/// A connection could not be had.
pub(super) fn of_pool(error: PoolError) -> RedisError {
    match error {
        PoolError::Backend(error) => error,
        other => RedisError::from(std::io::Error::other(other)),
    }
}
