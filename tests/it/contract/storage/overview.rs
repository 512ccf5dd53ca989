//! What an overview is made of; which nodes there are.

use std::time::Duration;

use rstest::rstest;
use task_tracker::database::Kind;
use task_tracker::domain::Status;
use task_tracker::domain::histogram::Bucket;
use task_tracker::storage::{Lately, Node, Polled, Queue, Seen, Stretch};

use super::{Store, at, entries, types, worker};

/// A minute of six steps, from the beginning of time.
fn a_minute() -> Stretch {
    Stretch { from: at(0), to: at(60), step_seconds: 10 }
}

#[rstest]
#[tokio::test]
async fn what_waits_and_runs_is_counted_by_type_most_waiting_first(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    assert_eq!(store.storage.active().await.unwrap(), <_>::default());
    store.running("runs", 0).await;
    store.running("both", 1).await;
    store.ended("ended", 2, Vec::new()).await;
    for (task_type, seconds) in [("both", 9), ("many", 5), ("many", 4), ("many", 6), ("b", 7)] {
        store.pending(task_type, seconds).await;
    }
    let active = store.storage.active().await.unwrap();
    assert_eq!((active.pending, active.in_progress), (5, 2));
    let queue = |name: &str, pending, in_progress, oldest: Option<i64>| Queue {
        task_type: types(&[name]).remove(0),
        pending,
        in_progress,
        oldest_pending_at: oldest.map(at),
    };
    let expected = [
        queue("many", 3, 0, Some(4)),
        queue("both", 1, 1, Some(9)),
        queue("b", 1, 0, Some(7)),
        queue("runs", 0, 1, None),
    ];
    assert_eq!(active.queues, expected);
    for n in 0..60 {
        store.pending(&format!("type-{n:02}"), n).await;
    }
    let active = store.storage.active().await.unwrap();
    assert_eq!((active.pending, active.queues.len()), (65, 50), "all are counted, fifty are told");
    assert_eq!(active.queues[..3], expected[..3]);
}

#[rstest]
#[tokio::test]
async fn ends_are_counted_from_one_instant_to_before_another(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    for (seconds, status) in [
        (0, Status::Failed),
        (10, Status::Completed),
        (10, Status::Failed),
        (20, Status::Cancelled),
    ] {
        let task = store.running("t", 0).await;
        store.end(&task.id, status, seconds, Vec::new()).await;
    }
    store.pending("t", 0).await;
    let counted = async |from, to, most| {
        let ends = store.storage.count_ended(at(from), at(to), most).await.unwrap();
        (ends.counts, ends.cut_off)
    };
    let (completed, failed) = ((Status::Completed, 1), (Status::Failed, 1));
    assert_eq!(counted(10, 20, 100).await, (vec![completed, failed], None));
    assert_eq!(counted(0, 10, 100).await, (vec![failed], None));
    let all = vec![completed, (Status::Failed, 2), (Status::Cancelled, 1)];
    assert_eq!(counted(0, 21, 5).await, (all.clone(), None));
    assert_eq!(counted(21, 90, 100).await, (vec![], None));
    // There might be more of them.
    assert_eq!(counted(0, 21, 4).await, (all, Some(at(20))));
    assert_eq!(counted(0, 21, 1).await, (vec![failed], Some(at(0))));
    let (counts, cut_off) = counted(0, 21, 2).await;
    assert_eq!((counts.iter().map(|(_, tasks)| tasks).sum::<u64>(), cut_off), (2, Some(at(10))));
}

#[rstest]
#[tokio::test]
async fn what_happened_is_in_the_step_it_happened_in(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let (first, last) = (at(0), at(60).minus(Duration::from_micros(1)));
    let out = [first.minus(Duration::from_micros(1)), at(60)];
    let tenth = at(10).minus(Duration::from_micros(1));
    for instant in [first, tenth, at(10), last, out[0], out[1]] {
        let task = super::new_task("t");
        store.storage.insert(&task, instant).await.unwrap().unwrap();
        let claimed =
            store.storage.claim(&types(&["t"]), &worker(), &super::lease(-9), at(-9)).await;
        let task = claimed.unwrap().expect("the task just registered");
        let changed = store.storage.change(
            task_tracker::storage::Selection::One(&task.id),
            async |tasks: Vec<task_tracker::domain::Task>| {
                let changes = tasks.into_iter().map(|task| {
                    let mut change = super::ending(task, Status::Completed, 0, Vec::new());
                    change.task.completed_at = Some(instant);
                    change
                });
                Ok::<_, task_tracker::storage::Error>(changes.collect())
            },
        );
        changed.await.unwrap();
    }
    let mut registered = store.storage.registered_by_step(a_minute()).await.unwrap();
    registered.sort_unstable();
    assert_eq!(registered, [(0, 2), (1, 1), (5, 1)]);
    let mut by_step = [0; 6];
    for ended in store.storage.ended_by_step(a_minute()).await.unwrap() {
        assert_eq!(ended.status, Status::Completed);
        by_step[ended.step] += ended.tasks;
    }
    assert_eq!(by_step, [2, 1, 0, 0, 0, 1]);
}

