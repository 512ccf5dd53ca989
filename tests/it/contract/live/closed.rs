//! What is said of a log with a word about its fence, so that nobody has to ask again.

use rstest::rstest;
use task_tracker::domain::{Caller, Key, TaskId};
use task_tracker::live::{Append, Appended, Closed, Haste};

use super::{Backend, LIMITS, Log, kept, object};
use crate::contract::broker::{self, Broker};

/// Appends an entry under a key.
async fn append_once(log: &Log, task: &TaskId, chosen: &str) -> u64 {
    let (entries, key) = ([object(chosen)], Key::new("progress", chosen, &[chosen.as_bytes()]));
    let append = Append {
        entries: &entries,
        caller: &Caller::default(),
        now: log.clock.now(),
        verified: None,
        key: Some(&key),
        limits: LIMITS,
    };
    kept(log.live.append(task, append).await.expect("an answer"))
}

async fn closed(log: &Log, task: &TaskId) -> Closed {
    log.live.close(task, 1, log.clock.now()).await.expect("a closed log")
}

#[rstest]
#[tokio::test]
async fn a_close_says_all_that_a_short_log_holds(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let nothing = closed(&log, &TaskId::new()).await;
    assert_eq!((nothing.memory.log, nothing.memory.last_seq_id), (None, 0));
    assert!(nothing.page.entries.is_empty() && nothing.receipts.is_empty());

    let task = log.opened().await;
    log.append(&task, 4).await;
    log.live.trim(&[(task.clone(), 3)], Haste::AtOnce).await.expect("a trimmed log");
    let mut told = vec![append_once(&log, &task, "k").await, append_once(&log, &task, "l").await];
    let held = closed(&log, &task).await;
    assert_eq!(held.memory, log.live.memory(&task).await.unwrap());
    assert!(held.memory.is_whole());
    assert_eq!((held.page.behind, held.page.last_seq_id), (3, 7));
    assert_eq!(held.page.entries, log.live.read(&task, 3, 100).await.unwrap().entries);
    assert_eq!(held.page.entries.len(), 4);
    let mut receipts: Vec<u64> = held.receipts.iter().map(|one| one.last_seq_id).collect();
    receipts.sort_unstable();
    told.sort_unstable();
    assert_eq!(receipts, told);
    // Again, as somebody does who did not hear the answer.
    let again = closed(&log, &task).await;
    assert_eq!((again.page.entries, again.receipts.len()), (held.page.entries, 2));
}

#[rstest]
#[tokio::test]
async fn a_close_of_a_long_log_says_its_first_page_and_every_receipt(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
    #[values((2500, 1), (3, 100 << 10))] (entries, bytes): (usize, usize),
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let batch = vec![object(&"x".repeat(bytes)); entries];
    kept(log.try_append(&task, &batch).await);
    let keys = if entries == 3 { 300 } else { 1 };
    for key in 0..keys {
        append_once(&log, &task, &key.to_string()).await;
    }
    let newest = (1 + entries + keys) as u64;
    let held = closed(&log, &task).await;
    assert_eq!((held.memory.last_seq_id, held.page.last_seq_id), (newest, newest));
    assert_eq!((held.page.behind, held.receipts.len()), (0, keys));
    let first = held.page.entries;
    assert!(first.len() > 1 && first.iter().map(|entry| entry.seq_id).eq(1..=first.len() as u64));
    assert_eq!(first[..], log.entries(&task).await[..first.len()]);
}

#[rstest]
#[tokio::test]
async fn who_is_not_let_in_hears_what_is_remembered(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let (unknown, task) = (TaskId::new(), log.opened().await);
    log.append(&task, 2).await;
    closed(&log, &task).await;
    for task in [unknown, task] {
        let remembered = log.live.memory(&task).await.unwrap();
        let Appended::Unverified { memory, .. } = log.try_append(&task, &[object("x")]).await
        else {
            panic!("let in");
        };
        // The mark of a cluster's master is in none of its tasks' slots, and has to be asked for.
        assert_eq!(memory, (backend != Backend::Cluster).then_some(remembered));
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_nothing_by_a_server_that_forgot() {
    let broker = Broker::start().await;
    let log = Log::on_broker(&broker).await;
    let task = log.opened().await;
    broker.flush().await;
    let appended = log.try_append(&task, &[object("x")]).await;
    assert!(matches!(appended, Appended::Unverified { memory: None, .. }), "{appended:?}");
    let held = closed(&log, &task).await;
    assert_eq!((held.memory.log.as_ref(), held.memory.last_seq_id), (None, 0));
    assert_eq!(held.memory.present, log.live.memory(&task).await.unwrap().present);
}

#[tokio::test]
async fn a_short_log_is_closed_and_read_in_one_round_trip() {
    let broker = Broker::start().await;
    let log = Log::on_broker(&broker).await;
    let task = log.opened().await;
    append_once(&log, &task, "k").await;
    let mut redis = broker::connect(&broker.url()).await.unwrap();
    let mut reads = async || -> u64 {
        let mut info = redis::cmd("INFO");
        let info: redis::InfoDict = info.arg("stats").query_async(&mut redis).await.unwrap();
        info.get("total_reads_processed").expect("a figure")
    };
    // Asking is a read, too.
    let asking = {
        let before = reads().await;
        reads().await - before
    };
    let before = reads().await;
    let held = closed(&log, &task).await;
    assert_eq!(reads().await - before - asking, 1);
    assert_eq!((held.page.entries.len(), held.receipts.len()), (2, 1));
}
