//! Registering, claiming, reading.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use task_tracker::database::Kind;
use task_tracker::domain::{JsonObject, NewTask, Status, TaskId, Terms, Timestamp, WorkerId};

use super::{Store, at, ids, lease, new_task, types};

fn worker(name: &str) -> WorkerId {
    name.parse().expect("a name")
}

#[rstest]
#[tokio::test]
async fn a_task_is_read_as_it_was_registered(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    let metadata = r#"{"b":18446744073709551615,"a":1.10,"ü":"\u0000 \ud83e\udd80 🦀"}"#;
    let new = NewTask {
        metadata: Some(JsonObject::from_stored(metadata)),
        params: Some(JsonObject::from_stored("{}")),
        terms: Terms { timeout: Duration::from_hours(8760), ..Terms::DEFAULT },
        ..new_task("a type, any text: {ü} 日本語 $1 ? '\"")
    };
    let registered = store.storage.insert(&new, at(0)).await.unwrap().expect("a free id");
    let task = store.get(&new.id).await;
    for task in [&registered, &task] {
        assert_eq!((&task.id, &task.task_type), (&new.id, &new.task_type));
        assert_eq!((task.status, task.attempt, task.retry_count), (Status::Pending, 0, 0));
        assert_eq!((&task.metadata, &task.params), (&new.metadata, &new.params));
        assert_eq!((&task.result, &task.error), (&None, &None));
        assert_eq!((&task.worker_id, &task.original_task_id), (&None, &None));
        assert_eq!(task.terms, new.terms);
        assert_eq!((task.created_at, task.updated_at), (at(0), at(0)), "to the microsecond");
        assert_eq!((task.started_at, task.completed_at), (None, None));
        assert_eq!(task.timeout_at, at(31_536_000));
    }
    assert!(store.storage.get(&TaskId::new()).await.unwrap().is_none());
}

#[rstest]
#[tokio::test]
async fn an_instant_keeps_its_microseconds_from_one_end_of_time_to_the_other(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    for text in [
        "0001-01-01T00:00:00.000001Z",
        "1969-12-31T23:59:59.999999Z",
        "1999-12-31T23:59:59.999999Z",
        "2000-01-01T00:00:00.000001Z",
        "2026-11-20T12:00:00.123456Z",
        "9999-12-01T00:00:00.999999Z",
    ] {
        let instant: Timestamp = text.parse().unwrap();
        let new = new_task("a");
        store.storage.insert(&new, instant).await.unwrap();
        let task = store.get(&new.id).await;
        assert_eq!(task.created_at.as_micros(), instant.as_micros(), "{text}");
        assert_eq!(task.timeout_at, instant.plus(new.terms.timeout), "{text}");
    }
}

#[rstest]
#[tokio::test]
async fn an_id_is_taken_once(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    let new = new_task("first");
    assert!(store.storage.insert(&new, at(0)).await.unwrap().is_some());
    let again = NewTask { id: new.id.clone(), ..new_task("second") };
    assert!(store.storage.insert(&again, at(1)).await.unwrap().is_none());
    assert_eq!(store.get(&new.id).await.task_type, new.task_type, "the first stands");
    let cased: TaskId = new.id.as_str().to_uppercase().parse().unwrap();
    let other = NewTask { id: cased, ..new_task("other") };
    assert!(store.storage.insert(&other, at(1)).await.unwrap().is_some(), "case tells ids apart");
}

#[rstest]
#[tokio::test]
async fn of_many_who_register_one_id_one_does(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    let new = new_task("a");
    let answers = join_all((0..20).map(|_| store.storage.insert(&new, at(0)))).await;
    let made = answers.into_iter().filter(|answer| answer.as_ref().unwrap().is_some()).count();
    assert_eq!(made, 1);
}

