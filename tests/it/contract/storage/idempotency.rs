//! Answers that are remembered, and batches.

use std::time::Duration;

use rstest::rstest;
use std::sync::Arc;
use task_tracker::database::Kind;
use task_tracker::domain::once::KEPT_FOR;

use task_tracker::domain::{JsonObject, Key, Keyed, NewTask, Task, Terms, Timestamp};
use task_tracker::storage::Outcome;

use super::{Store, at, new_task};

fn keyed<T>(key: &str, body: &str) -> Keyed<T> {
    let answer = body.to_owned();
    Keyed {
        key: Key::new("register", key, &[body.as_bytes()]),
        answer: Arc::new(move |_| answer.clone()),
    }
}

async fn insert(store: &Store, key: &str, body: &str, now: Timestamp) -> Outcome<Option<Task>> {
    store.storage.insert_once(&new_task("a"), keyed(key, body), now).await.expect("an answer")
}

#[rstest]
#[tokio::test]
async fn an_answer_is_written_with_what_it_stands_for(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    assert!(matches!(insert(&store, "k", "one", at(0)).await, Outcome::Now(Some(_))));
    assert!(
        matches!(insert(&store, "k", "one", at(1)).await, Outcome::Before(text) if text == "one")
    );
    assert!(matches!(insert(&store, "k", "two", at(1)).await, Outcome::Reused));
    let taken = new_task("a");
    store.storage.insert(&taken, at(0)).await.unwrap();
    let refused = store.storage.insert_once(&taken, keyed("l", "one"), at(1)).await.unwrap();
    assert!(matches!(refused, Outcome::Now(None)));
    assert!(matches!(insert(&store, "l", "two", at(1)).await, Outcome::Now(Some(_))), "free again");
    assert_eq!(store.run("DELETE FROM tracker_tasks").await.unwrap(), 3);
    assert_eq!(store.run("DELETE FROM tracker_idempotency").await.unwrap(), 2);
}

#[rstest]
#[tokio::test]
async fn answers_are_forgotten_when_their_time_is_over(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    for second in 0..5 {
        insert(&store, &format!("key {second}"), "one", at(second)).await;
    }
    let over = at(2).plus(KEPT_FOR);
    assert_eq!(store.storage.forget_answers(over).await.unwrap(), 3);
    assert_eq!(store.storage.forget_answers(over).await.unwrap(), 0);
    assert!(matches!(insert(&store, "key 3", "one", over).await, Outcome::Before(_)));
    // One that is over and not deleted yet makes room.
    let over = over.plus(Duration::from_secs(1));
    assert!(matches!(insert(&store, "key 3", "two", over).await, Outcome::Now(Some(_))));
    assert!(matches!(insert(&store, "key 3", "two", over).await, Outcome::Before(_)));
    assert_eq!(store.storage.forget_answers(over.plus(KEPT_FOR)).await.unwrap(), 2);
}

#[rstest]
#[tokio::test]
async fn a_batch_writes_what_one_by_one_would_be_written(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    // Every field, named: a new one must be written by both statements.
    let new = |metadata: Option<&str>| NewTask {
        id: task_tracker::domain::TaskId::new(),
        task_type: "a type: {ü} $1 '\"".parse().unwrap(),
        metadata: metadata.map(JsonObject::from_stored),
        params: Some(JsonObject::from_stored(r#"{"a":"\u0000 \\ ü","b":1.10}"#)),
        terms: Terms {
            timeout: Duration::from_hours(8760),
            max_attempts: 7,
            stall: Some(Duration::from_secs(90)),
        },
    };
    for metadata in [None, Some(r#"{"n":18446744073709551615}"#)] {
        let (alone, of_many) = (new(metadata), new(metadata));
        let batch = [of_many.clone(), new(None), of_many.clone(), alone.clone()];
        let alone = store.storage.insert(&alone, at(0)).await.unwrap().expect("a free id");
        let tasks = store.storage.insert_many(batch.to_vec(), at(0)).await.unwrap();
        let is_written: Vec<bool> = tasks.iter().map(Option::is_some).collect();
        assert_eq!(is_written, [true, true, false, false], "the first of twins; no taken id");
        let first = tasks[0].clone().expect("a task");
        let expected = Task { id: first.id.clone(), ..alone };
        assert_eq!(format!("{first:?}"), format!("{expected:?}"));
        assert_eq!(format!("{:?}", store.get(&first.id).await), format!("{expected:?}"));
        let second = tasks[1].as_ref().expect("a task");
        assert_eq!(second.created_at.since(at(0)), Duration::from_micros(1));
        assert_eq!(second.timeout_at.since(second.created_at), second.terms.timeout);
    }
    assert!(store.storage.insert_many(Vec::new(), at(0)).await.unwrap().is_empty());
}
