//! The live log in Redis (or Valkey), shared by all nodes.
//!
//! One server or a cluster: `servers` hides which. Commands of the hot path share one multiplexed connection to
//! each server, on which they pipeline by themselves; pages of a log come over a small pool, for a
//! large reply would make everybody behind it wait. A third connection carries the subscriptions of this node
//! (see `subscriber`). The servers should run with `maxmemory-policy noeviction`: an evicted log is a lost
//! log. Every call has a bound, and a connection that has fallen silent is given up (see `connections`).

mod close;
mod connections;
pub mod keys;
mod link;
mod look;
mod memory;
mod messages;
mod node;
mod once;
mod servers;
mod slots;
mod subscriber;
pub mod target;

use std::sync::Arc;
use std::time::Duration;

use ::redis::{
    Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind, Value, from_redis_value,
};
use async_trait::async_trait;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{
    Append, Appended, CLOSED_FOR, Closed, Ended, Error, Fence, Generation, Haste, Hub, LEFT, Live,
    Memory, OPENING_FOR, PAGE_BYTES, Page, WINDOW, WINDOW_BYTES,
};
use crate::domain::{Entry, Event, Moved, Receipt, StatusChange, TaskId, TaskType, Timestamp};
use keys::Keys;
use look::Look;
use memory::{At, Found, Lookout};
use node::{Over, Request};
use servers::Servers;
use target::{Target, Tls};

/// A command that takes longer has failed: nothing hangs on a broker that is silent.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for making a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a call takes at most, all in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Logs that are trimmed at once, and at most while appends go first: a script is not interrupted.
const TRIMS: usize = 16;
const TRIMS_ASIDE: usize = 4;

/// The live log in Redis.
pub struct RedisLive {
    keys: Keys,
    servers: Arc<Servers>,
    scripts: Scripts,
    lookout: Lookout,
    /// The command that publishes.
    publish: &'static str,
    stop: CancellationToken,
}

/// The scripts that give no numbers; for those that do see `memory`.
struct Scripts {
    read: Script,
    trim: Script,
    end: Script,
    recheck: Script,
}

