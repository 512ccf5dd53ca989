//! What readers and waiting workers hear after the broker was away. Each test breaks a broker of its own.

use task_tracker::clock::Clock;
use task_tracker::domain::{Caller, Event, TaskId, TaskType};
use task_tracker::live::{Append, Appended, Error, Hub, Live, Signal, Subscription};

use super::{LIMITS, ROOM, broker, hear, kept, object, redis_log, refused, verified};
use crate::contract::broker::Broker;
use crate::harness::{PATIENCE, eventually};

/// Appends one entry, opening the log if it must.
pub(super) async fn append(live: &impl Live, task: &TaskId) -> u64 {
    let (entries, now) = ([object("one")], Clock::system().now());
    let append = Append {
        entries: &entries,
        caller: &Caller::default(),
        now,
        verified: None,
        key: None,
        limits: LIMITS,
    };
    match live.append(task, append).await.expect("an answer") {
        appended @ Appended::Unverified { .. } => {
            let found = verified(live, task, refused(appended), 1, None, now).await;
            let append = Append { verified: Some(&found), ..append };
            kept(live.append(task, append).await.expect("an answer"))
        }
        appended => kept(appended),
    }
}

/// The number of the entry that is heard next; 0 where it is none.
pub(super) async fn newest_heard(subscription: &mut Subscription) -> u64 {
    match hear(subscription).await {
        Signal::Event(delivery) => match &delivery.event {
            Event::Progress(entry) => entry.seq_id,
            Event::Status(_) | Event::Notice(_) | Event::Gap(_) => 0,
        },
        Signal::Moves(_) | Signal::Resync => 0,
    }
}

/// Whether the hub has its connection: only then a subscription is confirmed.
pub(super) async fn connected(hub: &std::sync::Arc<Hub>) {
    eventually(|| async { hub.subscribe(&TaskId::new()).await.ok() }).await;
}

#[tokio::test]
async fn readers_are_told_to_catch_up_when_the_subscriptions_were_lost() {
    let broker = Broker::start().await;
    let (live, hub) = redis_log(&broker.url(), "tracker");
    connected(&hub).await;
    let tasks: Vec<TaskId> = (0..3).map(|_| TaskId::new()).collect();
    let mut subscriptions = Vec::new();
    for task in &tasks {
        subscriptions.push(hub.subscribe(task).await.expect("a subscription"));
    }
    let mut redis = broker::connect(&broker.url()).await.unwrap();
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("pubsub");
    let killed: u64 = kill.query_async(&mut redis).await.unwrap();
    assert_eq!(killed, 1, "one connection for all subscriptions of a node");
    for (task, subscription) in tasks.iter().zip(&mut subscriptions) {
        // Published while nobody listens, or after: either way the reader comes to know.
        append(&live, task).await;
        while !matches!(hear(subscription).await, Signal::Resync) {}
        assert_eq!(live.read(task, 0, 10).await.unwrap().entries.len(), 1);
        append(&live, task).await;
        // The first may come beside the word to catch up; what comes after that word is heard.
        while newest_heard(subscription).await < 2 {}
    }
}

#[tokio::test]
async fn waiting_workers_look_again_when_the_subscriptions_were_lost() {
    let broker = Broker::start().await;
    let (_live, hub) = redis_log(&broker.url(), "tracker");
    connected(&hub).await;
    let types: Vec<TaskType> = vec!["a".parse().unwrap()];
    let mut waiter = hub.waiters().join(&types, ROOM).expect("room");
    let mut redis = broker::connect(&broker.url()).await.unwrap();
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("pubsub").exec_async(&mut redis).await.unwrap();
    tokio::time::timeout(PATIENCE, waiter.woken()).await.expect("a wake might have been lost");
}

#[tokio::test]
async fn no_subscription_is_confirmed_while_the_broker_is_away() {
    let mut broker = Broker::start().await;
    let (live, hub) = redis_log(&broker.url(), "tracker");
    connected(&hub).await;
    let task = TaskId::new();
    let mut early = hub.subscribe(&task).await.expect("a subscription");
    broker.stop();
    // A new reader must not be told that it will hear everything; the old one waits.
    eventually(|| async { hub.subscribe(&task).await.is_err().then_some(()) }).await;
    assert!(hub.subscribe(&TaskId::new()).await.is_err());
    assert_eq!(hub.topics().len(), 1, "who was refused leaves nothing behind");
    assert!(matches!(live.ping().await, Err(Error::Unavailable(_))));
    assert!(matches!(live.read(&task, 0, 1).await, Err(Error::Unavailable(_))));
    assert!(matches!(
        live.close(&task, 1, Clock::system().now()).await,
        Err(Error::Unavailable(_))
    ));

    broker.start_again().await;
    connected(&hub).await;
    while !matches!(hear(&mut early).await, Signal::Resync) {}
    eventually(|| async { live.ping().await.ok() }).await;
    assert_eq!(append(&live, &task).await, 1, "a broker that lost its memory counts anew");
    while newest_heard(&mut early).await < 1 {}
}
