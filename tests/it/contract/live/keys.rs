//! What stands in Redis, under which names, for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use rstest::rstest;
use task_tracker::domain::TaskId;
use task_tracker::live::{Ended, OPENING_FOR};

use super::{Backend, Log, broker, kept, object, worker};

/// Every key of the log's namespace that is of a task.
async fn keys(log: &Log) -> BTreeSet<String> {
    let url = log.ground.redis_url().expect("a log in Redis");
    let mut keys: BTreeSet<String> =
        broker::keys(url, log.ground.namespace()).await.into_iter().collect();
    // Beside those of tasks there is one that says which memory this is; a master of a cluster has two.
    let all = keys.len();
    let mark = format!("{}:generation", log.ground.namespace());
    keys.retain(|key| !key.starts_with(&mark));
    let expected = if log.backend == Backend::Redis { 1..=1 } else { 2..=6 };
    assert!(expected.contains(&(all - keys.len())));
    keys
}

async fn millis_left(log: &Log, key: &str) -> i64 {
    redis::cmd("PTTL").arg(key).query_async(&mut log.redis_of(key).await).await.unwrap()
}

#[rstest]
#[tokio::test]
async fn a_task_has_four_keys_with_its_id_as_hash_tag(
    #[values(Backend::Redis, Backend::Cluster)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task: TaskId = format!("a:b.c-{}", TaskId::new()).parse().unwrap();
    log.open_for(&task, 1, Some(&worker("w"))).await;
    let namespace = log.ground.namespace();
    let expected =
        ["progress", "seq", "fence", "log"].map(|kind| format!("{namespace}:{kind}:{{{task}}}"));
    assert_eq!(keys(&log).await, BTreeSet::from(expected));

    let mut redis = log.redis_of(&log.key("seq", &task)).await;
    let mut kind = async |key: &str| -> String {
        redis::cmd("TYPE").arg(key).query_async(&mut redis).await.unwrap()
    };
    assert_eq!(kind(&log.key("progress", &task)).await, "list");
    assert_eq!(kind(&log.key("seq", &task)).await, "string");
    assert_eq!(kind(&log.key("log", &task)).await, "hash");
    let mut redis = log.redis_of(&log.key("seq", &task)).await;
    let seq: u64 =
        redis::cmd("GET").arg(log.key("seq", &task)).query_async(&mut redis).await.unwrap();
    assert_eq!(seq, 1, "the counter is the number of the newest entry");
}

#[rstest]
#[tokio::test]
async fn every_key_of_a_task_expires_when_its_log_may_be_forgotten(
    #[values(Backend::Redis, Backend::Cluster)] backend: Backend,
) {
    let (log, task) = (Log::open(backend).await, TaskId::new());
    let mut found = log.verified(&task, 1, None).await;
    let opening = millis_left(&log, &log.key("fence", &task)).await;
    let longest = i64::try_from(OPENING_FOR.as_millis()).unwrap();
    assert!((1..=longest).contains(&opening), "{opening} ms");

    found.expires_at = log.clock.now().plus(Duration::from_secs(1000));
    kept(log.try_append_as(&task, &[object("first")], None, Some(&found)).await);
    log.append(&task, 5).await;
    for kind in ["progress", "seq", "fence", "log"] {
        let left = millis_left(&log, &log.key(kind, &task)).await;
        assert!((900_000..=1_000_000).contains(&left), "{kind}: {left} ms");
    }

    // A later attempt has the same deadline; a closed fence in between stands for seconds only.
    log.close(&task, 1).await.unwrap();
    let closed = millis_left(&log, &log.key("fence", &task)).await;
    assert!((1..=10_000).contains(&closed), "{closed} ms");
    log.open_for(&task, 2, None).await;
    for kind in ["progress", "seq", "fence", "log"] {
        let left = millis_left(&log, &log.key(kind, &task)).await;
        assert!((900_000..=3_600_000).contains(&left), "{kind}: {left} ms");
    }
}

#[rstest]
#[tokio::test]
async fn no_key_is_left_after_the_end(
    #[values(Backend::Redis, Backend::Cluster)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let (task, other) = (log.opened().await, log.opened().await);
    log.append(&task, 3).await;
    log.close(&task, 1).await.unwrap();
    assert_eq!(log.end(&task, 4).await, Ended::Gone);
    assert!(keys(&log).await.iter().all(|key| key.contains(other.as_str())));
    assert_eq!(log.end(&other, 1).await, Ended::Gone);
    assert_eq!(keys(&log).await, BTreeSet::new());
}

#[tokio::test]
async fn two_namespaces_in_one_redis_do_not_meet() {
    let (one, other) = (Log::open(Backend::Redis).await, Log::open(Backend::Redis).await);
    let task = one.opened().await;
    let mut subscription = one.subscribe(&task).await;
    assert!(other.entries(&task).await.is_empty());
    other.open_for(&task, 1, None).await;
    other.end(&task, 1).await;
    assert_eq!(one.append(&task, 1).await, 2);
    assert_eq!(super::entry_heard(&mut subscription).await, 2);
}
