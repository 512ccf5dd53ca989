//! What leaves a log when it is sealed, how full it may become, and what it remembers.

use rstest::rstest;
use task_tracker::domain::{Caller, TaskId};
use task_tracker::live::{Append, Appended, Haste, Limits, WINDOW, WINDOW_BYTES};

use super::{Backend, LIMITS, Log, kept, object, refused};
use crate::contract::broker::{self, Broker, Keeps};
use crate::harness::eventually;

impl Log {
    async fn append_within(&self, task: &TaskId, count: usize, limits: Limits) -> Appended {
        let entries = vec![object("x"); count];
        let append = Append {
            entries: &entries,
            caller: &Caller::default(),
            now: self.clock.now(),
            verified: None,
            key: None,
            limits,
        };
        self.live.append(task, append).await.expect("an answer")
    }

    async fn trim(&self, task: &TaskId, last_sealed: u64) {
        self.live.trim(&[(task.clone(), last_sealed)], Haste::Aside).await.expect("a trimmed log");
    }
}

#[rstest]
#[tokio::test]
async fn what_is_sealed_leaves_a_log_but_for_its_newest(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.append(&task, 9).await;
    // Whoever trims late, or again, does no harm.
    for (sealed, behind) in [(7, 7), (3, 7), (7, 7), (10, 9), (10, 9)] {
        log.trim(&task, sealed).await;
        let page = log.live.read(&task, 0, 100).await.unwrap();
        assert_eq!((page.entries.len(), page.behind, page.last_seq_id), (0, behind, 10));
        let page = log.live.read(&task, behind, 100).await.unwrap();
        assert!(page.entries.iter().map(|entry| entry.seq_id).eq(behind + 1..=10));
        let latest = log.live.latest(std::slice::from_ref(&task)).await.unwrap();
        assert_eq!(latest[0].as_ref().map(|entry| entry.seq_id), Some(10));
    }
    assert_eq!(log.append(&task, 1).await, 11);
    log.close(&task, 1).await.unwrap();
    assert_eq!(log.end(&task, 11).await, task_tracker::live::Ended::Gone);
}

#[rstest]
#[tokio::test]
async fn a_trim_after_the_end_brings_nothing_back(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.end(&task, 1).await;
    log.trim(&task, 1).await;
    log.trim(&TaskId::new(), 5).await;
    assert_eq!(log.live.last_seq_ids(std::slice::from_ref(&task)).await.unwrap(), [0]);
    assert_eq!(log.live.memory(&task).await.unwrap().log, None);
    if backend == Backend::Redis {
        let url = log.ground.redis_url().expect("a log in Redis");
        let mut keys = broker::keys(url, log.ground.namespace()).await;
        keys.retain(|key| key.contains('{'));
        assert!(keys.is_empty(), "{keys:?}");
    }
}

#[rstest]
#[tokio::test]
async fn a_log_takes_no_more_than_a_window_of_entries_unsealed(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let most = usize::try_from(WINDOW).unwrap();
    assert_eq!(log.append_within(&task, most, LIMITS).await, Appended::Full);
    assert_eq!(kept(log.append_within(&task, most - 1, LIMITS).await), WINDOW);
    assert_eq!(log.append_within(&task, 1, LIMITS).await, Appended::Full);
    assert_eq!(
        log.live.last_seq_ids(std::slice::from_ref(&task)).await.unwrap(),
        [WINDOW],
        "all or nothing"
    );
    log.trim(&task, 5).await;
    assert_eq!(log.append_within(&task, 6, LIMITS).await, Appended::Full);
    assert_eq!(kept(log.append_within(&task, 5, LIMITS).await), WINDOW + 5);
    log.trim(&task, WINDOW + 5).await;
    // As many as one request may hold, although the newest stayed.
    assert_eq!(kept(log.append_within(&task, most, LIMITS).await), 2 * WINDOW + 5);
}

