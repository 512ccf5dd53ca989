//! A worker says that it is alive.

use std::time::Duration;

use super::{Error, Result, Tracker};
use crate::domain::{Caller, Lease, Task, TaskId, Transition};
use crate::storage::Change;

impl Tracker {
    /// Renews the lease of a task in progress, for `length` from now on if that is given. A task without a lease
    /// gets one by it.
    #[tracing::instrument(level = "debug", name = "task.heartbeat", skip_all, fields(task.id = %id))]
    pub async fn heartbeat(
        &self,
        id: TaskId,
        caller: Caller,
        length: Option<Duration>,
    ) -> Result<Task> {
        let tracker = self.clone();
        self.to_the_end(async move {
            let now = tracker.clock.now();
            let mut has_changed = false;
            let said = tracker
                .change_one(&id, Transition::Heartbeat, &caller, None, async |mut task: Task| {
                    let before = task.lease.as_ref().and_then(|lease| lease.length);
                    let lease = task.lease.take().unwrap_or_else(|| Lease::new(None, now));
                    let lease = lease.renewed(length, now);
                    has_changed = lease.length != before;
                    task.lease = Some(lease);
                    Ok(Change::from(task))
                })
                .await?;
            if has_changed {
                // Appends are answered with what the fence says of the lease.
                tracker.look_anew(&id).await;
            }
            let changed = said.now();
            let renewed =
                changed.ok_or_else(|| Error::Internal("a heartbeat without a key".into()))?;
            Ok(renewed.task)
        })
        .await
    }

    /// Has the next append of a task hear what has changed.
    pub(super) async fn look_anew(&self, id: &TaskId) {
        if let Err(error) = self.live.recheck(id, None).await {
            tracing::warn!(task.id = %id, error = &error as &dyn std::error::Error,
                "what has changed may be told late");
        }
    }
}
