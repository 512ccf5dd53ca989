//! What every store must do, said once and asked of each.
//!
//! | module | tests |
//! | --- | --- |
//! | `live` | the live log: in Redis and embedded |
//! | `storage` | every statement: on Postgres and SQLite |
//! | `plans` | what those statements cost among a million tasks |
//! | `broker` | a Redis of a test's own, to be stopped and broken |
//! | `own_cluster` | the same for a cluster |
//! | `forgetful` | either of both that loses its memory |

pub mod broker;
pub mod forgetful;
mod live;
pub mod own_cluster;
mod plans;
mod storage;
