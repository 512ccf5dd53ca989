//! Pages and counts.

use std::collections::HashMap;

use rstest::rstest;
use task_tracker::database::Kind;
use task_tracker::domain::{JsonObject, NewTask, Status, Task, TaskId, Timestamp, WorkerId};
use task_tracker::storage::{By, Cursor, Filter, Order};

use super::{Store, at, entries, new_task, types};

/// Every order there is.
const ORDERS: [Order; 4] = [
    Order { by: By::CreatedAt, is_ascending: false },
    Order { by: By::CreatedAt, is_ascending: true },
    Order { by: By::CompletedAt, is_ascending: false },
    Order { by: By::CompletedAt, is_ascending: true },
];
/// Looked at for one page at most, if nothing else is said: all.
const ALL: u32 = 1000;

/// Tasks of every kind: two types, all statuses, two workers, a chain of retries, some of the same instant.
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
            // In another order than they were registered, and some at the same instant.
            let ended = i64::from(100 + number * 7 % 11);
            store.end(&task.id, status, ended, entries(1, u64::from(number), 0)).await;
        }
        tasks.push(store.get(&task.id).await);
    }
    let mut parent = first_failed(&tasks).clone();
    for n in 0..3 {
        let retry = store.storage.insert_retry(&parent, TaskId::new(), at(2 * n)).await.unwrap();
        parent = store.end(&retry.unwrap().id, Status::Failed, 103, Vec::new()).await;
        tasks.push(parent.clone());
    }
    tasks.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    (store, tasks)
}

fn first_failed(tasks: &[Task]) -> &Task {
    tasks.iter().find(|task| task.status == Status::Failed).unwrap()
}

fn ids(tasks: &[&Task]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id.clone()).collect()
}

/// Every task `filter` lists, in pages of `limit`, of which each looks at `look` tasks at most.
async fn listed(store: &Store, filter: &Filter, limit: u32, look: u32) -> Vec<TaskId> {
    let (mut filter, mut all): (_, Vec<TaskId>) = (filter.clone(), Vec::new());
    loop {
        let page = store.storage.list(&filter, limit, look).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        all.extend(page.items.into_iter().map(|listed| listed.task.id));
        filter.cursor = page.next;
        if filter.cursor.is_none() {
            return all;
        }
    }
}

/// What `filter` says of `tasks`, said again.
fn expected<'a>(tasks: &'a [Task], filter: &Filter) -> Vec<&'a Task> {
    let key = |task: &Task| match filter.order.by {
        By::CreatedAt => Some(task.created_at),
        By::CompletedAt => task.completed_at,
    };
    let is_after = |wanted: Option<Timestamp>, at: Option<Timestamp>| {
        wanted.is_none_or(|wanted| at.is_some_and(|at| at > wanted))
    };
    let is_before = |wanted: Option<Timestamp>, at: Option<Timestamp>| {
        wanted.is_none_or(|wanted| at.is_some_and(|at| at < wanted))
    };
    let holds = |task: &&Task| {
        filter.task_type.as_ref().is_none_or(|wanted| *wanted == task.task_type)
            && (filter.statuses.is_empty() || filter.statuses.contains(&task.status))
            && filter.worker_id.as_ref().is_none_or(|w| Some(w) == task.worker_id.as_ref())
            && filter.original_task_id.as_ref().is_none_or(|original| {
                task.id == *original || task.original_task_id.as_ref() == Some(original)
            })
            && is_after(filter.created_after, Some(task.created_at))
            && is_before(filter.created_before, Some(task.created_at))
            && is_after(filter.completed_after, task.completed_at)
            && is_before(filter.completed_before, task.completed_at)
            && key(task).is_some()
    };
    let mut expected: Vec<&Task> = tasks.iter().filter(holds).collect();
    expected.sort_by(|a, b| (key(a), &a.id).cmp(&(key(b), &b.id)));
    if !filter.order.is_ascending {
        expected.reverse();
    }
    expected
}

