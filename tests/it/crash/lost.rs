//! Publications and wakes that never arrive: a broker keeps none, and a node may be looking away.

use std::time::Duration;

use serde_json::json;
use task_tracker::app::App;
use task_tracker::clock::Clock;
use task_tracker::config::{Config, Mode as ConfigMode};
use task_tracker::domain::{TaskId, TaskType};

use super::faulty::{Ends, Fault};
use super::{
    Scene, assert_whole, complete, history, progressed, registered, started, watched, worker,
};
use crate::contract::broker::{self, Broker};
use crate::harness::{Event, Ground, Mode, eventually, redis_url};

/// Does what an append does, and tells nobody.
async fn append_silently(scene: &Scene, task: &TaskId, seq_id: u64) {
    let namespace = scene.ground.namespace();
    let entry = json!({ "n": seq_id });
    let line =
        json!({ "seqId": seq_id, "timestamp": "2026-11-20T12:00:00.123Z", "progress": entry });
    let mut redis = broker::connect(&redis_url()).await.expect("the Redis of TEST_REDIS_URL");
    let mut append = redis::pipe();
    append.atomic();
    append.incr(format!("{namespace}:seq:{{{task}}}"), 1).ignore();
    append.rpush(format!("{namespace}:progress:{{{task}}}"), line.to_string()).ignore();
    append.exec_async(&mut redis).await.expect("an entry");
}

/// Breaks every connection that carries subscriptions.
async fn kill_subscriptions(broker: &Broker) {
    let mut redis = broker::connect(&broker.url()).await.expect("the broker");
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("pubsub");
    kill.exec_async(&mut redis).await.expect("killed");
}

#[tokio::test]
async fn an_entry_whose_publication_was_lost_is_found_by_the_audit() {
    let scene = Scene::new(Mode::Node).await;
    let node = scene.node().await;
    let task = started(node.tracker()).await;
    let mut reader = watched(&node, &task).await;
    progressed(node.tracker(), &task, 1).await;
    assert_eq!(reader.next().await.and_then(|event| event.seq_id()), Some(1));

    append_silently(&scene, &task, 2).await;
    assert_eq!(node.tracker().audit_streams().await.unwrap(), 1);
    assert_eq!(reader.next().await.and_then(|event| event.seq_id()), Some(2));
    assert_eq!(node.tracker().audit_streams().await.unwrap(), 0, "caught up");
    assert_eq!(progressed(node.tracker(), &task, 1).await, 3);
    assert_eq!(reader.next().await.and_then(|event| event.seq_id()), Some(3));
}

#[tokio::test]
async fn an_entry_whose_publication_was_lost_is_noticed_at_the_next_one() {
    let scene = Scene::new(Mode::Node).await;
    let node = scene.node().await;
    let task = started(node.tracker()).await;
    let mut reader = watched(&node, &task).await;
    progressed(node.tracker(), &task, 1).await;
    assert_eq!(reader.next().await.and_then(|event| event.seq_id()), Some(1));
    append_silently(&scene, &task, 2).await;
    progressed(node.tracker(), &task, 1).await;
    let events = reader.take(2).await;
    assert!(events.iter().filter_map(Event::seq_id).eq(2..=3));
    complete(node.tracker(), &task).await.unwrap();
    let end = reader.next().await.expect("an end");
    assert_eq!(end.id.as_deref(), Some("3-end"));
}

#[tokio::test]
async fn an_end_whose_publication_was_lost_is_found_by_the_audit() {
    let scene = Scene::new(Mode::Node).await;
    let fault = Fault { ends: Ends::Forgotten, ..Fault::default() };
    let (forgetful, _) = scene.faulty(fault).await;
    let node = scene.node().await;
    let task = started(node.tracker()).await;
    let mut reader = watched(&node, &task).await;
    progressed(node.tracker(), &task, 2).await;
    let mut heard = reader.take(2).await;
    complete(forgetful.tracker(), &task).await.unwrap();
    assert_eq!(history(node.tracker(), &task).await, [1, 2]);
    eventually(|| async { (node.tracker().audit_streams().await.unwrap() > 0).then_some(()) })
        .await;
    heard.extend(reader.rest().await);
    assert_whole(&heard, 2);
}

#[tokio::test]
async fn a_worker_whose_wake_was_lost_is_woken_by_the_recheck() {
    let scene = Scene::new(Mode::Node).await;
    let fault = Fault { loses_wakes: true, ..Fault::default() };
    let (forgetful, _) = scene.faulty(fault).await;
    let node = scene.node().await;
    let types: Vec<TaskType> = vec!["work".parse().unwrap()];
    let waiting = tokio::spawn({
        let tracker = node.tracker().clone();
        async move { tracker.claim(&types, &worker(), None, Duration::from_mins(1)).await }
    });
    let task = registered(forgetful.tracker(), "work").await;
    eventually(|| async {
        node.tracker().recheck_waiters().await.unwrap();
        waiting.is_finished().then_some(())
    })
    .await;
    let claimed = waiting.await.unwrap().unwrap().expect("the task");
    assert_eq!(claimed.task.id, task.id);
}

#[tokio::test]
async fn nothing_waits_nothing_is_asked() {
    let scene = Scene::new(Mode::Embedded).await;
    let node = scene.node().await;
    registered(node.tracker(), "work").await;
    assert_eq!(node.tracker().recheck_waiters().await.unwrap(), 0);
    assert_eq!(node.tracker().audit_streams().await.unwrap(), 0);
}

/// A node whose broker is the test's own.
async fn node_on(broker: &Broker, ground: &Ground) -> App {
    let ConfigMode::Node { database_url, database_connections, .. } = ground.config().mode else {
        panic!("a node's ground");
    };
    let redis_url = broker.url();
    let mode = ConfigMode::Node { database_url, redis_url, database_connections };
    App::start(Config { mode, ..ground.config() }, Clock::system()).await.expect("a node")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_whole_although_the_subscriptions_are_lost_again_and_again() {
    let (broker, ground) = (Broker::start().await, Ground::new(Mode::Node).await);
    let (writer, reader) = (node_on(&broker, &ground).await, node_on(&broker, &ground).await);
    let mut streams = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let task = started(writer.tracker()).await;
        let events = watched(&reader, &task).await;
        streams.push(tokio::spawn(events.rest()));
        tasks.push(task);
    }
    for _ in 0..10 {
        kill_subscriptions(&broker).await;
        for task in &tasks {
            progressed(writer.tracker(), task, 10).await;
        }
    }
    kill_subscriptions(&broker).await;
    for task in &tasks {
        complete(writer.tracker(), task).await.expect("an end");
    }
    for stream in streams {
        assert_whole(&stream.await.unwrap(), 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_settled_once_the_broker_is_back() {
    let (mut broker, ground) = (Broker::start().await, Ground::new(Mode::Node).await);
    let node = node_on(&broker, &ground).await;
    let task = started(node.tracker()).await;
    let reader = watched(&node, &task).await;
    broker.stop();
    let refused = complete(node.tracker(), &task).await;
    assert!(matches!(refused, Err(task_tracker::service::Error::Unavailable(_))), "{refused:?}");
    broker.start_again().await;
    eventually(|| async { complete(node.tracker(), &task).await.ok() }).await;
    assert_whole(&reader.rest().await, 0);
}
