//! Appends with a key, which may come twice.

use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use task_tracker::domain::once::KEPT_FOR;
use task_tracker::domain::{Caller, Key, Receipt, TaskId};
use task_tracker::live::{Append, Appended, Ended};

use super::{Backend, LIMITS, Log, kept, object, worker};

fn key(chosen: &str, body: &str) -> Key {
    Key::new("progress", chosen, &[body.as_bytes()])
}

/// Appends two entries under a key.
async fn append(log: &Log, task: &TaskId, chosen: &str, body: &str) -> Appended {
    let (entries, key) = ([object(body), object(body)], key(chosen, body));
    let now = log.clock.now();
    let append = Append {
        entries: &entries,
        caller: &Caller::default(),
        now,
        verified: None,
        key: Some(&key),
        limits: LIMITS,
    };
    log.live.append(task, append).await.expect("an answer")
}

#[track_caller]
fn repeated(appended: Appended) -> Receipt {
    match appended {
        Appended::Before(receipt) => receipt,
        other => panic!("not repeated: {other:?}"),
    }
}

#[rstest]
#[tokio::test]
async fn an_append_that_comes_again_is_told_its_number(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let (task, other) = (log.opened().await, log.opened().await);
    let before = log.clock.now();
    assert_eq!(kept(append(&log, &task, "k", "one").await), 3);
    log.append(&task, 1).await;
    let receipt = repeated(append(&log, &task, "k", "one").await);
    assert_eq!((receipt.last_seq_id, receipt.hash.clone()), (3, key("k", "one").hash));
    assert!(receipt.at >= before && receipt.at <= log.clock.now());
    assert_eq!(append(&log, &task, "k", "two").await, Appended::Reused);
    assert_eq!(kept(append(&log, &task, "l", "one").await), 6);
    assert_eq!(kept(append(&log, &other, "k", "two").await), 3, "each task has keys of its own");
    assert_eq!(log.entries(&task).await.len(), 6);
}

#[rstest]
#[tokio::test]
async fn the_key_is_looked_up_before_the_fence(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let receipt = {
        append(&log, &task, "k", "one").await;
        repeated(append(&log, &task, "k", "one").await)
    };
    log.close(&task, 1).await.unwrap();
    assert_eq!(repeated(append(&log, &task, "k", "one").await), receipt);
    assert_eq!(append(&log, &task, "k", "two").await, Appended::Reused);
    let refused = append(&log, &task, "l", "one").await;
    assert!(matches!(refused, Appended::Unverified { .. }), "{refused:?}");
    log.open_for(&task, 2, Some(&worker("another"))).await;
    assert_eq!(repeated(append(&log, &task, "k", "one").await), receipt);
    assert_eq!(kept(append(&log, &task, "l", "one").await), 6, "what was refused has no receipt");
}

#[rstest]
#[tokio::test]
async fn of_twins_at_once_one_is_appended(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let appended = join_all((0..30).map(|_| append(&log, &task, "k", "one"))).await;
    let kept = appended.iter().filter(|appended| matches!(appended, Appended::Kept { .. }));
    assert_eq!(kept.count(), 1);
    let same = |appended: &Appended| match appended {
        Appended::Kept { last_seq_id, .. } => *last_seq_id == 3,
        Appended::Before(receipt) => receipt.last_seq_id == 3,
        _ => false,
    };
    assert!(appended.iter().all(same), "{appended:?}");
    assert_eq!(log.entries(&task).await.len(), 3);
}

#[rstest]
#[tokio::test]
async fn receipts_are_read_for_the_end_and_gone_after_it(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    append(&log, &task, "k", "one").await;
    append(&log, &task, "l", "two").await;
    let mut receipts = log.live.receipts(&task, log.clock.now()).await.unwrap();
    receipts.sort_by_key(|receipt| receipt.last_seq_id);
    let expected = [("k", "one", 3), ("l", "two", 5)].map(|(chosen, body, last_seq_id)| {
        let Key { hash, fingerprint, .. } = key(chosen, body);
        (hash, fingerprint, last_seq_id)
    });
    let found: Vec<_> = receipts
        .into_iter()
        .map(|receipt| (receipt.hash, receipt.fingerprint, receipt.last_seq_id))
        .collect();
    assert_eq!(found, expected);
    log.close(&task, 1).await.unwrap();
    assert_eq!(log.end(&task, 5).await, Ended::Gone);
    assert!(log.live.receipts(&task, log.clock.now()).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_receipt_is_kept_for_a_day_and_over_midnight(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    // Four times a day: whatever time it is, some of them lie on both sides of a midnight.
    let quarter = KEPT_FOR / 4;
    for round in 0..5 {
        append(&log, &task, &format!("key {round}"), "one").await;
        log.clock.advance(quarter);
        for earlier in 0..=round {
            let chosen = format!("key {earlier}");
            if round - earlier < 3 {
                repeated(append(&log, &task, &chosen, "one").await);
            }
        }
    }
    assert_eq!(log.entries(&task).await.len(), 11);
    let is_kept = |receipt: &Receipt| receipt.is_kept(log.clock.now());
    let receipts = log.live.receipts(&task, log.clock.now()).await.unwrap();
    assert_eq!(receipts.iter().filter(|receipt| is_kept(receipt)).count(), 3);
    // A day and a moment after it was given it is over, and the key is free.
    log.clock.advance(Duration::from_secs(1));
    assert_eq!(kept(append(&log, &task, "key 1", "two").await), 13);
    assert_eq!(repeated(append(&log, &task, "key 1", "two").await).last_seq_id, 13);
    let receipts = log.live.receipts(&task, log.clock.now()).await.unwrap();
    assert_eq!(receipts.iter().filter(|receipt| receipt.last_seq_id == 13).count(), 1);
}

#[tokio::test]
async fn receipts_in_redis_go_by_themselves_and_only_who_sends_keys_has_any() {
    let log = Log::open(Backend::Redis).await;
    let task = log.opened().await;
    let mut redis = log.redis_of(&log.key("seq", &task)).await;
    let pattern = format!("{}:receipts:{{{task}}}:*", log.ground.namespace());
    let mut keys = async || -> Vec<String> {
        redis::cmd("KEYS").arg(&pattern).query_async(&mut redis).await.unwrap()
    };
    assert!(keys().await.is_empty());
    append(&log, &task, "k", "one").await;
    let keys = keys().await;
    assert_eq!(keys.len(), 1, "{keys:?}");
    let mut redis = log.redis_of(&log.key("seq", &task)).await;
    let left: i64 = redis::cmd("PTTL").arg(&keys[0]).query_async(&mut redis).await.unwrap();
    let days = Duration::from_millis(left.try_into().expect("a time to live"));
    assert!(days > KEPT_FOR && days <= 2 * KEPT_FOR, "{days:?}");
}
