//! The live log in Redis (or Valkey), shared by all nodes.
//!
//! Commands of the hot path share one multiplexed connection, on which they pipeline by themselves;
//! pages of a log come over a small pool, for a large reply would make everybody behind it wait. A
//! third connection carries all subscriptions of this node (see `subscriber`). The server should run
//! with `maxmemory-policy noeviction`: an evicted log is a lost log.

pub mod keys;
mod once;
mod subscriber;

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncCommands, AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, RedisError,
    Script, ServerErrorKind, Value,
};
use async_trait::async_trait;
use deadpool_redis::{Manager, Pool, PoolError, Runtime, Timeouts};
use tokio_util::sync::CancellationToken;

use super::{
    Append, Appended, CLOSED_FOR, Ended, Error, Fence, Hub, Live, OPENING_FOR, PAGE_BYTES, Page,
};
use crate::domain::{Entry, Event, Receipt, StatusChange, TaskId, TaskType, Timestamp};
use keys::Keys;

/// A command that takes longer has failed: nothing hangs on a broker that is silent.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for making a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections for pages at most.
const PAGE_CONNECTIONS: usize = 8;

/// The live log in Redis.
pub struct RedisLive {
    keys: Keys,
    commands: ConnectionManager,
    pages: Pool,
    scripts: Scripts,
    stop: CancellationToken,
}

struct Scripts {
    append: Script,
    append_once: Script,
    read: Script,
    close: Script,
    end: Script,
    recheck: Script,
}

impl std::fmt::Debug for RedisLive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLive").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl RedisLive {
    /// Prepares connections to the server at `url` and feeds `hub` from it. No connection is made
    /// before it is needed, and each is made again after it was lost.
    pub fn connect(
        url: &str,
        namespace: &str,
        hub: &Arc<Hub>,
        interests: tokio::sync::mpsc::UnboundedReceiver<super::hub::Interest>,
    ) -> Result<Self, Error> {
        let info =
            url.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info.clone())?;
        let commands = client.get_connection_manager_lazy(
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
            .map_err(|error| Error::Failed(error.into()))?;
        let keys = Keys::new(namespace);
        let stop = CancellationToken::new();
        let run = subscriber::run(client, keys.clone(), Arc::clone(hub), interests);
        tokio::spawn(stop.clone().run_until_cancelled_owned(run));
        let scripts = Scripts {
            append: Script::new(include_str!("append.lua")),
            append_once: Script::new(once::SCRIPT),
            read: Script::new(include_str!("read.lua")),
            close: Script::new(include_str!("close.lua")),
            end: Script::new(include_str!("end.lua")),
            recheck: Script::new(include_str!("recheck.lua")),
        };
        Ok(Self { keys, commands, pages, scripts, stop })
    }
}

#[async_trait]
impl Live for RedisLive {
    async fn append(&self, task: &TaskId, append: Append<'_>) -> Result<Appended, Error> {
        let script =
            if append.key.is_some() { &self.scripts.append_once } else { &self.scripts.append };
        let mut call = script.prepare_invoke();
        call.key(self.keys.fence(task)).key(self.keys.seq(task)).key(self.keys.progress(task));
        call.arg(self.keys.live(task))
            .arg(append.now.to_string())
            .arg(append.caller.worker.as_ref().map_or("", |worker| worker.as_str()))
            .arg(append.caller.token.as_ref().map_or("", |token| token.as_str()))
            .arg(Fence::opening().to_string())
            .arg(millis(OPENING_FOR));
        if let Some(verified) = append.verified {
            call.arg(verified.fence.to_string())
                .arg(Fence::Open(verified.grant.clone()).to_string())
                .arg(verified.last_sealed)
                .arg(verified.expires_at.as_millis());
        } else {
            call.arg("").arg("").arg(0).arg(0);
        }
        for entry in append.entries {
            call.arg(entry.as_str());
        }
        if let Some(key) = append.key {
            once::say(&mut call, &self.keys, task, key, append.now);
        }
        let (last, fence): (i64, String) = call.invoke_async(&mut self.commands.clone()).await?;
        let Ok(last_seq_id) = u64::try_from(last) else {
            return once::before(append.key, &fence);
        };
        match fence.parse().map_err(|error| Error::Failed(Box::new(error)))? {
            Fence::Open(grant) if last_seq_id > 0 => Ok(Appended::Kept { last_seq_id, grant }),
            fence => Ok(Appended::Unverified(fence)),
        }
    }

