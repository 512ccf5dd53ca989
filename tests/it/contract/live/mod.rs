//! The contract of [`Live`], in one text for both logs.
//!
//! | module | says |
//! | --- | --- |
//! | `fence` | who may append, and when not |
//! | `entries` | numbers, batches, pages |
//! | `closed` | what is said of a log with a word about its fence |
//! | `end` | what is left of a log after its task's end |
//! | `delivery` | what subscribers and waiting workers hear |
//! | `receipts` | appends with a key, which may come twice |
//! | `outage` | what they hear after the broker was away |
//! | `cluster` | what they hear in a cluster whose slots move and whose masters die |
//! | `sealing` | what leaves a log when it is sealed, how full it may become, and what it remembers |
//! | `journal` | what is particular to the file of the embedded log |
//! | `keys` | what stands in Redis, under which names, for how long |

mod closed;
mod cluster;
mod delivery;
mod end;
mod entries;
mod fence;
mod journal;
mod keys;
mod outage;
mod receipts;
mod sealing;

use std::sync::Arc;
use std::time::Duration;

use task_tracker::clock::Clock;
use task_tracker::config::Mode as ConfigMode;
use task_tracker::domain::{
    Caller, Entry, Event, JsonObject, Status, StatusChange, TaskId, Timestamp, WorkerId,
};
use task_tracker::live::embedded::EmbeddedLive;
use task_tracker::live::redis::RedisLive;
use task_tracker::live::redis::target::Tls;
use task_tracker::live::{
    Append, Appended, CLOSED_FOR, Error, Fence, Grant, Hub, Limits, Live, Room, Signal,
    Subscription, Verified,
};

use super::broker::{self, Broker};
use crate::harness::{Ground, Mode, PATIENCE, eventually};

/// Enough for every waiting worker of these tests.
const ROOM: Room = Room { waiters: 100, types: 100 };

/// So much that no test comes near it by chance.
const LIMITS: Limits = Limits { entries: 1_000_000, bytes: 1 << 30 };

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Redis,
    Cluster,
    Embedded,
}

/// A log, the hub it feeds, and the time it is told.
#[derive(Debug)]
struct Log {
    live: Arc<dyn Live>,
    hub: Arc<Hub>,
    clock: Clock,
    backend: Backend,
    ground: Arc<Ground>,
}

impl Log {
    /// An empty log.
    async fn open(backend: Backend) -> Self {
        let mode = match backend {
            Backend::Redis => Mode::Node,
            Backend::Cluster => Mode::Cluster,
            Backend::Embedded => Mode::Embedded,
        };
        Self::open_on(backend, Arc::new(Ground::new(mode).await)).await
    }

    /// The log as another process finds it.
    async fn again(&self) -> Self {
        Self::open_on(self.backend, Arc::clone(&self.ground)).await
    }

    /// A log in Redis on a broker of the test's own.
    async fn on_broker(broker: &Broker) -> Self {
        let (live, hub) = redis_log(&broker.url(), "tracker");
        hub.subscribe(&TaskId::new()).await.expect("a connection");
        let ground = Arc::new(Ground::new(Mode::Embedded).await);
        Self { live: Arc::new(live), hub, clock: Clock::system(), backend: Backend::Redis, ground }
    }

    async fn open_on(backend: Backend, ground: Arc<Ground>) -> Self {
        let (live, hub): (Arc<dyn Live>, _) = match ground.config().mode {
            ConfigMode::Node { redis_url, .. } => {
                let (live, hub) = redis_log(&redis_url, ground.namespace());
                (Arc::new(live), hub)
            }
            ConfigMode::Embedded { data_dir } => {
                std::fs::create_dir_all(&data_dir).expect("a folder");
                let hub = Hub::local();
                let file = data_dir.join("live.db");
                (Arc::new(EmbeddedLive::open(&file, Arc::clone(&hub)).await.expect("a log")), hub)
            }
        };
        // Who subscribes before the first connection is told to catch up, as after any other.
        hub.subscribe(&TaskId::new()).await.expect("a connection");
        Self { live, hub, clock: Clock::system(), backend, ground }
    }

    /// Appends as a caller who has looked nothing up.
    async fn try_append(&self, task: &TaskId, entries: &[JsonObject]) -> Appended {
        self.try_append_as(task, entries, None, None).await
    }

    async fn try_append_as(
        &self,
        task: &TaskId,
        entries: &[JsonObject],
        worker: Option<&WorkerId>,
        verified: Option<&Verified>,
    ) -> Appended {
        let caller = Caller::from(worker.cloned());
        let now = self.clock.now();
        let append = Append { entries, caller: &caller, now, verified, key: None, limits: LIMITS };
        self.live.append(task, append).await.expect("an answer")
    }

    /// The fence that keeps out a caller who has looked nothing up.
    async fn seen(&self, task: &TaskId) -> Fence {
        refused(self.try_append(task, &[object("refused")]).await)
    }

    /// Opens the log for an attempt and appends its first entry.
    async fn open_for(&self, task: &TaskId, attempt: u32, worker: Option<&WorkerId>) -> u64 {
        let verified = self.verified(task, attempt, worker).await;
        kept(self.try_append_as(task, &[object("first")], worker, Some(&verified)).await)
    }

    /// What the durable truth says of `attempt`, looked up after the fence was seen.
    async fn verified(&self, task: &TaskId, attempt: u32, worker: Option<&WorkerId>) -> Verified {
        let fence = self.seen(task).await;
        verified(&*self.live, task, fence, attempt, worker, self.clock.now()).await
    }

    /// A task whose first attempt has begun to report, without a worker's name.
    async fn opened(&self) -> TaskId {
        let task = TaskId::new();
        assert_eq!(self.open_for(&task, 1, None).await, 1);
        task
    }

