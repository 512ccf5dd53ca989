//! Lists that are searched, sorted, and narrowed by more than one index carries.

use std::collections::HashSet;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::{by, instant, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::Server;

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

async fn listed(server: &Server, query: &str) -> Vec<String> {
    ids(&server.get(&format!("/tasks?{query}")).await.ok())
}

/// Every task of a list, page by page, and how many pages that were.
async fn all(server: &Server, query: &str) -> (Vec<String>, usize) {
    let (mut all, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = server.get(&format!("/tasks?{query}{cursor}")).await.ok();
        all.extend(ids(&page));
        pages += 1;
        let Some(next) = page["nextCursor"].as_str() else { return (all, pages) };
        cursor = format!("&cursor={next}");
    }
}

/// Registers a task under this id.
async fn register(server: &Server, id: &str, params: Value) {
    let task = json!({ "taskId": id, "taskType": "report build", "params": params });
    server.post("/tasks", task).await.ok();
    // So that no two are of the same instant.
    server.clock.advance(Duration::from_millis(10));
}

async fn finish(server: &Server, id: &str, word: &str) {
    server.post(&format!("/tasks/{id}/start"), by("worker-1")).await.ok();
    server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
    server.clock.advance(Duration::from_millis(10));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_found_by_what_stands_in_it(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    register(&server, "order-17", json!({ "customer": "Ärger & Söhne", "share": "100%" })).await;
    register(&server, "order-18", json!({ "customer": "nobody", "share": "1000" })).await;
    register(&server, "x", json!({ "of": "order-17" })).await;
    finish(&server, "order-18", "fail").await;
    assert_eq!(listed(&server, "q=ORDER-").await, ["x", "order-18", "order-17"]);
    assert_eq!(listed(&server, "q=customer").await, ["order-18", "order-17"]);
    assert_eq!(listed(&server, "q=%C3%84rger+%26").await, ["order-17"]);
    assert_eq!(listed(&server, "q=100%25").await, ["order-17"], "no wildcard");
    assert_eq!(listed(&server, "q=WORKER").await, ["order-18"]);
    assert_eq!(listed(&server, "q=nothing").await, [""; 0]);
    assert_eq!(listed(&server, "q=build&status=pending&taskType=report+build").await.len(), 2);
    assert_eq!(listed(&server, "q=build&status=failed").await, ["order-18"]);
    // As bytes that are escaped, too.
    let escaped = r#"{"taskId":"e","taskType":"t","metadata":{"who":"\u00c4rger"}}"#;
    server.post_raw("/tasks", "application/json", escaped).await.ok();
    assert_eq!(listed(&server, "q=%C3%84rger").await, ["e", "order-17"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_task_of_an_id_comes_first_and_once(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for id in ["job", "job-1", "job-2", "job-3"] {
        register(&server, id, json!({})).await;
    }
    for limit in 1..6 {
        let query = format!("q=job&limit={limit}");
        assert_eq!(all(&server, &query).await.0, ["job", "job-3", "job-2", "job-1"], "{limit}");
        let oldest_first = format!("{query}&order=asc&status=pending,failed");
        assert_eq!(all(&server, &oldest_first).await.0, ["job", "job-1", "job-2", "job-3"]);
    }
    assert_eq!(listed(&server, "q=job&status=failed").await, [""; 0]);
    assert_eq!(listed(&server, "q=job&sort=completedAt").await, [""; 0]);
    finish(&server, "job", "complete").await;
    assert_eq!(listed(&server, "q=job&sort=completedAt").await, ["job"]);
}

/// More than are looked at for one page.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_search_among_many_goes_on_page_by_page_and_finds_each_once(
    #[values(Embedded, Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let mut wanted = Vec::new();
    for batch in 0..22 {
        let tasks: Vec<Value> = (0..1000)
            .map(|n| {
                let is_wanted = n == 500 && batch % 7 == 0;
                json!({ "taskType": if is_wanted { "needle" } else { "hay" } })
            })
            .collect();
        let body = server.post("/tasks/bulk", json!({ "tasks": tasks })).await.ok();
        if batch % 7 == 0 {
            wanted.insert(0, body["results"][500]["taskId"].as_str().expect("an id").to_owned());
        }
    }
    let page = server.get("/tasks?q=needle").await.ok();
    let found = ids(&page);
    assert!(page["nextCursor"].is_string(), "22,000 are more than are looked at");
    assert!(found.len() < wanted.len(), "the oldest is further than that: {found:?}");
    let (found, pages) = all(&server, "q=needle").await;
    assert_eq!(found, wanted);
    assert!(pages > 1);
    let (found, _) = all(&server, "q=needle&order=asc&limit=2").await;
    assert_eq!(found, wanted.iter().rev().cloned().collect::<Vec<_>>());
    // What an index carries is found at once, and a page of it is full.
    let page = server.get("/tasks?taskType=needle").await.ok();
    assert_eq!((ids(&page), &page["nextCursor"]), (wanted, &Value::Null));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_can_be_of_several_statuses(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let mut tasks = Vec::new();
    for (n, word) in ["complete", "fail", "timeout", "", "fail", "complete"].iter().enumerate() {
        let id = format!("task-{n}");
        register(&server, &id, json!({})).await;
        if !word.is_empty() {
            finish(&server, &id, word).await;
        }
        tasks.push(id);
    }
    let of =
        |places: &[usize]| -> Vec<String> { places.iter().map(|n| tasks[*n].clone()).collect() };
    let (failures, twins) = ("status=failed,timeout", "status=timeout,failed,failed");
    for query in [failures, twins, "status=failed%2Ctimeout"] {
        assert_eq!(listed(&server, query).await, of(&[4, 2, 1]));
        for limit in [1, 2] {
            assert_eq!(all(&server, &format!("{query}&limit={limit}")).await.0, of(&[4, 2, 1]));
        }
        assert_eq!(all(&server, &format!("{query}&order=asc&limit=2")).await.0, of(&[1, 2, 4]));
    }
    let every = "status=pending,in_progress,completed,failed,timeout,cancelled";
    assert_eq!(listed(&server, every).await, of(&[5, 4, 3, 2, 1, 0]));
    let both = format!("{failures}&workerId=worker-1&limit=1");
    assert_eq!(all(&server, &both).await.0, of(&[4, 2, 1]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_can_be_in_the_order_of_the_ends(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for id in ["a", "b", "c", "d", "waits"] {
        register(&server, id, json!({})).await;
    }
    for (id, word) in [("c", "complete"), ("a", "fail"), ("d", "complete"), ("b", "timeout")] {
        finish(&server, id, word).await;
    }
    for limit in [1, 3, 4, 100] {
        let sorted = format!("sort=completedAt&limit={limit}");
        assert_eq!(all(&server, &sorted).await.0, ["b", "d", "a", "c"]);
        assert_eq!(all(&server, &format!("{sorted}&order=asc")).await.0, ["c", "a", "d", "b"]);
        assert_eq!(all(&server, &format!("{sorted}&status=completed")).await.0, ["d", "c"]);
    }
    assert_eq!(listed(&server, "sort=createdAt&order=asc").await, ["a", "b", "c", "d", "waits"]);
    let ended = instant(&server.task("a").await["completedAt"]);
    let since = format!("completedAfter={ended}");
    let before = format!("completedBefore={ended}");
    for sort in ["sort=completedAt", "sort=createdAt&order=desc"] {
        let later: HashSet<String> =
            listed(&server, &format!("{since}&{sort}")).await.into_iter().collect();
        assert_eq!(later, HashSet::from(["d", "b"].map(str::to_owned)), "not in that instant");
        assert_eq!(listed(&server, &format!("{before}&{sort}")).await, ["c"]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_of_its_order_alone(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for id in ["a", "b", "c"] {
        register(&server, id, json!({})).await;
        finish(&server, id, "complete").await;
    }
    let orders = ["", "&order=asc", "&sort=completedAt", "&sort=completedAt&order=asc"];
    let mut cursors = Vec::new();
    for order in orders {
        let page = server.get(&format!("/tasks?limit=1{order}")).await.ok();
        cursors.push(page["nextCursor"].as_str().expect("more").to_owned());
    }
    for (of, cursor) in cursors.iter().enumerate() {
        for (at, order) in orders.iter().enumerate() {
            let reply = server.get(&format!("/tasks?limit=1{order}&cursor={cursor}")).await;
            if of == at {
                assert_eq!(ids(&reply.ok()), ["b"]);
            } else {
                let problem = reply.problem(422, "validation_failed");
                assert_eq!(problem["errors"][0]["path"], "cursor", "{problem}");
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_retries_is_listed_by_its_first_task(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    register(&server, "other", json!({})).await;
    register(&server, "first", json!({})).await;
    let mut chain = vec!["first".to_owned()];
    for _ in 0..3 {
        let last = chain[0].clone();
        finish(&server, &last, "fail").await;
        let retry = server.post_nothing(&format!("/tasks/{last}/retry")).await.ok();
        chain.insert(0, retry["newTaskId"].as_str().expect("an id").to_owned());
    }
    for limit in [1, 2, 10] {
        let query = format!("originalTaskId=first&limit={limit}");
        assert_eq!(all(&server, &query).await.0, chain);
        let oldest_first: Vec<String> = chain.iter().rev().cloned().collect();
        assert_eq!(all(&server, &format!("{query}&order=asc")).await.0, oldest_first);
        assert_eq!(all(&server, &format!("{query}&status=failed")).await.0, chain[1..]);
        assert_eq!(all(&server, &format!("{query}&sort=completedAt")).await.0, chain[1..]);
    }
    assert_eq!(listed(&server, "originalTaskId=other").await, ["other"]);
    assert_eq!(listed(&server, "originalTaskId=nobody").await, [""; 0]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_brief_list_leaves_out_what_may_be_large(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    register(&server, "a", json!({ "n": 1 })).await;
    register(&server, "b", json!({ "n": 2 })).await;
    server.post("/tasks/b/start", by("worker-1")).await.ok();
    server.progressed("b", json!({ "percent": 7 })).await;
    server.completed("b").await.ok();
    let whole = server.get("/tasks?fields=all").await.ok();
    assert_eq!(whole, server.get("/tasks").await.ok());
    for query in ["fields=brief", "fields=brief&status=pending,completed", "fields=brief&q=report"]
    {
        let brief = server.get(&format!("/tasks?{query}")).await.ok();
        for (whole, brief) in
            whole["items"].as_array().unwrap().iter().zip(brief["items"].as_array().expect("items"))
        {
            let mut rest = whole.clone();
            for name in ["metadata", "params", "result"] {
                assert!(rest.as_object_mut().unwrap().remove(name).is_some());
                assert!(!names(brief).contains(&name), "{brief}");
            }
            assert_eq!(*brief, rest);
        }
        assert_eq!(ids(&brief), ids(&whole));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_order_or_a_search_that_cannot_be_is_refused(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let long = "x".repeat(129);
    let wrong = [
        ("status", vec!["pending,", ",", "pending,done", "pending, failed", "pending;failed"]),
        ("sort", vec!["", "updatedAt", "created_at", "CreatedAt", "createdAt,completedAt"]),
        ("order", vec!["", "DESC", "up"]),
        ("fields", vec!["", "id", "brief,all"]),
        ("q", vec!["", "a%00", "a%0Ab", &long]),
        ("originalTaskId", vec!["", "a b", "%00"]),
        ("completedAfter", vec!["", "yesterday"]),
        ("completedBefore", vec!["", "2026-13-01T00:00:00Z"]),
    ];
    for (path, values) in wrong {
        for value in values {
            let reply = server.get(&format!("/tasks?{path}={value}")).await;
            let problem = reply.problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["path"], path, "{value}: {problem}");
        }
    }
}
