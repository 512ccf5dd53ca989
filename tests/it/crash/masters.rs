//! Masters of a cluster that lose what they had, and slots that move between them: who is concerned, and who is not.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::json;

use super::failover::{appended, insisted, ready, scene, tasks};
use super::told::{Told, entries, told};
use crate::contract::broker::Keeps;
use crate::contract::own_cluster::{Cluster, Move};
use crate::harness::{Events, Ground, Mode, Server, eventually, seq_ids};

/// Two nodes on three masters, and tasks of each: the first of a master has ten entries, the second none.
async fn begun(keeps: Keeps) -> (Cluster, Server, [Vec<String>; 3]) {
    let cluster = Cluster::that(keeps, 3).await;
    let ground = Ground::new(Mode::Cluster).await.on_redis(cluster.url());
    let server = Server::start_on(ground, |config| config).await;
    ready(&server).await;
    let of = tasks(&cluster, &server).await;
    for id in of.iter().map(|tasks| &tasks[0]) {
        for number in 1..=10 {
            assert_eq!(appended(&server, id, number).await, number);
        }
    }
    (cluster, server, of)
}

async fn streams(server: &Server, of: &[Vec<String>; 3]) -> Vec<Events> {
    let mut streams = Vec::new();
    for (turn, tasks) in of.iter().enumerate() {
        let mut events = server.track_at(turn % 2, &tasks[0], "").await;
        assert_eq!(told(&events.take(10).await), entries(1..=10));
        streams.push(events);
    }
    streams
}

async fn complete(server: &Server, id: &str) {
    let (path, by) = (format!("/tasks/{id}/complete"), json!({ "workerId": "worker-1" }));
    insisted(async || server.post(&path, by.clone()).await).await;
}

async fn seal(server: &Server) {
    for node in &server.nodes {
        eventually(async || node.tracker().note_generations().await.ok()).await;
        eventually(async || node.tracker().seal().await.ok()).await;
    }
}

