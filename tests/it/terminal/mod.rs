//! The commands for a terminal: the real binary against a real server.
//!
//! | module | tests |
//! | --- | --- |
//! | `calls` | one call each, for scripts: what is printed, and the exit status |
//! | `watch` | what is shown of named tasks, and how a watch ends |
//! | `flow` | what is shown of everything that runs and comes |
//! | `draw` | what is drawn on a terminal |
//! | `work` | a worker made of a program: what goes in and what comes out |
//! | `hold` | leases, cancellation, and a worker that is told to stop |
//! | `away` | servers that are killed while somebody watches or works |
//! | `command` | how the binary is run as a client |
//! | `screen` | a terminal to draw on |

mod away;
mod calls;
mod command;
mod draw;
mod flow;
mod hold;
mod screen;
mod watch;
mod work;
