//! The one way a status changes, and what it leaves to settle.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use task_tracker::database::Kind;
use task_tracker::domain::{JsonObject, NewTask, Status, Task, TaskId, Terms, WorkerId};
use task_tracker::storage::{Change, Due, Error, Loss, Selection};
use tokio::sync::{Barrier, Notify};

use super::{Store, at, ending, entries, ids, lease, new_task, of_changed};
use crate::harness::eventually;

fn refusal() -> Error {
    Error::Failed(sqlx::Error::Protocol("decided against it".into()))
}

/// Registers a task whose time is over `seconds` after the beginning.
async fn due(store: &Store, seconds: i64) -> TaskId {
    let timeout = Duration::from_secs(u64::try_from(seconds).unwrap());
    let new = NewTask { terms: Terms { timeout, ..Terms::DEFAULT }, ..new_task("a") };
    store.storage.insert(&new, at(0)).await.unwrap().unwrap().id
}

#[rstest]
#[tokio::test]
async fn a_change_is_shown_the_task_and_commits_what_it_decides(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let task = store.running("a", 0).await;
    let result = Some(JsonObject::from_stored(r#"{"n":9007199254740993}"#));
    let changed = store
        .storage
        .change(Selection::One(&task.id), async |tasks: Vec<Task>| {
            assert_eq!((tasks.len(), tasks[0].status), (1, Status::InProgress));
            let mut change = ending(tasks[0].clone(), Status::Completed, 7, entries(1, 3, 0));
            change.task.result.clone_from(&result);
            Ok::<_, Error>(vec![change])
        })
        .await
        .unwrap();
    let read = store.get(&task.id).await;
    for task in [&changed[0].task, &read] {
        assert_eq!((task.status, task.completed_at), (Status::Completed, Some(at(7))));
        assert_eq!((&task.result, task.attempt), (&result, 1));
        assert_eq!(task.worker_id.as_ref().map(WorkerId::as_str), Some("worker"));
    }
    assert_eq!(changed[0].last_seq_id, 3);
    assert_eq!(store.storage.last_sealed(&task.id).await.unwrap(), 3, "in the same commit");
    assert_eq!(ids(&store.storage.unsettled(at(8), 10).await.unwrap()), [task.id], "and the note");
}

#[rstest]
#[tokio::test]
async fn a_task_that_does_not_end_leaves_nothing_to_settle(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let task = store.running("a", 0).await;
    let released = store.storage.change(Selection::One(&task.id), async |mut tasks: Vec<Task>| {
        let mut task = tasks.remove(0);
        task.status = Status::Pending;
        (task.worker_id, task.started_at, task.lease) = (None, None, None);
        task.updated_at = at(3);
        Ok::<_, Error>(vec![Change::from(task)])
    });
    assert_eq!(released.await.unwrap()[0].last_seq_id, 0);
    let task = store.get(&task.id).await;
    assert_eq!((task.status, task.attempt, task.updated_at), (Status::Pending, 1, at(3)));
    assert_eq!((task.worker_id, task.started_at), (None, None));
    assert!(store.storage.unsettled(at(1000), 10).await.unwrap().is_empty());
    let again =
        store.storage.claim(&[task.task_type], &"w".parse().unwrap(), &lease(4), at(4)).await;
    assert_eq!(again.unwrap().unwrap().attempt, 2, "attempts go on counting");
}

#[rstest]
#[tokio::test]
async fn an_end_says_how_far_the_history_goes_whoever_sealed_it(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let mut tasks = Vec::new();
    for seconds in 0..3 {
        tasks.push(store.running("a", seconds).await.id);
    }
    let sealed_before =
        [(tasks[0].clone(), entries(1, 4, 1)), (tasks[1].clone(), entries(1, 4, 1))];
    store.storage.seal_running(&sealed_before).await.unwrap();
    let ended = store.storage.change(Selection::Free(&tasks), async |free: Vec<Task>| {
        let end = |task| ending(task, Status::Completed, 7, Vec::new());
        let mut changes: Vec<Change> = free.into_iter().map(end).collect();
        let lost = changes.iter_mut().find(|change| change.task.id == tasks[1]).unwrap();
        lost.loss = Some(Loss { generation: "another".to_owned(), numbers: 10, at: at(7) });
        Ok::<_, Error>(changes)
    });
    let ended = ended.await.unwrap();
    let newest = |id: &TaskId| ended.iter().find(|ended| ended.task.id == *id).unwrap().last_seq_id;
    assert_eq!(tasks.iter().map(newest).collect::<Vec<_>>(), [4, 14, 0]);
}

#[rstest]
#[tokio::test]
async fn a_refusal_changes_nothing_and_comes_back(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let task = store.running("a", 0).await;
    let refused = store
        .storage
        .change(Selection::One(&task.id), async |_: Vec<Task>| Err::<Vec<Change>, _>(refusal()));
    assert!(matches!(refused.await, Err(Error::Failed(sqlx::Error::Protocol(_)))));
    assert_eq!(store.get(&task.id).await.status, Status::InProgress);
    // The row is free again.
    store.end(&task.id, Status::Completed, 1, Vec::new()).await;
}

#[rstest]
#[tokio::test]
async fn a_change_that_cannot_be_written_is_undone_whole(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let (good, bad) = (due(&store, 1).await, due(&store, 2).await);
    let broken = store
        .storage
        .change(
            Selection::Due { due: Due::Deadline, now: at(10), limit: 10 },
            async |tasks: Vec<Task>| {
                assert_eq!(ids(&tasks), [good.clone(), bad.clone()], "the most overdue first");
                let end = |task| ending(task, Status::Timeout, 10, entries(1, 2, 0));
                let mut changes: Vec<Change> = tasks.into_iter().map(end).collect();
                // A terminal status without a time: the database refuses.
                changes[1].task.completed_at = None;
                Ok::<_, Error>(changes)
            },
        )
        .await;
    assert!(matches!(broken, Err(Error::Failed(_))));
    for id in [&good, &bad] {
        assert_eq!(store.get(id).await.status, Status::Pending);
        assert_eq!(store.storage.last_sealed(id).await.unwrap(), 0);
    }
    assert!(store.storage.unsettled(at(1000), 10).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_task_that_is_not_there_is_shown_as_none(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let nobody = TaskId::new();
    let changed = store.storage.change(Selection::One(&nobody), async |tasks: Vec<Task>| {
        assert!(tasks.is_empty());
        Ok::<_, Error>(Vec::new())
    });
    assert!(changed.await.unwrap().is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_changes_at_once_each_is_shown_what_the_one_before_left(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Arc::new(Store::open(kind).await);
    let task = store.running("a", 0).await;
    let enders = (0..10).map(|_| {
        let (store, id) = (Arc::clone(&store), task.id.clone());
        tokio::spawn(async move {
            let changed =
                store.storage.change(Selection::One(&id), async |mut tasks: Vec<Task>| {
                    if tasks[0].status.is_terminal() {
                        return Err(refusal());
                    }
                    Ok(vec![ending(tasks.remove(0), Status::Completed, 1, entries(1, 5, 0))])
                });
            changed.await.is_ok()
        })
    });
    let winners = join_all(enders).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    assert_eq!(winners, 1);
    assert_eq!(store.storage.last_sealed(&task.id).await.unwrap(), 5);
}

#[rstest]
#[tokio::test]
async fn the_overdue_are_those_whose_time_is_over_and_who_have_not_ended(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let mut dues = Vec::new();
    for seconds in [5, 3, 4, 20] {
        dues.push(due(&store, seconds).await);
    }
    let ended = due(&store, 1).await;
    store.end(&ended, Status::Timeout, 0, Vec::new()).await;
    // Looks and leaves. What one look held may be passed over by the next until it is let go.
    let shows = async |now, limit, expected: &[TaskId]| {
        eventually(|| async {
            let selection = Selection::Due { due: Due::Deadline, now, limit };
            let shown = store.storage.change(selection, async |tasks: Vec<Task>| {
                Err::<Vec<Change>, _>(Shown(ids(&tasks)))
            });
            let Err(Shown(ids)) = shown.await else { panic!("decided otherwise") };
            (ids == expected).then_some(())
        })
        .await;
    };
    shows(at(2), 10, &[]).await;
    // Over at its very instant.
    shows(at(3), 10, &dues[1..2]).await;
    // The most overdue first.
    let all = [dues[1].clone(), dues[2].clone(), dues[0].clone()];
    shows(at(19), 10, &all).await;
    shows(at(19), 2, &all[..2]).await;
}

/// What a change was shown, as the reason not to make it.
#[derive(Debug)]
struct Shown(Vec<TaskId>);

impl From<Error> for Shown {
    fn from(error: Error) -> Self {
        panic!("{error}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_sweep_at_once_share_the_overdue() {
    let store = Arc::new(Store::open(Kind::Postgres).await);
    for seconds in 1..=30 {
        due(&store, seconds).await;
    }
    // Every sweep holds its rows until all three have theirs.
    let all_hold = Arc::new(Barrier::new(3));
    let sweeps = (0..3).map(|_| {
        let (store, all_hold) = (Arc::clone(&store), Arc::clone(&all_hold));
        tokio::spawn(async move {
            let overdue = Selection::Due { due: Due::Deadline, now: at(60), limit: 10 };
            let swept = store.storage.change(overdue, async |tasks: Vec<Task>| {
                all_hold.wait().await;
                let end = |task| ending(task, Status::Timeout, 60, Vec::new());
                Ok::<_, Error>(tasks.into_iter().map(end).collect())
            });
            of_changed(&swept.await.unwrap())
        })
    });
    let mut swept: Vec<TaskId> =
        join_all(sweeps).await.into_iter().flat_map(|swept| swept.unwrap()).collect();
    swept.sort();
    swept.dedup();
    assert_eq!(swept.len(), 30, "each ten, and none twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sweep_does_not_wait_for_a_task_that_is_being_ended() {
    let store = Arc::new(Store::open(Kind::Postgres).await);
    let (held, free) = (due(&store, 1).await, due(&store, 2).await);
    let (holds, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ender = tokio::spawn({
        let (store, held) = (Arc::clone(&store), held.clone());
        let (holds, go_on) = (Arc::clone(&holds), Arc::clone(&go_on));
        async move {
            let ended =
                store.storage.change(Selection::One(&held), async |mut tasks: Vec<Task>| {
                    holds.notify_one();
                    go_on.notified().await;
                    Ok::<_, Error>(vec![ending(tasks.remove(0), Status::Failed, 5, Vec::new())])
                });
            ended.await.unwrap();
        }
    });
    holds.notified().await;
    let overdue = Selection::Due { due: Due::Deadline, now: at(60), limit: 10 };
    let swept = store.storage.change(overdue, async |tasks: Vec<Task>| {
        let end = |task| ending(task, Status::Timeout, 60, Vec::new());
        Ok::<_, Error>(tasks.into_iter().map(end).collect())
    });
    assert_eq!(of_changed(&swept.await.unwrap()), [free]);
    go_on.notify_one();
    ender.await.unwrap();
    assert_eq!(store.get(&held).await.status, Status::Failed);
}

#[rstest]
#[tokio::test]
async fn what_is_unsettled_stays_so_until_it_is_settled(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let mut ended = Vec::new();
    for seconds in [30, 10, 40, 20] {
        ended.push(store.ended("a", seconds, Vec::new()).await.id);
    }
    let [third, first, fourth, second] = &ended[..] else { panic!("four") };
    let unsettled =
        async |before, limit| ids(&store.storage.unsettled(at(before), limit).await.unwrap());
    assert_eq!(unsettled(10, 9).await, [], "an end is left alone for a while");
    let oldest_first = [first, second, third, fourth].map(Clone::clone);
    assert_eq!(unsettled(41, 9).await, oldest_first);
    assert_eq!(unsettled(41, 2).await, oldest_first[..2]);
    assert_eq!(unsettled(21, 9).await, oldest_first[..2]);
    store.storage.settled(std::slice::from_ref(first)).await.unwrap();
    store.storage.settled(std::slice::from_ref(first)).await.unwrap();
    assert_eq!(unsettled(41, 9).await, oldest_first[1..], "twice does no harm");
}

#[rstest]
#[tokio::test]
async fn an_end_that_cannot_be_settled_goes_behind_the_others(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let (first, second) =
        (store.ended("a", 1, Vec::new()).await.id, store.ended("a", 2, Vec::new()).await.id);
    let running = store.running("a", 3).await.id;
    store.storage.settle_later(&first, at(5)).await.unwrap();
    store.storage.settle_later(&running, at(5)).await.unwrap();
    let unsettled = ids(&store.storage.unsettled(at(9), 9).await.unwrap());
    assert_eq!(unsettled, [second.clone(), first.clone()]);
    assert!(store.storage.is_unsettled(&first).await.unwrap());
    assert!(!store.storage.is_unsettled(&running).await.unwrap(), "it has not ended");
    store.storage.settled(std::slice::from_ref(&second)).await.unwrap();
    assert!(!store.storage.is_unsettled(&second).await.unwrap());
}
