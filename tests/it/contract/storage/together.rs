//! What many callers do at once, by one statement or one commit: as if each had come alone.

use std::collections::BTreeSet;

use futures::future::join_all;
use rstest::rstest;
use task_tracker::database::{Kind, Statement};
use task_tracker::domain::{Status, Task, TaskId};
use task_tracker::storage::{Claim, Error, Selection, Storage};

use super::{Store, at, ending, ids, lease, new_task, of_changed, types};

fn claim(names: &[&str], worker: &str) -> Claim {
    let worker = worker.parse().expect("a name");
    Claim { types: types(names), worker, lease: lease(50), at: at(50) }
}

fn taken(claimed: &[Option<Task>]) -> Vec<Option<&TaskId>> {
    claimed.iter().map(|task| task.as_ref().map(|task| &task.id)).collect()
}

#[rstest]
#[tokio::test]
async fn claims_get_the_oldest_of_their_types_in_their_order(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let mut tasks = Vec::new();
    for (seconds, name) in (0..).zip(["a", "b", "a", "c", "b", "a"]) {
        tasks.push(store.pending(name, seconds).await.id);
    }
    let claims = [
        claim(&["b", "c"], "one"),
        claim(&["a", "b"], "two"),
        claim(&["nothing"], "three"),
        claim(&["b", "a", "c", "a"], "four"),
        claim(&["b"], "five"),
        claim(&["b"], "six"),
    ];
    let claimed = store.storage.claim_each(&claims).await.unwrap();
    let expected = [Some(1), Some(0), None, Some(2), Some(4), None];
    assert_eq!(taken(&claimed), expected.map(|at: Option<usize>| at.map(|at| &tasks[at])));
    for (claim, task) in claims.iter().zip(&claimed) {
        let Some(task) = task else { continue };
        assert_eq!((task.status, task.attempt), (Status::InProgress, 1));
        assert_eq!(task.worker_id.as_ref(), Some(&claim.worker));
        assert_eq!(task.lease.as_ref(), Some(&claim.lease));
        assert_eq!(store.get(&task.id).await.worker_id, task.worker_id);
    }
    let rest =
        [claim(&["a", "b", "c"], "seven"), claim(&["a", "c"], "eight"), claim(&["a"], "nine")];
    let claimed = store.storage.claim_each(&rest).await.unwrap();
    assert_eq!(taken(&claimed), [Some(&tasks[3]), Some(&tasks[5]), None]);
    assert!(store.storage.claim_each(&[]).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_claim_for_many_at_once_leave_nothing_and_take_nothing_twice(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    const TASKS: usize = 240;
    let store = Store::open(kind).await;
    let names = ["a", "b", "c"];
    for i in 0..TASKS {
        store.pending(names[i % 3], i64::try_from(i).unwrap()).await;
    }
    // Each node asks for more than its share: what one took the other must not miss.
    let nodes = (0..4).map(|node| {
        let storage: Storage = store.storage.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for round in 0..3 {
                let wanted =
                    (0..30).map(|worker| claim(&names, &format!("{node}-{round}-{worker}")));
                let claimed = storage.claim_each(&wanted.collect::<Vec<_>>()).await.unwrap();
                mine.extend(claimed.into_iter().flatten().map(|task| task.id));
            }
            mine
        })
    });
    let claimed: Vec<TaskId> =
        join_all(nodes).await.into_iter().flat_map(|mine| mine.unwrap()).collect();
    let distinct: BTreeSet<_> = claimed.iter().collect();
    assert_eq!((claimed.len(), distinct.len()), (TASKS, TASKS));
}

