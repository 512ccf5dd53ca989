//! Which nodes there are: each says every few seconds that it is there, and a node that is shut down says that it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Result, Tracker};
use crate::domain::{TaskId, Timestamp};
use crate::storage::Node;

/// A node that said nothing for so long is not told of: it says something every five seconds.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// And is forgotten after so long.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(24);
/// How long a node that closes tries to say so: without its word others notice, only later.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a node is called and where it runs.
#[derive(Debug)]
pub struct Identity {
    id: String,
    mode: &'static str,
    host: String,
    started_at: Timestamp,
    /// Streams that are open on it.
    streams: Arc<AtomicUsize>,
    /// Whether it said that it is there.
    is_noted: AtomicBool,
}

impl Identity {
    /// Of a node that starts now, which serves as many streams as `streams` says at any time.
    pub fn new(
        mode: &'static str,
        host: String,
        started_at: Timestamp,
        streams: Arc<AtomicUsize>,
    ) -> Self {
        // A name of its own each time: what was said of a node before it was started anew is not said of this one.
        let id = TaskId::new().to_string();
        Self { id, mode, host, started_at, streams, is_noted: AtomicBool::new(false) }
    }
}

impl Tracker {
    /// This node as it is now.
    fn itself(&self) -> Node {
        let Identity { id, mode, host, started_at, streams, .. } = &self.identity;
        Node {
            node_id: id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: (*mode).to_owned(),
            host: host.clone(),
            started_at: *started_at,
            seen_at: self.clock.now(),
            open_streams: streams.load(Ordering::Relaxed) as u64,
            waiting_workers: self.hub.waiters().count() as u64,
        }
    }

    /// Says that this node is there, and forgets those that are not for a day.
    pub async fn note_node(&self) -> Result<u64> {
        // Before it is done: whoever is cut off in the middle of it may have done it.
        self.identity.is_noted.store(true, Ordering::Relaxed);
        let itself = self.itself();
        self.storage.note_node(&itself).await?;
        Ok(self.storage.forget_nodes(itself.seen_at.minus(FORGOTTEN_AFTER)).await?)
    }

    /// The nodes that run, those that run for the longest time first, and of each whether it is this one.
    #[tracing::instrument(level = "debug", name = "nodes.list", skip_all)]
    pub async fn nodes(&self) -> Result<Vec<(Node, bool)>> {
        let itself = self.itself();
        let others = self.storage.nodes(itself.seen_at.minus(GONE_AFTER)).await?;
        let mut nodes: Vec<(Node, bool)> = others
            .into_iter()
            .filter(|other| other.node_id != itself.node_id)
            .map(|other| (other, false))
            .collect();
        // Of itself it knows better than what it said some seconds ago.
        nodes.push((itself, true));
        nodes.sort_by(|(a, _), (b, _)| (a.started_at, &a.node_id).cmp(&(b.started_at, &b.node_id)));
        Ok(nodes)
    }

    /// Says that this node goes.
    pub(super) async fn say_farewell(&self) {
        if !self.identity.is_noted.load(Ordering::Relaxed) {
            return;
        }
        let forgotten = self.storage.forget_node(&self.identity.id);
        match tokio::time::timeout(FAREWELL, forgotten).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "closes without a word");
            }
            Err(_) => tracing::debug!("closes without a word, which took too long"),
        }
    }
}