impl std::fmt::Debug for RedisLive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLive").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl RedisLive {
    /// Prepares connections to the servers at `url` and feeds `hub` from them. No connection is made
    /// before it is needed, and each is made again after it was lost.
    pub fn connect(
        url: &str,
        tls: &Tls,
        namespace: &str,
        hub: &Arc<Hub>,
        mut interests: tokio::sync::mpsc::UnboundedReceiver<super::hub::Interest>,
    ) -> Result<Self, Error> {
        let target = Target::parse(url, tls).map_err(|error| Error::Failed(error.into()))?;
        let servers = Arc::new(Servers::new(target)?);
        let keys = Keys::new(namespace);
        let stop = CancellationToken::new();
        let run = {
            let (servers, keys, hub) = (Arc::clone(&servers), keys.clone(), Arc::clone(hub));
            async move {
                let subscriptions = subscriber::run(&servers, &keys, &hub, &mut interests);
                tokio::join!(servers.keep_map(), subscriptions);
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(run));
        // A sharded channel has the slot of its task's keys: who has these publishes there, and no other
        // server of a cluster hears of it.
        let publish = if servers.is_cluster() { "SPUBLISH" } else { "PUBLISH" };
        // The mark of a master of a cluster is not in the slots of its tasks.
        let mark = if servers.is_cluster() {
            "nil".to_owned()
        } else {
            format!("'{}'", keys.generation())
        };
        let said_in_front = format!(
            "local PUBLISH, MARK, OPENING_FOR = '{publish}', {mark}, {}\nlocal WINDOW, WINDOW_BYTES = {WINDOW}, {WINDOW_BYTES}",
            millis(OPENING_FOR)
        );
        let script = |text: &str| Script::new(&format!("{said_in_front}\n{text}"));
        let scripts = Scripts {
            read: script(include_str!("read.lua")),
            trim: script(include_str!("trim.lua")),
            end: script(include_str!("end.lua")),
            recheck: script(include_str!("recheck.lua")),
        };
        let lookout = Lookout::new(Arc::clone(&servers), keys.generation(), said_in_front);
        Ok(Self { keys, servers, scripts, lookout, publish, stop })
    }

    fn append_request(&self, look: &Look, task: &TaskId, append: &Append<'_>) -> Request<'static> {
        let mut keys = vec![
            self.keys.fence(task),
            self.keys.seq(task),
            self.keys.progress(task),
            self.keys.log(task),
        ];
        let scripts = &look.scripts;
        let script = if append.key.is_some() { &scripts.append_once } else { &scripts.append };
        if append.key.is_some() {
            keys.extend(once::days(&self.keys, task, append.now));
        }
        let mut call = Request::resident(script, &keys)
            .arg(self.keys.live(task))
            .arg(append.caller.worker.as_ref().map_or("", |worker| worker.as_str()))
            .arg(append.caller.token.as_ref().map_or("", |token| token.as_str()))
            .arg(&look.generation)
            .arg(Fence::opening().to_string())
            .arg(append.limits.entries)
            .arg(append.limits.bytes)
            .arg(append.entries.len());
        for entry in append.entries {
            call = call.arg(Entry::behind_number(append.now, entry));
        }
        // What was verified of another memory than the one that is asked says nothing here.
        let verified =
            append.verified.filter(|verified| verified.memory.present == look.generation);
        if let Some(verified) = verified {
            call = call
                .arg(verified.fence.to_string())
                .arg(Fence::Open(verified.grant.clone()).to_string())
                .arg(verified.expires_at.as_millis())
                .arg(verified.last_sealed)
                .arg(verified.sealed_bytes)
                .arg(verified.memory.log.as_deref().unwrap_or_default());
        }
        match append.key {
            Some(key) => once::say(call, key, append.now),
            None => call,
        }
    }

    /// What `append.lua` says to a caller that the fence did not let in.
    async fn unverified(&self, answer: Value, at: At, seq: &str) -> Result<Appended, Error> {
        let (_, text, log, last_seq_id, mark): (i64, String, String, u64, String) =
            from_redis_value(answer).map_err(RedisError::from)?;
        let (log, mark) = (Some(log).filter(|log| !log.is_empty()), Some(mark));
        // Where the mark says something else, or is elsewhere, it takes a closer look.
        let memory = if at.agrees_with(mark.as_deref()) {
            Some(self.lookout.judge(at, seq, Found { log, last_seq_id, mark }).await?)
        } else {
            None
        };
        Ok(Appended::Unverified { fence: fence(&text)?, memory })
    }

    /// Calls a script, or any command, on keys of one task.
    async fn ask<T: FromRedisValue>(
        &self,
        task: &TaskId,
        over: Over,
        request: Request<'_>,
    ) -> Result<T, Error> {
        let answer = self.servers.ask(&self.keys.seq(task), over, request).await?;
        Ok(from_redis_value(answer).map_err(RedisError::from)?)
    }

    /// Says how many servers of ours have heard it; in a cluster, of those that listen at the channel's master.
    async fn publish(&self, channel: &str, text: &str) -> Result<u64, Error> {
        let mut publish = ::redis::cmd(self.publish);
        publish.arg(channel).arg(text);
        let heard = self.servers.ask(channel, Over::Commands, publish).await?;
        Ok(from_redis_value(heard).map_err(RedisError::from)?)
    }

    async fn trim_log(&self, task: TaskId, last_sealed: u64) -> Result<(), Error> {
        let keys = [self.keys.seq(&task), self.keys.progress(&task), self.keys.log(&task)];
        let call = Request::script(&self.scripts.trim, &keys).arg(last_sealed).arg(LEFT);
        self.ask::<u64>(&task, Over::Commands, call).await.map(drop)
    }
}

#[async_trait]
impl Live for RedisLive {
    async fn append(&self, task: &TaskId, append: Append<'_>) -> Result<Appended, Error> {
        let key = self.keys.seq(task);
        let (answer, at) =
            self.lookout.run(&key, |look| self.append_request(look, task, &append)).await?;
        if matches!(&answer, Value::Array(said) if said.len() > 2) {
            return Box::pin(self.unverified(answer, at, &key)).await;
        }
        let (last, text): (i64, String) = from_redis_value(answer).map_err(RedisError::from)?;
        match last {
            -1 => return once::before(append.key, &text),
            -2 => return Ok(Appended::Full),
            -3 => return Ok(Appended::TooLong),
            _ => {}
        }
        let last_seq_id = u64::try_from(last).map_err(|_| unexpected("a number below zero"))?;
        match fence(&text)? {
            Fence::Open(grant) => Ok(Appended::Kept { last_seq_id, grant }),
            _ => Err(unexpected("an entry behind a fence that is not open")),
        }
    }

    async fn read(&self, task: &TaskId, after: u64, limit: usize) -> Result<Page, Error> {
        let keys = [self.keys.seq(task), self.keys.progress(task)];
        let call = Request::script(&self.scripts.read, &keys).arg(after).arg(limit).arg(PAGE_BYTES);
        let reply: Vec<Value> = self.ask(task, Over::Pages, call).await?;
        let mut reply = reply.into_iter();
        let mut number = || {
            let number = reply.next().ok_or_else(|| unexpected("an empty page"))?;
            Ok::<u64, Error>(from_redis_value(number).map_err(RedisError::from)?)
        };
        let (last_seq_id, behind) = (number()?, number()?);
        let entries = reply.map(entry).collect::<Result<_, _>>()?;
        Ok(Page { entries, behind, last_seq_id })
    }

    async fn latest(&self, tasks: &[TaskId]) -> Result<Vec<Option<Entry>>, Error> {
        let newest = |key: String| (key.clone(), Cmd::lindex(key, -1));
        let asked: Vec<_> = tasks.iter().map(|task| newest(self.keys.progress(task))).collect();
        let lines = self.servers.ask_each(&asked).await?;
        lines
            .into_iter()
            .map(|line| if line == Value::Nil { Ok(None) } else { entry(line).map(Some) })
            .collect()
    }

    async fn last_seq_ids(&self, tasks: &[TaskId]) -> Result<Vec<u64>, Error> {
        let count = |key: String| (key.clone(), Cmd::get(key));
        let asked: Vec<_> = tasks.iter().map(|task| count(self.keys.seq(task))).collect();
        let last = self.servers.ask_each(&asked).await?;
        let last = last.into_iter().map(from_redis_value::<Option<u64>>);
        let last: Vec<_> = last.collect::<Result<_, _>>().map_err(RedisError::from)?;
        Ok(last.into_iter().map(Option::unwrap_or_default).collect())
    }

    async fn close(&self, task: &TaskId, attempt: u32, now: Timestamp) -> Result<Closed, Error> {
        self.close_log(task, attempt, now).await
    }

    async fn memory(&self, task: &TaskId) -> Result<Memory, Error> {
        Ok(self.lookout.memory(self.keys.log(task), self.keys.seq(task)).await?)
    }

    async fn generations(&self) -> Result<Vec<Generation>, Error> {
        Ok(self.lookout.generations().await?)
    }

    async fn trim(&self, sealed: &[(TaskId, u64)], haste: Haste) -> Result<(), Error> {
        let together = match haste {
            Haste::AtOnce => TRIMS,
            Haste::Aside => TRIMS_ASIDE,
        };
        let trims = futures::stream::iter(sealed.to_vec())
            .map(|(task, last_sealed)| self.trim_log(task, last_sealed));
        // One that fails is no reason to keep the others.
        let trims: Vec<_> = trims.buffer_unordered(together).collect().await;
        trims.into_iter().collect()
    }

    async fn receipts(&self, task: &TaskId, now: Timestamp) -> Result<Vec<Receipt>, Error> {
        once::read(&self.servers, &self.keys, task, now).await
    }

    async fn end(
        &self,
        task: &TaskId,
        attempt: u32,
        end: &StatusChange,
        now: Timestamp,
    ) -> Result<Ended, Error> {
        let [today, yesterday] = once::days(&self.keys, task, now);
        let keys = [
            self.keys.fence(task),
            self.keys.seq(task),
            self.keys.progress(task),
            self.keys.log(task),
            today,
            yesterday,
        ];
        let call = Request::script(&self.scripts.end, &keys)
            .arg(self.keys.live(task))
            .arg(message(end)?)
            .arg(end.last_seq_id)
            .arg(attempt)
            .arg(millis(CLOSED_FOR));
        let gone: bool = self.ask(task, Over::Commands, call).await?;
        Ok(if gone { Ended::Gone } else { Ended::Unsealed })
    }

    async fn recheck(&self, task: &TaskId, closed: Option<u32>) -> Result<(), Error> {
        let closed = closed.map(|attempt| Fence::Closed { attempt }.to_string());
        let call = Request::script(&self.scripts.recheck, &[self.keys.fence(task)])
            .arg(closed.unwrap_or_default());
        self.ask(task, Over::Commands, call).await
    }

    async fn announce(&self, task: &TaskId, event: &Event) -> Result<(), Error> {
        let text = match event {
            // Published where they are kept; a gap is read where it stands.
            Event::Progress(_) | Event::Gap(_) => return Ok(()),
            Event::Status(change) => format!("s{}", message(change)?),
            Event::Notice(notice) => format!("n{}", message(notice)?),
        };
        self.publish(&self.keys.live(task), &text).await.map(drop)
    }

    async fn wake(&self, types: &[TaskType]) -> Result<(), Error> {
        let lines: Vec<&str> = types.iter().map(TaskType::as_str).collect();
        self.publish(&self.keys.wake(), &lines.join("\n")).await.map(drop)
    }

    async fn tell_moves(&self, moves: &[Moved]) -> Result<bool, Error> {
        let lines: Vec<String> = moves.iter().map(Moved::to_string).collect();
        Ok(self.publish(&self.keys.moves(), &lines.join("\n")).await? > 0)
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(self.servers.ping().await?)
    }

    async fn shut_down(&self) {
        self.stop.cancel();
        self.servers.close();
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

fn entry(line: Value) -> Result<Entry, Error> {
    let line: String = from_redis_value(line).map_err(RedisError::from)?;
    Entry::parse(&line).map_err(|error| Error::Failed(error.into()))
}

fn fence(text: &str) -> Result<Fence, Error> {
    text.parse().map_err(|error| Error::Failed(Box::new(error)))
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
