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

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redis::aio::ConnectionManager;
use redis::{Cmd, ErrorKind, FromRedisValue, InfoDict, RedisResult, Script, ServerErrorKind};
use tokio::sync::Mutex;

/// Looks at the server before a call is given up: each says that it has just been started again.
const LOOKS: usize = 4;

/// What was found at the last look, and the scripts that run only in the server that was looked at.
#[derive(Debug)]
pub(super) struct Look {
    /// The generation of the memory.
    pub(super) generation: String,
    /// What stands in the key: the generation and the run it was seen in.
    pub(super) text: String,
    /// `append.lua`.
    pub(super) append: Script,
    /// `close.lua`.
    pub(super) close: Script,
}

/// The last look of this node, shared by all its callers.
#[derive(Debug)]
pub(super) struct Lookout {
    key: String,
    last: RwLock<Option<Arc<Look>>>,
    looking: Mutex<()>,
    /// Looks that came to nothing.
    failed: AtomicU64,
    remember: Script,
}

impl Lookout {
    pub(super) fn new(key: String) -> Self {
        let remember = Script::new(include_str!("remember.lua"));
        let (last, looking, failed) = (RwLock::default(), Mutex::default(), AtomicU64::new(0));
        Self { key, last, looking, failed, remember }
    }

    /// The last look, or the first.
    pub(super) async fn last(&self, server: &ConnectionManager) -> RedisResult<Arc<Look>> {
        match self.cached() {
            Some(look) => Ok(look),
            None => self.look_again(server, None).await,
        }
    }

    /// Looks again, unless somebody has since `stale`.
    pub(super) async fn look_again(
        &self,
        server: &ConnectionManager,
        stale: Option<&Arc<Look>>,
    ) -> RedisResult<Arc<Look>> {
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
        let look = self.look(server.clone()).await;
        let look = Arc::new(look.inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::SeqCst);
        })?);
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&look));
        Ok(look)
    }

    /// Whether the server is still the one of the last look and says the same generation; otherwise looks again.
    pub(super) async fn checked(&self, server: &ConnectionManager) -> RedisResult<Arc<Look>> {
        let look = self.last(server).await?;
        let mut server_too = server.clone();
        let run = run(&mut server_too).await?;
        let text: Option<String> =
            redis::cmd("GET").arg(&self.key).query_async(&mut server_too).await?;
        let is_same = text.as_deref() == Some(&*look.text) && look.text.ends_with(&run.id);
        if is_same { Ok(look) } else { self.look_again(server, Some(&look)).await }
    }

    /// Runs a command made for a look, and looks again where the server is not the one that was looked at.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        server: &ConnectionManager,
        command: impl Fn(&Look) -> Cmd,
    ) -> RedisResult<T> {
        let mut look = self.last(server).await?;
        for _ in 1..LOOKS {
            match command(&look).query_async(&mut server.clone()).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    look = self.look_again(server, Some(&look)).await?;
                }
                done => return done,
            }
        }
        command(&look).query_async(&mut server.clone()).await
    }

    fn cached(&self) -> Option<Arc<Look>> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads scripts that no other look has, and then looks: so they are in no server but this run.
    async fn look(&self, mut server: ConnectionManager) -> RedisResult<Look> {
        let label = nonce();
        let script = |text: &str| Script::new(&format!("-- {label}\n{text}"));
        let append = script(include_str!("append.lua"));
        let close = script(include_str!("close.lua"));
        append.load_async(&mut server).await?;
        close.load_async(&mut server).await?;
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
            return Ok(Look { generation, text: stands, append, close });
        }
    }
}

/// One life of a server.
struct Run {
    id: String,
    /// Whether it began with all that was acknowledged before.
    keeps_everything: bool,
}

async fn run(server: &mut ConnectionManager) -> RedisResult<Run> {
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