fn end(last: u64) -> Told {
    Told::End(format!("{last}-end"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_comes_back_empty_concerns_its_own_tasks_only() {
    let (mut cluster, server, of) = begun(Keeps::Nothing).await;
    let streams = streams(&server, &of).await;
    cluster.kill(0);
    // One master that is away keeps nobody from sealing the others.
    seal(&server).await;
    cluster.start_again(0..1).await;
    for (owner, tasks) in of.iter().enumerate() {
        let gone = if owner == 0 { 10_000 } else { 0 };
        let spoken = if owner == 0 { 0 } else { 10 };
        assert_eq!(appended(&server, &tasks[0], 11).await, gone + spoken + 1);
        assert_eq!(appended(&server, &tasks[0], 12).await, gone + spoken + 2, "one gap, one loss");
        assert_eq!(appended(&server, &tasks[1], 1).await, gone + 1, "it had said nothing");
    }
    for (owner, (tasks, events)) in of.iter().zip(streams).enumerate() {
        complete(&server, &tasks[0]).await;
        let heard = told(&events.rest().await);
        let task = server.task(&tasks[0]).await;
        if owner == 0 {
            let after = [entries(10_001..=10_002), vec![end(10_002)]].concat();
            assert_eq!(heard, [vec![Told::Gap(11, 10_000)], after].concat());
            assert_eq!(seq_ids(&task), [10_001, 10_002]);
        } else {
            assert_eq!(heard, [entries(11..=12), vec![end(12)]].concat());
            assert!(seq_ids(&task).into_iter().eq(1..=12));
        }
    }
    // What begins now has lost nothing.
    for id in tasks(&cluster, &server).await.concat() {
        assert_eq!(appended(&server, &id, 1).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_was_flushed_concerns_its_own_tasks_only() {
    let (cluster, server, of) = begun(Keeps::Nothing).await;
    seal(&server).await;
    cluster.ask(1, &["FLUSHALL"]).await;
    for (owner, tasks) in of.iter().enumerate() {
        let number = if owner == 1 { 10_001 } else { 11 };
        assert_eq!(appended(&server, &tasks[0], 11).await, number);
    }
    // A release asks for the loss as well, though its task had said nothing.
    let path = format!("/tasks/{}/release", of[1][1]);
    insisted(async || server.post(&path, json!({ "workerId": "worker-1" })).await).await;
    let start = json!({ "workerId": "worker-1" });
    server.post(&format!("/tasks/{}/start", of[1][1]), start).await.ok();
    assert_eq!(appended(&server, &of[1][1], 1).await, 10_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_kept_everything_makes_no_gap() {
    let (mut cluster, server, of) = begun(Keeps::Everything).await;
    let streams = streams(&server, &of).await;
    cluster.kill(0);
    cluster.start_again(0..1).await;
    for (tasks, events) in of.iter().zip(streams) {
        assert_eq!(appended(&server, &tasks[0], 11).await, 11);
        assert_eq!(appended(&server, &tasks[1], 1).await, 1);
        complete(&server, &tasks[0]).await;
        assert_eq!(told(&events.rest().await), [Told::Entry(11), end(11)]);
        assert!(seq_ids(&server.task(&tasks[0]).await).into_iter().eq(1..=11));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_promoted_replica_had_not_received_is_said_to_be_gone() {
    let (mut cluster, server) = scene().await;
    let of = tasks(&cluster, &server).await;
    for id in of.iter().map(|tasks| &tasks[0]) {
        for number in 1..=10 {
            assert_eq!(appended(&server, id, number).await, number);
        }
    }
    let streams = streams(&server, &of).await;
    cluster.replicated(0, &format!("{{{}}}", of[0][0])).await;
    // The replica hears no more of its master, which goes on.
    cluster.stands_still(3, true);
    cluster.ask(0, &["CLIENT", "KILL", "TYPE", "replica"]).await;
    for number in 11..=13 {
        assert_eq!(appended(&server, &of[0][0], number).await, number);
    }
    cluster.kill(0);
    cluster.stands_still(3, false);
    let server = Arc::new(server);
    // Both nodes, at once.
    let given = join_all((0..6).map(|turn| {
        let (server, id) = (Arc::clone(&server), of[0][0].clone());
        async move { appended(&server, &id, 14 + turn).await }
    }));
    let mut given = given.await;
    given.sort_unstable();
    assert!(given.into_iter().eq(10_011..=10_016));
    assert_eq!(appended(&server, &of[0][1], 1).await, 10_001, "nobody knows what it had said");
    for (owner, (tasks, events)) in of.iter().zip(streams).enumerate() {
        complete(&server, &tasks[0]).await;
        let heard = told(&events.rest().await);
        let after = [entries(10_011..=10_016), vec![end(10_016)]].concat();
        if owner != 0 {
            assert_eq!(heard, [end(10)]);
            continue;
        }
        // It had heard of what is gone, unless it was cut off and came back later.
        assert_eq!(heard[..3], entries(11..=13));
        assert_eq!(heard[3..], [vec![Told::Gap(14, 10_010)], after].concat());
        assert!(
            seq_ids(&server.task(&tasks[0]).await).into_iter().eq((1..=10).chain(10_011..=10_016))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_loses_nothing_and_is_lost_with_its_new_master() {
    let (mut cluster, server, of) = begun(Keeps::Nothing).await;
    let (spoken, silent) = (&of[0][0], &of[0][1]);
    let mut stream = server.track_at(0, spoken, "").await;
    assert_eq!(told(&stream.take(10).await), entries(1..=10));
    for id in [spoken, silent] {
        assert_eq!(Move::of(&cluster, id).await.whole().await, 1);
    }
    assert_eq!(appended(&server, spoken, 11).await, 11);
    assert_eq!(appended(&server, spoken, 12).await, 12);
    assert_eq!(appended(&server, silent, 1).await, 1);
    // Both masters go on with what they have, the ends of the slots they own among it.
    for id in [&of[1][0], &of[2][0]] {
        assert_eq!(appended(&server, id, 11).await, 11);
    }
    // The first forgets everything, and has the slots no more.
    cluster.ask(0, &["FLUSHALL"]).await;
    assert_eq!(appended(&server, spoken, 13).await, 13);
    // The second does, and has them.
    cluster.kill(1);
    cluster.start_again(1..2).await;
    // It moves on to the third before anybody has looked what became of the second.
    assert_eq!(Move::of(&cluster, silent).await.whole().await, 2);
    assert_eq!(appended(&server, silent, 2).await, 10_001);
    // The first ten were sealed when the log moved, or with it.
    assert_eq!(appended(&server, spoken, 14).await, 10_011);
    complete(&server, spoken).await;
    let gap = Told::Gap(14, 10_010);
    let expected = [entries(11..=13), vec![gap, Told::Entry(10_011), end(10_011)]].concat();
    assert_eq!(told(&stream.rest().await), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_whose_slots_all_move_one_by_one_is_never_taken_for_lost() {
    let cluster = Cluster::of(2).await;
    let ground = Ground::new(Mode::Cluster).await.on_redis(cluster.url());
    let server = Server::start_on(ground, |config| config).await;
    ready(&server).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        let id = server.registered("work").await;
        server.post(&format!("/tasks/{id}/start"), json!({ "workerId": "worker-1" })).await.ok();
        assert_eq!(appended(&server, &id, 1).await, 1);
        ids.push(id);
    }
    // The marks of a memory are in the first and the last slot that its master owns.
    let moves = [(0, 0), (0, 8191), (0, 1), (0, 8190), (1, 8192), (1, 16383), (1, 0)];
    for (turn, (from, slot)) in moves.into_iter().enumerate() {
        Move::of_slot(&cluster, slot, from).whole().await;
        seal(&server).await;
        for id in &ids {
            let number = turn as u64 + 2;
            assert_eq!(appended(&server, id, number).await, number, "after slot {slot}");
        }
    }
}