/// SQLite has one writer: nobody holds a task while another looks.
#[tokio::test]
async fn a_claim_gets_what_is_free_however_many_older_ones_another_node_is_just_taking() {
    let store = Store::open(Kind::Postgres).await;
    for seconds in 0..60 {
        store.pending(["a", "b"][usize::from(seconds >= 50)], seconds).await;
    }
    let mut other = store.database.begin().await.unwrap();
    Statement::new("SELECT 1 FROM tracker_tasks FOR UPDATE")
        .execute(other.executor())
        .await
        .unwrap();
    let mut free = Vec::new();
    for (seconds, name) in [(60, "a"), (61, "c"), (62, "c")] {
        free.push(store.pending(name, seconds).await.id);
    }
    let claims = [
        claim(&["b", "a"], "one"),
        claim(&["a"], "two"),
        claim(&["b", "c"], "three"),
        claim(&["a", "b", "c"], "four"),
    ];
    let claimed = store.storage.claim_each(&claims).await.unwrap();
    let by_age: BTreeSet<&TaskId> = taken(&claimed).into_iter().flatten().collect();
    assert_eq!(by_age, free.iter().collect(), "{claimed:?}");
    let one = store.storage.claim_each(&[claim(&["a", "b"], "five")]).await.unwrap();
    assert_eq!(taken(&one), [None], "what is being taken is given to nobody");
    other.roll_back().await.unwrap();
    let one = store.storage.claim_each(&[claim(&["b", "a"], "six")]).await.unwrap();
    assert!(one[0].is_some(), "what was not taken after all is");
}

#[rstest]
#[tokio::test]
async fn of_tasks_registered_together_each_has_an_outcome_of_its_own(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let there = store.pending("a", 0).await;
    let one = new_task("b").registered(at(3));
    let other = new_task("c").registered(at(1));
    let again = Task { task_type: "d".parse().unwrap(), ..one.clone() };
    let batch = [one.clone(), there.clone(), again, other.clone()];
    assert_eq!(store.storage.insert_each(&batch).await.unwrap(), [true, false, false, true]);
    for task in [&one, &other, &there] {
        let stored = store.get(&task.id).await;
        assert_eq!(
            format!("{stored:?}"),
            format!("{task:?}"),
            "what was answered is what is there"
        );
    }
    let read = store.storage.get_each(&[other.id.clone(), TaskId::new(), one.id.clone()]).await;
    let found: BTreeSet<TaskId> = ids(&read.unwrap()).into_iter().collect();
    assert_eq!(found, BTreeSet::from([one.id, other.id]));
}

#[rstest]
#[tokio::test]
async fn ends_are_committed_together_but_for_those_that_are_held_or_refused(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let mut tasks = Vec::new();
    for seconds in 0..4 {
        tasks.push(store.running("a", seconds).await.id);
    }
    let mut holder = None;
    if kind == Kind::Postgres {
        let mut transaction = store.database.begin().await.unwrap();
        let lock = "SELECT 1 FROM tracker_tasks WHERE id = $1 FOR UPDATE";
        let lock = Statement::new(lock).bind(&tasks[1]);
        lock.execute(transaction.executor()).await.unwrap();
        holder = Some(transaction);
    }
    let asked = [tasks.clone(), vec![TaskId::new()]].concat();
    let mut seen = BTreeSet::new();
    let changed = store
        .storage
        .change(Selection::Free(&asked), async |tasks_free: Vec<Task>| {
            seen.extend(ids(&tasks_free));
            let kept = tasks_free.into_iter().filter(|task| task.id != tasks[2]);
            let ends =
                kept.map(|task| ending(task, Status::Completed, 60, super::entries(1, 2, 5)));
            Ok::<_, Error>(ends.collect())
        })
        .await
        .unwrap();
    let free: BTreeSet<TaskId> =
        tasks.iter().filter(|id| kind == Kind::Sqlite || **id != tasks[1]).cloned().collect();
    assert_eq!(seen, free);
    let ended: BTreeSet<TaskId> = of_changed(&changed).into_iter().collect();
    assert_eq!(ended, free.iter().filter(|id| **id != tasks[2]).cloned().collect());
    drop(holder);
    for id in &tasks {
        let has_ended = ended.contains(id);
        assert_eq!(store.get(id).await.status.is_terminal(), has_ended);
        assert_eq!(store.storage.is_unsettled(id).await.unwrap(), has_ended);
        assert_eq!(store.storage.last_sealed(id).await.unwrap(), if has_ended { 2 } else { 0 });
    }
    let ended: Vec<TaskId> = ended.into_iter().collect();
    store.storage.settled(&ended).await.unwrap();
    for id in &ended {
        assert!(!store.storage.is_unsettled(id).await.unwrap());
    }
}
