//! A Redis of a test's own that loses its memory: one server, or a cluster of three masters.

use super::broker::{Broker, Keeps};
use super::own_cluster::Cluster;
use crate::harness::Mode;

/// Masters of the cluster.
const MASTERS: usize = 3;

/// The servers.
#[derive(Debug)]
pub enum Forgetful {
    /// One.
    One(Broker),
    /// Three that share the slots.
    Cluster(Cluster),
}

impl Forgetful {
    /// What `mode` wants, which keeps so much when it is killed.
    pub async fn start(mode: Mode, keeps: Keeps) -> Self {
        match mode {
            Mode::Cluster => Self::Cluster(Cluster::that(keeps, MASTERS).await),
            _ => Self::One(Broker::start_that(keeps).await),
        }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        match self {
            Self::One(broker) => broker.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Forgets everything, as by an operator's mistake.
    pub async fn flush(&self) {
        self.everywhere("FLUSHALL").await;
    }

    /// Writes a snapshot of what is there now.
    pub async fn save(&self) {
        self.everywhere("SAVE").await;
    }

    async fn everywhere(&self, word: &str) {
        match self {
            Self::One(broker) if word == "SAVE" => broker.save().await,
            Self::One(broker) => broker.flush().await,
            Self::Cluster(cluster) => {
                for master in 0..MASTERS {
                    cluster.ask(master, &[word]).await;
                }
            }
        }
    }

    /// Kills all of it at once, and starts it with what it kept.
    pub async fn kill_and_start(&mut self) {
        match self {
            Self::One(broker) => {
                broker.stop();
                broker.start_again().await;
            }
            Self::Cluster(cluster) => {
                (0..MASTERS).for_each(|master| cluster.kill(master));
                cluster.start_again(0..MASTERS).await;
            }
        }
    }
}
