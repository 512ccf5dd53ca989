//! Clients that ask again under the same key until they hear an answer, while processes are killed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use serde_json::{Value, json};

use super::process::Process;
use crate::harness::{Ground, Mode, PATIENCE, eventually, seq_ids};

/// Requests of one client.
const REQUESTS: usize = 60;
/// Clients.
const CLIENTS: usize = 4;

/// Where the processes are now, and what was heard.
#[derive(Debug, Default)]
struct World {
    urls: Mutex<Vec<String>>,
    heard: AtomicUsize,
    /// Requests that were sent again, not knowing whether they were done.
    again: AtomicUsize,
}

impl World {
    fn url(&self, turn: usize, path: &str) -> String {
        let urls = self.urls.lock().unwrap();
        format!("{}{path}", urls[turn % urls.len()])
    }

    fn stand(&self, processes: &[&Process]) {
        *self.urls.lock().unwrap() = processes.iter().map(|process| process.api("")).collect();
    }
}

/// Sends one request under a key until it is answered.
async fn insist(
    world: &World,
    client: &reqwest::Client,
    path: &str,
    key: &str,
    body: &Value,
) -> Value {
    for turn in 0.. {
        let request = client.post(world.url(turn, path)).header("idempotency-key", key).json(body);
        if let Ok(response) = request.send().await {
            let status = response.status();
            // The answer may break off as the question may.
            if let Ok(answer) = response.json::<Value>().await
                && status.as_u16() != 503
            {
                assert!(status.is_success(), "{status} {answer}");
                world.heard.fetch_add(1, Ordering::Relaxed);
                return answer;
            }
        }
        world.again.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
    unreachable!("it goes on for ever")
}

/// Registers tasks and reports on one, each under a key of its own: ids and numbers that were heard.
async fn work(world: Arc<World>, task: String, name: usize) -> Vec<(Value, Value)> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
    let mut heard = Vec::new();
    for turn in 0..REQUESTS {
        let by = format!("{name}-{turn}");
        let registered = json!({ "taskType": "of-clients", "params": { "by": by } });
        let registered = insist(&world, &client, "/tasks", &by, &registered).await;
        let entry = json!({ "progress": { "by": by } });
        let path = format!("/tasks/{task}/progress");
        let appended = insist(&world, &client, &path, &by, &entry).await;
        heard.push((registered["taskId"].clone(), appended["seqId"].clone()));
    }
    heard
}

/// Checks that everything was done once and is what was heard, and that a finished task says so again.
async fn assert_once(world: &World, process: &Process, task: &str, heard: Vec<(Value, Value)>) {
    assert!(world.again.load(Ordering::Relaxed) > 0, "nobody had to ask again");
    let ids: HashSet<String> = heard.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(ids.len(), CLIENTS * REQUESTS, "each its own task");
    let mut listed = HashSet::new();
    let mut page = "/tasks?taskType=of-clients&limit=100".to_owned();
    loop {
        let tasks = process.get(&page).await;
        let items = tasks["items"].as_array().expect("items");
        listed.extend(items.iter().map(|task| task["id"].to_string()));
        let Some(cursor) = tasks["nextCursor"].as_str() else { break };
        page = format!("/tasks?taskType=of-clients&limit=100&cursor={cursor}");
    }
    assert_eq!(listed, ids, "nobody heard of a task that is not there, and there is no other");

    let client = reqwest::Client::new();
    let complete = format!("/tasks/{task}/complete");
    let said = insist(world, &client, &complete, "end", &json!({})).await;
    assert_eq!(insist(world, &client, &complete, "end", &json!({})).await, said);
    let history = process.get(&format!("/tasks/{task}")).await;
    let numbers = seq_ids(&history);
    assert!(numbers.iter().copied().eq(1..=(CLIENTS * REQUESTS) as u64), "{numbers:?}");
    let entries = history["progressHistory"].as_array().expect("a history");
    let kept: HashMap<&str, &Value> = entries
        .iter()
        .map(|entry| (entry["by"].as_str().expect("a client"), &entry["seqId"]))
        .collect();
    assert_eq!(kept.len(), CLIENTS * REQUESTS, "each entry once");
    // The receipts have moved with the history.
    for name in 0..CLIENTS {
        let by = format!("{name}-0");
        let path = format!("/tasks/{task}/progress");
        let entry = json!({ "progress": { "by": by } });
        let again = insist(world, &client, &path, &by, &entry).await;
        assert_eq!(again["seqId"], *kept[by.as_str()]);
        assert_eq!(again["seqId"], heard[name * REQUESTS].1);
    }
}

async fn begun(process: &Process) -> String {
    let task = process.post("/tasks", &json!({ "taskType": "work" })).await;
    let id = task["taskId"].as_str().expect("an id").to_owned();
    process.post(&format!("/tasks/{id}/start"), &json!({})).await;
    id
}

fn clients(world: &Arc<World>, task: &str) -> Vec<tokio::task::JoinHandle<Vec<(Value, Value)>>> {
    let client = |name| tokio::spawn(work(Arc::clone(world), task.to_owned(), name));
    (0..CLIENTS).map(client).collect()
}

async fn all(clients: Vec<tokio::task::JoinHandle<Vec<(Value, Value)>>>) -> Vec<(Value, Value)> {
    let heard = join_all(clients).await.into_iter();
    heard.flat_map(|heard| heard.expect("a client that heard everything")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_again_under_its_key_is_done_once_although_the_process_is_killed() {
    let ground = Ground::new(Mode::Embedded).await;
    let mut process = Process::start(&ground).await;
    let (world, task) = (Arc::<World>::default(), begun(&process).await);
    world.stand(&[&process]);
    let clients = clients(&world, &task);
    for round in 1..=3 {
        let enough = round * 2 * CLIENTS * REQUESTS / 4;
        let is_enough = || world.heard.load(Ordering::Relaxed) >= enough;
        eventually(|| async { is_enough().then_some(()) }).await;
        process.kill();
        process = Process::start(&ground).await;
        world.stand(&[&process]);
    }
    assert_once(&world, &process, &task, all(clients).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_again_at_another_node_is_done_once() {
    let ground = Ground::new(Mode::Node).await;
    let (first, second) = (Process::start(&ground).await, Process::start(&ground).await);
    let (world, task) = (Arc::<World>::default(), begun(&first).await);
    world.stand(&[&first, &second]);
    let clients = clients(&world, &task);
    let is_enough = || world.heard.load(Ordering::Relaxed) >= CLIENTS * REQUESTS;
    eventually(|| async { is_enough().then_some(()) }).await;
    first.kill();
    let heard = all(clients).await;
    world.stand(&[&second]);
    assert_once(&world, &second, &task, heard).await;
}
