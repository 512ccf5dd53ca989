//! A live log that comes back empty or older: numbers go on and never repeat, and what is gone is said to be.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::json;
use task_tracker::app::App;
use task_tracker::clock::Clock;
use task_tracker::config::{Config, Mode as ConfigMode};
use task_tracker::domain::{JsonObject, TaskId};

use super::told::{Told, entries, from, joined, told};
use super::{complete, history, progressed, registered, started, watched, worker};
use crate::contract::broker::Keeps;
use crate::contract::forgetful::Forgetful;
use crate::harness::{Ground, Mode, eventually};

/// Longer than an entry waits to be sealed.
const DUE: Duration = Duration::from_secs(4);

/// How a live log loses its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// FLUSHALL, while everybody is connected.
    Flushed,
    /// The server is killed and keeps nothing.
    Emptied,
    /// The server is killed and comes back as it was when `remember` was called.
    Older,
    /// The embedded log's file is taken away while the server is stopped.
    Removed,
}

/// Nodes on a live log that can lose its memory.
struct Scene {
    ground: Ground,
    clock: Clock,
    broker: Option<Forgetful>,
    loss: Loss,
}

impl Scene {
    async fn new(mode: Mode, loss: Loss) -> Self {
        let keeps = if loss == Loss::Older { Keeps::Snapshots } else { Keeps::Nothing };
        Self::keeping(mode, loss, keeps).await
    }

    async fn keeping(mode: Mode, loss: Loss, keeps: Keeps) -> Self {
        let (ground, clock) = (Ground::new(mode).await, Clock::system());
        let broker = match mode {
            Mode::Embedded => None,
            _ => Some(Forgetful::start(mode, keeps).await),
        };
        Self { ground, clock, broker, loss }
    }

    async fn node(&self) -> App {
        let mut config = self.ground.config();
        if let (ConfigMode::Node { redis_url, .. }, Some(broker)) = (&mut config.mode, &self.broker)
        {
            *redis_url = broker.url();
        }
        let config = &config;
        let start = async || App::start(Config::clone(config), self.clock.clone()).await.ok();
        eventually(start).await
    }

    /// Writes a snapshot, where the loss is to bring it back.
    async fn remember(&self) {
        if let (Loss::Older, Some(broker)) = (self.loss, &self.broker) {
            broker.save().await;
        }
    }

    /// Has the log lose its memory; gives the node that goes on.
    async fn lose(&mut self, node: App) -> App {
        match (self.loss, &mut self.broker) {
            (Loss::Flushed, Some(broker)) => broker.flush().await,
            (_, Some(broker)) => {
                broker.kill_and_start().await;
            }
            (_, None) => {
                node.shut_down().await;
                let ConfigMode::Embedded { data_dir } = self.ground.config().mode else {
                    panic!("an embedded ground");
                };
                for file in ["live.db", "live.db-wal", "live.db-shm"] {
                    let _ = std::fs::remove_file(data_dir.join(file));
                }
                return self.node().await;
            }
        }
        node
    }

    async fn seal(&self, node: &App) -> u64 {
        self.clock.advance(DUE);
        node.tracker().note_generations().await.expect("a look");
        node.tracker().seal().await.expect("a round")
    }
}

/// Appends one entry as soon as the log is back.
async fn appended(node: &App, task: &TaskId) -> u64 {
    let entries = [JsonObject::from_stored("{}")];
    let append =
        async || node.tracker().progress(task, &entries, &worker().into(), None).await.ok();
    eventually(append).await.last_seq_id
}

