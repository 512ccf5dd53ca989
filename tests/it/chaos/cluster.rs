//! A cluster of three masters, each with a replica, out of servers that are told to be one.

use redis::aio::MultiplexedConnection;

use crate::contract::broker;
use crate::harness::eventually;

/// How many masters there are, and as many replicas.
pub const MASTERS: usize = 3;
/// What each server is told. Silent for two seconds, a master is dead; a replica takes its place whatever it has.
pub const OPTIONS: [&str; 12] = [
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "2000",
    "--cluster-require-full-coverage",
    "no",
    "--cluster-replica-validity-factor",
    "0",
    "--cluster-allow-replica-migration",
    "no",
    "--repl-diskless-sync-delay",
    "0",
];

/// A connection to one of them.
pub async fn connect(port: u16) -> redis::RedisResult<MultiplexedConnection> {
    broker::connect(&format!("redis://127.0.0.1:{port}")).await
}

async fn said(port: u16, words: &[&str]) -> Option<String> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query_async(&mut connect(port).await.ok()?).await.ok()
}

/// Makes one of them: the first are the masters.
pub async fn form(ports: &[u16], buses: &[u16]) {
    let ask = async |port: u16, words: &[&str]| said(port, words).await.expect("an answer");
    let text = |number: usize| number.to_string();
    for (server, port) in ports.iter().enumerate() {
        if server < MASTERS {
            let first = text(server * 16384 / MASTERS);
            let last = text((server + 1) * 16384 / MASTERS - 1);
            ask(*port, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
        }
        ask(*port, &["CLUSTER", "SET-CONFIG-EPOCH", &text(server + 1)]).await;
        for (other, bus) in ports.iter().zip(buses).take(server) {
            let (other, bus) = (other.to_string(), bus.to_string());
            ask(*port, &["CLUSTER", "MEET", "127.0.0.1", &other, &bus]).await;
        }
    }
    let all = format!("cluster_known_nodes:{}\r", ports.len());
    for port in ports {
        eventually(async || {
            let info = said(*port, &["CLUSTER", "INFO"]).await?;
            let facts = ["cluster_state:ok", "cluster_slots_ok:16384", &all];
            facts.iter().all(|fact| info.contains(*fact)).then_some(())
        })
        .await;
    }
    for (master, replica) in ports.iter().zip(&ports[MASTERS..]) {
        let id = ask(*master, &["CLUSTER", "MYID"]).await;
        ask(*replica, &["CLUSTER", "REPLICATE", &id]).await;
        eventually(async || {
            let info = said(*replica, &["INFO", "replication"]).await?;
            info.contains("master_link_status:up").then_some(())
        })
        .await;
        // The others know of it, or it would not be elected.
        for port in ports {
            eventually(async || {
                let nodes = said(*port, &["CLUSTER", "NODES"]).await?;
                nodes.contains(&format!("slave {id}")).then_some(())
            })
            .await;
        }
    }
}
