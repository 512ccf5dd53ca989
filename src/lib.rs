//! Task Tracker: a service that long-running work reports to, and that everybody watches live.
//!
//! ```text
//!           domain
//!          ↗      ↖
//!    storage      live        never each other (`database` may stand under both)
//!          ↖      ↗
//!           service
//!          ↗      ↖
//!       http      background  never each other, never storage or live
//!          ↖      ↗
//!            app              the composition root
//! ```
//!
//! Apart from all that, `terminal` talks to a service over HTTP, by `client`, which shares the words of the domain and nothing
//! else.
//!
//! `ARCHITECTURE.md` follows a task through it.

pub mod app;
pub mod background;
pub mod cli;
pub mod client;
pub mod clock;
pub mod coalescer;
pub mod config;
pub mod database;
pub mod domain;
pub mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod live;
pub mod outliving;
pub mod service;
pub mod storage;
pub mod telemetry;
pub mod terminal;