    /// Appends to an open log, one entry after the other.
    async fn append(&self, task: &TaskId, count: usize) -> u64 {
        let mut last = 0;
        for _ in 0..count {
            last = kept(self.try_append(task, &[object("one more")]).await);
        }
        last
    }

    async fn close(&self, task: &TaskId, attempt: u32) -> Result<u64, Error> {
        let closed = self.live.close(task, attempt, self.clock.now()).await?;
        Ok(closed.memory.last_seq_id)
    }

    /// Ends attempt 1 of a task whose newest sealed entry is `last_seq_id`.
    async fn end(&self, task: &TaskId, last_seq_id: u64) -> task_tracker::live::Ended {
        let end = self.completed(last_seq_id);
        self.live.end(task, 1, &end, self.clock.now()).await.expect("an end")
    }

    fn completed(&self, last_seq_id: u64) -> StatusChange {
        let result = Some(JsonObject::from_stored(r#"{"rows":42}"#));
        let (status, at) = (Status::Completed, self.clock.now());
        StatusChange { status, result, error: None, reason: None, at, last_seq_id }
    }

    /// Has a closed fence stand as long as it may: the log's own time passes, not ours.
    async fn let_the_closed_fence_fall(&self, task: &TaskId) {
        if self.backend == Backend::Embedded {
            self.clock.advance(CLOSED_FOR);
            return;
        }
        let key = self.key("fence", task);
        let mut redis = self.redis_of(&key).await;
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await.unwrap();
        let longest = i64::try_from(CLOSED_FOR.as_millis()).unwrap();
        assert!((1..=longest).contains(&ttl), "a closed fence falls by itself: {ttl} ms");
        redis::cmd("PEXPIRE").arg(&key).arg(1).exec_async(&mut redis).await.unwrap();
        eventually(|| async {
            let mut redis = redis.clone();
            let is_there: bool =
                redis::cmd("EXISTS").arg(&key).query_async(&mut redis).await.unwrap();
            (!is_there).then_some(())
        })
        .await;
    }

    /// The documented name of a key of this log in Redis.
    fn key(&self, kind: &str, task: &TaskId) -> String {
        let is_own = self.ground.database_url().is_none();
        let namespace = if is_own { "tracker" } else { self.ground.namespace() };
        format!("{namespace}:{kind}:{{{task}}}")
    }

    /// The server of this log that has a key.
    async fn redis_of(&self, key: &str) -> redis::aio::MultiplexedConnection {
        broker::connect_for(self.ground.redis_url().expect("a log in Redis"), key).await
    }

    async fn subscribe(&self, task: &TaskId) -> Subscription {
        self.hub.subscribe(task).await.expect("a confirmed subscription")
    }

    /// The whole log of a task, as a reader that pages gets it.
    async fn entries(&self, task: &TaskId) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |entry| entry.seq_id);
            let mut page = self.live.read(task, after, 100).await.expect("a page");
            if page.entries.is_empty() && page.behind > after {
                page = self.live.read(task, page.behind, 100).await.expect("a page");
            }
            if page.entries.is_empty() {
                return entries;
            }
            entries.extend(page.entries);
        }
    }
}

/// A log in the Redis at `url`, and its hub.
fn redis_log(url: &str, namespace: &str) -> (RedisLive, Arc<Hub>) {
    let (hub, interests) = Hub::remote();
    (RedisLive::connect(url, &Tls::default(), namespace, &hub, interests).expect("a log"), hub)
}

/// What the durable truth says of `attempt`, nothing being sealed.
async fn verified(
    live: &dyn Live,
    task: &TaskId,
    fence: Fence,
    attempt: u32,
    worker: Option<&WorkerId>,
    now: Timestamp,
) -> Verified {
    let expires_at = now.plus(Duration::from_hours(1));
    let memory = live.memory(task).await.expect("a memory");
    let grant = grant(attempt, worker);
    Verified { fence, grant, last_sealed: 0, sealed_bytes: 0, memory, expires_at }
}

/// What `attempt` may do, without a lease.
fn grant(attempt: u32, worker: Option<&WorkerId>) -> Grant {
    let holder = Caller::from(worker.cloned());
    Grant { attempt, holder, lease: None, cancel_requested: false }
}

fn object(text: &str) -> JsonObject {
    JsonObject::from_stored(serde_json::json!({ "text": text }).to_string())
}

fn worker(name: &str) -> WorkerId {
    name.parse().expect("a name")
}

#[track_caller]
fn kept(appended: Appended) -> u64 {
    match appended {
        Appended::Kept { last_seq_id, .. } => last_seq_id,
        other => panic!("not kept: {other:?}"),
    }
}

#[track_caller]
fn refused(appended: Appended) -> Fence {
    match appended {
        Appended::Unverified { fence, .. } => fence,
        other => panic!("not refused: {other:?}"),
    }
}

/// The next signal, which must come.
async fn hear(subscription: &mut Subscription) -> Signal {
    tokio::time::timeout(PATIENCE, subscription.next()).await.expect("a signal")
}

/// The next event, which must come.
async fn event(subscription: &mut Subscription) -> Event {
    match hear(subscription).await {
        Signal::Event(delivery) => delivery.event.clone(),
        Signal::Moves(_) => panic!("those are of another topic"),
        Signal::Resync => panic!("nothing was missed"),
    }
}

/// The number of the next event, an entry.
async fn entry_heard(subscription: &mut Subscription) -> u64 {
    match event(subscription).await {
        Event::Progress(entry) => entry.seq_id,
        other => panic!("no entry: {other:?}"),
    }
}
