//! What is left of a log after its task's end.

use std::sync::Arc;

use rstest::rstest;
use task_tracker::domain::{Event, TaskId};
use task_tracker::live::{Appended, Ended, Fence};

use super::{Backend, Log, event, object};
use crate::harness::eventually;

#[rstest]
#[tokio::test]
async fn nothing_is_left_of_a_log_that_is_sealed(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.append(&task, 2).await;
    log.close(&task, 1).await.unwrap();
    assert_eq!(log.end(&task, 3).await, Ended::Gone);
    let page = log.live.read(&task, 0, 10).await.unwrap();
    assert_eq!((page.entries.len(), page.last_seq_id), (0, 0));
    let tasks = [task.clone()];
    assert_eq!(log.live.last_seq_ids(&tasks).await.unwrap(), [0]);
    assert!(log.live.latest(&tasks).await.unwrap()[0].is_none());
    let fence = log.seen(&task).await;
    assert!(
        matches!(fence, Fence::Opening { .. }),
        "who comes late asks the durable truth: {fence}"
    );
}

#[rstest]
#[tokio::test]
async fn a_log_with_entries_that_are_not_sealed_stays_and_is_closed(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.close(&task, 1).await.unwrap();
    // The commit takes longer than the fence stands, and an entry gets in.
    log.let_the_closed_fence_fall(&task).await;
    assert_eq!(log.open_for(&task, 1, None).await, 2);
    let mut subscription = log.subscribe(&task).await;

    assert_eq!(log.end(&task, 1).await, Ended::Unsealed);
    assert_eq!(log.entries(&task).await.len(), 2, "they are there to be sealed");
    assert_eq!(log.seen(&task).await, Fence::Closed { attempt: 1 });
    assert_eq!(log.end(&task, 2).await, Ended::Gone);
    let Event::Status(end) = event(&mut subscription).await else { panic!("no end") };
    assert_eq!(end.last_seq_id, 2, "an end that has to wait is not published");
}

#[rstest]
#[tokio::test]
async fn the_end_is_published_as_it_was_given(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let mut subscription = log.subscribe(&task).await;
    let end = log.completed(1);
    let ended = log.live.end(&task, 1, &end, log.clock.now()).await.unwrap();
    assert_eq!(ended, Ended::Gone);
    let Event::Status(heard) = event(&mut subscription).await else { panic!("no end") };
    assert!(heard.is_end());
    assert_eq!((heard.status, heard.last_seq_id), (end.status, 1));
    assert_eq!((heard.result, heard.error), (end.result, None));
    assert_eq!(heard.at.to_string(), end.at.to_string());
}

#[rstest]
#[tokio::test]
async fn ending_twice_does_no_harm(#[values(Backend::Redis, Backend::Embedded)] backend: Backend) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let bystander = log.opened().await;
    for _ in 0..2 {
        assert_eq!(log.end(&task, 1).await, Ended::Gone);
    }
    assert_eq!(log.end(&TaskId::new(), 0).await, Ended::Gone, "a log that never was");
    assert_eq!(log.append(&bystander, 1).await, 2, "other logs go on");
}

#[rstest]
#[tokio::test]
async fn an_append_refused_after_the_end_does_not_bring_the_log_back(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.end(&task, 1).await;
    super::refused(log.try_append(&task, &[object("late")]).await);
    assert!(log.entries(&task).await.is_empty());
    assert_eq!(log.end(&task, 1).await, Ended::Gone, "and whoever settles again finds nothing");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_acknowledged_beside_a_close_is_below_its_number(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Arc::new(Log::open(backend).await);
    for _ in 0..20 {
        let task = log.opened().await;
        let appenders: Vec<_> = (0..8)
            .map(|_| {
                let (log, task) = (Arc::clone(&log), task.clone());
                tokio::spawn(async move {
                    let mut last = 0;
                    while let Appended::Kept { last_seq_id, .. } =
                        log.try_append(&task, &[object("racing")]).await
                    {
                        last = last_seq_id;
                    }
                    last
                })
            })
            .collect();
        // Each has begun, so the close comes into their midst.
        eventually(|| async {
            (log.live.last_seq_ids(std::slice::from_ref(&task)).await.unwrap()[0] > 8).then_some(())
        })
        .await;
        let newest = log.close(&task, 1).await.unwrap();
        let mut acknowledged = 0;
        for appender in appenders {
            acknowledged = acknowledged.max(appender.await.expect("an appender that is refused"));
        }
        assert_eq!(
            acknowledged, newest,
            "no entry is acknowledged behind the number the end reads"
        );
        assert_eq!(log.entries(&task).await.len() as u64, newest);
    }
}
