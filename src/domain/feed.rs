//! A feed tells of many tasks at once: where each of them stands now, and its progress.

use std::fmt;
use std::str::FromStr;

use super::lifecycle::Status;
use super::name::{TaskId, TaskType};
use super::task::Task;
use super::time::Timestamp;

/// A task stands elsewhere now: it is new, or its status has changed, or what else is to be known of it. Where it stands
/// is read: several moves of one task are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub id: TaskId,
    /// Of which type: whoever watches other types need not look.
    pub task_type: TaskType,
}

impl From<&Task> for Moved {
    fn from(task: &Task) -> Self {
        Self { id: task.id.clone(), task_type: task.task_type.clone() }
    }
}

/// `<id> <type>`: neither a blank is in an id, nor a line break in a type.
impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.task_type)
    }
}

/// A text that is no [`Moved`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a move of a task")]
pub struct NoMove;

impl FromStr for Moved {
    type Err = NoMove;

    fn from_str(text: &str) -> Result<Self, NoMove> {
        let (id, task_type) = text.split_once(' ').ok_or(NoMove)?;
        let (id, task_type) = (id.parse(), task_type.parse());
        Ok(Self { id: id.map_err(|_| NoMove)?, task_type: task_type.map_err(|_| NoMove)? })
    }
}

/// Which tasks a feed tells of. An empty list leaves none out; those of one list are alternatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// These.
    pub tasks: Vec<TaskId>,
    /// Those of these types.
    pub types: Vec<TaskType>,
    /// Those that stand here now, or might have until now.
    pub statuses: Vec<Status>,
}

impl Choice {
    /// Whether it is of interest where this task stands.
    pub fn concerns(&self, id: &TaskId, task_type: &TaskType) -> bool {
        (self.tasks.is_empty() || self.tasks.contains(id))
            && (self.types.is_empty() || self.types.contains(task_type))
    }

    /// Whether a task that moved is told. One that has left the chosen statuses is, too, or a reader would show it for ever where
    /// it was. Which status it had until now is not known, for several moves of a task are one: what it may have had counts.
    pub fn takes(&self, task: &Task) -> bool {
        let is_or_was = |chosen: &Status| match chosen {
            _ if *chosen == task.status => true,
            Status::Pending => true,
            Status::InProgress => task.attempt > 0,
            // Nothing leaves them.
            Status::Completed | Status::Failed | Status::Timeout | Status::Cancelled => false,
        };
        self.concerns(&task.id, &task.task_type)
            && (self.statuses.is_empty() || self.statuses.iter().any(is_or_was))
    }

    /// Whether the progress of a task is told.
    pub fn follows(&self, task: &Task) -> bool {
        task.status == Status::InProgress
            && self.concerns(&task.id, &task.task_type)
            && self.may_follow()
    }

    /// Whether the progress of any task is.
    pub fn may_follow(&self) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&Status::InProgress)
    }
}

/// How far a feed has come. Its text is the id of an event: `<microseconds>`, and where every entry is told behind that the
/// number of the newest of each task, in the order in which they are named: `<microseconds>-<seqId>.<seqId>…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Every move until then was told.
    pub at: Timestamp,
    /// Of each named task the newest entry that was told.
    pub seq_ids: Vec<u64>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at.as_micros())?;
        for (index, seq_id) in self.seq_ids.iter().enumerate() {
            write!(f, "{}{seq_id}", if index == 0 { '-' } else { '.' })?;
        }
        Ok(())
    }
}

/// A text that is no [`Position`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position in a feed")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (at, seq_ids) =
            text.split_once('-').map_or((text, None), |(at, seq_ids)| (at, Some(seq_ids)));
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let seq_id = |text: &str| text.parse().ok().filter(|_| digits(text)).ok_or(NoPosition);
        let at = at.parse().ok().filter(|_| digits(at)).and_then(Timestamp::from_micros);
        let seq_ids = seq_ids.map_or(Ok(Vec::new()), |text| text.split('.').map(seq_id).collect());
        Ok(Self { at: at.ok_or(NoPosition)?, seq_ids: seq_ids? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{NewTask, Terms};

    fn task(status: Status, attempt: u32) -> Task {
        let new = NewTask {
            id: "t".parse().unwrap(),
            task_type: "a b".parse().unwrap(),
            metadata: None,
            params: None,
            terms: Terms::DEFAULT,
        };
        Task { status, attempt, ..new.registered(Timestamp::from_micros(0).unwrap()) }
    }

    fn of(statuses: &[Status]) -> Choice {
        Choice { statuses: statuses.to_vec(), ..Choice::default() }
    }

    #[test]
    fn a_move_reads_back() {
        let moved = Moved::from(&task(Status::Pending, 0));
        assert_eq!(moved.to_string(), "t a b");
        assert_eq!("t a b".parse(), Ok(moved));
        for rubbish in ["", "t", " a", "t ", "t a\u{1}"] {
            assert_eq!(rubbish.parse::<Moved>(), Err(NoMove), "{rubbish:?}");
        }
    }

    #[test]
    fn who_leaves_a_status_is_told_once_more_and_who_never_was_there_is_not() {
        use Status::{Completed, Failed, InProgress, Pending};
        for (chosen, status, attempt, is_told) in [
            (&[][..], Completed, 1, true),
            (&[Pending], Pending, 0, true),
            (&[Pending], Completed, 1, true),
            (&[InProgress], Pending, 0, false),
            (&[InProgress], Pending, 1, true),
            (&[InProgress], Completed, 1, true),
            (&[Failed], Completed, 1, false),
            (&[Failed], Failed, 1, true),
            (&[Completed, Failed], InProgress, 1, false),
        ] {
            let task = task(status, attempt);
            assert_eq!(of(chosen).takes(&task), is_told, "{chosen:?} {status} {attempt}");
        }
        assert!(
            of(&[]).follows(&task(InProgress, 1)) && !of(&[Pending]).follows(&task(InProgress, 1))
        );
        assert!(!of(&[]).follows(&task(Pending, 1)));
    }

    #[test]
    fn names_and_types_must_both_hold() {
        let choice = |id: &str, task_type: &str| Choice {
            tasks: vec!["x".parse().unwrap(), id.parse().unwrap()],
            types: vec![task_type.parse().unwrap()],
            statuses: Vec::new(),
        };
        let task = task(Status::Pending, 0);
        assert!(choice("t", "a b").takes(&task));
        assert!(!choice("u", "a b").takes(&task) && !choice("t", "a").takes(&task));
    }

    proptest! {
        #[test]
        fn a_position_reads_back(micros in 0_i64..4_000_000_000_000_000, seq_ids in prop::collection::vec(0_u64..1 << 53, 0..20)) {
            let position = Position { at: Timestamp::from_micros(micros).unwrap(), seq_ids };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn rubbish_is_no_position(text in "[0-9.+ -]{0,30}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert!(!position.to_string().contains(['+', ' ']));
            }
        }
    }
}
