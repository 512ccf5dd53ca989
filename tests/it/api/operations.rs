//! Health, figures, the document.

use rstest::rstest;
use serde_json::{Value, json};

use super::{by, names};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

async fn got(server: &Server, path: &str) -> Reply {
    server.send(server.client().get(server.root(path))).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_how_it_does(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for _ in 0..server.nodes.len() {
        assert_eq!(got(&server, "/livez").await.status, 200);
        for path in ["/readyz", "/healthz"] {
            let reply = got(&server, path).await;
            assert_eq!(reply.status, 200, "{path}");
            let health = reply.json();
            assert_eq!(health["status"], "up");
            assert!(health["version"].is_string());
            let checks = health["checks"].as_array().expect("checks");
            let checked: Vec<&str> =
                checks.iter().filter_map(|check| check["name"].as_str()).collect();
            assert_eq!(checked, ["database", "live_log"]);
            for check in checks {
                assert_eq!(names(check), ["durationMs", "name", "status"]);
                assert_eq!(check["status"], "up");
                assert!(
                    check["durationMs"].as_f64().is_some_and(|took| (0.0..2000.0).contains(&took))
                );
            }
        }
    }
}

/// The value of a figure, summed over its labels.
fn figure(text: &str, name: &str) -> f64 {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
        .map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number"))
        .sum()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_counted(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let before = got(&server, "/metrics").await.text;
    for word in ["complete", "fail", "timeout", "release"] {
        let id = server.started("t").await;
        server.progressed(&id, json!({})).await;
        server.post(&format!("/tasks/{id}/{word}"), by("worker-1")).await.ok();
        if word == "fail" {
            server.post_nothing(&format!("/tasks/{id}/retry")).await.ok();
            server.track(&id, "").await.rest().await;
        }
    }
    server.post("/tasks/claim", json!({ "taskTypes": ["t"], "workerId": "w" })).await.ok();
    server.get("/tasks/nobody").await.problem(404, "task_not_found");
    let reply = got(&server, "/metrics").await;
    assert!(reply.header("content-type").starts_with("text/plain"));
    // The figures are of the process, where other servers may run too: they grew by at least as much.
    let grown = [
        ("tasks_registered_total", 4.0),
        ("tasks_started_total", 4.0),
        ("tasks_claimed_total", 1.0),
        ("tasks_completed_total", 1.0),
        ("tasks_failed_total", 1.0),
        ("tasks_timed_out_total", 1.0),
        ("tasks_released_total", 1.0),
        ("tasks_retried_total", 1.0),
        ("entries_appended_total", 4.0),
        ("streams_opened_total", 1.0),
        ("stream_events_total", 2.0),
        ("problems_total", 1.0),
        ("http_request_seconds_count", 15.0),
    ];
    for (name, least) in grown {
        let grew = figure(&reply.text, name) - figure(&before, name);
        assert!(grew >= least, "{name} grew by {grew}, not by {least}");
    }
    assert!(!reply.text.contains("worker-1"), "no label names a worker or a task");
    for name in ["workers", "tasks_alive", "busy_seconds", "parks_total"] {
        assert!(figure(&reply.text, &format!("runtime_{name}")) > 0.0, "{name} of the runtime");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_document_describes_every_call(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let reply = got(&server, "/openapi.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    let document = reply.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let calls = [
        ("/api/v1/tasks", "post"),
        ("/api/v1/tasks", "get"),
        ("/api/v1/tasks/claim", "post"),
        ("/api/v1/tasks/timeouts/process", "post"),
        ("/api/v1/tasks/{id}", "get"),
        ("/api/v1/tasks/{id}/start", "post"),
        ("/api/v1/tasks/{id}/complete", "post"),
        ("/api/v1/tasks/{id}/fail", "post"),
        ("/api/v1/tasks/{id}/timeout", "post"),
        ("/api/v1/tasks/{id}/progress", "post"),
        ("/api/v1/tasks/{id}/track", "get"),
        ("/api/v1/tasks/{id}/release", "post"),
        ("/api/v1/tasks/{id}/retry", "post"),
        ("/livez", "get"),
        ("/readyz", "get"),
        ("/healthz", "get"),
        ("/metrics", "get"),
    ];
    for (path, method) in calls {
        assert!(document["paths"][path][method].is_object(), "{method} {path}");
    }
    let properties = &document["components"]["schemas"]["Problem"]["properties"];
    assert!(properties["code"].is_object(), "{properties}");
}

/// What the attributes `src` and `href` of a page name.
fn loaded(html: &str) -> Vec<&str> {
    let values = ["src=\"", "href=\"", "src='", "href='"].into_iter().flat_map(|attribute| {
        let quote = attribute.chars().last().expect("a quote");
        html.split(attribute).skip(1).filter_map(move |rest| rest.split(quote).next())
    });
    values.collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_docs_page_needs_nothing_from_elsewhere(#[values(Embedded)] mode: Mode) {
    let server = Server::start(mode).await;
    assert_eq!(got(&server, "/docs").await.status, 200, "a redirect is followed");
    let page = got(&server, "/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    let assets = loaded(&page.text);
    assert!(assets.len() >= 3, "{assets:?}");
    for asset in assets {
        assert!(!asset.contains("//"), "loaded from elsewhere: {asset}");
        let path = asset.trim_start_matches("./");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/docs/{path}") };
        let reply = got(&server, &path).await;
        assert_eq!(reply.status, 200, "{asset}");
        assert!(!reply.text.is_empty(), "{asset}");
        if path.ends_with("css") {
            for url in reply.text.split("url(").skip(1) {
                assert!(!url.trim_start_matches(['"', '\'']).starts_with("http"), "{asset}");
            }
        }
    }
    let setup = got(&server, "/docs/swagger-initializer.js").await;
    assert!(setup.text.contains(r#""../openapi.json""#), "{}", setup.text);
    for external in ["http://", "https://"] {
        assert!(!setup.text.contains(external), "{}", setup.text);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_docs_page_asks_no_validator_elsewhere(#[values(Embedded)] mode: Mode) {
    let server = Server::start(mode).await;
    // Its default is a badge from validator.swagger.io, on every host but localhost.
    let setup = got(&server, "/docs/swagger-initializer.js").await.text;
    let setting = setup.split("\"validatorUrl\":").nth(1).unwrap_or_default().trim_start();
    let off = ["null", "\"none\"", "\"\"", "false"].into_iter().any(|off| setting.starts_with(off));
    assert!(off, "{setup}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_the_same_on_every_start(#[values(Embedded, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let first: Value = got(&server, "/openapi.json").await.json();
    assert_eq!(first, got(&server, "/openapi.json").await.json());
    assert_eq!(first.to_string(), {
        let document: Value =
            serde_json::from_str(&task_tracker::http::document::json()).expect("JSON");
        document.to_string()
    });
}
