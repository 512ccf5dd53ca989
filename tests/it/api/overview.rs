//! All tasks at a glance: what it says is what the list says, added up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use task_tracker::database::Statement;
use task_tracker::domain::Timestamp;

use super::{by, instant, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

/// Ways in which a task ends.
const ENDS: [&str; 8] =
    ["complete", "complete", "fail", "complete", "complete", "timeout", "cancel", "complete"];

/// Longer than any answer is good.
const STALE: Duration = Duration::from_secs(31);

/// What a node says of a window once its last answer is not good any more.
async fn overview_at(server: &Server, node: usize, seconds: u64) -> Value {
    server.clock.advance(STALE);
    server.get_at(node, &format!("/overview?windowSeconds={seconds}")).await.ok()
}

/// Every task there is.
async fn listed(server: &Server) -> Vec<Value> {
    let page = server.get("/tasks?limit=100").await.ok();
    assert_eq!(page["nextCursor"], Value::Null, "a page is enough");
    page["items"].as_array().expect("items").clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn maybe(value: &Value) -> Option<Timestamp> {
    (!value.is_null()).then(|| instant(value))
}

/// What a step is to say, from the tasks themselves.
fn is_what_the_tasks_say(step: &Value, length: Duration, tasks: &[Value]) {
    let begins = instant(&step["at"]);
    let is_in_it = |at: Timestamp| begins <= at && at < begins.plus(length);
    let registered = tasks.iter().filter(|task| is_in_it(instant(&task["createdAt"]))).count();
    assert_eq!(number(&step["registered"]), registered as u64, "{step}");
    let ended = |status: &str| -> Vec<&Value> {
        let ended = |task: &&Value| maybe(&task["completedAt"]).is_some_and(is_in_it);
        tasks.iter().filter(ended).filter(|task| task["status"] == status).collect()
    };
    for status in ["completed", "failed", "timeout", "cancelled"] {
        assert_eq!(number(&step[status]), ended(status).len() as u64, "{status} in {step}");
    }
    let took = |task: &Value| instant(&task["completedAt"]).since(instant(&task["startedAt"]));
    let mut took: Vec<Duration> = ended("completed").into_iter().map(took).collect();
    took.sort_unstable();
    for (member, percent) in [("durationP50Ms", 50), ("durationP95Ms", 95)] {
        let Some(last) = took.len().checked_sub(1) else {
            assert_eq!(step[member], Value::Null, "nothing completed: {step}");
            continue;
        };
        let exact = took[(took.len() * percent).div_ceil(100).clamp(1, last + 1) - 1];
        let told = Duration::from_millis(number(&step[member]));
        // Of two instants that are cut to milliseconds each.
        let margin = exact.mul_f64(0.025) + Duration::from_millis(2);
        assert!(told.abs_diff(exact) <= margin, "{member} of {took:?} is {told:?}");
    }
}

/// Compares an overview with the tasks themselves.
#[track_caller]
fn adds_up(overview: &Value, seconds: u64, tasks: &[Value]) {
    for (status, told) in overview["counts"].as_object().expect("counts") {
        let count = tasks.iter().filter(|task| task["status"] == **status).count();
        assert_eq!(number(told), count as u64, "{status}");
    }
    let window = &overview["window"];
    let (from, to) = (instant(&window["from"]), instant(&window["to"]));
    let length = Duration::from_secs(number(&window["stepSeconds"]));
    let now = instant(&overview["serverTime"]);
    assert!(from <= now.minus(Duration::from_secs(seconds)), "the whole window: {window}");
    assert!(instant(&overview["countedAt"]) <= now && to.plus(STALE) > now, "{window} at {now}");
    let series = overview["series"].as_array().expect("a series");
    assert!((20..=61).contains(&series.len()), "{} steps", series.len());
    let mut at = from;
    for step in series {
        assert_eq!(instant(&step["at"]), at, "none is left out");
        is_what_the_tasks_say(step, length, tasks);
        at = at.plus(length);
    }
    assert_eq!(at, to);
    let mut queues: BTreeMap<&str, (u64, u64, Option<Timestamp>)> = BTreeMap::new();
    for task in tasks {
        let queue = || task["taskType"].as_str().expect("a type");
        if task["status"] == "pending" {
            let created = instant(&task["createdAt"]);
            let (pending, _, oldest) = queues.entry(queue()).or_default();
            *pending += 1;
            *oldest = Some(oldest.map_or(created, |oldest: Timestamp| oldest.min(created)));
        } else if task["status"] == "in_progress" {
            queues.entry(queue()).or_default().1 += 1;
        }
    }
    let told = overview["queues"].as_array().expect("queues").iter();
    let told: Vec<(u64, u64, &str, Option<Timestamp>)> = told
        .map(|queue| {
            let task_type = queue["taskType"].as_str().expect("a type");
            let oldest = maybe(&queue["oldestPendingAt"]);
            (number(&queue["pending"]), number(&queue["inProgress"]), task_type, oldest)
        })
        .collect();
    let mut expected: Vec<_> = queues
        .into_iter()
        .map(|(task_type, (pending, runs, oldest))| (pending, runs, task_type, oldest))
        .collect();
    expected.sort_by(|a, b| (b.0, b.1, a.2).cmp(&(a.0, a.1, b.2)));
    assert_eq!(told, expected, "most pending first");
}

/// Ends a task of `worker-1` in one of the ways there are.
async fn ended(server: &Server, id: &str, how: &str) {
    let body = match how {
        "cancel" => json!({ "force": true }),
        "timeout" => json!({}),
        _ => by("worker-1"),
    };
    server.post(&format!("/tasks/{id}/{how}"), body).await.ok();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_overview_adds_up_what_the_tasks_say(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for round in 0..3_u64 {
        for task_type in ["a", "b", "b", "c"] {
            server.registered(task_type).await;
        }
        server.started("runs").await;
        // Some that complete, each after a while of its own, and some that do not.
        let mut running = Vec::new();
        for _ in ENDS {
            running.push(server.started("a").await);
        }
        for (n, how) in ENDS.iter().enumerate() {
            let after = 170 * (n as u64 + round).pow(3);
            server.clock.advance(Duration::from_millis(after));
            ended(&server, &running[n], how).await;
        }
        // A task that waits may end, too, and took no time.
        let waits = server.registered("c").await;
        ended(&server, &waits, "cancel").await;
        for node in 0..server.nodes.len() {
            for seconds in [60, 300, 3600, 100_000, 604_800] {
                let overview = overview_at(&server, node, seconds).await;
                adds_up(&overview, seconds, &listed(&server).await);
            }
        }
        // By now some steps are over and kept, and the next round is told behind them.
        server.clock.advance(Duration::from_mins(3));
    }
    let overview = server.get("/overview").await.ok();
    assert_eq!(overview["window"]["stepSeconds"], 60, "an hour, unless said otherwise");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn without_a_task_it_is_all_noughts(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let overview = server.get("/overview?windowSeconds=3600").await.ok();
    adds_up(&overview, 3600, &[]);
    let nought = json!({ "pending": 0, "in_progress": 0, "completed": 0, "failed": 0, "timeout": 0, "cancelled": 0 });
    assert_eq!(overview["counts"], nought);
    assert_eq!((&overview["queues"], &overview["failures"]), (&json!([]), &json!([])));
    assert_eq!(overview["workers"], json!({ "seen": 0, "holding": 0 }));
    let series = overview["series"].as_array().expect("a series");
    assert_eq!(series.len(), 61);
    for step in series {
        let mut expected = json!({ "registered": 0, "completed": 0, "failed": 0, "timeout": 0, "cancelled": 0,
            "durationP50Ms": null, "durationP95Ms": null });
        expected["at"] = step["at"].clone();
        assert_eq!(*step, expected);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_out_of_range_is_refused(#[values(Embedded, Node)] mode: Mode) {
    let server = Server::start(mode).await;
    for wrong in ["0", "59", "604801", "-3600", "1h", "60.5", "18446744073709551616", ""] {
        let reply = server.get(&format!("/overview?windowSeconds={wrong}")).await;
        let problem = reply.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["path"], "windowSeconds", "{problem}");
    }
    for right in ["60", "61", "604800"] {
        server.get(&format!("/overview?windowSeconds={right}")).await.ok();
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn failures_are_the_newest_ten_the_latest_end_first(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let mut running = Vec::new();
    for n in 0..12 {
        let task = json!({ "taskType": "t", "params": { "n": n }, "metadata": { "n": n } });
        let id =
            server.post("/tasks", task).await.ok()["taskId"].as_str().expect("an id").to_owned();
        server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
        running.push(id);
    }
    server.progressed(&running[3], json!({ "percent": 7 })).await;
    // The first to be registered is the last to fail.
    let mut expected = Vec::new();
    for (n, id) in running.iter().enumerate().rev() {
        if n % 2 == 1 {
            let error =
                json!({ "workerId": "worker-1", "error": { "n": 12_345_678_901_234_567_890_u64 } });
            server.post(&format!("/tasks/{id}/fail"), error).await.ok();
        } else {
            ended(&server, id, "timeout").await;
        }
        expected.insert(0, id.clone());
        // What went well since is not told.
        let well = server.started("t").await;
        ended(&server, &well, "complete").await;
    }
    let overview = overview_at(&server, server.last_node(), 3600).await;
    let failures = overview["failures"].as_array().expect("failures");
    let ids: Vec<&str> = failures.iter().map(|task| task["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, expected[..10]);
    let all = listed(&server).await;
    for failure in failures {
        let mut item = all.iter().find(|task| task["id"] == failure["id"]).expect("a task").clone();
        for long in ["params", "metadata", "result"] {
            item.as_object_mut().expect("an object").remove(long).expect(long);
        }
        assert_eq!(*failure, item, "as it is listed, but for what may be long");
    }
    assert_eq!(failures[3]["latestProgress"], json!({ "seqId": 1, "percent": 7 }));
    assert_eq!(failures[1]["error"]["n"], 12_345_678_901_234_567_890_u64);
    assert!(names(&failures[0]).contains(&"latestProgress"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn workers_that_asked_lately_are_counted_and_those_that_hold_a_task(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    server.registered("t").await;
    for worker in ["w-1", "w-2", "w-3"] {
        let wish = json!({ "taskTypes": ["t"], "workerId": worker });
        server.post("/tasks/claim", wish).await.ok();
    }
    for node in &server.nodes {
        node.tracker().call_roll().await.expect("a round");
    }
    let last = server.last_node();
    let workers = async || overview_at(&server, last, 60).await["workers"].clone();
    assert_eq!(workers().await, json!({ "seen": 3, "holding": 1 }));
    server.clock.advance(Duration::from_mins(5));
    assert_eq!(workers().await, json!({ "seen": 0, "holding": 0 }));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_looks_is_told_what_was_found_out_once(#[values(Embedded, Node)] mode: Mode) {
    let server = Server::start(mode).await;
    server.registered("t").await;
    let looks = (0..100)
        .map(|n| server.get(if n % 2 == 0 { "/overview" } else { "/overview?windowSeconds=60" }));
    let told: Vec<Value> = join_all(looks).await.iter().map(Reply::ok).collect();
    let counted: BTreeSet<&str> =
        told.iter().map(|overview| overview["countedAt"].as_str().expect("an instant")).collect();
    // Once, or once more if a hundred answers took longer than one is good for.
    assert!(counted.len() <= 5, "{counted:?}");
    assert!(told.iter().all(|overview| overview["counts"]["pending"] == 1));
    server.registered("t").await;
    assert_eq!(overview_at(&server, 0, 3600).await["counts"]["pending"], 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_added_up_once_and_the_ends_anew_after_an_hour(
    #[values(Embedded, Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let completed = async |overview: &Value| {
        let steps = overview["series"].as_array().expect("a series").iter();
        let in_steps: u64 = steps.map(|step| number(&step["completed"])).sum();
        (number(&overview["counts"]["completed"]), in_steps)
    };
    for _ in 0..3 {
        let id = server.started("t").await;
        ended(&server, &id, "complete").await;
    }
    server.clock.advance(Duration::from_mins(3));
    assert_eq!(completed(&overview_at(&server, 0, 3600).await).await, (3, 3));
    // Nobody but a test, or somebody at the database, takes tasks away: so it shows what is not read again.
    let database = server.ground.database("tracker.db").await;
    let deleted = Statement::new("DELETE FROM tracker_tasks").execute(database.writer()).await;
    assert_eq!(deleted.expect("an answer"), 3);
    database.close().await;
    assert_eq!(completed(&overview_at(&server, 0, 3600).await).await, (3, 3));
    let id = server.started("t").await;
    ended(&server, &id, "complete").await;
    assert_eq!(completed(&overview_at(&server, 0, 3600).await).await, (4, 4));
    server.clock.advance(Duration::from_hours(1));
    assert_eq!(completed(&overview_at(&server, 0, 60).await).await, (1, 0));
}
