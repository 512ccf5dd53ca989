//! The service from outside: over HTTP, embedded and on servers, from one suite.
//!
//! | module | tests |
//! | --- | --- |
//! | `harness` | how a server is started, called and watched |
//!
//! `scripts/test` starts the servers these tests need; without them they fail and say so.

mod harness;