    async fn read(&self, task: &TaskId, after: u64, limit: usize) -> Result<Page, Error> {
        let mut connection = self.pages.get().await?;
        let reply: Vec<Value> = self
            .scripts
            .read
            .key(self.keys.seq(task))
            .key(self.keys.progress(task))
            .arg(after)
            .arg(limit)
            .arg(PAGE_BYTES)
            .invoke_async(&mut *connection)
            .await?;
        let mut reply = reply.into_iter();
        let last = reply.next().ok_or_else(|| unexpected("an empty page"))?;
        let last_seq_id = ::redis::from_redis_value(last).map_err(RedisError::from)?;
        let entries = reply.map(entry).collect::<Result<_, _>>()?;
        Ok(Page { entries, last_seq_id })
    }

    async fn latest(&self, tasks: &[TaskId]) -> Result<Vec<Option<Entry>>, Error> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = ::redis::pipe();
        for task in tasks {
            pipeline.lindex(self.keys.progress(task), -1);
        }
        let mut connection = self.pages.get().await?;
        let lines: Vec<Value> = pipeline.query_async(&mut *connection).await?;
        lines
            .into_iter()
            .map(|line| if line == Value::Nil { Ok(None) } else { entry(line).map(Some) })
            .collect()
    }

    async fn last_seq_ids(&self, tasks: &[TaskId]) -> Result<Vec<u64>, Error> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = ::redis::pipe();
        for task in tasks {
            pipeline.get(self.keys.seq(task));
        }
        let mut connection = self.pages.get().await?;
        let last: Vec<Option<u64>> = pipeline.query_async(&mut *connection).await?;
        Ok(last.into_iter().map(Option::unwrap_or_default).collect())
    }

    async fn close(&self, task: &TaskId, attempt: u32, _now: Timestamp) -> Result<u64, Error> {
        let last: i64 = self
            .scripts
            .close
            .key(self.keys.fence(task))
            .key(self.keys.seq(task))
            .arg(attempt)
            .arg(millis(CLOSED_FOR))
            .invoke_async(&mut self.commands.clone())
            .await?;
        u64::try_from(last).map_err(|_| unexpected("a later attempt has the log"))
    }

    async fn receipts(&self, task: &TaskId, now: Timestamp) -> Result<Vec<Receipt>, Error> {
        let mut connection = self.pages.get().await?;
        once::read(&mut connection, &self.keys, task, now).await
    }

    async fn end(
        &self,
        task: &TaskId,
        attempt: u32,
        end: &StatusChange,
        now: Timestamp,
    ) -> Result<Ended, Error> {
        let [today, yesterday] = once::days(&self.keys, task, now);
        let gone: bool = self
            .scripts
            .end
            .key(self.keys.fence(task))
            .key(self.keys.seq(task))
            .key(self.keys.progress(task))
            .key(today)
            .key(yesterday)
            .arg(self.keys.live(task))
            .arg(message(end)?)
            .arg(end.last_seq_id)
            .arg(attempt)
            .arg(millis(CLOSED_FOR))
            .invoke_async(&mut self.commands.clone())
            .await?;
        Ok(if gone { Ended::Gone } else { Ended::Unsealed })
    }

    async fn recheck(&self, task: &TaskId, closed: Option<u32>) -> Result<(), Error> {
        let closed = closed.map(|attempt| Fence::Closed { attempt }.to_string());
        Ok(self
            .scripts
            .recheck
            .key(self.keys.fence(task))
            .arg(closed.unwrap_or_default())
            .invoke_async(&mut self.commands.clone())
            .await?)
    }

    async fn announce(&self, task: &TaskId, event: &Event) -> Result<(), Error> {
        let text = match event {
            // Published where they are kept.
            Event::Progress(_) => return Ok(()),
            Event::Status(change) => format!("s{}", message(change)?),
            Event::Notice(notice) => format!("n{}", message(notice)?),
        };
        Ok(self.commands.clone().publish(self.keys.live(task), text).await?)
    }

    async fn wake(&self, task_type: &TaskType) -> Result<(), Error> {
        Ok(self.commands.clone().publish(self.keys.wake(), task_type.as_str()).await?)
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(self.commands.clone().ping().await?)
    }

    async fn shut_down(&self) {
        self.stop.cancel();
        self.pages.close();
    }
}

impl Drop for RedisLive {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        // What the server refuses for what we said is a defect; the rest passes, or is said to.
        let defect = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ResponseError)
                | ErrorKind::UnexpectedReturnType
                | ErrorKind::Parse
                | ErrorKind::InvalidClientConfig
        );
        if defect { Self::Failed(error.into()) } else { Self::Unavailable(error.into()) }
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            other => Self::Unavailable(other.into()),
        }
    }
}

fn entry(line: Value) -> Result<Entry, Error> {
    let line: String = ::redis::from_redis_value(line).map_err(RedisError::from)?;
    Entry::parse(&line).map_err(|error| Error::Failed(error.into()))
}

fn message(event: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(event).map_err(|error| Error::Failed(error.into()))
}

fn unexpected(what: &str) -> Error {
    Error::Failed(what.into())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
