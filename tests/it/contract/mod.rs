//! What every store must do, said once and asked of each.
//!
//! | module | tests |
//! | --- | --- |
//! | `live` | the live log: in Redis and embedded |
//! | `storage` | every statement: on Postgres and SQLite |
//! | `plans` | what those statements cost among a million tasks |
//! | `broker` | a Redis of a test's own, to be stopped and broken |

pub mod broker;
mod live;
mod plans;
mod storage;