#[rstest]
#[tokio::test]
async fn both_databases_put_durations_into_the_buckets_of_the_domain(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let micros: Vec<u64> = (0..12)
        .flat_map(|order| [1, 3, 1_234_567, 9_999_999].map(|n| 10_u64.pow(order) * n / 1000))
        .collect();
    for micros in &micros {
        let task = store.running("t", 0).await;
        store.end(&task.id, Status::Completed, 1, Vec::new()).await;
        let begun = match kind {
            Kind::Postgres => format!("completed_at - interval '{micros} microseconds'"),
            Kind::Sqlite => format!("completed_at - {micros}"),
        };
        let begin =
            format!("UPDATE tracker_tasks SET started_at = {begun} WHERE id = '{}'", task.id);
        assert_eq!(store.run(begin).await.unwrap(), 1);
    }
    // A clock that was set back: it took no time.
    let back = store.running("t", 5).await;
    store.end(&back.id, Status::Completed, 1, Vec::new()).await;
    // How long it took before it failed is not told, nor of a task that never began.
    let failed = store.running("t", 0).await;
    store.end(&failed.id, Status::Failed, 1, Vec::new()).await;
    let mut expected: Vec<Option<Bucket>> =
        micros.iter().map(|micros| Some(Bucket::of(Duration::from_micros(*micros)))).collect();
    expected.extend([Some(Bucket::of(Duration::ZERO)), None]);
    let mut told = Vec::new();
    for ended in store.storage.ended_by_step(a_minute()).await.unwrap() {
        assert_eq!(ended.took.is_none(), ended.status == Status::Failed);
        told.extend(std::iter::repeat_n(ended.took, usize::try_from(ended.tasks).unwrap()));
    }
    expected.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, expected);
}

#[rstest]
#[tokio::test]
async fn the_failures_that_ended_last_come_first_with_their_newest_entry(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let mut ids = Vec::new();
    for (seconds, status) in [
        (9, Status::Failed),
        (7, Status::Timeout),
        (8, Status::Completed),
        (11, Status::Cancelled),
        (8, Status::Failed),
    ] {
        let task = store.running("t", seconds).await;
        ids.push(store.end(&task.id, status, seconds, entries(1, 3, 0)).await.id);
    }
    let failures = store.storage.newest_failures(10).await.unwrap();
    let told: Vec<_> = failures.iter().map(|listed| listed.task.id.clone()).collect();
    assert_eq!(told, [ids[0].clone(), ids[4].clone(), ids[1].clone()]);
    assert_eq!(failures[0].latest, entries(3, 3, 0).pop());
    assert_eq!(store.storage.newest_failures(2).await.unwrap().len(), 2);
}

#[rstest]
#[tokio::test]
async fn workers_are_counted_that_asked_since_and_those_of_them_that_hold_a_task(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let since = async |seconds| store.storage.workers_since(at(seconds)).await.unwrap();
    assert_eq!(since(0).await, Lately::default());
    store.running("t", 0).await;
    for (name, seconds) in [("worker", 10), ("other", 20), ("late", 5)] {
        let worker_id: task_tracker::domain::WorkerId = name.parse().unwrap();
        let seen =
            Seen { worker_id: worker_id.clone(), task_types: types(&["t"]), at: at(seconds) };
        let polled = Polled { task_type: types(&["t"]).remove(0), worker_id, at: at(seconds) };
        store.storage.note_polls(vec![seen], vec![polled], at(seconds)).await.unwrap();
    }
    assert_eq!(since(10).await, Lately { seen: 2, holding: 1 });
    assert_eq!(since(11).await, Lately { seen: 1, holding: 0 });
}

#[rstest]
#[tokio::test]
async fn a_node_is_told_of_while_it_is_heard_and_forgotten_when_it_goes(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let node = |name: &str, started: i64, seen: i64| Node {
        node_id: name.to_owned(),
        version: "1.2.3".to_owned(),
        mode: "node".to_owned(),
        host: "a machine".to_owned(),
        started_at: at(started),
        seen_at: at(seen),
        open_streams: 3,
        waiting_workers: 4,
    };
    let (old, new) = (node("b", 0, 10), node("a", 5, 10));
    for node in [&new, &old] {
        store.storage.note_node(node).await.unwrap();
    }
    let told = async |since| store.storage.nodes(at(since)).await.unwrap();
    assert_eq!(told(10).await, [old.clone(), new.clone()]);
    let again = Node { open_streams: 7, waiting_workers: 0, ..node("b", 0, 20) };
    store.storage.note_node(&again).await.unwrap();
    assert_eq!(told(11).await, std::slice::from_ref(&again));
    assert_eq!(store.storage.forget_nodes(at(11)).await.unwrap(), 1);
    assert_eq!(told(0).await, std::slice::from_ref(&again));
    store.storage.forget_node("b").await.unwrap();
    assert_eq!(told(0).await, []);
}
