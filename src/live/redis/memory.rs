//! Whether the servers still have what they acknowledged.
//!
//! A server may come back empty (no persistence, FLUSHALL), or older (an old snapshot, a replica that was
//! promoted before it had everything). Its memory has a *generation*, a key beside the logs: who finds the key
//! missing, or finds it in another run of the server that cannot have kept everything, names a new one.
//! A run with an append-only file has what was acknowledged, as far as its fsync policy goes, and keeps
//! the generation. How this is seen is in `look`.
//!
//! No command says in passing which run of the server answers it, and asking each time would cost as much
//! as an append. But a server forgets its scripts when it ends. So the scripts that give numbers are
//! loaded under a text of their own for each node and each look at the server: `NOSCRIPT` says that the
//! server is another run than the one that was looked at, and no script of the hot path runs in a
//! server that was not looked at. (Redis 6 writes scripts into snapshots where it has replicas; there the next
//! look, every other second, is what notices.)
//!
//! # A cluster
//!
//! Each master is looked at by itself, has scripts and a generation of its own, and is the memory of the tasks whose slots
//! it owns. So what one master loses concerns its own tasks alone. One generation for the whole cluster would
//! be simpler, and would tell readers of every task of a gap where a third of them lost something.
//!
//! - **A replica that was promoted is a new generation.** It may lack what its master acknowledged last, and nothing at hand
//!   proves that it does not. It is told from its master by its name in the cluster, and, where it was a master before in
//!   the same run, by the name of what it replicates, which is another after each promotion. Its scripts would not say so: they
//!   outlive the time as a replica. So in a cluster a look counts for [`LOOK_LASTS`], less than two failovers take.
//! - **A slot that moves** takes its logs along, and they are of a generation that its new owner does not have. If that generation
//!   is the present one of another master, looked at in this moment, then that one has lost nothing since the log was begun, and the log came
//!   whole ([`Memory::is_moved`]). Where that cannot be seen (the old owner is gone, or lost its memory since) the log is
//!   taken for lost: a gap too many, rather than one too few. Which places were lost when is kept in the durable truth
//!   (`storage/generations.rs`), which also knows a new master from an old one that is empty.
//! - A master that owns no slot yet is nobody's memory: what is sent there ahead of the slot is refused until the
//!   slot has come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind, pipe};
use tokio::sync::Mutex;

use super::CALL_TIMEOUT;
use super::connections::within;
use super::look::{Eye, Look, mark_of};
use super::node::{Node, Over, Request};
use super::servers::{Route, Servers};
use super::slots::slot;
use crate::live::{Generation, Memory};

/// Looks at a server before a call is given up: each says that it has just been started again.
const LOOKS: usize = 4;
/// How long a look at a master of a cluster counts, unless it is confirmed. In the same run a master can lose
/// what it acknowledged only by two failovers in a row, which take more than this even with the shortest
/// `cluster-node-timeout` that makes sense, two seconds. The round of sealing confirms it every other second.
const LOOK_LASTS: Duration = Duration::from_secs(4);

/// The last look of this node at one server, shared by all its callers.
#[derive(Default)]
pub(super) struct Outlook {
    /// With the instant at which it was found or confirmed.
    last: StdMutex<Option<(Arc<Look>, Instant)>>,
    looking: Mutex<()>,
    /// Looks that came to nothing.
    failed: AtomicU64,
}

impl Outlook {
    fn last(&self) -> Option<(Arc<Look>, Instant)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where something was found: at a server, by a look at it.
pub(super) struct At {
    node: Node,
    look: Arc<Look>,
}

impl At {
    /// Whether the server is, by its mark, still what the look found.
    pub(super) fn agrees_with(&self, mark: Option<&str>) -> bool {
        mark == Some(&*self.look.text)
    }
}

/// What was found of a task.
pub(super) struct Found {
    /// The generation of its log.
    pub(super) log: Option<String>,
    /// The number of its newest entry.
    pub(super) last_seq_id: u64,
    /// What the server's mark said after that.
    pub(super) mark: Option<String>,
}

/// Looks at the servers.
pub(super) struct Lookout {
    servers: Arc<Servers>,
    eye: Eye,
}

impl Lookout {
    /// On `servers`, whose generation is in `key`; `said_in_front` stands before each script.
    pub(super) fn new(servers: Arc<Servers>, key: String, said_in_front: String) -> Self {
        let remember = Script::new(include_str!("remember.lua"));
        let is_of_a_cluster = servers.is_cluster();
        Self { servers, eye: Eye { is_of_a_cluster, key, said_in_front, remember } }
    }

