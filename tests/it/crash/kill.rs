//! Real processes, killed for real.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use serde_json::{Value, json};

use super::process::{Process, answer};
use crate::harness::{Event, Frames, Ground, Mode, PATIENCE, eventually, seq_ids};

/// What was acknowledged: number and entry.
type Acknowledged = Arc<Mutex<HashMap<u64, Value>>>;

/// Registers a task and starts it for `w`.
async fn started(process: &Process) -> String {
    let task = process.post("/tasks", &json!({ "taskType": "work" })).await;
    let id = task["taskId"].as_str().expect("an id").to_owned();
    process.post(&format!("/tasks/{id}/start"), &json!({ "workerId": "w" })).await;
    id
}

/// Appends batches of three at one of `urls`, and at the next when that one is gone, until `enough`.
async fn append(urls: Vec<String>, name: String, acknowledged: Acknowledged, enough: usize) {
    let client = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
    let mut at = 0;
    for turn in 0.. {
        if acknowledged.lock().unwrap().len() >= enough {
            return;
        }
        let batch = [0, 1, 2].map(|part| json!({ "by": format!("{name}/{turn}"), "part": part }));
        let request = client.post(&urls[at]).json(&json!({ "entries": batch, "workerId": "w" }));
        let Some(reply) = answer(request).await else {
            at += 1;
            if at == urls.len() {
                return;
            }
            continue;
        };
        let last = reply["seqId"].as_u64().expect("a number");
        let mut acknowledged = acknowledged.lock().unwrap();
        for (entry, seq_id) in batch.into_iter().zip(last - 2..) {
            assert!(acknowledged.insert(seq_id, entry).is_none(), "{seq_id} is given twice");
        }
    }
}

