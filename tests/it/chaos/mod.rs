//! Whatever is killed, whenever: nothing acknowledged is lost, nothing happens twice, nothing is stuck.
//!
//! Workers, registrars and readers go about their work against real processes while those are killed with -9 and
//! started again, by a schedule that a seed makes. Every promise they hear is written down; when the killing is over and all has
//! settled, what is there is held against what was promised. `scripts/chaos` runs it for as long as asked.
//!
//! | file | what |
//! | --- | --- |
//! | `world` | what is killed: two nodes with a Postgres and a Redis of their own, or one embedded server |
//! | `cluster` | the cluster of one of those worlds |
//! | `program` | a program that is killed and started again |
//! | `calamity` | who is killed when |
//! | `registrar` | who registers tasks, cancels some, and has each read |
//! | `worker` | who claims, reports, falls silent, comes back too late |
//! | `attempt` | one worker's hold on one task, and what it is promised |
//! | `reader` | who follows a stream to its end |
//! | `client` | what was refused, and what is not known |
//! | `ledger` | what was promised to whom |
//! | `verdict` | what is there, held against it |
//! | `order` | numbers, and those that are gone among them |
//! | `report` | the figures |

mod attempt;
mod calamity;
mod client;
mod cluster;
mod ledger;
mod order;
mod program;
mod reader;
mod registrar;
mod report;
mod verdict;
mod worker;
mod world;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use fastrand::Rng;
use ledger::Ledger;
use world::{Broker, World};

/// How long it goes on, with what. From the environment, as `scripts/chaos` sets it.
#[derive(Debug, Clone)]
struct Settings {
    /// How long things are killed.
    length: Duration,
    /// What makes the schedule and everybody's choices; how they interleave is the machine's.
    seed: u64,
    /// Tasks that are under way at once.
    tasks: usize,
    /// How long what stands still does so at the longest.
    freeze: Duration,
    /// Redis' `appendfsync`.
    fsync: String,
}

impl Settings {
    fn new(seconds: u64, tasks: usize) -> Self {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str| {
            given(name).map(|value| {
                value.parse::<u64>().unwrap_or_else(|_| panic!("{name}: {value:?} is no number"))
            })
        };
        Self {
            length: Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(seconds)),
            seed: number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000)),
            tasks: number("CHAOS_TASKS")
                .map_or(tasks, |tasks| usize::try_from(tasks).expect("a few")),
            freeze: Duration::from_secs(number("CHAOS_FREEZE").unwrap_or(5)),
            fsync: given("CHAOS_FSYNC").unwrap_or_else(|| "everysec".to_owned()),
        }
    }

    /// Longer than any answer may take, whatever is away, and longer than a stream may be silent: it says every
    /// fifteen seconds that it is alive.
    fn patience(&self) -> Duration {
        Duration::from_secs(20) + self.freeze
    }
}

/// What everybody who plays a part has at hand.
#[derive(Debug)]
struct Stage {
    settings: Settings,
    /// Whether the broker may lose what it acknowledged.
    forgets: bool,
    client: Client,
    ledger: Ledger,
    /// The killing is over: what was begun is finished, and nothing new begins.
    is_settling: AtomicBool,
    /// Everything has ended, or should have.
    is_over: AtomicBool,
    made: AtomicU64,
}

impl Stage {
    /// Chance for one player, its own and always the same under one seed.
    fn chance(&self, player: &str) -> Rng {
        let mut hasher = DefaultHasher::new();
        (self.settings.seed, player).hash(&mut hasher);
        Rng::with_seed(hasher.finish())
    }

    fn is_settling(&self) -> bool {
        self.is_settling.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// A number like no other of this run.
    fn unique(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    /// A node by chance.
    fn any_node(&self, chance: &mut Rng) -> usize {
        chance.usize(..self.client.nodes())
    }
}

/// Sleeps for some milliseconds of a range.
async fn pause(chance: &mut Rng, millis: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(chance.u64(millis))).await;
}

/// How long everything may take to end once nothing is killed any more: the longest lease, then an end that its node left
/// behind, on a machine that has other things to do.
const SETTLED: Duration = Duration::from_secs(90);

async fn run(name: &str, mode: &str, settings: Settings, mut world: World) {
    println!(
        "chaos: {name}: seed {}, {} s, {} tasks at once",
        settings.seed,
        settings.length.as_secs(),
        settings.tasks
    );
    let stage = Arc::new(Stage {
        client: Client::new(world.urls.clone(), settings.patience()),
        ledger: Ledger::default(),
        settings,
        forgets: world.forgets(),
        is_settling: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        made: AtomicU64::new(0),
    });
    let registrars = registrar::start(&stage);
    // Half as many: some tasks always wait.
    let workers = stage.settings.tasks.div_ceil(2);
    let hands: Vec<_> =
        (0..workers).map(|hand| tokio::spawn(worker::work(Arc::clone(&stage), hand))).collect();

    calamity::strike(&mut world, &stage).await;
    stage.is_settling.store(true, Ordering::Relaxed);
    let began = Instant::now();
    registrars.ended(SETTLED).await;
    let settled = began.elapsed();
    stage.is_over.store(true, Ordering::Relaxed);
    for hand in hands {
        hand.await.expect("a worker");
    }

    let found = verdict::reach(&stage, &world).await;
    report::Report { name, stage: &stage, found: &found, settled }.print();
    let violations = stage.ledger.violations();
    if !violations.is_empty() {
        let Settings { seed, length, tasks, freeze, fsync } = &stage.settings;
        let kept = world.keep();
        panic!(
            "{} violations, logs in {}\nagain: scripts/chaos --mode {mode} --seed {seed} --seconds {} --tasks {tasks} --freeze {} --fsync {fsync}\n- {}",
            stage.ledger.violated(),
            kept.display(),
            length.as_secs(),
            freeze.as_secs(),
            violations.join("\n- ")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_survive_whatever_is_killed() {
    let settings = Settings::new(25, 40);
    let world = World::of_two_nodes(&settings, Broker::Keeps).await;
    run("two nodes", "nodes", settings, world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_survive_a_redis_that_forgets() {
    let settings = Settings::new(12, 30);
    let world = World::of_two_nodes(&settings, Broker::Forgets).await;
    run("two nodes on a Redis that forgets", "forget", settings, world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_survive_a_cluster_whose_masters_are_killed() {
    let settings = Settings::new(15, 30);
    let world = World::of_two_nodes(&settings, Broker::Cluster).await;
    run("two nodes on a cluster", "cluster", settings, world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_server_survives_whatever_is_killed() {
    let settings = Settings::new(10, 24);
    let world = World::embedded().await;
    run("embedded", "embedded", settings, world).await;
}
