//! Numbers, batches, pages.

use std::sync::Arc;

use futures::future::join_all;
use rstest::rstest;
use task_tracker::domain::{Caller, JsonObject, TaskId};
use task_tracker::live::{Append, Appended, PAGE_BYTES};

use super::{Backend, LIMITS, Log, kept, object, refused, verified};

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_appenders_at_once_get_every_number_once(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Arc::new(Log::open(backend).await);
    let task = log.opened().await;
    let appenders = (0..50).map(|appender| {
        let (log, task) = (Arc::clone(&log), task.clone());
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for turn in 0..10 {
                let entry = object(&format!("{appender}/{turn}"));
                let seq_id = kept(log.try_append(&task, std::slice::from_ref(&entry)).await);
                acknowledged.push((seq_id, entry));
            }
            acknowledged
        })
    });
    let mut acknowledged = Vec::new();
    for appender in join_all(appenders).await {
        let own = appender.expect("an appender that ends");
        assert!(own.is_sorted_by_key(|(seq_id, _)| *seq_id), "later is larger");
        acknowledged.extend(own);
    }
    acknowledged.sort_by_key(|(seq_id, _)| *seq_id);
    let numbers: Vec<u64> = acknowledged.iter().map(|(seq_id, _)| *seq_id).collect();
    assert_eq!(numbers, (2..=501).collect::<Vec<_>>());
    let read = log.entries(&task).await.into_iter().skip(1);
    let read: Vec<_> = read.map(|entry| (entry.seq_id, entry.progress)).collect();
    assert_eq!(read, acknowledged);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn entries_of_a_batch_follow_each_other(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Arc::new(Log::open(backend).await);
    let task = log.opened().await;
    let batch = |of: usize| -> Vec<_> { (0..20).map(|i| object(&format!("{of}/{i}"))).collect() };
    let appenders = (0..20).map(|appender| {
        let (log, task) = (Arc::clone(&log), task.clone());
        tokio::spawn(async move { kept(log.try_append(&task, &batch(appender)).await) })
    });
    let lasts: Vec<u64> =
        join_all(appenders).await.into_iter().map(|last| last.expect("an end")).collect();
    let read: Vec<JsonObject> =
        log.entries(&task).await.into_iter().map(|entry| entry.progress).collect();
    assert_eq!(read.len(), 401);
    for (appender, last) in lasts.into_iter().enumerate() {
        let last = usize::try_from(last).unwrap();
        assert_eq!(read[last - 20..last], batch(appender));
    }
}

#[rstest]
#[tokio::test]
async fn a_refused_batch_leaves_nothing(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.close(&task, 1).await.expect("a closed log");
    let batch: Vec<_> = (0..100).map(|i| object(&i.to_string())).collect();
    refused(log.try_append(&task, &batch).await);
    assert_eq!(log.entries(&task).await.len(), 1);
    assert_eq!(log.live.last_seq_ids(&[task]).await.unwrap(), [1]);
}

#[rstest]
#[tokio::test]
async fn a_batch_of_five_thousand_is_kept_whole(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let batch: Vec<_> = (0..5000).map(|i| object(&i.to_string())).collect();
    assert_eq!(kept(log.try_append(&task, &batch).await), 5001);
    let read = log.entries(&task).await;
    assert!(read.iter().map(|entry| entry.seq_id).eq(1..=5001));
    assert!(read.iter().skip(1).map(|entry| &entry.progress).eq(&batch));
}

#[rstest]
#[tokio::test]
async fn an_entry_comes_back_as_the_text_it_was_with_its_time(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let texts = [
        "{}",
        r#"{"n":18446744073709551615,"m":-9223372036854775808,"f":1.10}"#,
        r#"{"b":1,"a":2,"line":"\n\r","nul":"\u0000","quote":"\"\\"}"#,
        r#"{"ünï":"日本語 🦀 \ud83e\udd80","lua":"%s %d %.0f %%","seqId":7}"#,
    ];
    for (text, expected) in texts.into_iter().zip(2..) {
        let now = log.clock.now();
        let entries = [JsonObject::from_stored(text)];
        let append = Append {
            entries: &entries,
            caller: &Caller::default(),
            now,
            verified: None,
            key: None,
            limits: LIMITS,
        };
        assert_eq!(kept(log.live.append(&task, append).await.unwrap()), expected);
        let read = log.live.read(&task, expected - 1, 1).await.unwrap().entries.remove(0);
        assert_eq!((read.seq_id, read.progress.as_str()), (expected, text));
        assert_eq!(read.timestamp.to_string(), now.to_string(), "to the millisecond");
    }
}