#[rstest]
#[tokio::test]
async fn a_retry_is_a_new_task_that_knows_the_first_of_its_chain(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let new = NewTask {
        metadata: Some(JsonObject::from_stored(r#"{"m":1}"#)),
        params: Some(JsonObject::from_stored(r#"{"p":1}"#)),
        ..new_task("a")
    };
    let first = store.storage.insert(&new, at(0)).await.unwrap().unwrap();
    let second = store.storage.insert_retry(&first, TaskId::new(), at(5)).await.unwrap().unwrap();
    let third = store.storage.insert_retry(&second, TaskId::new(), at(9)).await.unwrap().unwrap();
    for (retry, count, created) in [(&second, 1, 5), (&third, 2, 9)] {
        assert_eq!(retry.original_task_id.as_ref(), Some(&first.id));
        assert_eq!((retry.retry_count, retry.status), (count, Status::Pending));
        assert_eq!((&retry.metadata, &retry.params), (&new.metadata, &new.params));
        assert_eq!((&retry.task_type, &retry.terms), (&new.task_type, &new.terms));
        assert_eq!(retry.created_at, at(created));
        assert_eq!(retry.timeout_at, at(created).plus(new.terms.timeout), "its time begins anew");
    }
}

#[rstest]
#[tokio::test]
async fn of_several_retries_at_once_one_makes_the_child(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let parent = store.ended("a", 0, Vec::new()).await;
    let retries = (0..20).map(|_| store.storage.insert_retry(&parent, TaskId::new(), at(1)));
    let answers = join_all(retries).await;
    let made = answers.into_iter().filter(|answer| answer.as_ref().unwrap().is_some()).count();
    assert_eq!(made, 1);
    let late = store.storage.insert_retry(&parent, TaskId::new(), at(2)).await.unwrap();
    assert!(late.is_none());
}

#[rstest]
#[tokio::test]
async fn a_claim_takes_the_oldest_of_all_its_types(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let mut expected = Vec::new();
    for (name, seconds) in [("b", 1), ("a", 2), ("other", 0), ("c", 3), ("a", 4), ("b", 5)] {
        let task = store.pending(name, seconds).await;
        if name != "other" {
            expected.push(task.id);
        }
    }
    // Of the same instant the smaller id is first, so that every node says the same.
    let mut twins = [store.pending("a", 9).await.id, store.pending("c", 9).await.id];
    twins.sort();
    expected.extend(twins);
    let (wanted, worker) = (types(&["c", "a", "b", "a", "nothing"]), worker("w"));
    let mut claimed = Vec::new();
    while let Some(task) = store.storage.claim(&wanted, &worker, &lease(60), at(60)).await.unwrap()
    {
        assert_eq!((task.status, task.attempt), (Status::InProgress, 1));
        assert_eq!(task.worker_id.as_ref(), Some(&worker));
        assert_eq!((task.started_at, task.updated_at), (Some(at(60)), at(60)));
        claimed.push(task.id);
    }
    assert_eq!(claimed, expected);
    assert!(
        store
            .storage
            .claim(&types(&["other"]), &worker, &lease(60), at(60))
            .await
            .unwrap()
            .is_some()
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_task_goes_to_two_workers(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    const TASKS: usize = 60;
    let store = Store::open(kind).await;
    let names = ["a", "b", "c"];
    for i in 0..TASKS {
        store.pending(names[i % 3], i64::try_from(i).unwrap()).await;
    }
    let wanted = types(&names);
    let workers = (0..10).map(|number| {
        let (storage, wanted) = (store.storage.clone(), wanted.clone());
        tokio::spawn(async move {
            let worker = worker(&format!("worker-{number}"));
            let mut mine = Vec::new();
            // One `None` may come because all that was seen was being taken; two in a row do not.
            let mut looks = 0;
            while looks < 2 {
                match storage.claim(&wanted, &worker, &lease(100), at(100)).await.unwrap() {
                    Some(task) => {
                        mine.push(task.id);
                        looks = 0;
                    }
                    None => looks += 1,
                }
            }
            mine
        })
    });
    let claimed: Vec<TaskId> =
        join_all(workers).await.into_iter().flat_map(|mine| mine.unwrap()).collect();
    let distinct: BTreeSet<_> = claimed.iter().collect();
    assert_eq!((claimed.len(), distinct.len()), (TASKS, TASKS));
}

#[tokio::test]
async fn a_claim_passes_over_a_task_another_transaction_holds() {
    let store = Store::open(Kind::Postgres).await;
    let (oldest, next) = (store.pending("a", 0).await, store.pending("a", 1).await);
    let mut transaction = store.database.begin().await.unwrap();
    let lock = "SELECT 1 FROM tracker_tasks WHERE id = $1 FOR UPDATE";
    let lock = task_tracker::database::Statement::new(lock).bind(&oldest.id);
    lock.execute(transaction.executor()).await.unwrap();
    let wanted = types(&["a"]);
    let claimed = store.storage.claim(&wanted, &worker("w"), &lease(5), at(5)).await.unwrap();
    assert_eq!(claimed.expect("the next one").id, next.id);
    transaction.commit().await.unwrap();
    let claimed = store.storage.claim(&wanted, &worker("w"), &lease(5), at(5)).await.unwrap();
    assert_eq!(claimed.expect("it was not lost").id, oldest.id);
}

#[rstest]
#[tokio::test]
async fn types_with_a_waiting_task_are_told_from_those_without(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    store.pending("waits", 0).await;
    store.pending("waits", 1).await;
    store.running("runs", 0).await;
    store.ended("ended", 0, Vec::new()).await;
    let asked = types(&["runs", "waits", "ended", "none"]);
    let pending = store.storage.pending_types(&asked).await.unwrap();
    assert_eq!(pending, types(&["waits"]));
    assert!(store.storage.pending_types(&[]).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn the_ended_among_some_tasks_are_found(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    let one = store.ended("a", 0, Vec::new()).await.id;
    let other = store.ended("a", 1, Vec::new()).await.id;
    let _unasked = store.ended("a", 2, Vec::new()).await;
    let (pending, running) = (store.pending("b", 0).await, store.running("c", 0).await);
    let asked = [pending.id, one.clone(), TaskId::new(), running.id, other.clone()];
    let found: BTreeSet<TaskId> =
        ids(&store.storage.ended_among(&asked).await.unwrap()).into_iter().collect();
    assert_eq!(found, BTreeSet::from([one, other]));
    assert!(store.storage.ended_among(&[]).await.unwrap().is_empty());
}
