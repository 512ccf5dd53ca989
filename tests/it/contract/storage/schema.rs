//! What the databases themselves refuse; migrations.

use futures::future::join_all;
use rstest::rstest;
use task_tracker::database::{Database, Kind};
use task_tracker::storage::{Error, migrations};

use super::{Store, empty, entries};
use crate::harness::PATIENCE;

/// Writes a row with `columns` beside those every row has.
async fn row(store: &Store, status: &str, columns: &[(&str, &str)]) -> Result<u64, Error> {
    let instant = match store.database.kind() {
        Kind::Postgres => "now()",
        Kind::Sqlite => "1763596800123456",
    };
    let mut names = String::from("id, task_type, status, created_at, updated_at, timeout_at");
    let id = task_tracker::domain::TaskId::new();
    let mut values = format!("'{id}', 'a', '{status}', {instant}, {instant}, {instant}");
    let timeout = [("timeout_seconds", "60")];
    let missing = timeout.iter().filter(|(name, _)| columns.iter().all(|(other, _)| other != name));
    for (name, value) in columns.iter().chain(missing) {
        names = format!("{names}, {name}");
        values = format!("{values}, {}", value.replace("NOW", instant));
    }
    store.run(format!("INSERT INTO tracker_tasks ({names}) VALUES ({values})")).await
}

#[rstest]
#[tokio::test]
async fn a_consistent_row_is_taken(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    let begun = [("started_at", "NOW"), ("worker_id", "'w'")];
    let ended = [("completed_at", "NOW"), ("started_at", "NOW"), ("worker_id", "'w'")];
    for (status, columns) in [
        ("pending", &[][..]),
        ("in_progress", &begun[..1]),
        ("in_progress", &begun),
        ("completed", &ended),
        ("failed", &ended),
        ("timeout", &ended),
        ("timeout", &ended[..1]),
    ] {
        assert_eq!(row(&store, status, columns).await.unwrap(), 1, "{status} {columns:?}");
    }
}

#[rstest]
#[case::an_unknown_status("done", &[("completed_at", "NOW")])]
#[case::a_status_in_capitals("Pending", &[])]
#[case::a_waiting_task_that_has_ended("pending", &[("completed_at", "NOW")])]
#[case::a_running_task_that_has_ended("in_progress", &[("started_at", "NOW"), ("completed_at", "NOW")])]
#[case::a_completed_task_without_a_time("completed", &[("started_at", "NOW")])]
#[case::a_failed_task_without_a_time("failed", &[("started_at", "NOW")])]
#[case::a_timed_out_task_without_a_time("timeout", &[])]
#[case::a_waiting_task_with_a_worker("pending", &[("worker_id", "'w'")])]
#[case::a_waiting_task_that_has_begun("pending", &[("started_at", "NOW")])]
#[case::a_running_task_that_has_not_begun("in_progress", &[("worker_id", "'w'")])]
#[case::no_time_at_all("pending", &[("timeout_seconds", "0")])]
#[case::a_null_timeout("pending", &[("timeout_seconds", "NULL")])]
#[tokio::test]
async fn the_database_refuses(
    #[case] status: &str,
    #[case] columns: &[(&str, &str)],
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let refused = row(&store, status, columns).await;
    assert!(matches!(refused, Err(Error::Failed(_))), "{refused:?}");
}

#[rstest]
#[tokio::test]
async fn the_database_refuses_two_retries_of_one_task(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    row(&store, "pending", &[("retry_of", "'parent'")]).await.unwrap();
    row(&store, "pending", &[("retry_of", "'parent'")]).await.unwrap_err();
    row(&store, "pending", &[]).await.unwrap();
    row(&store, "pending", &[]).await.expect("most tasks are no retry");
}

#[rstest]
#[tokio::test]
async fn history_and_notes_belong_to_a_task(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    let task = store.ended("a", 0, entries(1, 2000, 0)).await;
    let orphan = "INSERT INTO tracker_entries (task_id, first_seq, last_seq, entries, latest)
                  VALUES ('none', 1, 1, '[]', '{}')";
    store.run(orphan).await.expect_err("a history of no task");
    let turned = format!(
        "INSERT INTO tracker_entries (task_id, first_seq, last_seq, entries, latest)
         VALUES ('{}', 9, 8, '[]', '{{}}')",
        task.id
    );
    store.run(turned).await.expect_err("a row that ends before it begins");
    let deleted = store.run(format!("DELETE FROM tracker_tasks WHERE id = '{}'", task.id)).await;
    assert_eq!(deleted.unwrap(), 1);
    for table in ["tracker_entries", "tracker_unsettled"] {
        assert_eq!(
            store.run(format!("DELETE FROM {table}")).await.unwrap(),
            0,
            "went with the task"
        );
    }
}

#[rstest]
#[tokio::test]
async fn migrating_twice_changes_nothing(#[values(Kind::Postgres, Kind::Sqlite)] kind: Kind) {
    let store = Store::open(kind).await;
    let task = store.pending("a", 0).await;
    migrations::run(&store.database, PATIENCE).await.expect("up to date already");
    assert_eq!(store.get(&task.id).await.created_at, task.created_at);
}

#[tokio::test]
async fn four_nodes_that_start_together_wait_for_each_other() {
    let (ground, _) = empty(Kind::Postgres).await;
    let url = ground.database_url().expect("Postgres").to_owned();
    let nodes = [(); 4].map(|()| Database::postgres(&url, 2).expect("a database"));
    for node in join_all(nodes.iter().map(|node| migrations::run(node, PATIENCE))).await {
        node.expect("up to date");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_said_to_be_after_the_patience() {
    let away = Database::postgres("postgres://nobody@127.0.0.1:1/none", 1).expect("a pool");
    let patience = std::time::Duration::from_millis(1);
    let error = migrations::run(&away, patience).await.expect_err("nobody is there");
    assert!(matches!(error, migrations::Error::Unreachable(..)), "{error:?}");
}
