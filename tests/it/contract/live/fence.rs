//! Who may append, and when not.

use rstest::rstest;
use task_tracker::live::{Appended, Fence};

use super::{Backend, Log, grant, kept, object, refused, verified, worker};
use task_tracker::domain::TaskId;

#[rstest]
#[tokio::test]
async fn a_log_opens_at_its_first_verified_append(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let (log, task) = (Log::open(backend).await, TaskId::new());
    let seen = log.seen(&task).await;
    assert!(matches!(seen, Fence::Opening { .. }), "{seen}");
    assert_eq!(log.seen(&task).await, seen, "one ticket for all who come before it is opened");
    assert!(log.entries(&task).await.is_empty(), "what is refused is not kept");

    let found = verified(&*log.live, &task, seen, 1, None, log.clock.now()).await;
    let appended = log.try_append_as(&task, &[object("first")], None, Some(&found)).await;
    assert_eq!(appended, Appended::Kept { last_seq_id: 1, grant: grant(1, None) });
    assert_eq!(log.append(&task, 1).await, 2, "from now on nothing is looked up");
}

#[rstest]
#[tokio::test]
async fn two_first_appends_of_one_attempt_both_get_in(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let (log, task) = (Log::open(backend).await, TaskId::new());
    let found = log.verified(&task, 1, None).await;
    for expected in [1, 2] {
        let appended = log.try_append_as(&task, &[object("first")], None, Some(&found)).await;
        assert_eq!(kept(appended), expected);
    }
}

#[rstest]
#[tokio::test]
async fn a_ticket_is_stale_once_the_fence_was_closed(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let (log, task) = (Log::open(backend).await, TaskId::new());
    let stale = log.verified(&task, 1, None).await;
    log.close(&task, 1).await.expect("a closed log");
    let appended = log.try_append_as(&task, &[object("late")], None, Some(&stale)).await;
    assert_eq!(refused(appended), Fence::Closed { attempt: 1 });
    assert!(log.entries(&task).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_ticket_is_stale_once_the_log_is_gone(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let (log, task) = (Log::open(backend).await, TaskId::new());
    let stale = log.verified(&task, 1, None).await;
    log.close(&task, 1).await.expect("a closed log");
    log.end(&task, 0).await;
    let appended = log.try_append_as(&task, &[object("late")], None, Some(&stale)).await;
    let fence = refused(appended);
    assert!(matches!(fence, Fence::Opening { .. }) && fence != stale.fence, "{fence}");
    assert!(log.entries(&task).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_ticket_of_an_earlier_attempt_does_not_replace_the_present_one(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let (log, task) = (Log::open(backend).await, TaskId::new());
    let (first, second) = (worker("first"), worker("second"));
    let stale = log.verified(&task, 1, Some(&first)).await;
    log.close(&task, 1).await.expect("a closed log");
    log.open_for(&task, 2, Some(&second)).await;
    let late = log.try_append_as(&task, &[object("late")], Some(&first), Some(&stale)).await;
    assert_eq!(refused(late), Fence::Open(grant(2, Some(&second))));
    let appended = log.try_append_as(&task, &[object("next")], Some(&second), None).await;
    assert_eq!(kept(appended), 2);
}

#[rstest]
#[tokio::test]
async fn only_the_worker_that_holds_the_task_is_admitted_by_name(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let (log, task) = (Log::open(backend).await, TaskId::new());
    // Names are any text: what the fence's own text is made of must not confuse it.
    let (ours, other) = (worker("open 7 {ü} %d"), worker("other"));
    log.open_for(&task, 1, Some(&ours)).await;
    let wrong = log.try_append_as(&task, &[object("wrong")], Some(&other), None).await;
    assert_eq!(refused(wrong), Fence::Open(grant(1, Some(&ours))));
    let right = log.try_append_as(&task, &[object("right")], Some(&ours), None).await;
    assert_eq!(kept(right), 2);
    assert_eq!(log.append(&task, 1).await, 3, "who names nobody is not asked who he is");
}

#[rstest]
#[tokio::test]
async fn a_task_without_a_worker_admits_any_name(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    let appended = log.try_append_as(&task, &[object("any")], Some(&worker("any")), None).await;
    assert_eq!(kept(appended), 2);
}

#[rstest]
#[tokio::test]
async fn a_closed_log_takes_nothing_and_says_its_newest_number(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.append(&task, 4).await;
    assert_eq!(log.close(&task, 1).await.expect("a closed log"), 5);
    assert_eq!(log.close(&task, 1).await.expect("closed twice"), 5);
    assert_eq!(log.seen(&task).await, Fence::Closed { attempt: 1 });
    assert_eq!(log.entries(&task).await.len(), 5, "what was acknowledged is there to be sealed");
    let unknown = TaskId::new();
    assert_eq!(log.close(&unknown, 1).await.expect("nothing was appended"), 0);
}

#[rstest]
#[tokio::test]
async fn a_closed_log_opens_for_a_later_attempt_and_counts_on(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.append(&task, 2).await;
    log.close(&task, 1).await.expect("a closed log");
    assert_eq!(log.open_for(&task, 2, Some(&worker("second"))).await, 4);
    assert_eq!(log.append(&task, 1).await, 5);
    assert_eq!(log.entries(&task).await.len(), 5);
}

#[rstest]
#[tokio::test]
async fn a_closed_fence_falls_when_nobody_finishes(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.close(&task, 1).await.expect("a closed log");
    log.let_the_closed_fence_fall(&task).await;
    let seen = log.seen(&task).await;
    assert!(matches!(seen, Fence::Opening { .. }), "the durable truth is asked anew: {seen}");
    assert_eq!(log.open_for(&task, 1, None).await, 2, "the same attempt goes on counting");
}

#[rstest]
#[tokio::test]
async fn a_late_close_of_an_earlier_attempt_is_refused_and_changes_nothing(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let task = log.opened().await;
    log.close(&task, 1).await.expect("a closed log");
    log.open_for(&task, 2, None).await;
    log.close(&task, 1).await.expect_err("the log belongs to attempt 2");
    assert_eq!(log.append(&task, 1).await, 3, "attempt 2 goes on");
    log.close(&task, 2).await.expect("its own close");
    log.close(&task, 1).await.expect_err("closed for attempt 2 already");
    assert_eq!(log.seen(&task).await, Fence::Closed { attempt: 2 });
}

#[rstest]
#[tokio::test]
async fn fences_of_two_tasks_are_two(
    #[values(Backend::Redis, Backend::Cluster, Backend::Embedded)] backend: Backend,
) {
    let log = Log::open(backend).await;
    let (one, other) = (log.opened().await, log.opened().await);
    log.close(&one, 1).await.expect("a closed log");
    assert_eq!(log.append(&other, 1).await, 2);
}
