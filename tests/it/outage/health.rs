//! What a node says of itself while a dependency is away.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use task_tracker::config::Mode as ConfigMode;

use super::in_time;
use crate::crash::process::{Process, command};
use crate::harness::{Fault, Ground, Mode, Proxies, Proxy, Server, eventually};

/// How long a node may take to say how it does: two seconds and a bit, and some for a machine that has other work.
const IN_TIME: Duration = Duration::from_secs(4);

async fn asked(server: &Server, path: &str) -> crate::harness::Reply {
    let request = server.client().get(server.root_at(0, path));
    in_time(IN_TIME, path, server.send(request)).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_in_time_that_it_is_not_ready_and_when_it_is_again(
    #[values(Fault::Refused, Fault::BlackHole, Fault::Deaf)] fault: Fault,
    #[values("database", "live_log")] name: &str,
) {
    let (server, proxies) = Server::start_behind(Mode::Node).await;
    assert_eq!(asked(&server, "/readyz").await.status, 200);
    let proxy: &Proxy = if name == "database" { &proxies.database } else { &proxies.redis };
    proxy.set(fault);
    for _ in 0..2 {
        let (ready, alive, health) = futures::join!(
            asked(&server, "/readyz"),
            asked(&server, "/livez"),
            asked(&server, "/healthz")
        );
        assert_eq!((ready.status, alive.status), (503, 200), "{}", ready.text);
        let health = health.ok();
        for check in health["checks"].as_array().expect("checks") {
            let expected = if check["name"] == name { "down" } else { "up" };
            assert_eq!(check["status"], expected, "{health}");
        }
    }
    proxy.set(Fault::None);
    eventually(|| async { (asked(&server, "/readyz").await.status == 200).then_some(()) }).await;
    server.registered("work").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duty_whose_dependency_is_away_says_so_once() {
    let (ground, proxies) = (Ground::new(Mode::Node).await, Proxies::new());
    let ConfigMode::Node { database_url, redis_url, .. } = proxies.route(ground.config()).mode
    else {
        panic!("a node's ground");
    };
    let mut command = command(&ground);
    command.env("DATABASE_URL", database_url).env("REDIS_URL", redis_url);
    let process = Process::start_with(command).await;
    proxies.database.set(Fault::Refused);
    let failed = |process: &Process| {
        let said = process.said();
        let warned = said.lines().filter(|line| line.contains("WARN") && line.contains("sweep"));
        warned.count()
    };
    // The sweep comes every two seconds and fails every time.
    let url = process.api("").replace("/api/v1", "/metrics");
    let runs = async || {
        let figures = reqwest::get(&url).await.expect("an answer").text().await.expect("text");
        let line = figures.lines().find(|line| {
            line.starts_with("duty_runs_total") && line.contains("sweep") && line.contains("failed")
        })?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    eventually(|| async { runs().await.filter(|runs| *runs >= 3.0) }).await;
    assert_eq!(failed(&process), 1, "{}", process.said());
    proxies.database.set(Fault::None);
    eventually(|| async {
        let said = process.said();
        said.lines().any(|line| line.contains("over: ") && line.contains("sweep")).then_some(())
    })
    .await;
    assert_eq!(failed(&process), 1, "{}", process.said());
    process.post("/tasks", &json!({ "taskType": "work" })).await;
}