#[rstest]
#[tokio::test]
async fn every_combination_of_filters_lists_what_it_says_in_every_order(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let (store, tasks) = populated(kind).await;
    let chain = tasks.iter().find_map(|task| task.original_task_id.clone()).unwrap();
    for order in ORDERS {
        for yes in 0_u32..128 {
            // Of the further orders not more than two at once.
            if order != Order::default() && yes.count_ones() > 2 {
                continue;
            }
            let maybe = |bit: u32| yes & (1 << bit) != 0;
            let mut statuses = Vec::new();
            if maybe(1) {
                statuses.push(Status::Failed);
            }
            if maybe(2) {
                // However often it is named.
                statuses.extend([Status::Completed, Status::Pending, Status::Completed]);
            }
            let filter = Filter {
                task_type: maybe(0).then(|| types(&["odd"]).remove(0)),
                statuses,
                worker_id: maybe(3).then(|| "worker-1".parse().unwrap()),
                original_task_id: maybe(4).then(|| chain.clone()),
                created_after: maybe(5).then(|| at(1)),
                created_before: maybe(5).then(|| at(8)),
                completed_after: maybe(6).then(|| at(101)),
                completed_before: maybe(6).then(|| at(109)),
                order,
                ..Filter::default()
            };
            let expected = ids(&expected(&tasks, &filter));
            assert_eq!(listed(&store, &filter, 6, 9).await, expected, "{filter:?}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_page_looks_at_so_many_tasks_and_says_where_it_stopped(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    for n in 0..30 {
        store.pending(if n == 3 { "wanted" } else { "other" }, n).await;
    }
    let search = "wanted".parse().ok();
    let mut filter = Filter { search, ..Filter::default() };
    for (look, found) in [(10, 0), (10, 0), (6, 0)] {
        let page = store.storage.list(&filter, 5, look).await.unwrap();
        assert_eq!(page.items.len(), found);
        filter.cursor = page.next;
        assert!(filter.cursor.is_some());
    }
    assert_eq!(filter.cursor.as_ref().unwrap().at, at(4), "26 were looked at");
    let page = store.storage.list(&filter, 5, 10).await.unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
    // What an index carries needs no look: every page but the last is full.
    let wanted = Filter { task_type: types(&["wanted"]).pop(), ..Filter::default() };
    let page = store.storage.list(&wanted, 5, 1).await.unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
}

#[rstest]
#[tokio::test]
async fn what_is_searched_means_itself_wherever_it_stands(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let json = |text: &str| Some(JsonObject::from_stored(text));
    let register = async |id: &str, task_type: &str, metadata: &str, params: &str| {
        let new = new_task(task_type);
        let (metadata, params) = (json(metadata), json(params));
        let new = NewTask { id: id.parse().unwrap(), metadata, params, ..new };
        store.storage.insert(&new, at(1)).await.unwrap().unwrap();
    };
    register("report-1", "Alpha: one", r#"{"Tenant":"Ärger & Söhne"}"#, r#"{"n":1}"#).await;
    register(
        "report-2",
        "Alpha: two",
        r#"{"tenant":"\u00c4rger"}"#,
        r#"{"quote":"say \"hi\" \\o/"}"#,
    )
    .await;
    register("a_b", "beta", r#"{"share":"100%"}"#, "{}").await;
    register("a-b", "gamma", r#"{"share":"1000"}"#, r#"{"x":"%_\\"}"#).await;
    let failed = store.ended("t", 5, Vec::new()).await;
    let error = r#"UPDATE tracker_tasks SET error = '{"message":"The DISK is full"}' WHERE id = '"#;
    store.run(format!("{error}{}'", failed.id)).await.unwrap();
    let begun = store.running("another", 6).await;
    let worker = format!("UPDATE tracker_tasks SET worker_id = 'Host-7' WHERE id = '{}'", begun.id);
    store.run(worker).await.unwrap();
    let found = async |text: &str| {
        let filter = Filter { search: text.parse().ok(), ..Filter::default() };
        assert!(filter.search.is_some());
        let mut found = listed(&store, &filter, 10, ALL).await;
        let named = text.parse().ok();
        if let Some(id) = named {
            let named = store.storage.list_one(&filter, &id).await.unwrap();
            found.extend(named.map(|listed| listed.task.id));
        }
        found.sort();
        found.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>()
    };
    let (failed, begun) = (failed.id.to_string(), begun.id.to_string());
    assert_eq!(found("report-").await, ["report-1", "report-2"], "how an id begins");
    assert_eq!(found("REPORT-1").await, ["report-1"], "whatever the case");
    assert_eq!(found("report-1").await, ["report-1"], "once, by its own name");
    assert_eq!(found("eport-").await, [""; 0], "an id is found from its beginning");
    assert_eq!(found("PHA: T").await, ["report-2"], "a type");
    assert_eq!(found("host-7").await, [begun], "a worker");
    assert_eq!(found("disk").await, [failed], "an error");
    assert_eq!(found("tenant").await, ["report-1", "report-2"], "a name in JSON");
    assert_eq!(found("Ärger").await, ["report-1", "report-2"], "however JSON spells it");
    assert_eq!(found("say \"HI\"").await, ["report-2"]);
    assert_eq!(found("\"n\":1").await, ["report-1"], "a piece of JSON");
    assert_eq!(found("\\o/").await, ["report-2"]);
    assert_eq!(found("100%").await, ["a_b"], "no wildcard");
    assert_eq!(found("a_b").await, ["a_b"], "nor is this");
    assert_eq!(found("%_\\").await, ["a-b"]);
    assert_eq!(found("%").await, ["a-b", "a_b"]);
    assert_eq!(found("_").await, ["a-b"]);
    assert_eq!(found("\\").await, ["a-b", "report-2"]);
    for nothing in ["nowhere", "ÄRGER & SÖHNE", "' OR TRUE --", "$1", "?"] {
        assert_eq!(found(nothing).await, [""; 0], "{nothing}");
    }
}

#[rstest]
#[tokio::test]
async fn the_task_of_an_id_is_found_if_the_other_filters_let_it(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let (store, tasks) = populated(kind).await;
    let task = first_failed(&tasks);
    let found = async |filter: Filter| {
        let found = store.storage.list_one(&filter, &task.id).await.unwrap();
        found.inspect(|found| assert_eq!(found.task.id, task.id)).is_some()
    };
    let search = task.id.as_str().parse().ok();
    let all = Filter { search, ..Filter::default() };
    assert!(found(all.clone()).await);
    let right = Filter {
        task_type: Some(task.task_type.clone()),
        statuses: vec![Status::Pending, Status::Failed],
        worker_id: task.worker_id.clone(),
        original_task_id: Some(task.id.clone()),
        completed_before: Some(at(1000)),
        ..all.clone()
    };
    for order in ORDERS {
        assert!(found(Filter { order, ..right.clone() }).await);
        let cursor = Some(Cursor { order, at: task.created_at, id: task.id.clone() });
        assert!(found(Filter { order, cursor, ..right.clone() }).await, "wherever the list is");
    }
    assert!(!found(Filter { statuses: vec![Status::Pending], ..right.clone() }).await);
    assert!(!found(Filter { completed_after: Some(at(1000)), ..right.clone() }).await);
    assert!(!found(Filter { original_task_id: Some(TaskId::new()), ..right.clone() }).await);
    assert_eq!(listed(&store, &all, 100, ALL).await, [], "a walk does not come to it");
}

#[rstest]
#[tokio::test]
async fn what_may_be_large_is_read_if_it_is_asked_for(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let large = Some(JsonObject::from_stored(r#"{"large":true}"#));
    let new = NewTask { metadata: large.clone(), params: large.clone(), ..new_task("t") };
    store.storage.insert(&new, at(1)).await.unwrap().unwrap();
    for is_brief in [false, true] {
        for statuses in [vec![], vec![Status::Pending, Status::Failed]] {
            let filter = Filter { is_brief, statuses, ..Filter::default() };
            let page = store.storage.list(&filter, 10, ALL).await.unwrap();
            let expected = large.clone().filter(|_| !is_brief);
            assert_eq!(page.items[0].task.params, expected);
            assert_eq!(page.items[0].task.metadata, expected);
        }
    }
}

#[rstest]
#[tokio::test]
async fn pages_follow_each_other_without_a_gap_or_a_repeat(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let (store, tasks) = populated(kind).await;
    let all: Vec<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
    for limit in [1, 3, 7, 43, 100] {
        assert_eq!(listed(&store, &Filter::default(), limit, 1).await, all, "{limit} a page");
    }
    let even = Filter { task_type: Some(types(&["even"]).remove(0)), ..Filter::default() };
    let expected = tasks.iter().filter(|task| Some(&task.task_type) == even.task_type.as_ref());
    let expected: Vec<TaskId> = expected.map(|task| task.id.clone()).collect();
    assert_eq!(listed(&store, &even, 3, 1).await, expected);
}

#[rstest]
#[tokio::test]
async fn a_page_is_not_shifted_by_what_is_registered_meanwhile(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let (store, tasks) = populated(kind).await;
    let cursor = store.storage.list(&Filter::default(), 10, ALL).await.unwrap().next;
    store.pending("even", 1000).await;
    let second = Filter { cursor, ..Filter::default() };
    let second = store.storage.list(&second, 10, ALL).await.unwrap().items;
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
    let page = store.storage.list(&Filter::default(), 10, ALL).await.unwrap().items;
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
