//! Lists: filters, pages, and the newest entry of each task.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::{by, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::Server;

/// The ids of a page, in its order.
fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

async fn listed(server: &Server, query: &str) -> Vec<String> {
    ids(&server.get(&format!("/tasks{query}")).await.ok())
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_holds_tasks_without_history_newest_first(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let empty = server.get("/tasks").await.ok();
    assert_eq!(empty, json!({ "items": [], "nextCursor": null }));
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.insert(0, server.started("t").await);
    }
    server.progressed(&expected[2], json!({ "percent": 1 })).await;
    let page = server.get("/tasks").await.ok();
    assert_eq!(ids(&page), expected);
    assert_eq!(page["nextCursor"], Value::Null);
    for (item, id) in page["items"].as_array().expect("items").iter().zip(&expected) {
        let mut task = server.task(id).await;
        let history = task.as_object_mut().and_then(|task| task.remove("progressHistory"));
        let latest = history.and_then(|history| history.as_array()?.last().cloned());
        task["latestProgress"] = latest.unwrap_or_default();
        assert_eq!(*item, task);
        assert!(!names(item).contains(&"progressHistory"));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_entry_is_shown_whatever_the_status(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let mut expected = Vec::new();
    for word in ["", "complete", "fail", "timeout", "release"] {
        for entries in [0, 3] {
            let id = server.started("t").await;
            for n in 1..=entries {
                server.progressed(&id, json!({ "n": n })).await;
            }
            if !word.is_empty() {
                server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
            }
            let latest = (entries > 0).then(|| json!({ "seqId": entries, "n": entries }));
            expected.insert(0, (id, latest.unwrap_or_default()));
        }
    }
    expected.insert(0, (server.registered("t").await, Value::Null));
    for node in 0..server.nodes.len() {
        let page = server.get_at(node, "/tasks").await.ok();
        let items = page["items"].as_array().expect("items").iter();
        let shown: Vec<(String, Value)> = items
            .map(|item| {
                (item["id"].as_str().expect("an id").to_owned(), item["latestProgress"].clone())
            })
            .collect();
        assert_eq!(shown, expected);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn filters_narrow_a_list_and_combine(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let pending = server.registered("type & co/ä").await;
    let running = server.started("b").await;
    let released = server.started("b").await;
    server.post(&format!("/tasks/{released}/release"), by("worker-1")).await.ok();
    let other = server.registered("b").await;
    server.post(&format!("/tasks/{other}/start"), by("worker 2+ä")).await.ok();
    let mut ended = Vec::new();
    for (word, status) in [("complete", "completed"), ("fail", "failed"), ("timeout", "timeout")] {
        let id = server.started("b").await;
        server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
        ended.push((id, status));
    }
    let all = listed(&server, "").await;
    assert_eq!(all.len(), 7);
    for (id, status) in &ended {
        assert_eq!(listed(&server, &format!("?status={status}")).await, std::slice::from_ref(id));
    }
    assert_eq!(listed(&server, "?status=pending").await, [released.clone(), pending.clone()]);
    assert_eq!(listed(&server, "?status=in_progress").await, [other.clone(), running.clone()]);
    assert_eq!(listed(&server, "?taskType=type%20%26%20co%2F%C3%A4").await, [pending]);
    assert_eq!(listed(&server, "?taskType=B").await, [""; 0]);
    assert_eq!(listed(&server, "?workerId=worker+2%2B%C3%A4").await, [other]);
    let of_one = listed(&server, "?workerId=worker-1").await;
    assert_eq!(of_one.len(), 4, "those it holds and those it held at their end");
    assert!(!of_one.contains(&released));
    assert_eq!(
        listed(&server, "?workerId=worker-1&taskType=b&status=in_progress").await,
        [running]
    );
    assert_eq!(listed(&server, "?workerId=nobody").await, [""; 0]);
    assert_eq!(listed(&server, "?unknown=filter&status=failed").await, [ended[1].0.clone()]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_can_begin_and_end_at_an_instant(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let id = server.registered("t").await;
        server.clock.advance(Duration::from_mins(1));
        tasks.push(id);
    }
    let mut between = Vec::new();
    for id in &tasks {
        let created = super::instant(&server.task(id).await["createdAt"]);
        between.push(created.plus(Duration::from_secs(30)).to_string());
    }
    let newest_first = |range: &[String]| -> Vec<String> { range.iter().rev().cloned().collect() };
    let after = format!("?createdAfter={}", between[0]);
    assert_eq!(listed(&server, &after).await, newest_first(&tasks[1..]));
    let before = format!("?createdBefore={}", between[2]);
    assert_eq!(listed(&server, &before).await, newest_first(&tasks[..3]));
    let both = format!("?createdAfter={}&createdBefore={}", between[0], between[2]);
    assert_eq!(listed(&server, &both).await, newest_first(&tasks[1..3]));
    let offset =
        "?createdAfter=2000-01-01T00:00:00%2B01:00&createdBefore=2999-01-01T00:00:00-05:00";
    assert_eq!(listed(&server, offset).await, newest_first(&tasks));
    assert_eq!(listed(&server, "?createdBefore=2000-01-01T00:00:00Z").await, [""; 0]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_each_task_once_while_others_are_added(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let there: HashSet<String> =
        join_all((0..90).map(|_| server.registered("t"))).await.into_iter().collect();
    join_all((0..20).map(|_| server.registered("another type"))).await;
    for limit in [1, 7, 90, 100] {
        let mut seen: Vec<String> = Vec::new();
        let (mut cursor, mut pages) = (String::new(), 0);
        loop {
            let page = server.get(&format!("/tasks?taskType=t&limit={limit}{cursor}")).await.ok();
            let ids = ids(&page);
            assert!(ids.len() <= limit);
            seen.extend(ids);
            pages += 1;
            // A cursor may be put into a URL as it is.
            let Some(next) = page["nextCursor"].as_str() else {
                break;
            };
            assert!(
                next.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
            );
            cursor = format!("&cursor={next}");
            if pages % 5 == 1 {
                join_all((0..2).map(|_| server.registered("t"))).await;
            }
        }
        let mut once = HashSet::new();
        assert!(seen.iter().all(|id| once.insert(id.clone())), "no task twice with {limit} a page");
        assert!(there.is_subset(&once), "every task that was there with {limit} a page");
        let newest_first = listed(&server, "?taskType=t&limit=100").await;
        let order: Vec<&String> = newest_first.iter().filter(|id| once.contains(*id)).collect();
        let same: Vec<&String> = seen.iter().filter(|id| newest_first.contains(id)).collect();
        assert_eq!(order, same, "newest first");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_page_holds_fifty_unless_asked_otherwise(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    join_all((0..105).map(|_| server.registered("t"))).await;
    for (query, expected) in [("", 50), ("?limit=1", 1), ("?limit=100", 100)] {
        let page = server.get(&format!("/tasks{query}")).await.ok();
        assert_eq!(ids(&page).len(), expected);
        assert!(page["nextCursor"].is_string());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_what_cannot_be_is_refused(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for _ in 0..3 {
        server.registered("t").await;
    }
    let next =
        server.get("/tasks?limit=1").await.ok()["nextCursor"].as_str().expect("more").to_owned();
    let (half, doubled) = (&next[..next.len() / 4], format!("{next}{next}"));
    let wrong = [
        ("limit", vec!["0", "101", "-1", "x", "", "1.5", "99999999999999999999"]),
        ("status", vec!["done", "PENDING", ""]),
        ("createdAfter", vec!["yesterday", "2026-11-20", "", "2026-11-20T12:00:00", "1763640000"]),
        ("createdBefore", vec!["2026-13-01T00:00:00Z", "%00"]),
        (
            "cursor",
            vec!["", "x", "null", "0", "%00", "%F0%9F%A6%80", half, &doubled, "bm90IG91cnM"],
        ),
        ("taskType", vec!["", "a%00"]),
        ("workerId", vec!["", "a%0Ab"]),
    ];
    for (path, values) in wrong {
        for value in values {
            let reply = server.get(&format!("/tasks?{path}={value}")).await;
            let problem = reply.problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["path"], path, "{value}: {problem}");
        }
    }
}
