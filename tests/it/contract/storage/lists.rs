//! Pages and counts.

use std::collections::HashMap;

use rstest::rstest;
use task_tracker::database::Kind;
use task_tracker::domain::{Status, Task, TaskId, WorkerId};
use task_tracker::storage::{Cursor, Filter};

use super::{Store, at, entries, new_task, types};

/// Tasks of every kind: two types, all statuses, two workers, some of the same instant.
async fn populated(kind: Kind) -> (Store, Vec<Task>) {
    let store = Store::open(kind).await;
    let statuses =
        [Status::Pending, Status::InProgress, Status::Completed, Status::Failed, Status::Timeout];
    let mut tasks = Vec::new();
    for number in 0..40_u32 {
        let task_type = if number % 2 == 0 { "even" } else { "odd" };
        // Four of each instant, so that the id has to decide.
        let created = i64::from(number / 4);
        let new = new_task(task_type);
        let task = store.storage.insert(&new, at(created)).await.unwrap().unwrap();
        let status = statuses[(number / 2 % 5) as usize];
        if status != Status::Pending {
            let worker: WorkerId = format!("worker-{}", number % 3).parse().unwrap();
            let begin = format!(
                "UPDATE tracker_tasks SET status = 'in_progress', attempt = 1, started_at = created_at, \
                 worker_id = '{worker}' WHERE id = '{}'",
                task.id
            );
            assert_eq!(store.run(begin).await.unwrap(), 1);
        }
        if status.is_terminal() {
            store.end(&task.id, status, 100, entries(1, u64::from(number), 0)).await;
        }
        tasks.push(store.get(&task.id).await);
    }
    tasks.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    (store, tasks)
}

/// Every task `filter` lists, in pages of `limit`.
async fn listed(store: &Store, filter: &Filter, limit: u32) -> Vec<TaskId> {
    let (mut filter, mut all): (_, Vec<TaskId>) = (filter.clone(), Vec::new());
    loop {
        let page = store.storage.list(&filter, limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        let Some(last) = page.last() else { return all };
        filter.cursor = Some(Cursor { created_at: last.task.created_at, id: last.task.id.clone() });
        all.extend(page.into_iter().map(|listed| listed.task.id));
    }
}

#[rstest]
#[tokio::test]
async fn every_combination_of_filters_lists_what_it_says_newest_first(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let (store, tasks) = populated(kind).await;
    let maybe = |yes: u32, bit: u32| yes & (1 << bit) != 0;
    for yes in 0..64 {
        let filter = Filter {
            task_type: maybe(yes, 0).then(|| types(&["odd"]).remove(0)),
            status: maybe(yes, 1).then_some(Status::Failed),
            worker_id: maybe(yes, 2).then(|| "worker-1".parse().unwrap()),
            created_after: maybe(yes, 3).then(|| at(1)),
            created_before: maybe(yes, 4).then(|| at(8)),
            cursor: maybe(yes, 5).then(|| Cursor { created_at: at(6), id: tasks[14].id.clone() }),
        };
        let expected = tasks.iter().filter(|task| {
            filter.task_type.as_ref().is_none_or(|wanted| *wanted == task.task_type)
                && filter.status.is_none_or(|wanted| wanted == task.status)
                && filter.worker_id.as_ref().is_none_or(|w| Some(w) == task.worker_id.as_ref())
                && filter.created_after.is_none_or(|after| task.created_at > after)
                && filter.created_before.is_none_or(|before| task.created_at < before)
                && filter.cursor.as_ref().is_none_or(|cursor| {
                    (task.created_at, &task.id) < (cursor.created_at, &cursor.id)
                })
        });
        let expected: Vec<TaskId> = expected.map(|task| task.id.clone()).collect();
        let page = store.storage.list(&filter, 100).await.unwrap();
        let page: Vec<TaskId> = page.into_iter().map(|listed| listed.task.id).collect();
        assert_eq!(page, expected, "{filter:?}");
    }
}

#[rstest]
#[tokio::test]
async fn pages_follow_each_other_without_a_gap_or_a_repeat(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let (store, tasks) = populated(kind).await;
    let all: Vec<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
    for limit in [1, 3, 7, 40, 100] {
        assert_eq!(listed(&store, &Filter::default(), limit).await, all, "{limit} a page");
    }
    let even = Filter { task_type: Some(types(&["even"]).remove(0)), ..Filter::default() };
    let expected = tasks.iter().filter(|task| Some(&task.task_type) == even.task_type.as_ref());
    let expected: Vec<TaskId> = expected.map(|task| task.id.clone()).collect();
    assert_eq!(listed(&store, &even, 3).await, expected);
}

#[rstest]
#[tokio::test]
async fn a_page_is_not_shifted_by_what_is_registered_meanwhile(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let (store, tasks) = populated(kind).await;
    let first = store.storage.list(&Filter::default(), 10).await.unwrap();
    store.pending("even", 1000).await;
    let last = &first.last().unwrap().task;
    let cursor = Some(Cursor { created_at: last.created_at, id: last.id.clone() });
    let second = store.storage.list(&Filter { cursor, ..Filter::default() }, 10).await.unwrap();
    let second: Vec<&TaskId> = second.iter().map(|listed| &listed.task.id).collect();
    assert_eq!(second, tasks[10..20].iter().map(|task| &task.id).collect::<Vec<_>>());
}

#[rstest]
#[tokio::test]
async fn a_listed_task_comes_with_its_newest_sealed_entry(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let long = store.ended("a", 0, entries(1, 2100, 0)).await.id;
    let short = store.ended("a", 1, entries(1, 2, 0)).await.id;
    let none = store.ended("a", 2, Vec::new()).await.id;
    store.storage.seal(&short, &entries(3, 4, 0), None).await.unwrap();
    let page = store.storage.list(&Filter::default(), 10).await.unwrap();
    let latest: HashMap<TaskId, _> =
        page.into_iter().map(|listed| (listed.task.id, listed.latest)).collect();
    assert_eq!(latest[&long], entries(2100, 2100, 0).pop());
    assert_eq!(latest[&short], entries(4, 4, 0).pop());
    assert_eq!(latest[&none], None);
}

#[rstest]
#[tokio::test]
async fn waiting_and_running_tasks_are_counted_and_ended_ones_are_not(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    assert!(store.storage.count_active().await.unwrap().is_empty());
    for seconds in 0..3 {
        store.pending("waits", seconds).await;
        store.ended("ended", seconds, Vec::new()).await;
    }
    store.running("runs", 0).await;
    let counts: HashMap<Status, u64> =
        store.storage.count_active().await.unwrap().into_iter().collect();
    assert_eq!(counts, HashMap::from([(Status::Pending, 3), (Status::InProgress, 1)]));
}
