//! Whether the server still has what it acknowledged.
//!
//! A server may come back empty (no persistence, FLUSHALL), or older (an old snapshot, a replica that was
//! promoted before it had everything). Its memory has a *generation*, a key beside the logs: who finds the key
//! missing, or finds it in another run of the server that cannot have kept everything, names a new one.
//! A run with an append-only file has what was acknowledged, as far as its fsync policy goes, and keeps
//! the generation.
//!
//! No command says in passing which run of the server answers it, and asking each time would cost as much
//! as an append. But a server forgets its scripts when it ends. So the scripts that give numbers are
//! loaded under a text of their own for each node and each look at the server: `NOSCRIPT` says that the
//! server is another run than the one that was looked at, and no script of the hot path runs in a
//! server that was not looked at. (Redis 6 writes scripts into snapshots where it has replicas; there the next
//! look, every other second, is what notices.)
//!
//! A cluster is not looked at: its masters have memories of their own, and slots move between them. It is taken for
//! one memory that keeps everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redis::{
    Cmd, ErrorKind, InfoDict, RedisError, RedisResult, Script, ServerErrorKind, Value,
    from_redis_value,
};
use tokio::sync::Mutex;

use super::CALL_TIMEOUT;
use super::connections::{Commands, within};
use super::node::{Over, Request};
use super::once;
use super::servers::Servers;
use crate::live::Memory;

/// The generation of a cluster.
const OF_A_CLUSTER: &str = "cluster";

/// Looks at the server before a call is given up: each says that it has just been started again.
const LOOKS: usize = 4;

/// What was found at the last look, and the scripts that run only in the server that was looked at.
#[derive(Debug)]
pub(super) struct Look {
    /// The generation of the memory.
    pub(super) generation: String,
    /// What stands in the key: the generation and the run it was seen in; nothing in a cluster.
    text: String,
    /// `append.lua`.
    pub(super) append: Script,
    /// The same with what is around it where the request has a key.
    pub(super) append_once: Script,
    /// `close.lua`.
    pub(super) close: Script,
}

impl Look {
    /// Scripts under a text of their own.
    fn new(said_in_front: &str) -> Self {
        let label = nonce();
        let script = |text: &str| Script::new(&format!("-- {label}\n{said_in_front}\n{text}"));
        Self {
            generation: String::new(),
            text: String::new(),
            append: script(include_str!("append.lua")),
            append_once: script(once::SCRIPT),
            close: script(include_str!("close.lua")),
        }
    }

    /// A call of one of its scripts.
    pub(super) fn call<'l>(&self, script: &'l Script, keys: &[String]) -> Request<'l> {
        if self.is_of_a_cluster() {
            Request::script(script, keys)
        } else {
            Request::resident(script, keys)
        }
    }

    fn is_of_a_cluster(&self) -> bool {
        self.text.is_empty()
    }
}

/// The last look of this node, shared by all its callers.
pub(super) struct Lookout {
    servers: Arc<Servers>,
    key: String,
    said_in_front: String,
    last: RwLock<Option<Arc<Look>>>,
    looking: Mutex<()>,
    /// Looks that came to nothing.
    failed: AtomicU64,
    remember: Script,
}

impl Lookout {
    /// On `servers`, whose generation is in `key`; `said_in_front` stands before each script.
    pub(super) fn new(servers: Arc<Servers>, key: String, said_in_front: String) -> Self {
        let remember = Script::new(include_str!("remember.lua"));
        let (looking, failed) = (Mutex::default(), AtomicU64::new(0));
        let last = RwLock::new(servers.is_cluster().then(|| {
            let look = Look::new(&said_in_front);
            Arc::new(Look { generation: OF_A_CLUSTER.to_owned(), ..look })
        }));
        Self { servers, key, said_in_front, last, looking, failed, remember }
    }

    /// The last look, or the first.
    async fn last(&self) -> RedisResult<Arc<Look>> {
        match self.cached() {
            Some(look) => Ok(look),
            None => self.look_again(None).await,
        }
    }

