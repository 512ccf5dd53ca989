//! How histories grow while tasks run: many at once, by several at once, and what is gone for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use task_tracker::database::Kind;
use task_tracker::domain::{Entry, Gap, Places, Status, TaskId};
use task_tracker::storage::{Filter, Loss, Sealed};

use super::{Store, at, entries, lease, worker};
use crate::harness::{Row, rows_in};

impl Store {
    /// The rows of a history, which must follow each other.
    pub async fn rows(&self, id: &TaskId) -> Vec<Row> {
        rows_in(&self.database, id.as_str()).await
    }

    async fn seal_one(&self, id: &TaskId, entries: Vec<Entry>) -> Vec<(TaskId, u64)> {
        self.storage.seal_running(&[(id.clone(), entries)]).await.expect("an answer")
    }
}

fn loss(generation: &str) -> Loss {
    Loss { generation: generation.to_owned(), numbers: 100, at: at(9) }
}

#[rstest]
#[tokio::test]
async fn many_running_tasks_are_sealed_in_one_transaction(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let mut logs = Vec::new();
    for count in 1..=40 {
        logs.push((store.running("a", 0).await.id, entries(1, count * 60, 5)));
    }
    let (waiting, over) =
        (store.pending("b", 0).await.id, store.ended("a", 0, Vec::new()).await.id);
    let bystanders = [waiting, over, TaskId::new()];
    logs.extend(bystanders.clone().map(|task| (task, entries(1, 3, 5))));
    let mut sealed = store.storage.seal_running(&logs).await.unwrap();
    sealed.sort();
    let mut expected: Vec<(TaskId, u64)> =
        logs[..40].iter().map(|(task, entries)| (task.clone(), entries.len() as u64)).collect();
    expected.sort();
    assert_eq!(sealed, expected, "those that run, and no other");
    for (task, entries) in &logs[..40] {
        let rows = store.rows(task).await;
        assert_eq!(rows.len(), entries.len().div_ceil(1000));
        assert_eq!(&store.history(task).await, entries);
    }
    for task in &bystanders {
        assert!(store.rows(task).await.is_empty());
    }
    assert!(store.storage.seal_running(&[]).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn what_is_sealed_already_is_passed_over(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    let task = store.running("a", 0).await.id;
    for (from, to, sealed) in [(1, 5, 5), (1, 5, 5), (3, 9, 9), (2, 4, 9), (9, 9, 9), (10, 10, 10)]
    {
        assert_eq!(store.seal_one(&task, entries(from, to, 5)).await, [(task.clone(), sealed)]);
    }
    assert_eq!(store.seal_one(&task, Vec::new()).await, [(task.clone(), 10)]);
    // The end brings what it found in the log, sealed or not.
    store.end(&task, Status::Completed, 1, entries(4, 12, 5)).await;
    assert_eq!(store.history(&task).await, entries(1, 12, 5));
    assert!(store.seal_one(&task, entries(1, 20, 5)).await.is_empty(), "it has ended");
    assert_eq!(store.rows(&task).await.last(), Some(&(11, 12, false)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_sealers_and_an_end_at_once_leave_no_overlap_and_no_hole(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Arc::new(Store::open(kind).await);
    let all = entries(1, 600, 5);
    for round in 0..4_u64 {
        let task = store.running("a", 0).await.id;
        let has_ended = Arc::new(AtomicBool::new(false));
        let reader = {
            let (store, task, has_ended) =
                (Arc::clone(&store), task.clone(), Arc::clone(&has_ended));
            tokio::spawn(async move {
                // Reads on from where it is while rows are added and put together.
                let mut cursor = 0;
                loop {
                    let is_over = has_ended.load(Ordering::SeqCst);
                    match store.storage.sealed(&task, cursor).await.expect("a page") {
                        Sealed::Entries(page) => {
                            for entry in page {
                                cursor += 1;
                                assert_eq!(entry.seq_id, cursor);
                            }
                        }
                        Sealed::Nothing if is_over => return cursor,
                        Sealed::Nothing => tokio::task::yield_now().await,
                        Sealed::Gap(gap) => panic!("nothing is gone: {gap:?}"),
                    }
                }
            })
        };
        let sealers = (0..4_usize).map(|sealer| {
            let (store, task, all) = (Arc::clone(&store), task.clone(), all.clone());
            tokio::spawn(async move {
                // Each has read the log a little further than the one before.
                for to in (1..=500).skip(sealer).step_by(3 + sealer) {
                    store.seal_one(&task, all[..to].to_vec()).await;
                }
            })
        });
        for sealer in join_all(sealers.collect::<Vec<_>>()).await {
            sealer.expect("a sealer that ends");
        }
        let last = 500 + usize::try_from(round).unwrap() * 20;
        store.end(&task, Status::Completed, 1, all[100..last].to_vec()).await;
        has_ended.store(true, Ordering::SeqCst);
        assert_eq!(reader.await.expect("a whole history"), last as u64);
        let rows = store.rows(&task).await;
        assert!(rows.len() < 40, "{} rows", rows.len());
        assert_eq!(store.history(&task).await, all[..last]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sealer_waits_for_nobody() {
    use task_tracker::domain::Task;
    use task_tracker::storage::{Error, Selection};
    let store = Store::open(Kind::Postgres).await;
    let (held, free) = (store.running("a", 0).await.id, store.running("a", 0).await.id);
    let changed = store.storage.change(Selection::One(&held), async |_: Vec<Task>| {
        let logs = [(held.clone(), entries(1, 2, 5)), (free.clone(), entries(1, 3, 5))];
        let sealed = store.storage.seal_running(&logs);
        let sealed = tokio::time::timeout(Duration::from_secs(4), sealed).await;
        assert_eq!(sealed.expect("at once").expect("an answer"), [(free.clone(), 3)]);
        Ok::<_, Error>(Vec::new())
    });
    changed.await.unwrap();
    assert!(store.rows(&held).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn what_is_lost_is_noted_once_for_each_loss(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let task = store.running("a", 0).await.id;
    store.seal_one(&task, entries(1, 45, 5)).await;
    // Two nodes notice the same loss.
    for _ in 0..2 {
        assert_eq!(store.storage.seal(&task, &[], Some(&loss("b"))).await.unwrap(), 145);
    }
    // Another loss, of which something is left.
    let left = entries(146, 150, 5);
    for _ in 0..2 {
        assert_eq!(store.storage.seal(&task, &left, Some(&loss("c"))).await.unwrap(), 250);
    }
    assert_eq!(store.seal_one(&task, entries(251, 260, 5)).await, [(task.clone(), 260)]);
    let rows =
        [(1, 45, false), (46, 145, true), (146, 150, false), (151, 250, true), (251, 260, false)];
    assert_eq!(store.rows(&task).await, rows);
    let gap = |from, to| Sealed::Gap(Gap { from, to, at: at(9) });
    for (after, expected) in [(45, gap(46, 145)), (99, gap(100, 145)), (144, gap(145, 145))] {
        assert_eq!(store.storage.sealed(&task, after).await.unwrap(), expected);
    }
    assert_eq!(store.storage.sealed(&task, 145).await.unwrap(), Sealed::Entries(left));
    assert_eq!(store.storage.sealed(&task, 260).await.unwrap(), Sealed::Nothing);
    // Of a task that has ended nothing can be lost any more; and what is lost is no entry of a list.
    assert_eq!(store.storage.seal(&task, &[], Some(&loss("d"))).await.unwrap(), 360);
    store.end(&task, Status::Failed, 1, Vec::new()).await;
    assert_eq!(store.storage.seal(&task, &[], Some(&loss("e"))).await.unwrap(), 0);
    let listed = store.storage.list(&Filter::default(), 10, 10).await.unwrap().items.remove(0);
    assert_eq!(listed.latest, entries(260, 260, 5).pop());
    assert_eq!(store.storage.last_sealed(&task).await.unwrap(), 360);
}

#[rstest]
#[tokio::test]
async fn entries_that_are_missing_are_said_to_be(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let task = store.running("a", 0).await.id;
    let robbed = [entries(3, 5, 5), entries(8, 8, 5)].concat();
    assert_eq!(store.seal_one(&task, robbed).await, [(task.clone(), 8)]);
    let rows = [(1, 2, true), (3, 5, false), (6, 7, true), (8, 8, false)];
    assert_eq!(store.rows(&task).await, rows);
}

#[rstest]
#[tokio::test]
async fn small_rows_are_put_together_while_the_task_runs(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let task = store.running("a", 0).await.id;
    for first in (1..=1500).step_by(5) {
        store.seal_one(&task, entries(first, first + 4, 5)).await;
    }
    let rows = store.rows(&task).await;
    assert!(rows.len() < 20, "{rows:?}");
    assert_eq!(store.history(&task).await, entries(1, 1500, 5));
    let (last, bytes) = store.storage.sealed_size(&task).await.unwrap();
    assert_eq!(last, 1500);
    let expected: usize = entries(1, 1500, 5).iter().map(|entry| entry.line().len() + 1).sum();
    assert!(bytes.abs_diff(expected as u64) < 100, "{bytes} bytes of {expected}");
    assert_eq!(store.storage.sealed_size(&TaskId::new()).await.unwrap(), (0, 0));
}

#[rstest]
#[tokio::test]
async fn a_loss_is_dated_behind_every_task_that_had_begun(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let note = async |generation: &str, seconds| {
        let present = [(generation.to_owned(), Places::all())];
        let noted = store.storage.note_generations(&present, at(seconds)).await;
        noted.expect("an answer").0.lost_at(7)
    };
    assert_eq!(note("a", 10).await, None, "the first was not preceded by a loss");
    assert_eq!(note("a", 20).await, None);
    assert_eq!(note("b", 30).await, Some(at(30)));
    assert_eq!(note("b", 40).await, Some(at(30)), "noted once");
    // The clock of the node that began it is ahead of that which notices the loss.
    let task = store.pending("a", 50).await;
    let _ = store.storage.claim(&[task.task_type], &worker(), &lease(70), at(70)).await.unwrap();
    assert_eq!(note("c", 60).await, Some(at(70)));
    let after = at(70).plus(Duration::from_micros(1));
    assert_eq!(note("d", 65).await, Some(after), "nor before the loss before");
}

#[rstest]
#[tokio::test]
async fn each_memory_of_a_log_is_lost_by_itself_and_many_note_it_once(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let note = async |present: &[(&str, &str)], seconds| {
        let present: Vec<(String, Places)> = present
            .iter()
            .map(|(name, places)| ((*name).to_owned(), places.parse().expect("places")))
            .collect();
        // Many nodes notice it at once.
        let noted = (0..8).map(|_| store.storage.note_generations(&present, at(seconds)));
        let noted = futures::future::join_all(noted).await;
        let noted: Vec<_> = noted.into_iter().map(|noted| noted.expect("an answer")).collect();
        let (known, losses) = (noted[0].0.clone(), noted.iter().filter(|(_, is_loss)| *is_loss));
        assert!(noted.iter().all(|(other, _)| *other == known));
        (known, losses.count())
    };
    let (known, losses) = note(&[("a", "0-99"), ("b", "100-16383")], 1).await;
    assert_eq!((known.lost_at(7), losses), (None, 0));
    // One comes back empty, of the other a place has moved to it, and a third is new.
    let (known, losses) = note(&[("a2", "0-100"), ("b", "101-999"), ("c", "1000-16383")], 2).await;
    assert_eq!((known.lost_at(7), losses), (Some(at(2)), 1));
    assert_eq!((known.lost_at(100), known.lost_at(5000)), (None, None));
    assert!(known.hold("a2", 100) && !known.hold("b", 100));
    assert_eq!((known.seen_at("a"), known.seen_at("b")), (None, Some(at(1))));
    assert_eq!(note(&[("a2", "0-100")], 3).await, (known, 0), "the others are away");
}
