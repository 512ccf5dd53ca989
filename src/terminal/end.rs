//! How a command ends, and its exit status.

use std::io;
use std::process::ExitCode;

use crate::client::Error;
use crate::domain::Status;

/// How a command ended that did what it was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Well.
    Done,
    /// What it was about failed, or a part of it was refused.
    Failed,
    /// There was no task.
    Nothing,
    /// What it was about was cancelled, and nothing failed.
    Cancelled,
    /// By a signal of this number.
    Signal(u8),
}

/// Why a command could not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Other(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(super) type Ended = Result<End, Failure>;

/// Ctrl-C.
pub(super) const SIGINT: u8 = 2;
/// A write to a pipe that nobody reads, as every program of the system ends by.
const SIGPIPE: u8 = 13;

impl End {
    /// Of several, the worst.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        let rank = |end| match end {
            Self::Done | Self::Nothing => 0,
            Self::Cancelled => 1,
            Self::Failed => 2,
            Self::Signal(_) => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }

    fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Nothing => 3,
            Self::Cancelled => 5,
            Self::Signal(number) => 128 + number,
        }
    }
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        match status {
            Status::Failed | Status::Timeout => Self::Failed,
            Status::Cancelled => Self::Cancelled,
            Status::Completed | Status::Pending | Status::InProgress => Self::Done,
        }
    }
}

/// Says on stderr what went wrong, and gives the exit status.
pub(super) fn exit_code(ended: Ended) -> ExitCode {
    let failure = match ended {
        Ok(end) => return ExitCode::from(end.status()),
        Err(failure) => failure,
    };
    let status = match &failure {
        Failure::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::from(128 + SIGPIPE);
        }
        Failure::Client(Error::Refused(_)) | Failure::Io(_) | Failure::Other(_) => 1,
        Failure::Client(Error::Unreachable { .. } | Error::Foreign { .. }) => 4,
        Failure::Usage(_) => 2,
    };
    super::show::note(&failure.to_string());
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_ends_the_worst_counts() {
        let ends = |ends: &[End]| ends.iter().copied().fold(End::Done, End::and);
        assert_eq!(ends(&[]), End::Done);
        assert_eq!(ends(&[End::Cancelled, End::Done]), End::Cancelled);
        assert_eq!(ends(&[End::Cancelled, End::Failed, End::Done, End::Cancelled]), End::Failed);
    }
}
