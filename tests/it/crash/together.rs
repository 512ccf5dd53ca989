//! What is done together although each asked for itself: nobody pays for another.

use futures::future::join_all;
use task_tracker::database::Statement;
use task_tracker::domain::{JsonObject, Status, TaskId, Terms};
use task_tracker::service::{Error, Registration};

use super::{Scene, complete, counted, started, worker};
use crate::harness::{Mode, eventually};

/// No client can send it, and no Postgres takes it.
fn poison() -> JsonObject {
    JsonObject::from_stored("{\"a\":\"\0\"}")
}

#[tokio::test]
async fn what_one_of_many_says_harms_no_other() {
    const MANY: usize = 60;
    let scene = Scene::new(Mode::Node).await;
    let node = scene.node().await;
    let tracker = node.tracker();
    let is_poisoned = |n: &usize| n.is_multiple_of(20);
    let registered = join_all((0..MANY).map(async |n| {
        let registration = Registration {
            id: None,
            task_type: "work".parse().unwrap(),
            metadata: is_poisoned(&n).then(poison),
            params: None,
            terms: Terms::DEFAULT,
        };
        (n, tracker.register(registration, None).await)
    }));
    let mut ids: Vec<TaskId> = Vec::new();
    for (n, said) in registered.await {
        match said {
            Err(Error::Internal(_)) => assert!(is_poisoned(&n), "{n}"),
            said => ids.push(said.expect("a registration").now().expect("a task").id),
        }
    }
    assert_eq!(ids.len(), MANY - 3);
    for id in &ids {
        tracker.start(id.clone(), Some(worker()), None, None).await.expect("a start");
    }
    let ended = join_all(ids.iter().enumerate().map(async |(n, id)| {
        let result = is_poisoned(&n).then(poison);
        (n, tracker.complete(id.clone(), worker().into(), result, None).await)
    }));
    for (n, said) in ended.await {
        assert_eq!(said.is_err(), is_poisoned(&n), "{n}: {said:?}");
        let status = tracker.get(&ids[n]).await.unwrap().task.status;
        let expected = if is_poisoned(&n) { Status::InProgress } else { Status::Completed };
        assert_eq!(status, expected, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_has_to_wait_keeps_no_other_waiting() {
    let scene = Scene::new(Mode::Node).await;
    let node = scene.node().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(started(node.tracker()).await);
    }
    let (database, observer) = (scene.database("").await, scene.database("").await);
    let mut lock = database.begin().await.expect("a transaction");
    let held = Statement::new("SELECT 1 FROM tracker_tasks WHERE id = $1 FOR UPDATE").bind(&ids[7]);
    held.execute(lock.executor()).await.expect("a lock");
    let ends: Vec<_> = ids
        .iter()
        .map(|id| {
            let (tracker, id) = (node.tracker().clone(), id.clone());
            tokio::spawn(async move { complete(&tracker, &id).await.map(drop) })
        })
        .collect();
    let completed = "SELECT count(*) FROM tracker_tasks WHERE status = 'completed'";
    eventually(|| async { (counted(&observer, completed).await == 19).then_some(()) }).await;
    assert!(!ends[7].is_finished(), "it waits for whoever holds its task");
    lock.commit().await.expect("a commit");
    for end in ends {
        end.await.unwrap().expect("an end");
    }
    assert_eq!(counted(&observer, completed).await, 20);
}