#[rstest]
#[case::flushed(Mode::Node, Loss::Flushed)]
#[case::emptied(Mode::Node, Loss::Emptied)]
#[case::older(Mode::Node, Loss::Older)]
#[case::removed(Mode::Embedded, Loss::Removed)]
#[case::flushed_masters(Mode::Cluster, Loss::Flushed)]
#[case::emptied_masters(Mode::Cluster, Loss::Emptied)]
#[case::older_masters(Mode::Cluster, Loss::Older)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_go_on_behind_a_gap_that_every_reader_is_told_of(
    #[case] mode: Mode,
    #[case] loss: Loss,
) {
    let mut scene = Scene::new(mode, loss).await;
    let mut node = scene.node().await;
    let task = started(node.tracker()).await;
    progressed(node.tracker(), &task, 40).await;
    assert_eq!(scene.seal(&node).await, 1);
    progressed(node.tracker(), &task, 2).await;
    scene.remember().await;
    assert_eq!(progressed(node.tracker(), &task, 3).await, 45);
    let mut live = watched(&node, &task).await;
    assert_eq!(told(&live.take(45).await), entries(1..=45));
    node = scene.lose(node).await;

    // An older log has two entries that nobody has sealed yet.
    let kept = if loss == Loss::Older { 42 } else { 40 };
    let (to, next) = (kept + 10_000, kept + 10_001);
    assert_eq!(appended(&node, &task).await, next);
    if loss == Loss::Removed {
        // Its stream ended with its process; it comes back.
        live = from(&node, &task, "45", "text/event-stream").await;
    }
    assert_eq!(told(&live.take(2).await), [Told::Gap(46, to), Told::Entry(next)]);
    assert_eq!(appended(&node, &task).await, next + 1, "one gap for one loss");
    assert_eq!(told(&live.take(1).await), [Told::Entry(next + 1)]);
    assert!(
        history(node.tracker(), &task).await.into_iter().eq((1..=kept).chain([next, next + 1]))
    );

    // Nothing of what came after is sealed yet when it is lost as well.
    node = scene.lose(node).await;
    let (second_to, last) = (to + 10_000, to + 10_001);
    assert_eq!(appended(&node, &task).await, last);
    scene.seal(&node).await;
    complete(node.tracker(), &task).await.expect("an end");
    let end = Told::End(format!("{last}-end"));
    let second = [Told::Gap(next + 2, second_to), Told::Entry(last), end.clone()];
    if loss != Loss::Removed {
        assert_eq!(told(&live.rest().await), second);
    }
    let after_the_end =
        [entries(1..=kept), vec![Told::Gap(kept + 1, second_to), Told::Entry(last), end.clone()]]
            .concat();
    let whole = told(&watched(&node, &task).await.rest().await);
    assert_eq!(joined(&whole), after_the_end);
    for (last_event_id, first) in [("43", 44), ("45", 46), ("10000", 10_001)] {
        let resumed = from(&node, &task, last_event_id, "text/event-stream").await.rest().await;
        let expected = [Told::Gap(first, second_to), Told::Entry(last), end.clone()];
        assert_eq!(joined(&told(&resumed)), expected);
    }
    let resumed =
        from(&node, &task, &second_to.to_string(), "text/event-stream").await.rest().await;
    assert_eq!(told(&resumed), [Told::Entry(last), end]);
    let lines = from(&node, &task, "45", "application/x-ndjson").await.text().await;
    let first: serde_json::Value =
        serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        (&first["event"], &first["data"]),
        (&json!("gap"), &json!({ "from": 46, "to": to }))
    );
    assert_eq!(first["taskId"], task.as_str());
}

