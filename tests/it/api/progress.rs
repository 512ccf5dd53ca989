//! Entries and their numbers: 1, 2, 3 … without a gap, in the order of the list.

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, instant, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server, seq_ids};

/// Bytes of one entry at most.
const ENTRY_BYTES: usize = 256 << 10;

async fn appended(server: &Server, id: &str, body: Value) -> Reply {
    server.post(&format!("/tasks/{id}/progress"), body).await
}

/// An entry whose text has this many bytes.
fn entry_of(bytes: usize) -> String {
    let frame = r#"{"fill":""}"#.len();
    format!(r#"{{"fill":"{}"}}"#, "x".repeat(bytes - frame))
}

/// What every answer to a worker says, and the number, in the order of the alphabet.
const STANDING: [&str; 4] = ["cancelRequested", "leaseExpiresAt", "seqId", "serverTime"];

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn entries_are_numbered_from_one(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let before = server.clock.now();
    for number in 1..=5 {
        let reply = appended(&server, &id, json!({ "progress": { "percent": number * 10 } })).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let answer = reply.json();
        assert_eq!(names(&answer), [&STANDING[..], &["taskId", "timestamp"]].concat());
        assert_eq!((&answer["taskId"], &answer["seqId"]), (&json!(id), &json!(number)));
        let at = instant(&answer["timestamp"]);
        assert!(at.as_millis() >= before.as_millis() && at <= server.clock.now());
    }
    let task = server.task(&id).await;
    let expected: Vec<Value> =
        (1..=5).map(|number| json!({ "seqId": number, "percent": number * 10 })).collect();
    assert_eq!(task["progressHistory"], json!(expected), "live");
    server.completed(&id).await.ok();
    assert_eq!(server.task(&id).await["progressHistory"], json!(expected), "sealed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_appenders_leave_no_gap_and_no_repeat(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    const APPENDERS: usize = 10;
    const EACH: u64 = 30;
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let appenders = (0..APPENDERS).map(|appender| {
        let (server, id) = (&server, &id);
        async move {
            let mut given = Vec::new();
            for step in 0..EACH {
                let entry = json!({ "appender": appender, "step": step });
                given.push((server.progressed(id, entry.clone()).await, entry));
            }
            given
        }
    });
    let given: Vec<Vec<(u64, Value)>> = join_all(appenders).await;
    for mine in &given {
        assert!(mine.is_sorted_by_key(|(number, _)| *number), "one caller's order is kept");
    }
    let mut given = given.concat();
    given.sort_by_key(|(number, _)| *number);
    let numbers: Vec<u64> = given.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=APPENDERS as u64 * EACH).collect::<Vec<_>>());
    let expected: Vec<Value> = given
        .into_iter()
        .map(|(number, mut entry)| {
            entry["seqId"] = number.into();
            entry
        })
        .collect();
    assert_eq!(server.task(&id).await["progressHistory"], json!(expected), "live");
    server.completed(&id).await.ok();
    assert_eq!(server.task(&id).await["progressHistory"], json!(expected), "sealed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_clients_number_is_replaced(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let path = format!("/tasks/{id}/progress");
    let entries = [
        (r#"{"seqId":99,"a":1}"#, r#"{"seqId":1,"a":1}"#),
        (r#"{"a":1,"seq\u0049d":99}"#, r#"{"seqId":2,"a":1}"#),
        (r#"{"\u0073\u0065\u0071\u0049\u0064":99}"#, r#"{"seqId":3}"#),
        (r#"{"seqId":"text","b":{"seqId":7},"seqId":null}"#, r#"{"seqId":4,"b":{"seqId":7}}"#),
        (r#"{"seqID":5,"SEQID":6,"seqId ":7}"#, r#"{"seqId":5,"seqID":5,"SEQID":6,"seqId ":7}"#),
    ];
    for (given, _) in entries {
        let body = format!(r#"{{"progress":{given}}}"#);
        server.post_raw(&path, "application/json", body).await.ok();
    }
    let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let expected: Vec<Value> = entries.iter().map(|(_, kept)| parsed(kept)).collect();
    for ended in [false, true] {
        if ended {
            server.completed(&id).await.ok();
        }
        let text = server.get(&format!("/tasks/{id}")).await.text;
        let history = super::items(&super::member(&text, "progressHistory"));
        assert_eq!(history.iter().map(|entry| parsed(entry)).collect::<Vec<_>>(), expected);
        for entry in &history[..4] {
            let spelt = entry.matches("seqId").count() + entry.matches("u0049").count();
            assert_eq!(spelt, 1 + usize::from(entry.contains("\"b\"")), "once: {entry}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_with_its_last_number_and_its_count(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.progressed(&id, json!({})).await;
    let entries: Vec<Value> = (0..2500).map(|n| json!({ "n": n, "seqId": "mine" })).collect();
    let reply =
        appended(&server, &id, json!({ "entries": entries, "workerId": "worker-1" })).await.ok();
    assert_eq!((&reply["seqId"], &reply["count"]), (&json!(2501), &json!(2500)));
    let [cancel, rest @ ..] = STANDING;
    let members = [&[cancel, "count"], &rest[..], &["taskId", "timestamp"]].concat();
    assert_eq!(names(&reply), members);
    let one = appended(&server, &id, json!({ "entries": [{ "n": 2500 }] })).await.ok();
    assert_eq!((&one["seqId"], &one["count"]), (&json!(2502), &json!(1)));
    for ended in [false, true] {
        if ended {
            server.completed(&id).await.ok();
        }
        let task = server.task(&id).await;
        assert_eq!(seq_ids(&task), (1..=2502).collect::<Vec<_>>());
        let n = |index: usize| task["progressHistory"][index]["n"].as_u64();
        assert!((1..=2501).all(|index| n(index) == Some(index as u64 - 1)), "in order");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn batches_do_not_mix(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let batches = join_all((0..24).map(|batch| {
        let entries: Vec<Value> = (0..7).map(|n| json!({ "batch": batch, "n": n })).collect();
        appended(&server, &id, json!({ "entries": entries }))
    }));
    let batches = batches.await;
    let history = server.task(&id).await["progressHistory"].clone();
    for (batch, reply) in batches.iter().enumerate() {
        let last = usize::try_from(reply.ok()["seqId"].as_u64().expect("a number")).expect("few");
        for n in 0..7 {
            let entry = &history[last - 7 + n];
            assert_eq!(*entry, json!({ "seqId": last - 6 + n, "batch": batch, "n": n }));
        }
    }
    assert_eq!(history.as_array().map(Vec::len), Some(24 * 7));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_kept_whole_or_not_at_all(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let path = format!("/tasks/{id}/progress");
    let bad = [
        (r#"[{"a":1},{"a":2},[]]"#.to_owned(), 422, "validation_failed"),
        (r#"[{"a":1},null]"#.to_owned(), 422, "validation_failed"),
        (r#"[{"a":1},"x",{"a":2}]"#.to_owned(), 422, "validation_failed"),
        (r#"[{"a":1},{"a":"\ud800"}]"#.to_owned(), 422, "validation_failed"),
        (format!(r#"[{{"a":1}},{}]"#, entry_of(ENTRY_BYTES + 1)), 413, "body_too_large"),
    ];
    for (entries, status, code) in bad {
        let body = format!(r#"{{"entries":{entries}}}"#);
        server.post_raw(&path, "application/json", body).await.problem(status, code);
    }
    let wrong = json!({ "entries": [{}, {}], "workerId": "worker-2" });
    appended(&server, &id, wrong).await.problem(403, "not_the_worker");
    let third = json!({ "entries": [{}, {}, 7] });
    let problem = appended(&server, &id, third).await.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["path"], "entries[2]");
    assert_eq!(server.task(&id).await["progressHistory"], json!([]));
    assert_eq!(server.progressed(&id, json!({})).await, 1, "no number was used up");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_holds_one_entry_or_many(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let wrong = [
        ("entries", json!({ "progress": {}, "entries": [{}] })),
        ("entries", json!({ "entries": [] })),
        ("entries", json!({ "entries": {} })),
        ("entries", json!({ "entries": "x" })),
        ("progress", json!({})),
        ("progress", json!({ "progress": null })),
        ("progress", json!({ "percent": 40 })),
        ("progress", json!({ "progress": [] })),
        ("progress", json!({ "progress": "40 %" })),
        ("progress", json!({ "progress": 40 })),
        ("workerId", json!({ "progress": {}, "workerId": "" })),
        ("workerId", json!({ "progress": {}, "workerId": 7 })),
    ];
    for (path, body) in wrong {
        let problem = appended(&server, &id, body.clone()).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["path"], path, "{body}: {problem}");
    }
    let nothing = server.post_nothing(&format!("/tasks/{id}/progress")).await;
    assert_eq!(nothing.problem(422, "validation_failed")["errors"][0]["path"], "progress");
    assert_eq!(server.task(&id).await["progressHistory"], json!([]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_a_task_in_progress_takes_entries(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let pending = server.registered("t").await;
    let mut tasks = vec![(pending, "pending")];
    for (word, status) in [
        ("complete", "completed"),
        ("fail", "failed"),
        ("timeout", "timeout"),
        ("release", "pending"),
    ] {
        let id = server.started("t").await;
        server.progressed(&id, json!({})).await;
        server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
        tasks.push((id, status));
    }
    for (id, status) in tasks {
        let before = server.task(&id).await;
        for body in
            [json!({ "progress": {} }), json!({ "entries": [{}, {}], "workerId": "worker-1" })]
        {
            for _ in 0..server.nodes.len() {
                let reply = appended(&server, &id, body.clone()).await;
                let problem = reply.problem(409, "invalid_transition");
                assert_eq!(
                    (&problem["from"], &problem["attempted"]),
                    (&json!(status), &json!("progress"))
                );
            }
        }
        assert_eq!(server.task(&id).await, before);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_may_have_256_kibibytes_and_no_more(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let path = format!("/tasks/{id}/progress");
    let single = |bytes| format!(r#"{{"progress":{}}}"#, entry_of(bytes));
    server.post_raw(&path, "application/json", single(ENTRY_BYTES)).await.ok();
    let over = server.post_raw(&path, "application/json", single(ENTRY_BYTES + 1)).await;
    over.problem(413, "body_too_large");
    let lines = format!("{}\n", entry_of(ENTRY_BYTES));
    server.post_raw(&path, "application/x-ndjson", lines).await.ok();
    let three = [ENTRY_BYTES; 3].map(entry_of).join(",");
    let batch = format!(r#"{{"entries":[{three}]}}"#);
    server.post_raw(&path, "application/json", batch).await.ok();
    assert_eq!(seq_ids(&server.task(&id).await), [1, 2, 3, 4, 5]);
    let stream = server.track(&id, "?afterSeqId=2").await;
    server.completed(&id).await.ok();
    super::is_whole(&stream.rest().await, 2, 5, "completed");
    assert_eq!(seq_ids(&server.task(&id).await), [1, 2, 3, 4, 5]);
}
