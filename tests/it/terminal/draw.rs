//! What is drawn on a terminal.

use serde_json::json;

use super::command::command;
use super::screen::Drawn;
use crate::harness::{Mode, PATIENCE, Server};

#[tokio::test]
async fn bars_are_drawn_and_a_line_stays_of_each_end() {
    let server = Server::start(Mode::Embedded).await;
    let (one, other) = (server.started("t").await, server.registered("t").await);
    server.progressed(&one, json!({ "current": 1, "total": 4, "stage": "load" })).await;
    let mut drawn = Drawn::start(command(&server.root(""), &["watch", &one, &other]), 100);
    drawn.shows(" 25%  1/4").await;
    drawn.shows("waits").await;
    server
        .progressed(&one, json!({ "percent": 50, "message": "halfway", "etaSeconds": 3000 }))
        .await;
    drawn.shows(" 50%").await;
    drawn.shows("50 min left  load  halfway").await;
    assert!(drawn.seen().contains("━"), "a bar");
    server.completed(&one).await.ok();
    drawn.shows(&format!("✓ {one}  completed")).await;
    let body = json!({ "reason": "enough" });
    server.post(&format!("/tasks/{other}/cancel"), body).await.ok();
    drawn.shows(&format!("✗ {other}  cancelled  enough")).await;
    let ended = tokio::time::timeout(PATIENCE, drawn.child.wait()).await.expect("an end");
    assert_eq!(ended.expect("a status").code(), Some(5));
}

#[tokio::test]
async fn a_table_fits_its_terminal_and_has_colours_unless_they_are_unwanted() {
    let server = Server::start(Mode::Embedded).await;
    let id = server.started(&"long.type.".repeat(9)).await;
    server
        .progressed(&id, json!({ "message": "what is to be read here is long. ".repeat(9) }))
        .await;
    let mut drawn = Drawn::start(command(&server.root(""), &["tasks"]), 90);
    drawn.shows("what is").await;
    drawn.child.wait().await.expect("an end");
    let seen = drawn.seen();
    assert!(seen.contains("\u{1b}[36min_progress"), "{seen:?}");
    for line in seen.lines() {
        assert!(console::measure_text_width(line) <= 90, "{line:?}");
    }
    let mut plain = command(&server.root(""), &["tasks"]);
    plain.env("NO_COLOR", "1");
    let mut drawn = Drawn::start(plain, 90);
    drawn.shows("what is").await;
    drawn.child.wait().await.expect("an end");
    assert!(!drawn.seen().contains('\u{1b}'), "{:?}", drawn.seen());
}