/// Checks that a history has every number once, every acknowledged entry where it was said to be, and every
/// batch whole.
fn assert_keeps(task: &Value, acknowledged: &Acknowledged) {
    let numbers = seq_ids(task);
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
    let history = task["progressHistory"].as_array().expect("a history");
    for (seq_id, entry) in acknowledged.lock().unwrap().iter() {
        let index = usize::try_from(*seq_id).unwrap() - 1;
        let mut kept = history.get(index).unwrap_or_else(|| panic!("{seq_id} is lost")).clone();
        kept.as_object_mut().expect("an object").remove("seqId");
        assert_eq!(kept, *entry, "{seq_id}");
    }
    let mut parts: HashMap<&str, Vec<u64>> = HashMap::new();
    for entry in history {
        let by = entry["by"].as_str().expect("a batch");
        parts.entry(by).or_default().push(entry["part"].as_u64().expect("a part"));
    }
    assert!(parts.values().all(|parts| *parts == [0, 1, 2]), "all of a batch or none, and once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_server_that_is_killed_again_and_again_keeps_what_it_acknowledged() {
    let ground = Ground::new(Mode::Embedded).await;
    let mut process = Process::start(&ground).await;
    let id = started(&process).await;
    let acknowledged = Acknowledged::default();
    for round in 0..3 {
        let url = process.api(&format!("/tasks/{id}/progress"));
        let appenders: Vec<_> = (0..4)
            .map(|appender| {
                let name = format!("{round}-{appender}");
                tokio::spawn(append(vec![url.clone()], name, acknowledged.clone(), usize::MAX))
            })
            .collect();
        let enough = acknowledged.lock().unwrap().len() + 150;
        eventually(|| async { (acknowledged.lock().unwrap().len() >= enough).then_some(()) }).await;
        process.kill();
        for appender in join_all(appenders).await {
            appender.expect("an appender that gave up");
        }
        process = Process::start(&ground).await;
        assert_keeps(&process.get(&format!("/tasks/{id}")).await, &acknowledged);
    }

    let before = seq_ids(&process.get(&format!("/tasks/{id}")).await).len() as u64;
    let one = json!({ "progress": { "by": "after" }, "workerId": "w" });
    let reply = process.post(&format!("/tasks/{id}/progress"), &one).await;
    assert_eq!(reply["seqId"], before + 1, "numbers go on");
    process.post(&format!("/tasks/{id}/complete"), &json!({ "workerId": "w" })).await;
    process.kill();
    let process = Process::start(&ground).await;
    let task = process.get(&format!("/tasks/{id}")).await;
    assert_eq!(task["status"], "completed");
    assert!(seq_ids(&task).into_iter().eq(1..=before + 1), "the sealed history is whole too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_was_answered_outlives_a_kill() {
    let ground = Ground::new(Mode::Embedded).await;
    let process = Process::start(&ground).await;
    let mut registered = Vec::new();
    for _ in 0..20 {
        let task = process.post("/tasks", &json!({ "taskType": "work" })).await;
        registered.push(task["taskId"].clone());
    }
    let claim = json!({ "taskTypes": ["work"], "workerId": "w" });
    let mut claimed = Vec::new();
    for _ in 0..10 {
        claimed.push(process.post("/tasks/claim", &claim).await["id"].clone());
    }
    process.kill();
    let process = Process::start(&ground).await;
    for _ in 0..10 {
        claimed.push(process.post("/tasks/claim", &claim).await["id"].clone());
    }
    assert_eq!(claimed, registered, "each once, in the order of registration");
    assert_eq!(process.post("/tasks/claim", &claim).await, Value::Null);
}

/// A client that reads a task's stream to its end, going to the next node with `Last-Event-ID`
/// whenever the connection is lost.
async fn follow(urls: Vec<String>, resumed: Arc<AtomicUsize>) -> Vec<Event> {
    let client = reqwest::Client::new();
    let mut events: Vec<Event> = Vec::new();
    for turn in 0.. {
        let mut request = client.get(&urls[turn % urls.len()]);
        if let Some(last) = events.iter().rev().find_map(|event| event.id.as_deref()) {
            request = request.header("last-event-id", last);
        }
        let Ok(mut response) = request.send().await else {
            tokio::task::yield_now().await;
            continue;
        };
        if turn > 0 {
            resumed.fetch_add(1, Ordering::Relaxed);
        }
        let mut frames = Frames::default();
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(PATIENCE, response.chunk()).await {
            frames.push(&chunk);
            while let Some(event) = frames.pop() {
                let is_end = event.is_end();
                events.push(event);
                if is_end {
                    return events;
                }
            }
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_workers_of_a_killed_node_go_on_at_the_other() {
    let ground = Ground::new(Mode::Node).await;
    let (first, second) = (Process::start(&ground).await, Process::start(&ground).await);
    let id = started(&first).await;
    let urls = |path: &str| -> Vec<String> {
        [&first, &second].map(|node| node.api(&format!("/tasks/{id}/{path}"))).into()
    };
    let turned = |urls: Vec<String>| -> Vec<String> { urls.into_iter().rev().collect() };
    let resumed = Arc::<AtomicUsize>::default();
    let mut readers: Vec<_> =
        (0..4).map(|_| tokio::spawn(follow(urls("track"), resumed.clone()))).collect();
    readers.push(tokio::spawn(follow(turned(urls("track")), resumed.clone())));

    let acknowledged = Acknowledged::default();
    let appenders: Vec<_> = (0..4)
        .map(|appender| {
            let urls = urls("progress");
            let urls = if appender % 2 == 0 { urls } else { turned(urls) };
            tokio::spawn(append(urls, appender.to_string(), acknowledged.clone(), 600))
        })
        .collect();
    eventually(|| async { (acknowledged.lock().unwrap().len() >= 200).then_some(()) }).await;
    first.kill();
    for appender in join_all(appenders).await {
        appender.expect("an appender that has enough");
    }
    eventually(|| async { (resumed.load(Ordering::Relaxed) >= 4).then_some(()) }).await;
    second.post(&format!("/tasks/{id}/complete"), &json!({ "workerId": "w" })).await;

    let task = second.get(&format!("/tasks/{id}")).await;
    assert_keeps(&task, &acknowledged);
    let last = seq_ids(&task).len() as u64;
    assert!(last >= 600);
    for reader in readers {
        super::assert_whole(&reader.await.expect("a reader that reached the end"), last);
    }
}
