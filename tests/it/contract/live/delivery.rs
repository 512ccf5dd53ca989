//! What subscribers and waiting workers hear.

use std::sync::Arc;

use futures::future::join_all;
use rstest::rstest;
use task_tracker::domain::{Event, Status, TaskId, TaskType};
use task_tracker::live::Signal;

use super::{Backend, Log, ROOM, entry_heard, event, hear, object};
use crate::harness::{PATIENCE, eventually};

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn entries_are_published_in_the_order_of_their_numbers(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Arc::new(Log::open(backend).await);
    let task = log.opened().await;
    let mut subscription = log.subscribe(&task).await;
    let appenders: Vec<_> = (0..10)
        .map(|_| {
            let (log, task) = (Arc::clone(&log), task.clone());
            // Together fewer than a topic holds, so that nobody falls behind.
            tokio::spawn(async move { log.append(&task, 6).await })
        })
        .collect();
    for expected in 2..=61 {
        assert_eq!(entry_heard(&mut subscription).await, expected);
    }
    join_all(appenders).await;
}

#[rstest]
#[tokio::test]
async fn an_entry_is_heard_as_it_is_read(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let mut subscription = log.subscribe(&task).await;
    let batch = [object("line\nbreak"), object("\u{0} 日本語 🦀"), object("")];
    log.try_append(&task, &batch).await;
    for read in log.live.read(&task, 1, 10).await.unwrap().entries {
        let Event::Progress(heard) = event(&mut subscription).await else { panic!("no entry") };
        assert_eq!((heard.seq_id, &heard.progress), (read.seq_id, &read.progress));
        assert_eq!(heard.timestamp.to_string(), read.timestamp.to_string());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_published_after_a_subscription_is_confirmed_is_heard(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Arc::new(Log::open(backend).await);
    // In Redis the entries come from another node, so nothing but the broker's word orders the two.
    let other = match backend {
        Backend::Redis | Backend::Cluster => Arc::new(log.again().await),
        Backend::Embedded => Arc::clone(&log),
    };
    let subscribers = (0..40).map(|_| {
        let (log, other) = (Arc::clone(&log), Arc::clone(&other));
        tokio::spawn(async move {
            let task = other.opened().await;
            let mut subscription = log.subscribe(&task).await;
            other.append(&task, 1).await;
            assert_eq!(entry_heard(&mut subscription).await, 2);
        })
    });
    for subscriber in join_all(subscribers).await {
        subscriber.expect("an entry heard");
    }
}

#[rstest]
#[tokio::test]
async fn a_change_of_status_is_announced_to_who_watches(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let (log, task) = (Log::open(backend).await, TaskId::new());
    let mut subscription = log.subscribe(&task).await;
    let mut change = log.completed(0);
    (change.status, change.result) = (Status::InProgress, None);
    log.live.announce(&task, &Event::Status(change.clone())).await.unwrap();
    let Event::Status(heard) = event(&mut subscription).await else { panic!("no change") };
    assert_eq!((heard.status, heard.is_end()), (Status::InProgress, false));
    assert_eq!(heard.at.to_string(), change.at.to_string());
}

#[rstest]
#[tokio::test]
async fn a_watcher_hears_its_own_task_only(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let (task, other) = (log.opened().await, log.opened().await);
    let mut subscription = log.subscribe(&task).await;
    let mut of_the_other = log.subscribe(&other).await;
    log.append(&other, 3).await;
    assert_eq!(log.append(&task, 1).await, 2);
    assert_eq!(entry_heard(&mut subscription).await, 2);
    assert!(subscription.try_next().is_none());
    for expected in 2..=4 {
        assert_eq!(entry_heard(&mut of_the_other).await, expected);
    }
}

#[rstest]
#[tokio::test]
async fn a_wake_reaches_a_worker_that_waits_for_the_type(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    // Whoever has a subscription confirmed hears wakes as well.
    let _subscription = log.subscribe(&TaskId::new()).await;
    let types: Vec<TaskType> = vec!["a type {ü}".parse().unwrap(), "another".parse().unwrap()];
    let mut waiter = log.hub.waiters().join(&types, ROOM).expect("room");
    log.live.wake(&["of nobody".parse().unwrap()]).await.unwrap();
    log.live.wake(&types[..1]).await.unwrap();
    tokio::time::timeout(PATIENCE, waiter.woken()).await.expect("a wake");
    waiter.served();
    log.live.wake(&types[1..2]).await.unwrap();
    tokio::time::timeout(PATIENCE, waiter.woken()).await.expect("a second wake");
}

#[rstest]
#[tokio::test]
async fn every_node_hears_of_an_entry_a_change_an_end_and_a_wake(
    #[values(Backend::Redis, Backend::Cluster)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let nodes = [log.again().await, log.again().await];
    let task = log.opened().await;
    let mut subscriptions = Vec::new();
    for node in &nodes {
        subscriptions.push(node.subscribe(&task).await);
    }
    let types: Vec<TaskType> = vec!["everywhere".parse().unwrap()];
    let waiters = nodes.each_ref().map(|node| node.hub.waiters().join(&types, ROOM).expect("room"));
    log.append(&task, 1).await;
    log.end(&task, 2).await;
    log.live.wake(&types[..1]).await.unwrap();
    for (mut subscription, mut waiter) in subscriptions.into_iter().zip(waiters) {
        assert_eq!(entry_heard(&mut subscription).await, 2);
        assert!(matches!(event(&mut subscription).await, Event::Status(end) if end.is_end()));
        tokio::time::timeout(PATIENCE, waiter.woken()).await.expect("a wake");
    }
}

#[rstest]
#[tokio::test]
async fn a_topic_lives_as_long_as_its_last_reader(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let (first, mut second) = (log.subscribe(&task).await, log.subscribe(&task).await);
    assert_eq!(log.hub.topics().len(), 1, "readers of a task share its topic");
    drop(first);
    log.append(&task, 1).await;
    assert_eq!(entry_heard(&mut second).await, 2);
    drop(second);
    assert!(log.hub.topics().is_empty() && !log.hub.is_watched(&task));
    let mut again = log.subscribe(&task).await;
    log.append(&task, 1).await;
    assert_eq!(entry_heard(&mut again).await, 3);
}

#[rstest]
#[tokio::test]
async fn the_broker_is_asked_once_for_a_topic_and_told_when_nobody_reads(
    #[values(Backend::Redis, Backend::Cluster)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = TaskId::new();
    let channel = log.key("live", &task);
    let redis = log.redis_of(&channel).await;
    // In a cluster the channel is sharded: only the owner of its slot knows of it.
    let count = if backend == Backend::Cluster { "SHARDNUMSUB" } else { "NUMSUB" };
    let listeners = || async {
        let mut redis = redis.clone();
        let mut asked = redis::cmd("PUBSUB");
        asked.arg(count).arg(&channel);
        let (_, listeners): (String, u64) = asked.query_async(&mut redis).await.unwrap();
        listeners
    };
    let subscriptions = [log.subscribe(&task).await, log.subscribe(&task).await];
    assert_eq!(listeners().await, 1);
    drop(subscriptions);
    eventually(|| async { (listeners().await == 0).then_some(()) }).await;
}

#[rstest]
#[tokio::test]
async fn who_falls_behind_is_told_to_read_the_log(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let (mut slow, mut quick) = (log.subscribe(&task).await, log.subscribe(&task).await);
    for expected in 2..=300 {
        log.append(&task, 1).await;
        assert_eq!(entry_heard(&mut quick).await, expected, "nobody waits for the slow one");
    }
    assert!(matches!(hear(&mut slow).await, Signal::Resync));
    assert_eq!(log.entries(&task).await.len(), 300, "what it missed is in the log");
    let mut next = entry_heard(&mut slow).await;
    while next < 300 {
        let following = entry_heard(&mut slow).await;
        assert_eq!(following, next + 1);
        next = following;
    }
}

#[rstest]
#[tokio::test]
async fn a_topic_knows_the_newest_number_that_came_by(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let mut subscription = log.subscribe(&task).await;
    assert_eq!(log.hub.topics(), [(task.clone(), 0)]);
    log.append(&task, 1).await;
    entry_heard(&mut subscription).await;
    assert_eq!(log.hub.topics(), [(task.clone(), 2)]);
    log.hub.resync(&task, 7);
    assert!(matches!(hear(&mut subscription).await, Signal::Resync));
    assert_eq!(log.hub.topics(), [(task, 7)]);
}