#[rstest]
#[case::flushed(Mode::Node, Loss::Flushed)]
#[case::emptied(Mode::Node, Loss::Emptied)]
#[case::older(Mode::Node, Loss::Older)]
#[case::removed(Mode::Embedded, Loss::Removed)]
#[case::flushed_masters(Mode::Cluster, Loss::Flushed)]
#[case::emptied_masters(Mode::Cluster, Loss::Emptied)]
#[case::older_masters(Mode::Cluster, Loss::Older)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_after_a_loss_says_what_may_be_gone(
    #[case] mode: Mode,
    #[case] loss: Loss,
    #[values("complete", "time_out", "sweep", "release")] word: &str,
) {
    let mut scene = Scene::new(mode, loss).await;
    let mut node = scene.node().await;
    let task = started(node.tracker()).await;
    progressed(node.tracker(), &task, 2).await;
    scene.remember().await;
    assert_eq!(progressed(node.tracker(), &task, 1).await, 3);
    let mut live = watched(&node, &task).await;
    assert_eq!(told(&live.take(3).await), entries(1..=3));
    node = scene.lose(node).await;
    // The connection is back; the very first that is asked of the log is the end.
    eventually(async || node.tracker().health().await.iter().all(|one| one.is_up).then_some(()))
        .await;
    let tracker = node.tracker();
    match word {
        "complete" => drop(complete(tracker, &task).await.expect("an end")),
        "time_out" => drop(tracker.time_out(task.clone(), None).await.expect("an end")),
        "sweep" => {
            scene.clock.advance(Duration::from_hours(25));
            assert_eq!(tracker.sweep().await.expect("a sweep"), 1);
        }
        _ => {
            tracker.release(task.clone(), worker().into(), None).await.expect("given back");
            tracker
                .start(task.clone(), Some(worker()), None, None)
                .await
                .expect("a second attempt");
        }
    }
    let kept = if loss == Loss::Older { 2 } else { 0 };
    let (mut last, mut after) = (kept + 10_000, Vec::new());
    if word == "release" {
        last += 1;
        assert_eq!(appended(&node, &task).await, last);
        complete(tracker, &task).await.expect("an end");
        after.push(Told::Entry(last));
    }
    after.push(Told::End(format!("{last}-end")));
    let events = told(&watched(&node, &task).await.rest().await);
    let gap = Told::Gap(kept + 1, kept + 10_000);
    assert_eq!(events, [entries(1..=kept), vec![gap], after.clone()].concat());
    if loss != Loss::Removed {
        let events: Vec<Told> = told(&live.rest().await)
            .into_iter()
            // A release and a start are told without an id.
            .filter(|one| *one != Told::End(String::new()))
            .collect();
        let gap = Told::Gap(4, kept + 10_000);
        assert_eq!(events, [vec![gap], after].concat());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_kept_everything_makes_no_gap(
    #[values(Mode::Node, Mode::Cluster)] mode: Mode,
) {
    let mut scene = Scene::keeping(mode, Loss::Emptied, Keeps::Everything).await;
    let mut node = scene.node().await;
    let (task, silent) = (started(node.tracker()).await, started(node.tracker()).await);
    let reader = watched(&node, &task).await;
    progressed(node.tracker(), &task, 5).await;
    node = scene.lose(node).await;
    assert_eq!(appended(&node, &task).await, 6);
    scene.seal(&node).await;
    node = scene.lose(node).await;
    assert_eq!(appended(&node, &task).await, 7);
    assert_eq!(appended(&node, &silent).await, 1);
    complete(node.tracker(), &task).await.expect("an end");
    super::assert_whole(&reader.rest().await, 7);
    assert_eq!(history(node.tracker(), &task).await, [1, 2, 3, 4, 5, 6, 7]);
}

#[rstest]
#[case::flushed(Mode::Node, Loss::Flushed)]
#[case::emptied(Mode::Node, Loss::Emptied)]
#[case::older(Mode::Node, Loss::Older)]
#[case::removed(Mode::Embedded, Loss::Removed)]
#[case::flushed_masters(Mode::Cluster, Loss::Flushed)]
#[case::emptied_masters(Mode::Cluster, Loss::Emptied)]
#[case::older_masters(Mode::Cluster, Loss::Older)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_began_after_a_loss_begins_at_one(#[case] mode: Mode, #[case] loss: Loss) {
    let mut scene = Scene::new(mode, loss).await;
    let mut node = scene.node().await;
    let (early, waiting) =
        (started(node.tracker()).await, registered(node.tracker(), "work").await.id);
    progressed(node.tracker(), &early, 1).await;
    scene.remember().await;
    node = scene.lose(node).await;
    eventually(async || node.tracker().note_generations().await.ok()).await;
    let late = started(node.tracker()).await;
    node.tracker().start(waiting.clone(), Some(worker()), None, None).await.expect("a start");
    assert_eq!(appended(&node, &late).await, 1);
    assert_eq!(appended(&node, &waiting).await, 1, "it waited while the log lost its memory");
    // What one task lost is another's nothing: it is whole to its end.
    progressed(node.tracker(), &late, 2).await;
    complete(node.tracker(), &late).await.expect("an end");
    super::assert_whole(&watched(&node, &late).await.rest().await, 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_number_is_given_twice_whatever_the_broker_forgets(
    #[values(Mode::Node, Mode::Cluster)] mode: Mode,
    #[values(Loss::Flushed, Loss::Emptied, Loss::Older)] loss: Loss,
) {
    let mut scene = Scene::new(mode, loss).await;
    let (one, other) = (scene.node().await, scene.node().await);
    let task = started(one.tracker()).await;
    let reader = watched(&other, &task).await;
    let reader = tokio::spawn(reader.rest());
    let (given, stop) = (Mutex::new(HashSet::new()), AtomicBool::new(false));
    let append = async |node: &App| {
        while !stop.load(Ordering::SeqCst) {
            let entries = vec![JsonObject::from_stored("{}"); 3];
            let kept = node.tracker().progress(&task, &entries, &worker().into(), None).await;
            if let Ok(accepted) = kept {
                let mut given = given.lock().unwrap();
                for number in accepted.last_seq_id - 2..=accepted.last_seq_id {
                    assert!(given.insert(number), "{number} is given twice");
                }
            }
        }
    };
    let seal = async |node: &App| {
        while !stop.load(Ordering::SeqCst) {
            scene.clock.advance(DUE);
            // While the broker is away it fails.
            let _ = node.tracker().note_generations().await;
            let _ = node.tracker().seal().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let grown = async || {
        let before = given.lock().unwrap().len();
        eventually(async || (given.lock().unwrap().len() > before + 40).then_some(())).await;
    };
    let broker = scene.broker.take().expect("a broker");
    let lose = async {
        let mut broker = broker;
        for _ in 0..4 {
            grown().await;
            if loss == Loss::Older {
                broker.save().await;
                grown().await;
            }
            if loss == Loss::Flushed {
                broker.flush().await;
            } else {
                broker.kill_and_start().await;
            }
        }
        grown().await;
        stop.store(true, Ordering::SeqCst);
        broker
    };
    let appenders = join_all(vec![append(&one), append(&other), append(&one)]);
    let (_broker, ..) = futures::join!(lose, appenders, seal(&one), seal(&other));
    let ended = async || complete(one.tracker(), &task).await.ok();
    eventually(ended).await;

    // Every number is an entry or gone, once and in order, for who was there all the time and for who comes later.
    let heard = told(&reader.await.expect("a reader that reached the end"));
    let later = told(&watched(&one, &task).await.rest().await);
    for told in [&heard, &later] {
        let mut next = 1;
        for one in told {
            match one {
                Told::Entry(number) => {
                    assert_eq!(*number, next);
                    next += 1;
                }
                Told::Gap(from, to) => {
                    assert_eq!(*from, next);
                    next = to + 1;
                }
                Told::End(id) => assert_eq!(*id, format!("{}-end", next - 1)),
            }
        }
        assert!(matches!(told.last(), Some(Told::End(_))));
    }
    // What was acknowledged is there or said to be gone.
    let history: HashSet<u64> = history(one.tracker(), &task).await.into_iter().collect();
    let is_gone = |number: u64| {
        later
            .iter()
            .any(|one| matches!(one, Told::Gap(from, to) if (*from..=*to).contains(&number)))
    };
    for number in given.into_inner().unwrap() {
        assert!(history.contains(&number) || is_gone(number), "{number} is nowhere");
    }
    let rows = scene.ground.rows(task.as_str()).await;
    assert!(rows.iter().any(|(.., is_lost)| *is_lost));
}
