//! A node that dies while it seals the log of a running task, and what it leaves.

use std::time::Duration;

use rstest::rstest;

use super::faulty::{Death, Fault};
use super::{Scene, assert_whole, complete, history, progressed, started, watched};
use crate::harness::Mode;

/// Longer than an entry waits to be sealed.
const DUE: Duration = Duration::from_secs(4);

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_while_it_seals_loses_nothing_and_seals_nothing_twice(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
    #[values(Death::AfterTheRead, Death::BeforeTheTrim)] dies: Death,
) {
    let scene = Scene::new(mode).await;
    let earlier = scene.node().await;
    let task = started(earlier.tracker()).await;
    // What another took is read; what a node took itself it has at hand.
    let elsewhere = usize::from(dies == Death::AfterTheRead);
    progressed(earlier.tracker(), &task, elsewhere).await;
    earlier.shut_down().await;
    let (first, _) = scene.faulty(Fault { dies: Some(dies), ..Fault::default() }).await;
    progressed(first.tracker(), &task, 3 - elsewhere).await;
    scene.clock.advance(DUE);
    first.tracker().seal().await.expect_err("it died");
    first.abort();

    let second = scene.node().await;
    let is_sealed = dies == Death::BeforeTheTrim;
    assert_eq!(scene.ground.rows(task.as_str()).await.is_empty(), !is_sealed);
    assert_eq!(scene.ground.live_entries(task.as_str()).await, 3);
    assert_eq!(history(second.tracker(), &task).await, [1, 2, 3]);
    let reader = watched(&second, &task).await;
    assert_eq!(progressed(second.tracker(), &task, 1).await, 4);
    scene.clock.advance(DUE);
    assert_eq!(second.tracker().seal().await.unwrap(), 1);
    assert_eq!(scene.ground.rows(task.as_str()).await.last().map(|row| row.1), Some(4));
    assert_eq!(scene.ground.live_entries(task.as_str()).await, 1);
    assert_eq!(history(second.tracker(), &task).await, [1, 2, 3, 4]);
    complete(second.tracker(), &task).await.expect("an end");
    assert_whole(&reader.rest().await, 4);
    assert_eq!(scene.live_traces().await, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_took_itself_is_sealed_without_reading_it(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    let dies = Some(Death::AfterTheRead);
    let (node, _) = scene.faulty(Fault { dies, ..Fault::default() }).await;
    let task = started(node.tracker()).await;
    for last in [3, 7] {
        let before = scene.ground.rows(task.as_str()).await.last().map_or(0, |row| row.1);
        progressed(node.tracker(), &task, usize::try_from(last - before).unwrap()).await;
        scene.clock.advance(DUE);
        assert_eq!(node.tracker().seal().await.unwrap(), 1, "a read would have been its death");
        assert_eq!(scene.ground.rows(task.as_str()).await.last().map(|row| row.1), Some(last));
    }
    node.abort();
    assert_eq!(history(scene.node().await.tracker(), &task).await, [1, 2, 3, 4, 5, 6, 7]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_left_unsealed_is_sealed_by_another(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let scene = Scene::new(mode).await;
    let first = scene.node().await;
    let mut tasks = Vec::new();
    for count in 0..5 {
        let task = started(first.tracker()).await;
        progressed(first.tracker(), &task, count).await;
        tasks.push(task);
    }
    complete(first.tracker(), &tasks[4]).await.expect("an end");
    first.abort();
    let second = scene.node().await;
    scene.clock.advance(DUE);
    assert_eq!(second.tracker().seal().await.unwrap(), 0, "it took none of them");
    assert_eq!(second.tracker().seal_left().await.unwrap(), 3, "those that run and said something");
    assert_eq!(second.tracker().seal_left().await.unwrap(), 0);
    for (task, count) in tasks.iter().zip(0_u64..) {
        let rows = scene.ground.rows(task.as_str()).await;
        assert_eq!(rows.last().map_or(0, |row| row.1), count);
        assert!(history(second.tracker(), task).await.into_iter().eq(1..=count));
    }
}
