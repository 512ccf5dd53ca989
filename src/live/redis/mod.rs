//! The live log in Redis (or Valkey), shared by all nodes.
//!
//! Commands of the hot path share one multiplexed connection, on which they pipeline by themselves;
//! pages of a log come over a small pool, for a large reply would make everybody behind it wait. A
//! third connection carries all subscriptions of this node (see `subscriber`). The server should run
//! with `maxmemory-policy noeviction`: an evicted log is a lost log.

pub mod keys;
mod memory;
mod subscriber;

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncCommands, AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, RedisError,
    Script, ServerErrorKind, Value,
};
use async_trait::async_trait;
use deadpool_redis::{Manager, Pool, PoolError, Runtime, Timeouts};
use tokio_util::sync::CancellationToken;

use super::{
    Append, Appended, CLOSED_FOR, Ended, Error, Fence, Hub, LEFT, Live, Memory, OPENING_FOR,
    PAGE_BYTES, Page, WINDOW, WINDOW_BYTES,
};
use crate::domain::{Entry, StatusChange, TaskId, TaskType, Timestamp};
use keys::Keys;
use memory::{Look, Lookout};

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
    lookout: Lookout,
    stop: CancellationToken,
}

/// The scripts that give no numbers; for those that do see `memory`.
struct Scripts {
    read: Script,
    trim: Script,
    end: Script,
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
            read: Script::new(include_str!("read.lua")),
            trim: Script::new(include_str!("trim.lua")),
            end: Script::new(include_str!("end.lua")),
        };
        let lookout = Lookout::new(keys.generation());
        Ok(Self { keys, commands, pages, scripts, lookout, stop })
    }

    fn append_command(&self, look: &Look, task: &TaskId, append: &Append<'_>) -> Cmd {
        let keys = [
            self.keys.fence(task),
            self.keys.seq(task),
            self.keys.progress(task),
            self.keys.log(task),
        ];
        let mut command = evalsha(&look.append, &keys);
        command
            .arg(self.keys.live(task))
            .arg(append.now.to_string())
            .arg(append.worker.map_or("", |worker| worker.as_str()))
            .arg(Fence::opening().to_string())
            .arg(millis(OPENING_FOR));
        // What was verified of another memory than the one that was looked at last says nothing here.
        match append.verified.filter(|verified| verified.memory.present == look.generation) {
            Some(verified) => {
                let open =
                    Fence::Open { attempt: verified.attempt, worker: verified.worker.clone() };
                command
                    .arg(verified.fence.to_string())
                    .arg(open.to_string())
                    .arg(verified.last_sealed)
                    .arg(verified.expires_at.as_millis())
                    .arg(&look.generation)
                    .arg(verified.memory.log.as_deref().unwrap_or_default())
                    .arg(verified.sealed_bytes);
            }
            None => {
                command.arg("").arg("").arg(0).arg(0).arg(&look.generation).arg("").arg(0);
            }
        }
        command.arg(WINDOW).arg(WINDOW_BYTES).arg(append.limits.entries).arg(append.limits.bytes);
        for entry in append.entries {
            command.arg(entry.as_str());
        }
        command
    }
}

/// A call of a script that must be in the server already.
fn evalsha(script: &Script, keys: &[String]) -> Cmd {
    let mut command = ::redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(keys.len()).arg(keys);
    command
}

#[async_trait]
impl Live for RedisLive {
    async fn append(&self, task: &TaskId, append: Append<'_>) -> Result<Appended, Error> {
        let reply: (i64, Option<String>) = {
            let command = |look: &Look| self.append_command(look, task, &append);
            let reply: Vec<Value> = self.lookout.run(&self.commands, command).await?;
            let mut reply = reply.into_iter();
            let last = reply.next().ok_or_else(|| unexpected("an empty reply to an append"))?;
            (
                ::redis::from_redis_value(last).map_err(RedisError::from)?,
                reply
                    .next()
                    .map(::redis::from_redis_value)
                    .transpose()
                    .map_err(RedisError::from)?,
            )
        };
        match reply {
            (-1, _) => Ok(Appended::Full),
            (-2, _) => Ok(Appended::TooLong),
            (last, None) => {
                let last_seq_id =
                    u64::try_from(last).map_err(|_| unexpected("a number below zero"))?;
                Ok(Appended::Kept { last_seq_id })
            }
            (_, Some(fence)) => Ok(Appended::Unverified(
                fence.parse().map_err(|error| Error::Failed(Box::new(error)))?,
            )),
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
        let mut number = || {
            let number = reply.next().ok_or_else(|| unexpected("an empty page"))?;
            Ok::<u64, Error>(::redis::from_redis_value(number).map_err(RedisError::from)?)
        };
        let (last_seq_id, behind) = (number()?, number()?);
        let entries = reply.map(entry).collect::<Result<_, _>>()?;
        Ok(Page { entries, behind, last_seq_id })
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
        let keys = [self.keys.fence(task), self.keys.seq(task)];
        let command = |look: &Look| {
            let mut command = evalsha(&look.close, &keys);
            command.arg(attempt).arg(millis(CLOSED_FOR));
            command
        };
        let last: i64 = self.lookout.run(&self.commands, command).await?;
        u64::try_from(last).map_err(|_| unexpected("a later attempt has the log"))
    }

    async fn memory(&self, task: &TaskId) -> Result<Memory, Error> {
        let look = self.lookout.last(&self.commands).await?;
        let mut commands = self.commands.clone();
        let (text, log, last_seq_id): (Option<String>, Option<String>, Option<u64>) =
            ::redis::pipe()
                .get(self.keys.generation())
                .hget(self.keys.log(task), "generation")
                .get(self.keys.seq(task))
                .query_async(&mut commands)
                .await?;
        let is_same = text.as_deref() == Some(&*look.text);
        let look = if is_same {
            look
        } else {
            self.lookout.look_again(&self.commands, Some(&look)).await?
        };
        let present = look.generation.clone();
        Ok(Memory { present, log, last_seq_id: last_seq_id.unwrap_or(0) })
    }

    async fn generation(&self) -> Result<String, Error> {
        Ok(self.lookout.checked(&self.commands).await?.generation.clone())
    }

    async fn trim(&self, task: &TaskId, last_sealed: u64) -> Result<(), Error> {
        self.scripts
            .trim
            .key(self.keys.seq(task))
            .key(self.keys.progress(task))
            .key(self.keys.log(task))
            .arg(last_sealed)
            .arg(LEFT)
            .invoke_async::<()>(&mut self.commands.clone())
            .await?;
        Ok(())
    }

    async fn end(
        &self,
        task: &TaskId,
        attempt: u32,
        end: &StatusChange,
        _now: Timestamp,
    ) -> Result<Ended, Error> {
        let gone: bool = self
            .scripts
            .end
            .key(self.keys.fence(task))
            .key(self.keys.seq(task))
            .key(self.keys.progress(task))
            .key(self.keys.log(task))
            .arg(self.keys.live(task))
            .arg(message(end)?)
            .arg(end.last_seq_id)
            .arg(attempt)
            .arg(millis(CLOSED_FOR))
            .invoke_async(&mut self.commands.clone())
            .await?;
        Ok(if gone { Ended::Gone } else { Ended::Unsealed })
    }

    async fn announce(&self, task: &TaskId, change: &StatusChange) -> Result<(), Error> {
        let text = format!("s{}", message(change)?);
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

fn message(change: &StatusChange) -> Result<String, Error> {
    serde_json::to_string(change).map_err(|error| Error::Failed(error.into()))
}

fn unexpected(what: &str) -> Error {
    Error::Failed(what.into())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
