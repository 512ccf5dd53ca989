//! Which nodes there are.

use std::collections::BTreeSet;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::instant;
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Server, eventually};

async fn nodes_at(server: &Server, node: usize) -> Vec<Value> {
    let answer = server.get_at(node, "/nodes").await.ok();
    answer["items"].as_array().expect("items").clone()
}

fn ids(nodes: &[Value]) -> BTreeSet<&str> {
    nodes.iter().map(|node| node["nodeId"].as_str().expect("an id")).collect()
}

/// The nodes that one sees once it sees so many.
async fn so_many(server: &Server, node: usize, count: usize) -> Vec<Value> {
    eventually(async || {
        let nodes = nodes_at(server, node).await;
        (nodes.len() == count).then_some(nodes)
    })
    .await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_it_is_and_what_it_serves(#[values(Embedded, Node)] mode: Mode) {
    let server = Server::start(mode).await;
    let node = &nodes_at(&server, 0).await[0];
    let word = if mode == Embedded { "embedded" } else { "node" };
    assert_eq!((&node["mode"], &node["isThis"]), (&json!(word), &json!(true)));
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert!(!node["host"].as_str().expect("a name").is_empty());
    assert!(instant(&node["startedAt"]) <= instant(&node["seenAt"]));
    assert_eq!((&node["openStreams"], &node["waitingWorkers"]), (&json!(0), &json!(0)));

    let id = server.started("t").await;
    let streams = [server.track(&id, "").await, server.track(&id, "").await];
    let wish = json!({ "taskTypes": ["other"], "workerId": "w", "waitSeconds": 60 });
    let serves = async |streams: u64, workers: u64| {
        eventually(async || {
            let node = &nodes_at(&server, 0).await[0];
            let told = (node["openStreams"].as_u64(), node["waitingWorkers"].as_u64());
            (told == (Some(streams), Some(workers))).then_some(())
        })
        .await;
    };
    tokio::select! {
        _ = server.post("/tasks/claim", wish) => panic!("there is no such task"),
        () = serves(2, 1) => {}
    }
    drop(streams);
    serves(0, 0).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_see_each_other_and_one_that_dies_leaves() {
    let mut server = Server::start(TwoNodes).await;
    // By themselves: nobody asks them to say that they are there.
    let [first, second] = [so_many(&server, 0, 2).await, so_many(&server, 1, 2).await];
    assert_eq!(ids(&first), ids(&second));
    let this = |nodes: &[Value]| {
        let this = nodes.iter().filter(|node| node["isThis"] == true);
        this.map(|node| node["nodeId"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let (first, second) = (this(&first), this(&second));
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);

    server.nodes.remove(1).abort();
    assert_eq!(nodes_at(&server, 0).await.len(), 2, "it may be slow, and no more");
    server.clock.advance(Duration::from_secs(31));
    assert_eq!(this(&so_many(&server, 0, 1).await), first);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_shut_down_leaves_at_once() {
    let mut server = Server::start(TwoNodes).await;
    so_many(&server, 0, 2).await;
    server.nodes.remove(1).shut_down().await;
    assert_eq!(nodes_at(&server, 0).await.len(), 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_started_anew_is_another_node(#[values(Embedded, Node)] mode: Mode) {
    let server = Server::start(mode).await;
    server.nodes[0].tracker().note_node().await.expect("a round");
    let before = nodes_at(&server, 0).await;
    let server = Server::start_on(server.stop().await, |config| config).await;
    let after = nodes_at(&server, 0).await;
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_ne!(ids(&before), ids(&after));
    // One that was killed is told of until it has been silent for a while.
    server.nodes[0].tracker().note_node().await.expect("a round");
    let Server { mut nodes, ground, .. } = server;
    nodes.remove(0).abort();
    let again = async || Server::start_on(ground, |config| config).await;
    if mode == Node {
        assert_eq!(nodes_at(&again().await, 0).await.len(), 2);
    }
}
