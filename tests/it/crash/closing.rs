//! A node that is told to stop while it has work in flight.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use task_tracker::database::Statement;
use task_tracker::domain::{Status, TaskType};
use tokio::net::TcpStream;

use super::{Scene, counted, registered, worker};
use crate::harness::{Mode, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_in_flight_gives_its_task_to_the_worker_or_leaves_it_to_others() {
    let scene = Scene::new(Mode::Node).await;
    let node = scene.node().await;
    let task = registered(node.tracker(), "work").await;
    let address = node.address();
    // Every connection knows the statement: so it is the statement that waits, not its preparation.
    let nobody = worker();
    let other: Vec<TaskType> = vec!["other".parse().unwrap()];
    let claims = (0..24).map(|_| node.tracker().claim(&other, &nobody, None, Duration::ZERO));
    for claimed in join_all(claims).await {
        assert!(claimed.expect("an answer").is_none());
    }

    // The claim's statement waits for this lock.
    let database = scene.database("").await;
    let observer = scene.database("").await;
    let mut lock = database.begin().await.expect("a transaction");
    let share = Statement::new("LOCK TABLE tracker_tasks IN SHARE MODE");
    share.execute(lock.executor()).await.expect("a lock");
    let claim = json!({ "taskTypes": ["work"], "workerId": "w", "waitSeconds": 30 });
    let url = format!("http://{address}/api/v1/tasks/claim");
    let claiming = tokio::spawn(reqwest::Client::new().post(url).json(&claim).send());
    let writers = "SELECT count(*) FROM pg_locks
                   WHERE relation = 'tracker_tasks'::regclass AND mode = 'RowExclusiveLock'";
    eventually(|| async { (counted(&observer, writers).await == 1).then_some(()) }).await;

    let closing = tokio::spawn(node.shut_down());
    eventually(|| async { TcpStream::connect(address).await.is_err().then_some(()) }).await;
    drop(lock);
    let answer = claiming.await.unwrap().expect("an answer");
    let claimed: Value = answer.json().await.expect("JSON");
    closing.await.expect("a closed node");
    eventually(|| async { (counted(&observer, writers).await == 0).then_some(()) }).await;

    let other = scene.node().await;
    let status = other.tracker().get(&task.id).await.unwrap().task.status;
    if claimed.is_null() {
        assert_eq!(status, Status::Pending, "the worker was told that there is no task");
    } else {
        assert_eq!((claimed["id"].as_str(), status), (Some(task.id.as_str()), Status::InProgress));
    }
}
