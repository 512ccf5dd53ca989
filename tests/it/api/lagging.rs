//! A feed whose reader takes nothing for a while.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use task_tracker::domain::{Choice, TaskId};
use task_tracker::service::{Detail, Feed, Told, Wish};
use tokio::time::timeout;

use crate::harness::Mode::{self, Embedded, Node};
use crate::harness::Server;

/// Readings that a reader may be behind, and some more.
const READINGS: usize = 260;

async fn feed(server: &Server, detail: Detail, tasks: Vec<TaskId>) -> Feed {
    let choice = Choice { tasks, ..Choice::default() };
    let wish = Wish { choice, detail, every: Duration::ZERO, after: None, follows: true };
    let mut feed = server.nodes[0].tracker().feed(wish).await.expect("a feed");
    feed.next().await.expect("that it is open");
    feed
}

async fn next(feed: &mut Feed) -> Vec<Told> {
    let told = timeout(Duration::from_secs(20), feed.next()).await.expect("news in time");
    let told = told.expect("tellings").expect("that it goes on");
    told.into_iter().map(|telling| telling.told).collect()
}

/// Waits until a feed has told where a task stands.
async fn until_told(feed: &mut Feed, id: &str) {
    let is_told = |told: &Told| matches!(told, Told::Task(now) if now.task.id.as_str() == id);
    while !next(feed).await.iter().any(is_told) {}
}

#[rstest]
#[case::of_many(Detail::Latest, false)]
#[case::of_named_tasks(Detail::All, true)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_that_fell_behind_was_not_told_is_followed_all_the_same(
    #[values(Embedded, Node)] mode: Mode,
    #[case] detail: Detail,
    #[case] is_named: bool,
) {
    let server = Server::start(mode).await;
    let id = "begins-unheard";
    let task: TaskId = id.parse().expect("an id");
    let named = if is_named { vec![task.clone()] } else { Vec::new() };
    let mut behind = feed(&server, detail, named).await;
    let mut ahead = feed(&server, Detail::None, Vec::new()).await;
    server.post("/tasks", json!({ "taskId": id, "taskType": "t" })).await.ok();
    server.post(&format!("/tasks/{id}/start"), json!({})).await.ok();
    until_told(&mut ahead, id).await;
    for _ in 0..READINGS {
        until_told(&mut ahead, &server.registered("t").await).await;
    }
    let (mut is_told_to_list, mut entries) = (false, 0);
    while entries < 2 {
        for told in next(&mut behind).await {
            match told {
                Told::Resync => is_told_to_list = true,
                Told::Event(of, _) if of == task => entries += 1,
                Told::Open { .. } | Told::Task(_) | Told::Event(..) => {}
            }
        }
        if is_told_to_list {
            server.progressed(id, json!({ "n": entries })).await;
        }
    }
}
