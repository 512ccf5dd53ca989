//! Durable truth, in SQL: tasks, sealed histories, endings not yet settled.
//!
//! | module | holds |
//! | --- | --- |
//! | [`migrations`] | the schema, brought up to date under a lock |
//! | `register` | registering, one or many at once |
//! | `claim` | claiming, for one worker or for many at once |
//! | `tasks` | reading; what is not settled yet |
//! | `change` | the one way a status changes |
//! | `row` | a task as a row |
//! | `idempotency` | what was answered to requests that may come twice |
//! | `lists` | keyset pages and counts |
//! | `walk` | how a list is said in SQL: as a walk along one index |
//! | `moves` | what has moved lately |
//! | `entries` | sealed history, page by page |
//! | `sealing` | how entries are added to it: without an overlap, and without a hole that is not said |
//! | `generations` | when the live log lost its memory, or one of them |
//! | `workers` | who polls for work |
//! | `overview` | how many tasks stand where, and a window of figures |
//! | `nodes` | which nodes there are |
//! | `plans` | how the databases would run what must stay cheap |
//! | `dialect` | what Postgres and SQLite say differently, each with its reason |
//!
//! One implementation serves both databases. It does compare-and-set with what the lifecycle says and
//! never knows what a status means; time is always an argument; a transaction never leaves a method.

mod change;
mod claim;
mod dialect;
mod entries;
mod generations;
mod idempotency;
mod lists;
pub mod migrations;
mod moves;
mod nodes;
mod overview;
mod plans;
mod register;
mod row;
mod sealing;
mod tasks;
mod walk;
mod workers;

pub use crate::database::Error;
use crate::database::{Database, Kind};
pub use change::{Change, Changed, Due, Selection};
pub use claim::Claim;
pub use entries::Sealed;
pub use generations::Memories;
pub use idempotency::{Outcome, progress_scope};
pub use lists::{By, Cursor, Filter, Listed, Order, Page};
pub use nodes::Node;
pub use overview::{Active, EndedTasks, Ends, Lately, Queue, Stretch};
pub use sealing::Loss;
pub use tasks::Measured;
pub use workers::{Polled, Seen};

/// The tables of the core; cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    database: Database,
}

impl Storage {
    /// On a database whose schema is up to date: see [`migrations::run`].
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Whether what is written waits for each other.
    pub fn has_one_writer(&self) -> bool {
        self.database.kind() == Kind::Sqlite
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), Error> {
        self.database.ping().await
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

/// A row this service cannot have written, named.
fn unreadable(what: &str) -> Error {
    Error::Failed(sqlx::Error::Decode(format!("unreadable: {what}").into()))
}