#[rstest]
#[tokio::test]
async fn a_log_takes_no_more_than_a_window_of_bytes_while_any_are_unsealed(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let quarter = object(&"x".repeat(usize::try_from(WINDOW_BYTES / 4).unwrap()));
    let append = async |count: usize| log.try_append(&task, &vec![quarter.clone(); count]).await;
    assert_eq!(kept(append(3).await), 4);
    assert_eq!(append(1).await, Appended::Full);
    log.trim(&task, 3).await;
    assert_eq!(kept(append(2).await), 6);
    assert_eq!(append(1).await, Appended::Full);
    log.trim(&task, 6).await;
    // A request that is larger than the window is taken where nothing waits.
    assert_eq!(kept(append(5).await), 11);
}

#[rstest]
#[tokio::test]
async fn a_log_may_not_become_longer_than_its_limits(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let few = Limits { entries: 5, ..LIMITS };
    assert_eq!(log.append_within(&task, 5, few).await, Appended::TooLong);
    assert_eq!(kept(log.append_within(&task, 4, few).await), 5);
    log.trim(&task, 5).await;
    assert_eq!(log.append_within(&task, 1, few).await, Appended::TooLong, "sealed ones count");

    let task = log.opened().await;
    let small = Limits { bytes: 5000, ..LIMITS };
    let mut last = 1;
    while let Appended::Kept { last_seq_id, .. } = log.append_within(&task, 1, small).await {
        last = last_seq_id;
        log.trim(&task, last).await;
    }
    assert!((50..=80).contains(&last), "{last} entries of about 75 bytes");
    assert_eq!(log.append_within(&task, 1, small).await, Appended::TooLong);
    assert_eq!(log.live.last_seq_ids(std::slice::from_ref(&task)).await.unwrap(), [last]);

    // Another process, or another attempt, counts on.
    let again = log.again().await;
    let mut found = log.verified_again(&again, &task).await;
    (found.last_sealed, found.sealed_bytes) = (last, 5000);
    let entries = [object("x")];
    let now = again.clock.now();
    let append = Append {
        entries: &entries,
        caller: &Caller::default(),
        now,
        verified: Some(&found),
        key: None,
        limits: small,
    };
    assert_eq!(again.live.append(&task, append).await.unwrap(), Appended::TooLong);
}

impl Log {
    /// The generation of the only memory.
    async fn generation(&self) -> String {
        let mut generations = self.live.generations().await.expect("an answer");
        assert_eq!(generations.len(), 1);
        generations.remove(0).name
    }

    /// Closes the log and looks up what a second attempt needs, in another process.
    async fn verified_again(&self, again: &Self, task: &TaskId) -> task_tracker::live::Verified {
        self.close(task, 1).await.expect("a closed log");
        again.close(task, 1).await.expect("a closed log");
        again.verified(task, 2, None).await
    }
}

#[rstest]
#[tokio::test]
async fn a_log_remembers_in_which_memory_it_was_begun(
    #[values(Backend::Redis, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = TaskId::new();
    let before = log.live.memory(&task).await.unwrap();
    assert_eq!((&before.log, before.last_seq_id), (&None, 0));
    log.open_for(&task, 1, None).await;
    let after = log.live.memory(&task).await.unwrap();
    assert_eq!((after.log.as_ref(), after.last_seq_id), (Some(&before.present), 1));
    assert_eq!(log.generation().await, before.present);
    let again = log.again().await;
    assert_eq!(again.generation().await, before.present, "shared by all processes");
    assert_eq!(again.live.memory(&task).await.unwrap(), after);
}

/// A log on a broker of its own, and a task that has an entry.
async fn on(keeps: Keeps) -> (Broker, Log, TaskId) {
    let broker = Broker::start_that(keeps).await;
    let log = Log::on_broker(&broker).await;
    let task = log.opened().await;
    (broker, log, task)
}

