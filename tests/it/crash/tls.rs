//! Servers that speak TLS: trusted by a private authority, and by no other.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use task_tracker::app::App;
use task_tracker::clock::Clock;
use task_tracker::config::{Config, Mode as ConfigMode, RedisTls};
use task_tracker::live::redis::RedisLive;
use task_tracker::live::{Hub, Live};

use super::process::{Process, command, output};
use crate::contract::broker::Broker;
use crate::harness::{Ground, Mode, Server, certificate, eventually, seq_ids};

/// What an error and all behind it say.
fn said(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

async fn ping(url: &str, tls: &RedisTls) -> Result<(), String> {
    let (hub, interests) = Hub::remote();
    let live = RedisLive::connect(url, tls, "tracker", &hub, interests).map_err(said)?;
    live.ping().await.map_err(said)
}

fn trusting(ca: &str) -> RedisTls {
    RedisTls { ca: Some(certificate(ca)), client: None }
}

/// Changes where the Redis and the Postgres of a node are.
fn moved(mut config: Config, change: impl Fn(&mut String, &mut String)) -> Config {
    if let ConfigMode::Node { database_url, redis_url, .. } = &mut config.mode {
        change(database_url, redis_url);
    }
    config
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_lives_on_servers_that_speak_tls_only(
    #[values("rediss://", "valkeys://", "rediss-cluster://")] scheme: &str,
) {
    let server = Server::start_with(Mode::Tls, |config| {
        moved(config, |_, redis| *redis = redis.replace("rediss://", scheme))
    });
    let server = server.await;
    let id = server.started("t").await;
    let mut events = server.track(&id, "").await;
    events.opened().await;
    for number in 1..=5 {
        assert_eq!(server.progressed(&id, json!({ "percent": number })).await, number);
    }
    server.completed(&id).await.ok();
    let seen = events.rest().await;
    assert!(seen.iter().filter_map(crate::harness::Event::seq_id).eq(1..=5), "{seen:?}");
    assert!(seq_ids(&server.task(&id).await).into_iter().eq(1..=5));
    let ready = server.send(server.client().get(server.root("/readyz"))).await;
    assert_eq!(ready.status, 200, "{}", ready.text);
}

#[rstest]
#[tokio::test]
async fn a_redis_of_another_authority_is_refused_and_said_so(
    #[values("rediss://", "rediss-cluster://")] scheme: &str,
) {
    let ground = Ground::new(Mode::Tls).await;
    let url = ground.redis_url().expect("a node").replace("rediss://", scheme);
    ping(&url, &trusting("ca.pem")).await.expect("a server that is trusted");
    for tls in [trusting("other.pem"), RedisTls::default()] {
        let said = ping(&url, &tls).await.expect_err("a stranger");
        assert!(said.contains("certificate"), "{said}");
    }
}

#[tokio::test]
async fn a_redis_whose_certificate_names_another_is_refused() {
    let [ca, certificate, key] = ["ca.pem", "elsewhere.pem", "elsewhere.key"].map(certificate);
    let broker = Broker::start_with_tls(&ca, &certificate, &key).await;
    let said = ping(&broker.tls_url(), &trusting("ca.pem")).await.expect_err("another name");
    assert!(said.contains("not valid for name"), "{said}");
}

#[tokio::test]
async fn a_postgres_of_another_authority_is_refused_and_said_so() {
    let ground = Ground::new(Mode::Tls).await;
    let strange = moved(ground.config(), |database, _| {
        *database = database.replace("/ca.pem", "/other.pem");
    });
    let config = Config { patience: Duration::from_millis(100), ..strange };
    let said = said(App::start(config, Clock::system()).await.expect_err("a stranger"));
    assert!(said.contains("certificate"), "{said}");
}

#[tokio::test]
async fn a_process_is_told_whom_to_trust_and_says_whom_it_does_not() {
    let ground = Ground::new(Mode::Tls).await;
    let with = |ca: &str| {
        let mut process = command(&ground);
        process.env("TASK_TRACKER_REDIS_CA", certificate(ca));
        process
    };
    let process = Process::start_with(with("ca.pem")).await;
    let task = process.post("/tasks", &json!({ "taskType": "t" })).await;
    let path = format!("/tasks/{}", task["taskId"].as_str().expect("an id"));
    process.post(&format!("{path}/start"), &json!({})).await;
    let entry = json!({ "progress": { "percent": 1 } });
    assert_eq!(process.post(&format!("{path}/progress"), &entry).await["seqId"], 1);

    let refused = output(with("nothing.pem")).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("REDIS_URL") && said.contains("nothing.pem"), "{said}");

    let process = Process::start_with(with("other.pem")).await;
    eventually(async || process.said().contains("invalid peer certificate").then_some(())).await;
}

#[tokio::test]
async fn a_redis_that_asks_for_our_certificate_gets_it() {
    let [ca, server, key] = ["ca.pem", "server.pem", "server.key"].map(certificate);
    let broker = Broker::start_with_tls(&ca, &server, &key).await;
    let ours = Some((certificate("client.pem"), certificate("client.key")));
    ping(&broker.tls_url(), &RedisTls { ca: Some(ca), client: ours }).await.expect("an answer");
    assert!(ping(&broker.tls_url(), &trusting("ca.pem")).await.is_err());
}
