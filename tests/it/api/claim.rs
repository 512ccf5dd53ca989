//! Claiming: exactly one task, the oldest, never to two workers.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{by, instant, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server, eventually};

async fn claim(server: &Server, types: &[&str], worker: &str) -> Value {
    server.post("/tasks/claim", json!({ "taskTypes": types, "workerId": worker })).await.ok()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_takes_the_oldest_across_types(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let mut ids = Vec::new();
    for task_type in ["b", "a", "c", "a", "b", "c"] {
        ids.push(server.registered(task_type).await);
    }
    for expected in [&ids[0], &ids[1], &ids[3], &ids[4]] {
        assert_eq!(claim(&server, &["a", "b"], "w").await["id"], **expected);
    }
    assert_eq!(claim(&server, &["a", "b"], "w").await, Value::Null);
    assert_eq!(claim(&server, &["a", "c", "c", "a"], "w").await["id"], ids[2]);
    assert_eq!(claim(&server, &["c"], "w").await["id"], ids[5]);
    assert_eq!(claim(&server, &["a", "b", "c"], "w").await, Value::Null);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_answers_with_the_whole_task(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let before = server.task(&id).await;
    let mut claimed = claim(&server, &["t"], "worker 7 ä").await;
    // What its worker alone is told.
    for member in ["leaseToken", "cancelRequested", "serverTime"] {
        claimed.as_object_mut().and_then(|claimed| claimed.remove(member)).expect(member);
    }
    assert_eq!(names(&claimed), names(&before));
    assert_eq!(claimed["id"], id);
    assert_eq!(
        (&claimed["status"], &claimed["workerId"]),
        (&json!("in_progress"), &json!("worker 7 ä"))
    );
    assert_eq!(claimed["progressHistory"], json!([]));
    assert!(instant(&claimed["startedAt"]) >= instant(&claimed["createdAt"]));
    assert_eq!(claimed["updatedAt"], claimed["startedAt"]);
    assert_eq!(
        (&claimed["timeoutAt"], &claimed["completedAt"]),
        (&before["timeoutAt"], &Value::Null)
    );
    assert_eq!(server.task(&id).await, claimed);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_pending_is_claimed(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    server.started("t").await;
    for word in ["complete", "fail", "timeout"] {
        let id = server.started("t").await;
        server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
    }
    let reply = server.post("/tasks/claim", json!({ "taskTypes": ["t"], "workerId": "w" })).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "null"));
    assert_eq!(reply.header("content-type"), "application/json");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_says_what_it_wants_within_bounds(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let many = |count: usize| (0..count).map(|n| format!("type-{n}")).collect::<Vec<_>>();
    let id = server.registered("type-99").await;
    let full = json!({ "taskTypes": many(100), "workerId": "ä".repeat(128), "waitSeconds": 60 });
    assert_eq!(server.post("/tasks/claim", full).await.ok()["id"], id);
    let null = json!({ "taskTypes": ["t"], "workerId": "w", "waitSeconds": null });
    assert_eq!(server.post("/tasks/claim", null).await.ok(), Value::Null);

    let wrong = [
        ("taskTypes", json!([])),
        ("taskTypes", json!(many(101))),
        ("taskTypes", json!("t")),
        ("taskTypes", json!(null)),
        ("taskTypes[1]", json!(["t", ""])),
        ("taskTypes[0]", json!(["a\u{0}"])),
        ("taskTypes[0]", json!([1])),
        ("workerId", json!("")),
        ("workerId", json!(null)),
        ("workerId", json!("a\u{0}b")),
        ("workerId", json!("x".repeat(129))),
        ("workerId", json!(7)),
        ("waitSeconds", json!(61)),
        ("waitSeconds", json!(-1)),
        ("waitSeconds", json!("5")),
        ("waitSeconds", json!(1e300)),
    ];
    for (path, value) in wrong {
        let mut body = json!({ "taskTypes": ["t"], "workerId": "w" });
        let name = path.split('[').next().expect("a name");
        body[name] = value;
        let reply = server.post("/tasks/claim", body.clone()).await;
        let problem = reply.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["path"], path, "{body}: {problem}");
    }
    for (missing, body) in
        [("taskTypes", json!({ "workerId": "w" })), ("workerId", json!({ "taskTypes": ["t"] }))]
    {
        let problem = server.post("/tasks/claim", body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["path"], missing);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn as_many_claims_as_tasks_at_once_get_one_each(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let types = ["a", "b", "c"];
    let ids = join_all((0..200).map(|n| server.registered(types[n % 3]))).await;
    let claims = join_all((0..200).map(|n| {
        let body = json!({ "taskTypes": types, "workerId": format!("worker-{n}") });
        server.post("/tasks/claim", body)
    }));
    let claimed: Vec<Value> = claims.await.iter().map(Reply::ok).collect();
    let taken: HashSet<&str> = claimed.iter().filter_map(|task| task["id"].as_str()).collect();
    assert_eq!(taken.len(), 200, "each claim got a task of its own");
    assert_eq!(taken, ids.iter().map(String::as_str).collect::<HashSet<_>>());
    for (n, task) in claimed.iter().enumerate() {
        assert_eq!(task["workerId"], format!("worker-{n}"));
    }
    let held = server.task(claimed[17]["id"].as_str().expect("an id")).await;
    assert_eq!(held["workerId"], "worker-17");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn more_claims_than_tasks_share_none(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let registrations = join_all((0..60).map(|_| server.registered("t")));
    let claims = join_all((0..300).map(|n| {
        let body = json!({ "taskTypes": ["t", "u"], "workerId": format!("worker-{n}") });
        server.post("/tasks/claim", body)
    }));
    let (ids, claims) = futures::join!(registrations, claims);
    let mut taken: Vec<String> = Vec::new();
    for reply in claims {
        taken.extend(reply.ok()["id"].as_str().map(str::to_owned));
    }
    loop {
        let claimed = claim(&server, &["t"], "last").await;
        let Some(id) = claimed["id"].as_str() else {
            break;
        };
        taken.push(id.to_owned());
    }
    assert_eq!(taken.len(), 60, "no task twice");
    assert_eq!(taken.iter().collect::<HashSet<_>>(), ids.iter().collect::<HashSet<_>>());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_a_claim_and_a_start_of_the_same_task_one_wins(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for _ in 0..10 {
        let id = server.registered("t").await;
        let path = format!("/tasks/{id}/start");
        let (started, claimed) = futures::join!(
            server.post(&path, by("starter")),
            server.post("/tasks/claim", json!({ "taskTypes": ["t"], "workerId": "claimer" })),
        );
        let holder = server.task(&id).await["workerId"].clone();
        if started.status == 200 {
            assert_eq!((holder, claimed.ok()), (json!("starter"), Value::Null));
        } else {
            started.problem(409, "invalid_transition");
            assert_eq!((holder, &claimed.ok()["id"]), (json!("claimer"), &json!(id)));
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_worker_hung_up_before_it_heard_of_it_is_given_back(
    #[values(Embedded, Node)] mode: Mode,
) {
    const CLAIMS: u64 = 60;
    let server = Server::start(mode).await;
    let (types, worker) = (["t".parse().expect("a type")], "worker-1".parse().expect("a name"));
    let mut heard = 0;
    for claim in 0..CLAIMS {
        server.registered("t").await;
        // A little later each time: before it is asked, while it is asked, when the task is taken.
        let patience = Duration::from_micros(100 * claim);
        let claim = server.nodes[0].tracker().claim(&types, &worker, None, Duration::ZERO);
        if let Ok(claimed) = timeout(patience, claim).await {
            heard += u64::from(claimed.expect("an answer").is_some());
        }
    }
    let counted = async |status: &str| {
        let page = server.get(&format!("/tasks?status={status}&limit=100")).await.ok();
        page["items"].as_array().expect("items").len() as u64
    };
    let is_so = async || {
        let (held, waiting) = (counted("in_progress").await, counted("pending").await);
        (held == heard && waiting == CLAIMS - heard).then_some(())
    };
    eventually(is_so).await;
}
