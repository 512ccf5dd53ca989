//! An entry that is acknowledged while the end is being committed, for longer than a fence stays closed; and one that
//! comes after the end, or when the attempt is over.

use std::time::Duration;

use rstest::rstest;
use task_tracker::domain::lifecycle::Refused;
use task_tracker::domain::{JsonObject, Key, Status, TaskId};
use task_tracker::service::{Accepted, Error, Tracker, progress_scope};

use super::faulty::{Death, Ends, Fault};
use super::{
    ABANDONED, Scene, assert_whole, complete, history, progressed, registered, started, watched,
    worker,
};
use crate::harness::Mode;

/// Ends a task of three entries while a fourth is acknowledged before the commit; the ending node
/// dies where it is said to, and another settles what it left.
async fn an_end_with_a_late_entry(mode: Mode, dies: Option<Death>) {
    let scene = Scene::new(mode).await;
    let (first, log) = scene.faulty(Fault { dies, closes_slowly: true, ..Fault::default() }).await;
    let beside = if mode == Mode::Embedded { None } else { Some(scene.node().await) };
    let task = started(first.tracker()).await;
    progressed(first.tracker(), &task, 3).await;
    let mut reader = watched(beside.as_ref().unwrap_or(&first), &task).await;
    let mut heard = reader.take(3).await;

    let ender = first.tracker().clone();
    let ending = tokio::spawn({
        let task = task.clone();
        async move { complete(&ender, &task).await }
    });
    log.is_committing().await;
    scene.let_the_closed_fence_fall(&task).await;
    let appender = beside.as_ref().unwrap_or(&first).tracker();
    let late = append_once(appender, &task).await;
    assert_eq!((late.last_seq_id, late.is_repeated), (4, false), "the task is still in progress");
    log.go_on();
    ending.await.unwrap().expect("the end is committed");

    let repairer = if dies.is_some() {
        first.abort();
        let second = match beside {
            Some(second) => second,
            None => scene.node().await,
        };
        scene.clock.advance(ABANDONED);
        assert_eq!(second.tracker().settle_abandoned().await.unwrap(), 1);
        second
    } else {
        beside.unwrap_or(first)
    };
    if mode == Mode::Embedded && dies.is_some() {
        // Its stream died with its process.
        reader = watched(&repairer, &task).await;
        heard.clear();
    }
    heard.extend(reader.rest().await);
    assert_whole(&heard, 4);
    assert_eq!(history(repairer.tracker(), &task).await, [1, 2, 3, 4]);
    assert!(scene.unsettled().await.is_empty());
    assert_eq!(scene.live_traces().await, 0);
    // Its receipt came along.
    let again = append_once(repairer.tracker(), &task).await;
    assert_eq!((again.last_seq_id, again.is_repeated), (4, true));
}

/// Appends an entry under a key, the same each time.
async fn append_once(tracker: &Tracker, task: &TaskId) -> Accepted {
    let entries = [JsonObject::from_stored("{}")];
    let key = Key::new(progress_scope(task), "late", &[b"{}"]);
    let accepted = tracker.progress(task, &entries, &worker().into(), Some(&key)).await;
    accepted.expect("an acknowledgement")
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_acknowledged_during_a_slow_commit_is_sealed_after_it(
    #[values(Mode::Embedded, Mode::Node, Mode::Cluster)] mode: Mode,
) {
    an_end_with_a_late_entry(mode, None).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_acknowledged_during_a_slow_commit_survives_the_death_of_the_node(
    #[values(Mode::Embedded, Mode::Node, Mode::Cluster)] mode: Mode,
    // Before anything is settled; when it is known that something is to be sealed; when it is sealed;
    // when all is done but the note.
    #[values(
        Death::BeforeTheEnd(1),
        Death::AfterTheEnd(1),
        Death::BeforeTheEnd(2),
        Death::AfterTheEnd(2)
    )]
    dies: Death,
) {
    an_end_with_a_late_entry(mode, Some(dies)).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_in_the_history_and_the_stream_before_it_is_settled(
    #[values(Mode::Embedded, Mode::Node, Mode::Cluster)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    // The end is committed and cannot be settled yet: what a reader sees is what is there between
    // the commit and the settling.
    let fault = Fault { closes_slowly: true, ends: Ends::Refused, ..Fault::default() };
    let (node, log) = scene.faulty(fault).await;
    let task = started(node.tracker()).await;
    progressed(node.tracker(), &task, 3).await;
    let ender = node.tracker().clone();
    let ending = tokio::spawn({
        let task = task.clone();
        async move { complete(&ender, &task).await }
    });
    log.is_committing().await;
    scene.let_the_closed_fence_fall(&task).await;
    assert_eq!(progressed(node.tracker(), &task, 1).await, 4);
    log.go_on();
    ending.await.unwrap().expect("the end is committed");

    let tracked = node.tracker().get(&task).await.unwrap();
    assert_eq!(tracked.task.status, Status::Completed);
    let seq_ids: Vec<u64> = tracked.history.iter().map(|entry| entry.seq_id).collect();
    assert_eq!(seq_ids, [1, 2, 3, 4]);
    assert_whole(&watched(&node, &task).await.rest().await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_comes_after_the_end_leaves_nothing_in_redis() {
    let scene = Scene::new(Mode::Node).await;
    let node = scene.node().await;
    let task = started(node.tracker()).await;
    progressed(node.tracker(), &task, 1).await;
    complete(node.tracker(), &task).await.expect("an end");
    let entry = [JsonObject::from_stored(r#"{"late":true}"#)];
    let late = node.tracker().progress(&task, &entry, &worker().into(), None).await;
    assert!(matches!(late, Err(Error::Refused { .. })), "{late:?}");
    let unknown = TaskId::new();
    let lost = node.tracker().progress(&unknown, &entry, &worker().into(), None).await;
    assert!(matches!(lost, Err(Error::TaskNotFound(_))), "{lost:?}");
    assert_eq!(scene.live_traces().await, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_lease_is_taken_slowly_is_not_heard_after_it(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    let (first, log) = scene.faulty(Fault { closes_slowly: true, ..Fault::default() }).await;
    let beside = if mode == Mode::Embedded { None } else { Some(scene.node().await) };
    let other = beside.as_ref().unwrap_or(&first).tracker();
    let (task, lease) = (registered(other, "work").await.id, Duration::from_mins(1));
    let begun = other.start(task.clone(), Some(worker()), Some(lease), None).await;
    let holder = begun.expect("a start").now().expect("done now").holder();
    scene.clock.advance(lease + Duration::from_secs(1));
    let taker = first.tracker().clone();
    let taking = tokio::spawn(async move { taker.expire_leases().await });
    log.is_committing().await;
    scene.let_the_closed_fence_fall(&task).await;
    let entry = [JsonObject::from_stored(r#"{"late":true}"#)];
    let accepted = other.progress(&task, &entry, &holder, None).await;
    assert_eq!(accepted.expect("it still has the task").last_seq_id, 1);
    log.go_on();
    assert_eq!(taking.await.unwrap().unwrap(), 1);

    let late = other.progress(&task, &entry, &holder, None).await;
    assert!(
        matches!(late, Err(Error::Refused { refused: Refused::LeaseLost, .. })),
        "the next worker may have the task: {late:?}"
    );
    assert_eq!(history(other, &task).await, [1]);
}