    /// Looks again, unless somebody has since `stale`.
    async fn look_again(&self, stale: Option<&Arc<Look>>) -> RedisResult<Arc<Look>> {
        let failed = self.failed.load(Ordering::SeqCst);
        let _one_at_a_time = self.looking.lock().await;
        let is_stale = |look: &Arc<Look>| stale.is_some_and(|stale| Arc::ptr_eq(stale, look));
        if let Some(look) = self.cached().filter(|look| !is_stale(look)) {
            return Ok(look);
        }
        // Who waited for a look in vain does not wait for one more: a server that is away is away for all.
        if self.failed.load(Ordering::SeqCst) > failed {
            return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
        }
        let look = within(CALL_TIMEOUT, self.look()).await;
        let look = Arc::new(look.inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::SeqCst);
        })?);
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&look));
        Ok(look)
    }

    /// Whether the server is still the one of the last look and says the same generation; otherwise looks again.
    pub(super) async fn checked(&self) -> RedisResult<Arc<Look>> {
        let look = self.last().await?;
        if look.is_of_a_cluster() {
            return Ok(look);
        }
        let asked = async {
            let mut server = self.servers.only()?;
            let run = run(&mut server).await?;
            let text: Option<String> =
                redis::cmd("GET").arg(&self.key).query_async(&mut server).await?;
            Ok((run, text))
        };
        let (run, text) = within(CALL_TIMEOUT, asked).await?;
        let is_same = text.as_deref() == Some(&*look.text) && look.text.ends_with(&run.id);
        if is_same { Ok(look) } else { self.look_again(Some(&look)).await }
    }

    /// What is remembered of the task whose log and counter these keys are.
    pub(super) async fn memory(&self, log: String, seq: String) -> RedisResult<Memory> {
        let look = self.last().await?;
        let asked = [
            (log.clone(), Cmd::hget(log, "generation")),
            (seq.clone(), Cmd::get(seq)),
            (self.key.clone(), Cmd::get(&self.key)),
        ];
        let [log, seq, text]: [Value; 3] = self
            .servers
            .ask_each(&asked)
            .await?
            .try_into()
            .map_err(|_| RedisError::from(std::io::Error::other("three answers")))?;
        let text: Option<String> = from_redis_value(text)?;
        let is_same = look.is_of_a_cluster() || text.as_deref() == Some(&*look.text);
        let look = if is_same { look } else { self.look_again(Some(&look)).await? };
        let last_seq_id: Option<u64> = from_redis_value(seq)?;
        Ok(Memory {
            present: look.generation.clone(),
            log: from_redis_value(log)?,
            last_seq_id: last_seq_id.unwrap_or(0),
        })
    }

    /// Runs a request made for a look, and looks again where the server is not the one that was looked at.
    pub(super) async fn run(
        &self,
        key: &str,
        request: impl for<'l> Fn(&'l Look) -> Request<'l>,
    ) -> RedisResult<Value> {
        let mut look = self.last().await?;
        for _ in 1..LOOKS {
            match self.servers.ask(key, Over::Commands, request(&look)).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    look = self.look_again(Some(&look)).await?;
                }
                done => return done,
            }
        }
        self.servers.ask(key, Over::Commands, request(&look)).await
    }

    fn cached(&self) -> Option<Arc<Look>> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads scripts that no other look has, and then looks: so they are in no server but this run.
    async fn look(&self) -> RedisResult<Look> {
        let mut server = self.servers.only()?;
        let look = Look::new(&self.said_in_front);
        for script in [&look.append, &look.append_once, &look.close] {
            script.load_async(&mut server).await?;
        }
        let run = run(&mut server).await?;
        let found: Option<String> =
            redis::cmd("GET").arg(&self.key).query_async(&mut server).await?;
        let mut found = found.unwrap_or_default();
        loop {
            let stands = match found.split_once(' ') {
                Some((_, seen)) if seen == run.id => found.clone(),
                Some((generation, _)) if run.keeps_everything => format!("{generation} {}", run.id),
                _ => format!("{} {}", nonce(), run.id),
            };
            let mut replace = self.remember.key(&self.key);
            let now: String = replace.arg(&found).arg(&stands).invoke_async(&mut server).await?;
            if now != stands {
                found = now;
                continue;
            }
            let generation = stands.split(' ').next().unwrap_or_default().to_owned();
            if stands != found {
                tracing::info!(generation, run = run.id, "a memory of the live log");
            }
            return Ok(Look { generation, text: stands, ..look });
        }
    }
}

/// One life of a server.
struct Run {
    id: String,
    /// Whether it began with all that was acknowledged before.
    keeps_everything: bool,
}

async fn run(server: &mut Commands) -> RedisResult<Run> {
    let info: InfoDict = redis::cmd("INFO").query_async(server).await?;
    let text = |name: &str| info.get::<String>(name).unwrap_or_default();
    // A replica that was promoted says whom it followed; what it had not received yet is lost.
    let was_replica = text("master_replid2").bytes().any(|byte| byte != b'0');
    let keeps_everything = text("aof_enabled") == "1" && !was_replica;
    Ok(Run { id: text("run_id"), keeps_everything })
}

/// Unlike any other; nobody needs to be kept from guessing it.
fn nonce() -> String {
    format!("{:016x}", fastrand::u64(..))
}