    /// The last look, as long as it counts.
    async fn last(&self, node: &Node) -> RedisResult<Arc<Look>> {
        let counts = |at: Instant| !self.eye.is_of_a_cluster || at.elapsed() < LOOK_LASTS;
        match node.outlook.last() {
            Some((look, at)) if counts(at) => Ok(look),
            _ => self.look(node, |_, at| counts(at), true).await,
        }
    }

    /// Looks again, unless somebody has since `stale`.
    async fn look_again(&self, node: &Node, stale: &Arc<Look>) -> RedisResult<Arc<Look>> {
        self.look(node, |look, _| !Arc::ptr_eq(look, stale), false).await
    }

    /// Whether the server is still the one of the last look and would be found the same; otherwise looks again.
    async fn checked(&self, node: &Node) -> RedisResult<Arc<Look>> {
        let asked = Instant::now();
        self.look(node, |_, at| at >= asked, true).await
    }

    /// Looks, one at a time, unless the last look `counts` by then; it may be confirmed where the run is the same.
    async fn look(
        &self,
        node: &Node,
        counts: impl Fn(&Arc<Look>, Instant) -> bool,
        may_confirm: bool,
    ) -> RedisResult<Arc<Look>> {
        let outlook = &node.outlook;
        let failed = outlook.failed.load(Ordering::SeqCst);
        let _one_at_a_time = outlook.looking.lock().await;
        let last = outlook.last();
        if let Some((look, _)) = last.as_ref().filter(|(look, at)| counts(look, *at)) {
            return Ok(Arc::clone(look));
        }
        // Who waited for a look in vain does not wait for one more: a server that is away is away for all.
        if outlook.failed.load(Ordering::SeqCst) > failed {
            return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
        }
        let last = last.map(|(look, _)| look).filter(|_| may_confirm);
        let began = Instant::now();
        let found = within(CALL_TIMEOUT, async {
            let mut server = node.commands.clone();
            match last {
                Some(look) if self.eye.finds_the_same(&mut server, &look).await? => Ok(look),
                last => self.eye.look(&mut server, last.as_deref()).await.map(Arc::new),
            }
        });
        let look = found.await.inspect_err(|_| {
            outlook.failed.fetch_add(1, Ordering::SeqCst);
            self.servers.doubt();
        })?;
        *outlook.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Arc::clone(&look), began));
        Ok(look)
    }

    /// Every memory that can be looked at now: one at least.
    pub(super) async fn generations(&self) -> RedisResult<Vec<Generation>> {
        let masters = self.servers.masters().await?;
        let looks = join_all(masters.iter().map(|master| self.checked(master))).await;
        let (mut generations, mut failed) = (Vec::new(), None);
        for look in looks {
            match look {
                Ok(look) => generations.push(Generation {
                    name: look.generation.clone(),
                    places: look.places.clone(),
                }),
                // One that is away keeps nobody from sealing the tasks of the others.
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if generations.is_empty() => Err(error),
            _ => Ok(generations),
        }
    }

    /// What is remembered of the task whose log and counter these keys are.
    pub(super) async fn memory(&self, log: String, seq: String) -> RedisResult<Memory> {
        let mut route = within(CALL_TIMEOUT, self.servers.route(&seq)).await?;
        loop {
            let look = match self.last(&route.node).await {
                Ok(look) => look,
                Err(error) => {
                    self.servers.go_on(&mut route, error).await?;
                    continue;
                }
            };
            let mut asked = pipe();
            for command in [Cmd::hget(&log, "generation"), Cmd::get(&seq)] {
                if route.asking {
                    asked.cmd("ASKING").ignore();
                }
                asked.add_command(command);
            }
            // Read last: what is older than the mark is of its generation.
            asked.add_command(mark_of(&look));
            let mut server = route.node.commands.clone();
            let answer: RedisResult<(Option<String>, Option<u64>, Option<String>)> =
                within(CALL_TIMEOUT, asked.query_async(&mut server)).await;
            let (log, last, mark) = match answer {
                Ok(answer) => answer,
                Err(error) if self.refers_elsewhere(&error) => {
                    self.follow(&mut route, &look, &seq).await?;
                    continue;
                }
                Err(error) => {
                    self.servers.doubt();
                    return Err(error);
                }
            };
            let found = Found { log, last_seq_id: last.unwrap_or(0), mark };
            return self.judge(At { node: route.node, look }, &seq, found).await;
        }
    }

    /// What is to be thought of what was found of the task whose counter is `seq`.
    pub(super) async fn judge(&self, at: At, seq: &str, found: Found) -> RedisResult<Memory> {
        let Found { log, last_seq_id, mark } = found;
        let is_same = at.agrees_with(mark.as_deref());
        let At { node, look } = at;
        let look = if is_same { look } else { self.look_again(&node, &look).await? };
        let is_moved = match &log {
            Some(log) if *log != look.generation => self.is_elsewhere(log, &node).await,
            _ => false,
        };
        let (present, place) = (look.generation.clone(), slot(seq));
        Ok(Memory { present, place, log, is_moved, last_seq_id })
    }

    fn refers_elsewhere(&self, error: &redis::RedisError) -> bool {
        self.eye.is_of_a_cluster && matches!(error.kind(), ErrorKind::Server(_))
    }

    /// One of several commands was refused, and their error does not say whose: goes on where the counter is.
    async fn follow(&self, route: &mut Route, look: &Arc<Look>, seq: &str) -> RedisResult<()> {
        let alone = within(CALL_TIMEOUT, route.send(&Cmd::get(seq).into(), Over::Commands)).await;
        let error = if let Err(error) = alone {
            error
        } else {
            // The mark has moved, or the log's keys are on both sides.
            self.look_again(&route.node, look).await?;
            let kind = ErrorKind::Server(ServerErrorKind::TryAgain);
            (kind, "the slot is on its way").into()
        };
        self.servers.go_on(route, error).await
    }

    /// Whether a generation is the present one of another master: then nothing of it was lost.
    async fn is_elsewhere(&self, generation: &str, here: &Node) -> bool {
        let Ok(masters) = self.servers.masters().await else { return false };
        let others = masters.iter().filter(|master| master.address != here.address);
        let looks = join_all(others.map(|master| self.checked(master))).await;
        looks.into_iter().flatten().any(|look| look.generation == generation)
    }

    /// Runs a request made for a look at the server that takes it, and looks again where that is not the
    /// one that was looked at. Says also where it ran.
    pub(super) async fn run(
        &self,
        key: &str,
        request: impl Fn(&Look) -> Request<'static>,
    ) -> RedisResult<(redis::Value, At)> {
        let mut route = within(CALL_TIMEOUT, self.servers.route(key)).await?;
        let mut looks = 1;
        loop {
            let error = match self.last(&route.node).await {
                Err(error) => error,
                Ok(look) => {
                    let request = request(&look);
                    match within(CALL_TIMEOUT, route.send(&request, Over::Commands)).await {
                        Ok(answer) => return Ok((answer, At { node: route.node, look })),
                        Err(error) if is_forgotten(&error) && looks < LOOKS => {
                            looks += 1;
                            self.look_again(&route.node, &look).await?;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
            };
            within(CALL_TIMEOUT, self.servers.go_on(&mut route, error)).await?;
        }
    }
}

fn is_forgotten(error: &redis::RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
