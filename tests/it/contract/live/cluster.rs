//! What readers hear in a cluster whose slots move, and whose connections are cut. Each test has a cluster of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use task_tracker::domain::TaskId;
use task_tracker::live::redis::RedisLive;
use task_tracker::live::{Error, Hub, Live, Signal, Subscription};

use super::outage::{append, connected, newest_heard};
use super::{broker, hear, redis_log};
use crate::contract::own_cluster::{Cluster, Move};
use crate::harness::{PATIENCE, cluster_url, eventually};

const NAMESPACE: &str = "tracker";

fn key(kind: &str, task: &TaskId) -> String {
    format!("{NAMESPACE}:{kind}:{{{task}}}")
}

async fn log(cluster: &Cluster) -> (RedisLive, Arc<Hub>) {
    let (live, hub) = redis_log(&cluster.url(), NAMESPACE);
    connected(&hub).await;
    (live, hub)
}

/// Waits until the readers are told to catch up.
async fn told(subscription: &mut Subscription) {
    while !matches!(hear(subscription).await, Signal::Resync) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_slot_moves_goes_on_and_its_readers_with_it() {
    let cluster = Cluster::of(2).await;
    let (live, hub) = log(&cluster).await;
    // Another node, which knows the map of before.
    let (other, _other_hub) = log(&cluster).await;
    let task = TaskId::new();
    let mut subscription = hub.subscribe(&task).await.expect("a subscription");
    assert_eq!(append(&live, &task).await, 1);
    assert_eq!(append(&other, &task).await, 2);

    let slot = Move::of(&cluster, task.as_str()).await;
    slot.begin().await;
    assert_eq!(append(&live, &task).await, 3, "the keys are where they were");
    // Half of the keys are away: for a moment nobody can do it, and it is not done wrong.
    slot.key(&key("seq", &task)).await;
    let half = tokio::spawn({
        let task = task.clone();
        async move { (append(&other, &task).await, other) }
    });
    for kind in ["progress", "fence", "log"] {
        slot.key(&key(kind, &task)).await;
    }
    let (number, other) = half.await.expect("an append that was sent on");
    assert_eq!(number, 4);
    assert_eq!(
        append(&live, &task).await,
        5,
        "the keys are at the other master, the slot is not yet"
    );
    slot.end().await;
    assert_eq!(append(&live, &task).await, 6);
    assert_eq!(append(&other, &task).await, 7);

    told(&mut subscription).await;
    // It began anew at the master where it is now: what was before, the service had sealed.
    let page = live.read(&task, 0, 10).await.unwrap();
    assert_eq!((page.behind, page.last_seq_id), (3, 7));
    assert_eq!(live.read(&task, 3, 10).await.unwrap().entries.len(), 4);
    assert_eq!(append(&other, &task).await, 8);
    while newest_heard(&mut subscription).await < 8 {}
    assert_eq!(cluster.owner(&key("seq", &task)).await, slot.to);
    let channel = key("live", &task);
    let listeners = cluster.ask(slot.to, &["PUBSUB", "SHARDNUMSUB", &channel]).await;
    let (_, listeners): (String, u64) = redis::from_redis_value(listeners).unwrap();
    assert_eq!(listeners, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_of_all_masters_come_back_when_the_subscriptions_were_lost() {
    let cluster = Cluster::of(3).await;
    let (live, hub) = log(&cluster).await;
    let tasks: Vec<TaskId> = (0..60).map(|_| TaskId::new()).collect();
    let mut subscriptions = Vec::new();
    for task in &tasks {
        subscriptions.push(hub.subscribe(task).await.expect("a subscription"));
        append(&live, task).await;
    }
    for server in 0..3 {
        let mut redis =
            broker::connect(&format!("redis://127.0.0.1:{}", cluster.port(server))).await.unwrap();
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("pubsub");
        let killed: u64 = kill.query_async(&mut redis).await.unwrap();
        assert_eq!(killed, 1, "one connection for all subscriptions at a master");
    }
    join_all(tasks.iter().zip(&mut subscriptions).map(async |(task, subscription)| {
        told(subscription).await;
        append(&live, task).await;
        while newest_heard(subscription).await < 2 {}
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_masters_know_is_answered_in_the_order_of_the_question() {
    let cluster = Cluster::of(3).await;
    let (live, _hub) = log(&cluster).await;
    let tasks: Vec<TaskId> = (0..40).map(|_| TaskId::new()).collect();
    for (count, task) in tasks.iter().enumerate() {
        for _ in 0..count % 4 {
            append(&live, task).await;
        }
    }
    let expected: Vec<u64> = (0..40).map(|count| count % 4).collect();
    assert_eq!(live.last_seq_ids(&tasks).await.unwrap(), expected);
    let newest = live.latest(&tasks).await.unwrap();
    let newest = newest.into_iter().map(|entry| entry.map_or(0, |entry| entry.seq_id));
    assert_eq!(newest.collect::<Vec<_>>(), expected);
    live.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_dead_concerns_its_own_tasks_only_and_nobody_waits_long() {
    let mut cluster = Cluster::of(3).await;
    let (live, hub) = log(&cluster).await;
    let mut of: [Vec<TaskId>; 3] = Default::default();
    while of.iter().any(|tasks| tasks.len() < 2) {
        let task = TaskId::new();
        let owner = cluster.owner(&key("seq", &task)).await;
        append(&live, &task).await;
        of[owner].push(task);
    }
    let mut subscription = hub.subscribe(&of[1][0]).await.expect("a subscription");
    cluster.kill(0);
    eventually(async || live.ping().await.is_err().then_some(())).await;
    for owner in [1, 2] {
        assert_eq!(append(&live, &of[owner][0]).await, 2);
    }
    while newest_heard(&mut subscription).await < 2 {}
    let asked = Instant::now();
    assert!(live.read(&of[0][0], 0, 1).await.is_err());
    assert!(live.last_seq_ids(&of[0]).await.is_err());
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    // A new topic of a master that lives is confirmed.
    let joined = tokio::time::timeout(PATIENCE, hub.subscribe(&of[2][1])).await;
    joined.expect("an answer").expect("a subscription");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_behind_the_url_of_one_server_is_said_to_be_one() {
    let url = cluster_url().replace("redis-cluster://", "redis://");
    let (live, _hub) = redis_log(url.split(',').next().expect("a server"), NAMESPACE);
    let mut elsewhere = 0;
    for _ in 0..30 {
        match live.read(&TaskId::new(), 0, 1).await {
            Ok(page) => assert_eq!(page.last_seq_id, 0),
            Err(Error::Failed(error)) => {
                assert!(error.to_string().contains("redis-cluster://"), "{error}");
                elsewhere += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(elsewhere > 0, "no task of thirty is at another master");
}
