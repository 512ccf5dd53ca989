//! The stream: its frames, what it says of each change, and where it ends.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::{by, instant, is_whole, items, member, numbers};
use crate::harness::Mode::{self, Cluster, Embedded, Node, TwoNodes};
use crate::harness::{Event, Server};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_task_is_replayed_frame_by_frame(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let mut times = Vec::new();
    for percent in [40, 80] {
        let body = json!({ "progress": { "percent": percent } });
        let reply = server.post(&format!("/tasks/{id}/progress"), body).await.ok();
        times.push(reply["timestamp"].as_str().expect("an instant").to_owned());
    }
    let end = json!({ "workerId": "worker-1", "result": { "rows": 42 } });
    let end = server.post(&format!("/tasks/{id}/complete"), end).await.ok();
    let text = server.track(&id, "").await.text().await;
    let (head, frames) = text.split_once("\n\n").expect("a first frame");
    let (comment, retry) = head.split_once('\n').expect("a comment and a pause");
    assert!(comment.starts_with(':'), "a comment at once: {head}");
    let retry: u64 = retry.strip_prefix("retry: ").expect("a pause").parse().expect("milliseconds");
    assert!((100..=60_000).contains(&retry), "{retry}");
    let progress = |number: usize, percent: u64| {
        let at = &times[number - 1];
        format!(
            "id: {number}\nevent: progress\ndata: {{\"event\":\"progress\",\"data\":{{\"seqId\":{number},\
             \"percent\":{percent}}},\"taskId\":\"{id}\",\"timestamp\":\"{at}\"}}\n\n"
        )
    };
    let change = format!(
        "id: 2-end\nevent: status_change\ndata: {{\"event\":\"status_change\",\"data\":{{\
         \"status\":\"completed\",\"result\":{{\"rows\":42}}}},\"taskId\":\"{id}\",\"timestamp\":{}}}\n\n",
        end["updatedAt"]
    );
    assert_eq!(frames, [progress(1, 40), progress(2, 80), change].concat());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_ending_closes_the_stream_on_every_node(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let endings = [
        ("complete", "completed", "result", json!({ "rows": 42 })),
        ("fail", "failed", "error", json!({ "message": "the disk is full" })),
        ("timeout", "timeout", "", Value::Null),
        ("sweep", "timeout", "", Value::Null),
    ];
    for (word, status, name, value) in endings {
        let id = server.started("t").await;
        server.progressed(&id, json!({ "percent": 40 })).await;
        let streams =
            [server.track_at(0, &id, "").await, server.track_at(server.last_node(), &id, "").await];
        server.progressed(&id, json!({ "percent": 80 })).await;
        if word == "sweep" {
            server.clock.advance(Duration::from_secs(86_401));
            server.post("/tasks/timeouts/process", json!({})).await.ok();
        } else {
            let mut body = by("worker-1");
            body[name] = value.clone();
            server.post(&format!("/tasks/{id}/{word}"), body).await.ok();
        }
        let replayed = server.track(&id, "").await.rest().await;
        is_whole(&replayed, 0, 2, status);
        let end = replayed.last().expect("an end");
        let mut data = json!({ "status": status });
        if !name.is_empty() {
            data[name] = value;
        }
        assert_eq!(end.data["data"], data, "{word}");
        assert_eq!(
            (&end.data["event"], &end.data["taskId"]),
            (&json!("status_change"), &json!(id))
        );
        assert_eq!(end.data["timestamp"], server.task(&id).await["completedAt"]);
        for stream in streams {
            assert_eq!(stream.rest().await, replayed, "live and replayed are the same");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_no_end_come_without_an_id(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let mut stream = server.track_at(0, &id, "").await;
    stream.opened().await;
    let node = server.last_node();
    let started = server.post_at(node, &format!("/tasks/{id}/start"), by("worker-1")).await.ok();
    server.progressed(&id, json!({})).await;
    server.post_at(node, &format!("/tasks/{id}/release"), by("worker-1")).await.ok();
    let released = server.task(&id).await;
    let claim = json!({ "taskTypes": ["t"], "workerId": "worker-2" });
    let claimed = server.post_at(node, "/tasks/claim", claim).await.ok();
    server.progressed(&id, json!({})).await;
    let events = stream.take(5).await;
    assert_eq!(numbers(&events), [1, 2]);
    let expected = [
        (0, "in_progress", &started["updatedAt"]),
        (2, "pending", &released["updatedAt"]),
        (3, "in_progress", &claimed["updatedAt"]),
    ];
    for (index, status, at) in expected {
        let event = &events[index];
        assert_eq!((event.event.as_str(), event.status()), ("status_change", Some(status)));
        assert_eq!(event.id, None, "it must not move where the client resumes");
        assert_eq!((&event.data["timestamp"], &event.data["taskId"]), (at, &json!(id)));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_has_one_time_wherever_it_is_read(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let mut live = server.track_at(server.last_node(), &id, "").await;
    live.opened().await;
    let mut acknowledged = Vec::new();
    for number in 0..6 {
        server.clock.advance(Duration::from_millis(1234));
        let body = match number % 2 {
            0 => json!({ "progress": { "number": number } }),
            _ => json!({ "entries": [{ "number": number }] }),
        };
        let reply = server.post(&format!("/tasks/{id}/progress"), body).await.ok();
        acknowledged.push(reply["timestamp"].clone());
    }
    assert!(acknowledged.is_sorted_by_key(|at| instant(at)));
    let times = |events: &[Event]| -> Vec<Value> {
        events.iter().take(6).map(|event| event.data["timestamp"].clone()).collect()
    };
    assert_eq!(times(&live.take(6).await), acknowledged, "live");
    assert_eq!(times(&server.track(&id, "").await.take(6).await), acknowledged, "replayed");
    server.clock.advance(Duration::from_mins(1));
    server.completed(&id).await.ok();
    assert_eq!(times(&server.track(&id, "").await.rest().await), acknowledged, "sealed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_entries_ends_with_zero(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let stream = server.track(&id, "").await;
    server.post_nothing(&format!("/tasks/{id}/timeout")).await.ok();
    is_whole(&stream.rest().await, 0, 0, "timeout");
    is_whole(&server.track(&id, "").await.rest().await, 0, 0, "timeout");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn programs_may_read_the_same_events_as_lines(
    #[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    server.progressed(&id, json!({ "text": "a\n\ndata: b" })).await;
    let lines = server.track_with(&id, "", &[("accept", "application/x-ndjson")]).await;
    assert_eq!(lines.headers()["content-type"], "application/x-ndjson");
    assert_eq!(lines.headers()["cache-control"], "no-cache");
    assert_eq!(lines.headers()["x-accel-buffering"], "no");
    server.progressed(&id, json!({ "percent": 2 })).await;
    server.completed(&id).await.ok();
    let live = lines.text().await;
    assert!(live.ends_with('\n'));
    let events = server.track(&id, "").await.rest().await;
    let parsed = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    };
    let data: Vec<Value> = events.into_iter().map(|event| event.data).collect();
    assert_eq!(parsed(&live), data);
    let replayed = server.track_with(&id, "", &[("accept", "application/x-ndjson")]).await;
    assert_eq!(replayed.text().await, live);
    let after =
        server.track_with(&id, "?afterSeqId=1", &[("accept", "application/x-ndjson")]).await;
    assert_eq!(parsed(&after.text().await), data[1..]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_replayed_whole(#[values(Embedded, Node, TwoNodes, Cluster)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    for batch in 0..5 {
        let entries: Vec<Value> = (0..1000)
            .map(|n| json!({ "batch": batch, "n": n, "text": "ä".repeat(if n == 7 { 5000 } else { 20 }) }))
            .collect();
        server.post(&format!("/tasks/{id}/progress"), json!({ "entries": entries })).await.ok();
    }
    let mut live = server.track_at(server.last_node(), &id, "").await;
    assert_eq!(numbers(&live.take(5000).await), (1..=5000).collect::<Vec<_>>());
    server.completed(&id).await.ok();
    assert!(live.next().await.expect("an end").is_end());
    is_whole(&server.track(&id, "").await.rest().await, 0, 5000, "completed");
    is_whole(&server.track(&id, "?afterSeqId=2999").await.rest().await, 2999, 5000, "completed");
    let text = server.get(&format!("/tasks/{id}")).await.text;
    assert_eq!(items(&member(&text, "progressHistory")).len(), 5000);
}
