//! What a use case may answer instead of what was asked.

use crate::coalescer::GivenUp;
use crate::domain::TaskId;
use crate::domain::lifecycle::Refused;
use crate::{live, storage};

/// The result of a use case.
pub type Result<T> = std::result::Result<T, Error>;

/// A use case could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No task has this id.
    #[error("there is no task {0}")]
    TaskNotFound(TaskId),
    /// A task has this id already.
    #[error("there is a task {0} already")]
    TaskExists(TaskId),
    /// The log of the task would become longer than it may; the task can still end.
    #[error("the log of task {0} may not become longer")]
    LogFull(TaskId),
    /// The lifecycle does not allow it.
    #[error("task {task}: {refused}")]
    Refused {
        /// Which task.
        task: TaskId,
        /// What the lifecycle said.
        refused: Refused,
    },
    /// The key of the request stands for another one.
    #[error("this Idempotency-Key was sent with another request before")]
    KeyReused,
    /// As many workers wait as may.
    #[error("as many workers wait here as may; ask again later")]
    TooManyClaims,
    /// The store or the broker is away: the same call may succeed later.
    #[error("a dependency is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A defect of ours.
    #[error("an internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(super) fn refused(task: &TaskId, refused: Refused) -> Self {
        Self::Refused { task: task.clone(), refused }
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Unavailable(_) => Self::Unavailable(error.into()),
            storage::Error::Failed(_) => Self::Internal(error.into()),
        }
    }
}

impl From<live::Error> for Error {
    fn from(error: live::Error) -> Self {
        match error {
            live::Error::Unavailable(_) => Self::Unavailable(error.into()),
            live::Error::Failed(_) => Self::Internal(error.into()),
        }
    }
}

impl From<GivenUp> for Error {
    fn from(error: GivenUp) -> Self {
        Self::Internal(error.into())
    }
}
