//! The servers behind a URL: one, or the masters of a cluster. The rest of the log does not see the difference.
//!
//! A single server is a map that says it owns every slot, and never changes. In a cluster each master has the same
//! connections as a single server, so that one that is slow or away delays nobody at the others. The map
//! is asked for again when a server redirects us, when a connection breaks, and every ten seconds.
//!
//! The library has a client for clusters. It repeats a command whose connection broke, and an append that was done
//! would be done twice; it stops all traffic while it looks for the new map; and it loses sharded
//! subscriptions when it connects again. So this is ours: what a server *refused* is sent to where it
//! says, for a bounded time, and what may have been done is never sent again.

//! The servers behind a URL: one, or the masters of a cluster. The rest of the log does not see the difference.
//!
//! A single server is a map that says it owns every slot, and never changes. In a cluster each master has the same
//! connections as a single server, so that one that is slow or away delays nobody at the others. The map
//! is asked for again when a server redirects us, when a connection breaks, and every ten seconds.
//!
//! The library has a client for clusters. It repeats a command whose connection broke, and an append that was done
//! would be done twice; it stops all traffic while it looks for the new map; and it loses sharded
//! subscriptions when it connects again. So this is ours: what a server *refused* is sent to where it
//! says, for a bounded time, and what may have been done is never sent again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, ProtocolVersion, PushInfo, RedisError,
    RedisResult, ServerErrorKind, Value, cmd, pipe,
};
use futures::future::{select_ok, try_join_all};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::connections::within;
use super::node::{Node, Over, Request};
use super::slots::{Address, Slots, slot};
use super::target::Target;
use super::{CALL_TIMEOUT, CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// How often the map of a cluster is asked for without a reason.
const MAP_EVERY: Duration = Duration::from_secs(10);
/// The least time between two such questions, and between two that nobody answers.
const MAP_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Servers that are asked at once; the first answer counts.
const ASKED_AT_ONCE: usize = 4;
/// Times a request is sent elsewhere at most, and the pause before doing it once more.
const REDIRECTS: u32 = 16;
const REDIRECT_PAUSE: Duration = Duration::from_millis(10);

/// The way of one request, from server to server until one takes it.
pub(super) struct Route {
    slot: u16,
    /// Where it is now.
    pub(super) node: Node,
    /// Whether the slot is on its way there.
    pub(super) asking: bool,
    since: Instant,
    redirects: u32,
}

impl Route {
    /// Sends the request to where it is now.
    pub(super) async fn send(&self, request: &Request<'_>, over: Over) -> RedisResult<Value> {
        self.node.send(request, over, self.asking).await
    }
}

/// The servers.
pub(super) struct Servers {
    target: Target,
    nodes: Mutex<HashMap<Address, Node>>,
    slots: watch::Sender<Arc<Slots>>,
    /// The map may be wrong.
    stale: Notify,
    /// Why nobody said the map, when it was asked for last.
    unknown: Mutex<Option<RedisError>>,
}

impl Servers {
    /// Prepares connections. None is made before it is needed, and each is made again after it was lost.
    pub(super) fn new(target: Target) -> RedisResult<Self> {
        let slots = match &target.seeds[..] {
            [server] if !target.is_cluster => Slots::all_at(server.clone()),
            _ => Slots::unknown(),
        };
        let slots = watch::Sender::new(Arc::new(slots));
        let (nodes, stale, unknown) = (Mutex::default(), Notify::new(), Mutex::default());
        let servers = Self { target, nodes, slots, stale, unknown };
        for seed in &servers.target.seeds {
            servers.node(seed)?;
        }
        Ok(servers)
    }

    /// Whether channels belong to slots here, and are published to and subscribed by `SPUBLISH` and `SSUBSCRIBE`.
    pub(super) fn is_cluster(&self) -> bool {
        self.target.is_cluster
    }

    /// Who owns which slot: now, and whenever that changes.
    pub(super) fn slots(&self) -> watch::Receiver<Arc<Slots>> {
        self.slots.subscribe()
    }

    /// The map may be wrong: it is asked for again, soon.
    pub(super) fn doubt(&self) {
        self.stale.notify_one();
    }

    /// Keeps the map up to date for ever; dropping the future ends it.
    pub(super) async fn keep_map(&self) {
        if !self.target.is_cluster {
            return;
        }
        let mut pause = MAP_PAUSES.0;
        loop {
            match self.ask_for_map().await {
                Ok(slots) => {
                    self.learn(slots);
                    *lock(&self.unknown) = None;
                    pause = MAP_PAUSES.0;
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "no server of the cluster says who owns which slot"
                    );
                    *lock(&self.unknown) = Some(error);
                    pause = (pause * 2).min(MAP_PAUSES.1);
                }
            }
            sleep(pause).await;
            // It makes no difference which of the two it was.
            let _ = timeout(MAP_EVERY, self.stale.notified()).await;
        }
    }

    async fn ask_for_map(&self) -> RedisResult<Slots> {
        let mut known = self.slots.borrow().masters().to_vec();
        fastrand::shuffle(&mut known);
        // A seed is always among them: it may be a name that leads to whoever is there now.
        known.truncate(ASKED_AT_ONCE - 1);
        let mut seeds = self.target.seeds.clone();
        fastrand::shuffle(&mut seeds);
        seeds.truncate(ASKED_AT_ONCE - known.len());
        let mut asked = Vec::new();
        for address in known.into_iter().chain(seeds) {
            let mut node = self.node(&address)?;
            asked.push(Box::pin(async move {
                let reply = cmd("CLUSTER").arg("SLOTS").query_async(&mut node.commands).await?;
                let slots = Slots::parse(reply, &address);
                if slots.masters().is_empty() {
                    return Err(failure("the server knows no owner of any slot"));
                }
                Ok(slots)
            }));
        }
        Ok(select_ok(asked).await?.0)
    }

    fn learn(&self, slots: Slots) {
        let is_new = self.slots.send_if_modified(|known| {
            let is_new = **known != slots;
            if is_new {
                *known = Arc::new(slots);
            }
            is_new
        });
        if is_new {
            let slots = self.slots.borrow().clone();
            tracing::info!(masters = slots.masters().len(), "the cluster has a new map");
            let is_known = |address: &Address, _: &mut Node| {
                slots.masters().contains(address) || self.target.seeds.contains(address)
            };
            lock(&self.nodes).retain(is_known);
        }
    }

    /// Asks the owner of `key`, over one of its connections.
    pub(super) async fn ask(
        &self,
        key: &str,
        over: Over,
        request: impl Into<Request<'_>>,
    ) -> RedisResult<Value> {
        let request = request.into();
        let asked = async {
            let mut route = self.route(key).await?;
            loop {
                match route.send(&request, over).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => self.go_on(&mut route, error).await?,
                }
            }
        };
        within(CALL_TIMEOUT, asked).await
    }

    /// The way of a request to the owner of `key`.
    pub(super) async fn route(&self, key: &str) -> RedisResult<Route> {
        let (since, slot) = (Instant::now(), slot(key));
        let node = self.owner(slot).await?;
        Ok(Route { slot, node, asking: false, since, redirects: 0 })
    }

    /// Takes a request that was refused to where the server says; gives back what is no such word.
    pub(super) async fn go_on(&self, route: &mut Route, error: RedisError) -> RedisResult<()> {
        // What is no word of the server may have been done: to say it again is the caller's to decide.
        let ErrorKind::Server(kind) = error.kind() else {
            self.doubt();
            return Err(error);
        };
        let elsewhere = error.redirect_node();
        let elsewhere = elsewhere.and_then(|(at, _)| Address::parse(at, &route.node.address));
        let is_late = route.redirects >= REDIRECTS || route.since.elapsed() >= RESPONSE_TIMEOUT;
        (route.node, route.asking) = match (kind, elsewhere) {
            (_, Some(_)) if !self.target.is_cluster => return Err(of_a_cluster()),
            _ if is_late || !self.target.is_cluster => return Err(error),
            (ServerErrorKind::Moved, Some(owner)) => {
                self.slots.send_modify(|slots| Arc::make_mut(slots).give(route.slot, &owner));
                self.doubt();
                (self.node(&owner)?, false)
            }
            (ServerErrorKind::Ask, Some(importer)) => (self.node(&importer)?, true),
            // The slot is on its way, and the task's keys are on both sides.
            (ServerErrorKind::TryAgain, _) => (self.owner(route.slot).await?, false),
            _ => {
                self.doubt();
                return Err(error);
            }
        };
        sleep(REDIRECT_PAUSE * route.redirects).await;
        route.redirects += 1;
        Ok(())
    }

    /// Asks the owner of each command's key, in one pipeline for each server, all servers at once. Answers in the
    /// order of the commands.
    pub(super) async fn ask_each(&self, commands: &[(String, Cmd)]) -> RedisResult<Vec<Value>> {
        within(CALL_TIMEOUT, self.ask_owners(commands)).await
    }

    async fn ask_owners(&self, commands: &[(String, Cmd)]) -> RedisResult<Vec<Value>> {
        let mut at: HashMap<Address, (Node, Vec<usize>)> = HashMap::new();
        for (index, (key, _)) in commands.iter().enumerate() {
            let node = self.owner(slot(key)).await?;
            at.entry(node.address.clone()).or_insert_with(|| (node, Vec::new())).1.push(index);
        }
        let groups = at.into_values().map(|(node, indexes)| async move {
            let answers = self.ask_pipelined(&node, &indexes, commands).await?;
            Ok::<_, RedisError>(indexes.into_iter().zip(answers))
        });
        let mut answers = vec![Value::Nil; commands.len()];
        for (index, answer) in try_join_all(groups).await?.into_iter().flatten() {
            answers[index] = answer;
        }
        Ok(answers)
    }

    async fn ask_pipelined(
        &self,
        node: &Node,
        indexes: &[usize],
        commands: &[(String, Cmd)],
    ) -> RedisResult<Vec<Value>> {
        let mut pipeline = pipe();
        for index in indexes {
            pipeline.add_command(commands[*index].1.clone());
        }
        match pipeline.query_async(&mut node.pages.clone()).await {
            // Some of them are elsewhere now: each is asked for on its own, and finds its way.
            Err(error)
                if self.target.is_cluster && matches!(error.kind(), ErrorKind::Server(_)) =>
            {
                try_join_all(indexes.iter().map(|index| {
                    let (key, command) = &commands[*index];
                    self.ask(key, Over::Pages, command.clone())
                }))
                .await
            }
            answers => answers.inspect_err(|_| self.doubt()),
        }
    }

    /// Every master, as far as it is known.
    pub(super) async fn masters(&self) -> RedisResult<Vec<Node>> {
        let slots = self.known(|slots| !slots.masters().is_empty()).await?;
        slots.masters().iter().map(|address| self.node(address)).collect()
    }

    /// Asks every master for a sign of life.
    pub(super) async fn ping(&self) -> RedisResult<()> {
        let asked = async {
            let masters = self
                .masters()
                .await?
                .into_iter()
                .map(async |mut master| cmd("PING").exec_async(&mut master.commands).await);
            try_join_all(masters).await
        };
        let answers = within(CALL_TIMEOUT, asked).await;
        answers.map(drop).inspect_err(|_| self.doubt())
    }

    /// Makes a connection for subscriptions, which gives everything it hears to `hear`.
    pub(super) async fn listen(
        &self,
        address: &Address,
        hear: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<MultiplexedConnection> {
        let info = self.target.connection(address);
        let speaks = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_push_sender(move |push| {
                hear(push);
                Ok::<(), ::redis::aio::SendError>(())
            });
        let client = Client::open(info.set_redis_settings(speaks))?;
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Lets go of the connections for pages, which nobody may ask for any more.
    pub(super) fn close(&self) {
        for node in lock(&self.nodes).values() {
            node.pages.close();
        }
    }

    /// Who owns a slot; waits for the map where none is known yet.
    async fn owner(&self, slot: u16) -> RedisResult<Node> {
        let slots = self.known(|slots| slots.owner(slot).is_some()).await?;
        let owner = slots.owner(slot).ok_or_else(|| failure("nobody owns the slot"))?;
        self.node(owner)
    }

    /// The map, once it says so much.
    async fn known(&self, enough: impl Fn(&Slots) -> bool) -> RedisResult<Arc<Slots>> {
        let slots = self.slots.borrow().clone();
        if enough(&slots) {
            return Ok(slots);
        }
        self.doubt();
        let mut slots = self.slots();
        let said = timeout(CONNECT_TIMEOUT, slots.wait_for(|slots| enough(slots))).await;
        if let Ok(Ok(slots)) = said {
            return Ok(Arc::clone(&slots));
        }
        let why = lock(&self.unknown).clone();
        Err(why.unwrap_or_else(|| failure("no server of the cluster says who owns it")))
    }

    fn node(&self, address: &Address) -> RedisResult<Node> {
        let mut nodes = lock(&self.nodes);
        if let Some(node) = nodes.get(address) {
            return Ok(node.clone());
        }
        let node = Node::new(&self.target, address)?;
        nodes.insert(address.clone(), node.clone());
        Ok(node)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds a lock here can leave what it guards half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(what: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::NotConnected, what).into()
}

fn of_a_cluster() -> RedisError {
    let what =
        "the server is part of a cluster: write its URL as redis-cluster:// (or rediss-cluster://)";
    (ErrorKind::InvalidClientConfig, what).into()
}
