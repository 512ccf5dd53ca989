//! Sealed history.

use rstest::rstest;
use task_tracker::database::Kind;
use task_tracker::domain::{Entry, Status, TaskId};
use task_tracker::storage::Sealed;

use super::{Store, entries};

/// A page of sealed entries; none at the end.
async fn page(store: &Store, id: &TaskId, after: u64) -> Vec<Entry> {
    match store.storage.sealed(id, after).await.expect("a page") {
        Sealed::Entries(entries) => entries,
        Sealed::Nothing => Vec::new(),
        Sealed::Gap(gap) => panic!("nothing is gone: {gap:?}"),
    }
}

/// The whole sealed history as a reader that pages gets it, and how many pages that took.
async fn history(store: &Store, id: &TaskId) -> (Vec<Entry>, usize) {
    let (mut history, mut pages): (Vec<Entry>, _) = (Vec::new(), 0);
    loop {
        let after = history.last().map_or(0, |entry| entry.seq_id);
        let page = page(store, id, after).await;
        if page.is_empty() {
            return (history, pages);
        }
        history.extend(page);
        pages += 1;
    }
}

impl Store {
    /// The whole sealed history, which has no gaps.
    pub async fn history(&self, id: &TaskId) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |entry| entry.seq_id);
            let page = page(self, id, after).await;
            if page.is_empty() {
                return entries;
            }
            entries.extend(page);
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_history_of_many_entries_is_read_in_pages(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let all = entries(1, 2500, 10);
    let task = store.ended("a", 0, all.clone()).await;
    let (read, pages) = history(&store, &task.id).await;
    assert_eq!((read == all, pages), (true, 3), "a thousand entries a page");
    assert_eq!(store.storage.last_sealed(&task.id).await.unwrap(), 2500);
    for after in [1, 999, 1000, 1001, 2499] {
        let page = page(&store, &task.id, after).await;
        assert_eq!(page.first().map(|entry| entry.seq_id), Some(after + 1));
    }
    for after in [2500, 1_000_000] {
        assert!(page(&store, &task.id, after).await.is_empty());
    }
}

#[rstest]
#[tokio::test]
async fn a_page_of_history_is_bounded_in_bytes(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    // Two and a half MiB, then one entry that is more than a page by itself, then a small one.
    let mut all = entries(1, 10, 250 << 10);
    all.extend(entries(11, 11, (1 << 20) + 1));
    all.extend(entries(12, 12, 0));
    let task = store.ended("a", 0, all.clone()).await;
    let mut after = 0;
    while after < 12 {
        let page = page(&store, &task.id, after).await;
        let bytes: usize = page.iter().map(|entry| entry.progress.as_str().len()).sum();
        assert!(page.len() == 1 || bytes <= 1 << 20, "{bytes} bytes in {} entries", page.len());
        after = page.last().map(|entry| entry.seq_id).expect("another page");
    }
    assert!(history(&store, &task.id).await.0 == all);
}

#[rstest]
#[tokio::test]
async fn sealing_the_same_entries_twice_leaves_them_once(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let task = store.ended("a", 0, entries(1, 5, 0)).await;
    let late = entries(6, 8, 0);
    for _ in 0..2 {
        store.storage.seal(&task.id, &late, None).await.unwrap();
    }
    assert!(history(&store, &task.id).await.0 == entries(1, 8, 0));
    assert_eq!(store.storage.last_sealed(&task.id).await.unwrap(), 8);
    store.storage.seal(&task.id, &[], None).await.unwrap();
    assert_eq!(store.storage.last_sealed(&task.id).await.unwrap(), 8);
}

#[rstest]
#[tokio::test]
async fn a_task_without_entries_has_an_empty_history(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let task = store.ended("a", 0, Vec::new()).await;
    assert!(page(&store, &task.id, 0).await.is_empty());
    assert_eq!(store.storage.last_sealed(&task.id).await.unwrap(), 0);
    assert_eq!(store.storage.last_sealed(&TaskId::new()).await.unwrap(), 0);
}

#[rstest]
#[tokio::test]
async fn histories_of_two_tasks_are_two(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    let one = store.ended("a", 0, entries(1, 3, 0)).await;
    let other = store.running("a", 0).await;
    store.end(&other.id, Status::Completed, 1, entries(1, 7, 0)).await;
    assert_eq!(history(&store, &one.id).await.0.len(), 3);
    assert_eq!(history(&store, &other.id).await.0.len(), 7);
}
