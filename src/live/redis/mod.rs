//! The live log in Redis (or Valkey), shared by all nodes.
//!
//! Commands of the hot path share one multiplexed connection, on which they pipeline by themselves;
//! pages of a log come over a small pool, for a large reply would make everybody behind it wait. A
//! third connection carries all subscriptions of this node (see `subscriber`). The server should run
//! with `maxmemory-policy noeviction`: an evicted log is a lost log. Every call has a bound, and a connection that
//! has fallen silent is given up (see `connections`).

mod connections;
pub mod keys;
mod subscriber;

use std::sync::Arc;
use std::time::Duration;

use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncCommands, Client, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, Script,
    ServerErrorKind, Value,
};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{
    Append, Appended, CLOSED_FOR, Ended, Error, Fence, Hub, Live, OPENING_FOR, PAGE_BYTES, Page,
};
use crate::domain::{Entry, StatusChange, TaskId, TaskType, Timestamp};
use connections::{Commands, Pages, within};
use keys::Keys;

/// A command that takes longer has failed: nothing hangs on a broker that is silent.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for making a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a call takes at most, all in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The live log in Redis.
pub struct RedisLive {
    keys: Keys,
    commands: Commands,
    pages: Pages,
    scripts: Scripts,
    stop: CancellationToken,
}

struct Scripts {
    append: Script,
    read: Script,
    close: Script,
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
        let (commands, pages) = (Commands::new(client.clone())?, Pages::new(info)?);
        let keys = Keys::new(namespace);
        let stop = CancellationToken::new();
        let run = subscriber::run(client, keys.clone(), Arc::clone(hub), interests);
        tokio::spawn(stop.clone().run_until_cancelled_owned(run));
        let scripts = Scripts {
            append: Script::new(include_str!("append.lua")),
            read: Script::new(include_str!("read.lua")),
            close: Script::new(include_str!("close.lua")),
            end: Script::new(include_str!("end.lua")),
        };
        Ok(Self { keys, commands, pages, scripts, stop })
    }
}

#[async_trait]
impl Live for RedisLive {
    async fn append(&self, task: &TaskId, append: Append<'_>) -> Result<Appended, Error> {
        let mut call = self.scripts.append.prepare_invoke();
        call.key(self.keys.fence(task)).key(self.keys.seq(task)).key(self.keys.progress(task));
        call.arg(self.keys.live(task))
            .arg(append.now.to_string())
            .arg(append.worker.map_or("", |worker| worker.as_str()))
            .arg(Fence::opening().to_string())
            .arg(millis(OPENING_FOR));
        if let Some(verified) = append.verified {
            let open = Fence::Open { attempt: verified.attempt, worker: verified.worker.clone() };
            call.arg(verified.fence.to_string())
                .arg(open.to_string())
                .arg(verified.last_sealed)
                .arg(verified.expires_at.as_millis());
        } else {
            call.arg("").arg("").arg(0).arg(0);
        }
        for entry in append.entries {
            call.arg(entry.as_str());
        }
        let reply: (u64, Option<String>) = {
            let reply: Vec<Value> = answer(call.invoke_async(&mut self.commands.clone())).await?;
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
            (last_seq_id, None) => Ok(Appended::Kept { last_seq_id }),
            (_, Some(fence)) => Ok(Appended::Unverified(
                fence.parse().map_err(|error| Error::Failed(Box::new(error)))?,
            )),
        }
    }

    async fn read(&self, task: &TaskId, after: u64, limit: usize) -> Result<Page, Error> {
        let mut call = self.scripts.read.key(self.keys.seq(task));
        call.key(self.keys.progress(task)).arg(after).arg(limit).arg(PAGE_BYTES);
        let reply: Vec<Value> = answer(call.invoke_async(&mut self.pages.clone())).await?;
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
        let lines: Vec<Value> = answer(pipeline.query_async(&mut self.pages.clone())).await?;
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
        let mut pages = self.pages.clone();
        let last: Vec<Option<u64>> = answer(pipeline.query_async(&mut pages)).await?;
        Ok(last.into_iter().map(Option::unwrap_or_default).collect())
    }

    async fn close(&self, task: &TaskId, attempt: u32, _now: Timestamp) -> Result<u64, Error> {
        let mut call = self.scripts.close.key(self.keys.fence(task));
        call.key(self.keys.seq(task)).arg(attempt).arg(millis(CLOSED_FOR));
        let last: i64 = answer(call.invoke_async(&mut self.commands.clone())).await?;
        u64::try_from(last).map_err(|_| unexpected("a later attempt has the log"))
    }

    async fn end(
        &self,
        task: &TaskId,
        attempt: u32,
        end: &StatusChange,
        _now: Timestamp,
    ) -> Result<Ended, Error> {
        let mut call = self.scripts.end.key(self.keys.fence(task));
        call.key(self.keys.seq(task))
            .key(self.keys.progress(task))
            .arg(self.keys.live(task))
            .arg(message(end)?)
            .arg(end.last_seq_id)
            .arg(attempt)
            .arg(millis(CLOSED_FOR));
        let gone: bool = answer(call.invoke_async(&mut self.commands.clone())).await?;
        Ok(if gone { Ended::Gone } else { Ended::Unsealed })
    }

    async fn announce(&self, task: &TaskId, change: &StatusChange) -> Result<(), Error> {
        let text = format!("s{}", message(change)?);
        Ok(answer(self.commands.clone().publish(self.keys.live(task), text)).await?)
    }

    async fn wake(&self, task_type: &TaskType) -> Result<(), Error> {
        Ok(answer(self.commands.clone().publish(self.keys.wake(), task_type.as_str())).await?)
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(answer(self.commands.clone().ping()).await?)
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

/// The answer to a call, or that there is none.
async fn answer<T>(call: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    within(CALL_TIMEOUT, call).await
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