#[rstest]
#[tokio::test]
async fn a_page_ends_at_its_count(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let batch: Vec<_> = (0..299).map(|i| object(&i.to_string())).collect();
    log.try_append(&task, &batch).await;
    for (after, limit, expected) in [
        (0, 1, 1..=1),
        (0, 31, 1..=31),
        (40, 33, 41..=73),
        (10, 280, 11..=290),
        (290, 50, 291..=300),
    ] {
        let page = log.live.read(&task, after, limit).await.unwrap();
        assert!(page.entries.iter().map(|entry| entry.seq_id).eq(expected), "{after} {limit}");
        assert_eq!(page.last_seq_id, 300, "a page says how far the log goes");
    }
}

#[rstest]
#[tokio::test]
async fn a_page_ends_at_its_bytes(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    const ENTRY: usize = 200 << 10;
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let large = object(&"x".repeat(ENTRY));
    for _ in 0..11 {
        kept(log.try_append(&task, std::slice::from_ref(&large)).await);
    }
    let (mut after, mut pages) = (0, 0);
    while after < 12 {
        let page = log.live.read(&task, after, 1000).await.unwrap();
        let bytes: usize = page.entries.iter().map(|entry| entry.progress.as_str().len()).sum();
        assert!(bytes < PAGE_BYTES + 2 * ENTRY, "{bytes} bytes in a page");
        assert_eq!(page.entries.first().map(|entry| entry.seq_id), Some(after + 1));
        after = page.entries.last().map(|entry| entry.seq_id).unwrap();
        pages += 1;
    }
    assert!((2..=4).contains(&pages), "{pages} pages of 2.2 MiB");
}

#[rstest]
#[tokio::test]
async fn an_entry_larger_than_a_page_is_a_page(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let large = object(&"x".repeat(PAGE_BYTES + 1));
    log.try_append(&task, &[large.clone(), object("next")]).await;
    let page = log.live.read(&task, 1, 1000).await.unwrap();
    assert_eq!(page.entries[0].progress, large);
    assert_eq!(log.entries(&task).await.len(), 3);
}

#[rstest]
#[tokio::test]
async fn behind_the_newest_entry_is_nothing(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    for (task, after, last) in [(&task, 1, 1), (&task, 1_000_000, 1), (&TaskId::new(), 0, 0)] {
        let page = log.live.read(task, after, 10).await.unwrap();
        assert!(page.entries.is_empty());
        assert_eq!(page.last_seq_id, last);
    }
}

#[rstest]
#[tokio::test]
async fn the_newest_of_several_logs_come_in_the_order_asked(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let (one, other, unknown) = (log.opened().await, log.opened().await, TaskId::new());
    log.append(&one, 2).await;
    let tasks = [one, unknown, other];
    assert_eq!(log.live.last_seq_ids(&tasks).await.unwrap(), [3, 0, 1]);
    let latest = log.live.latest(&tasks).await.unwrap();
    let numbers: Vec<_> = latest.iter().flatten().map(|entry| entry.seq_id).collect();
    assert_eq!((numbers, latest[1].is_none()), (vec![3, 1], true));
    assert!(log.live.latest(&[]).await.unwrap().is_empty());
    assert!(log.live.last_seq_ids(&[]).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn counting_goes_on_behind_what_is_sealed(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let (log, task) = (Log::open(backend).await, TaskId::new());
    let mut found = log.verified(&task, 2, None).await;
    found.last_sealed = 41;
    let batch = [object("a"), object("b")];
    assert_eq!(kept(log.try_append_as(&task, &batch, None, Some(&found)).await), 43);
    assert_eq!(log.append(&task, 1).await, 44);
    let before = log.live.read(&task, 40, 10).await.unwrap();
    assert_eq!((before.entries.len(), before.behind), (0, 41), "what is before is sealed");
    for (after, expected) in [(41, 42..=44), (42, 43..=44)] {
        let page = log.live.read(&task, after, 10).await.unwrap();
        assert!(page.entries.iter().map(|entry| entry.seq_id).eq(expected), "after {after}");
        assert_eq!(page.last_seq_id, 44);
    }
    assert_eq!(log.close(&task, 2).await.unwrap(), 44);
}

#[rstest]
#[tokio::test]
async fn a_log_outlives_the_process_that_wrote_it(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.append(&task, 9).await;
    log.live.shut_down().await;
    let again = log.again().await;
    assert_eq!(again.entries(&task).await.len(), 10);
    // A fence may or may not outlive it; either way the same attempt goes on where it was.
    let found = match again.try_append(&task, &[object("next")]).await {
        Appended::Unverified { fence, .. } => {
            let found = verified(&*again.live, &task, fence, 1, None, again.clock.now()).await;
            again.try_append_as(&task, &[object("next")], None, Some(&found)).await
        }
        appended => appended,
    };
    assert_eq!(kept(found), 11);
}
