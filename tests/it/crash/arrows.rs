//! A node that dies after any arrow of a task's end (see `service::finish`), and another that repairs.

use std::time::Duration;

use rstest::rstest;
use task_tracker::domain::Status;
use task_tracker::domain::lifecycle::Refused;
use task_tracker::service::Error;

use super::faulty::{Death, Ends, Fault};
use super::{
    ABANDONED, Scene, assert_whole, complete, history, progressed, registered, started, watched,
    worker,
};
use crate::harness::Mode;

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_before_the_commit_leaves_a_task_that_goes_on(
    #[values(Mode::Embedded, Mode::Node, Mode::Cluster)] mode: Mode,
    #[values(Death::BeforeTheClose, Death::AfterTheClose)] dies: Death,
) {
    let scene = Scene::new(mode).await;
    let (first, _) = scene.faulty(Fault { dies: Some(dies), ..Fault::default() }).await;
    let task = started(first.tracker()).await;
    progressed(first.tracker(), &task, 3).await;
    let beside = if mode == Mode::Embedded { None } else { Some(scene.node().await) };
    let reader = match &beside {
        Some(second) => Some(watched(second, &task).await),
        None => None,
    };

    let refused = complete(first.tracker(), &task).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    first.abort();

    let second = match beside {
        Some(second) => second,
        None => scene.node().await,
    };
    let reader = match reader {
        Some(reader) => reader,
        None => watched(&second, &task).await,
    };
    assert!(scene.unsettled().await.is_empty());
    let tracked = second.tracker().get(&task).await.unwrap();
    assert_eq!(tracked.task.status, Status::InProgress);
    // The dead node's fence falls by itself; the worker notices nothing but the time that took.
    scene.let_the_closed_fence_fall(&task).await;
    assert_eq!(progressed(second.tracker(), &task, 1).await, 4);
    complete(second.tracker(), &task).await.expect("the worker's second try");

    assert_whole(&reader.rest().await, 4);
    assert_eq!(history(second.tracker(), &task).await, [1, 2, 3, 4]);
    assert!(scene.unsettled().await.is_empty());
    assert_eq!(scene.live_traces().await, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_its_node_left_behind_is_settled_by_another(
    #[values(Mode::Embedded, Mode::Node, Mode::Cluster)] mode: Mode,
    #[values(Death::BeforeTheEnd(1), Death::AfterTheEnd(1))] dies: Death,
) {
    let scene = Scene::new(mode).await;
    let (first, _) = scene.faulty(Fault { dies: Some(dies), ..Fault::default() }).await;
    let task = started(first.tracker()).await;
    progressed(first.tracker(), &task, 3).await;
    let beside = if mode == Mode::Embedded { None } else { Some(scene.node().await) };
    let reader = match &beside {
        Some(second) => Some(watched(second, &task).await),
        None => None,
    };

    complete(first.tracker(), &task).await.expect("committed, and said so");
    assert_eq!(scene.unsettled().await.as_slice(), std::slice::from_ref(&task));
    first.abort();

    let second = match beside {
        Some(second) => second,
        None => scene.node().await,
    };
    assert_eq!(history(second.tracker(), &task).await, [1, 2, 3], "before it is settled");
    let settled = second.tracker().settle_abandoned().await.unwrap();
    assert_eq!(settled, 0, "its node may still be about it");
    scene.clock.advance(ABANDONED);
    assert_eq!(second.tracker().settle_abandoned().await.unwrap(), 1);

    let reader = match reader {
        Some(reader) => reader,
        None => watched(&second, &task).await,
    };
    assert_whole(&reader.rest().await, 3);
    assert_eq!(history(second.tracker(), &task).await, [1, 2, 3]);
    assert!(scene.unsettled().await.is_empty());
    assert_eq!(scene.live_traces().await, 0);
    assert_eq!(second.tracker().settle_abandoned().await.unwrap(), 0);
    let again = complete(second.tracker(), &task).await;
    let from = Status::Completed;
    assert!(
        matches!(again, Err(Error::Refused { refused: Refused::InvalidTransition { from: f, .. }, .. }) if f == from),
        "it ends once: {again:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_settle_one_end_at_once_do_no_harm() {
    let scene = Scene::new(Mode::Node).await;
    let (first, _) = scene.faulty(Fault { ends: Ends::Refused, ..Fault::default() }).await;
    let (second, third) = (scene.node().await, scene.node().await);
    let mut readers = Vec::new();
    for _ in 0..10 {
        let task = started(second.tracker()).await;
        progressed(second.tracker(), &task, 2).await;
        readers.push((watched(&third, &task).await, task));
    }
    for (_, task) in &readers {
        complete(first.tracker(), task).await.expect("committed, and said so");
    }
    scene.clock.advance(ABANDONED);
    let (one, other) =
        tokio::join!(second.tracker().settle_abandoned(), third.tracker().settle_abandoned());
    assert!(one.is_ok() && other.is_ok());
    for (reader, task) in readers {
        assert_whole(&reader.rest().await, 2);
        assert_eq!(history(third.tracker(), &task).await, [1, 2]);
    }
    assert!(scene.unsettled().await.is_empty());
    assert_eq!(scene.live_traces().await, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_dies_on_the_way_leaves_the_task_with_its_worker(
    #[values(Mode::Embedded, Mode::Node, Mode::Cluster)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    let dies = Some(Death::AfterTheClose);
    let (first, _) = scene.faulty(Fault { dies, ..Fault::default() }).await;
    let task = started(first.tracker()).await;
    progressed(first.tracker(), &task, 2).await;
    first.tracker().release(task.clone(), worker().into(), None).await.expect_err("it died");
    first.abort();
    let second = scene.node().await;
    scene.let_the_closed_fence_fall(&task).await;
    assert_eq!(progressed(second.tracker(), &task, 1).await, 3);
    second.tracker().release(task.clone(), worker().into(), None).await.expect("the second try");
    let tracked = second.tracker().get(&task).await.unwrap();
    assert_eq!((tracked.task.status, tracked.history.len()), (Status::Pending, 3));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_log_that_cannot_be_closed_does_not_keep_the_sweep_from_the_others(
    #[values(Mode::Embedded, Mode::Node, Mode::Cluster)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    let healthy = scene.node().await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        tasks.push(registered(healthy.tracker(), "work").await.id);
    }
    healthy.shut_down().await;
    let stuck = tasks[2].clone();
    let fault = Fault { stuck: Some(stuck.clone()), ..Fault::default() };
    let (faulty, _) = scene.faulty(fault).await;
    scene.clock.advance(Duration::from_secs(86_401));
    assert_eq!(faulty.tracker().sweep().await.unwrap(), 4);
    for task in &tasks {
        let status = faulty.tracker().get(task).await.unwrap().task.status;
        let expected = if *task == stuck { Status::Pending } else { Status::Timeout };
        assert_eq!(status, expected);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_end_that_cannot_be_settled_does_not_keep_the_others_waiting(
    #[values(Mode::Embedded, Mode::Node, Mode::Cluster)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    let (first, _) = scene.faulty(Fault { ends: Ends::Refused, ..Fault::default() }).await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let task = started(first.tracker()).await;
        progressed(first.tracker(), &task, 1).await;
        complete(first.tracker(), &task).await.expect("committed, and said so");
        tasks.push(task);
    }
    first.abort();
    let stuck = tasks[0].clone();
    let (second, _) = scene.faulty(Fault { stuck: Some(stuck.clone()), ..Fault::default() }).await;
    scene.clock.advance(ABANDONED);
    // It may say that one could not be settled; the others are.
    let _ = second.tracker().settle_abandoned().await;
    assert_eq!(scene.unsettled().await, [stuck]);
}