#[tokio::test]
async fn a_server_whose_memory_was_flushed_is_of_another_generation() {
    let (broker, log, task) = on(Keeps::Nothing).await;
    let before = log.generation().await;
    broker.flush().await;
    let memory = log.live.memory(&task).await.unwrap();
    assert_ne!(memory.present, before);
    assert_eq!((memory.log, memory.last_seq_id), (None, 0));
    assert_eq!(log.generation().await, memory.present, "named once");
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_of_another_generation() {
    let (mut broker, log, task) = on(Keeps::Nothing).await;
    let before = log.generation().await;
    broker.stop();
    broker.start_again().await;
    let memory = eventually(|| async { log.live.memory(&task).await.ok() }).await;
    assert_ne!(memory.present, before);
    assert_eq!(memory.log, None);
}

#[tokio::test]
async fn a_server_that_kept_everything_is_of_the_same_generation() {
    let (mut broker, log, task) = on(Keeps::Everything).await;
    let before = log.live.memory(&task).await.unwrap();
    broker.stop();
    broker.start_again().await;
    let after = eventually(|| async { log.live.memory(&task).await.ok() }).await;
    assert_eq!(after, before);
    // The connection that was cut costs one refusal.
    eventually(|| async { log.live.ping().await.ok() }).await;
    assert_eq!(log.append(&task, 1).await, 2, "nothing has to be looked up");
    assert_eq!(log.generation().await, before.present);
}

#[tokio::test]
async fn an_open_fence_of_an_older_memory_lets_nobody_in() {
    let (mut broker, log, task) = on(Keeps::Snapshots).await;
    let other = Log::on_broker(&broker).await;
    broker.save().await;
    assert_eq!(log.append(&task, 4).await, 5);
    assert_eq!(other.append(&task, 1).await, 6);
    broker.stop();
    broker.start_again().await;
    // The server has entry 1 and an open fence; both nodes were told of entries up to 6. The very first
    // append of each is refused, whatever it is.
    for log in [&log, &other] {
        let appended = eventually(|| async {
            let entries = [object("after")];
            let now = log.clock.now();
            let append = Append {
                entries: &entries,
                caller: &Caller::default(),
                now,
                verified: None,
                key: None,
                limits: LIMITS,
            };
            log.live.append(&task, append).await.ok()
        });
        let fence = refused(appended.await);
        assert_eq!(fence.to_string().split(' ').next(), Some("open"));
    }
    let memory = log.live.memory(&task).await.unwrap();
    assert_ne!(memory.log.as_ref(), Some(&memory.present));
    assert_eq!(memory.last_seq_id, 1, "older than what was acknowledged");
    // Verified, it begins anew behind what is sealed.
    let mut found = log.verified(&task, 1, None).await;
    found.last_sealed = 10_001;
    assert_eq!(kept(log.try_append_as(&task, &[object("a")], None, Some(&found)).await), 10_002);
    assert_eq!(log.append(&task, 1).await, 10_003);
    assert_eq!(other.append(&task, 1).await, 10_004, "the other node is in the new memory too");
    let page = log.live.read(&task, 1, 10).await.unwrap();
    assert_eq!(
        (page.entries.len(), page.behind),
        (0, 10_001),
        "what it held before is not mixed in"
    );
}

#[tokio::test]
async fn what_was_verified_of_an_earlier_memory_lets_nobody_in() {
    let (broker, log, _) = on(Keeps::Nothing).await;
    let task = TaskId::new();
    let stale = log.verified(&task, 1, None).await;
    broker.flush().await;
    refused(log.try_append_as(&task, &[object("stale")], None, Some(&stale)).await);
    assert!(log.entries(&task).await.is_empty());
    // Nor what was verified before somebody else began the log.
    let stale = log.verified(&task, 1, None).await;
    assert_eq!(log.open_for(&task, 1, None).await, 1);
    let mut redis = crate::contract::broker::connect(&broker.url()).await.unwrap();
    let key = log.key("log", &task);
    redis::cmd("HSET").arg(key).arg("generation").arg("b").exec_async(&mut redis).await.unwrap();
    refused(log.try_append_as(&task, &[object("stale")], None, Some(&stale)).await);
    assert_eq!(log.live.last_seq_ids(&[task]).await.unwrap(), [1]);
}
