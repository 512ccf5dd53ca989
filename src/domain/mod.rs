//! What a task is and what may happen to it. Pure: no I/O, no async, no clock of its own.
//!
//! | module | says |
//! | --- | --- |
//! | [`name`] | ids and names as checked types: [`TaskId`], [`TaskType`], [`WorkerId`] |
//! | [`json`] | [`JsonObject`]: what clients own, kept as the text it came in |
//! | [`time`] | [`Timestamp`]: an instant, to the microsecond |
//! | [`lifecycle`] | every transition as one table: from where, to where, by which word |
//! | [`lease`] | who has a task, by name and by token, and for how long without a sign of life |
//! | [`task`] | [`Task`] and what registers one |
//! | [`once`] | [`Key`]: a request that may come twice and is done once |
//! | [`progress`] | [`Entry`]: one numbered line of a task's history |
//! | [`places`] | [`Places`]: where in the memory of the live log tasks are |
//! | [`histogram`] | how long things took, as counts of buckets |
//! | [`feed`] | [`Choice`]: which tasks a feed tells of, and [`Position`]: how far it has come |
//! | [`stream`] | [`Event`] on a task's stream, and [`Join`]: history to live without hole or repeat |

pub mod feed;
pub mod histogram;
pub mod json;
pub mod lease;
pub mod lifecycle;
pub mod name;
pub mod once;
pub mod places;
pub mod progress;
pub mod stream;
pub mod task;
pub mod time;

pub use feed::{Choice, Moved, Position};
pub use json::JsonObject;
pub use lease::{Caller, Lease};
pub use lifecycle::{Status, Transition};
pub use name::{LeaseToken, Reason, Search, TaskId, TaskType, WorkerId};
pub use once::{Key, Keyed, Receipt};
pub use places::Places;
pub use progress::Entry;
pub use stream::{Event, Gap, Join, Notice, StatusChange};
pub use task::{Cancellation, Ending, NewTask, Task, Terms};
pub use time::Timestamp;
