//! The service from outside: over HTTP, embedded and on servers, from one suite.
//!
//! | module | tests |
//! | --- | --- |
//! | `api` | what a client may rely on, over HTTP |
//! | `bench` | the pure parts of the load driver |
//! | `chaos` | whatever is killed, whenever: what was promised is kept |
//! | `contract` | what every store must do, asked of each |
//! | `crash` | nodes that die, and a broker that forgets |
//! | `harness` | how a server is started, called and watched |
//! | `house` | the rules of the house, as far as a test can read them |
//! | `outage` | calls and streams while a dependency is away |
//! | `terminal` | the commands for a terminal, as processes |
//!
//! `scripts/test` starts the servers these tests need; without them they fail and say so.

#![allow(clippy::large_futures, reason = "a test is run once")]
#![expect(unreachable_pub, reason = "one binary: `pub` says what a module offers to the others")]

mod api;
mod bench;
mod chaos;
mod contract;
mod crash;
mod harness;
mod house;
mod outage;
mod terminal;
