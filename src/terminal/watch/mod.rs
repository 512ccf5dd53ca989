//! `watch`: what becomes of tasks, live.
//!
//! | module | says |
//! | --- | --- |
//! | [`named`] | tasks that were named, each by its own stream, every entry once |
//! | [`flow`] | what runs and what comes, of some types or of all, by one stream of events |
//! | [`screen`] | how it is shown: bars, lines, or JSON |
//! | [`bars`] | the bars of a terminal |

mod bars;
mod flow;
mod named;
mod screen;

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::end::{End, Ended, SIGINT};
use crate::cli::terminal::{ConnectArgs, WatchArgs};
use crate::domain::TaskId;
use screen::Screen;

/// How often bars are drawn anew.
const FRAME: Duration = Duration::from_millis(100);

/// Watches until what was asked for has ended.
pub(super) async fn watch(args: &WatchArgs) -> Ended {
    let mut screen = Screen::new(args.json);
    let mut signals = Signals::new()?;
    let (client, _) = super::connect(&args.connect)?;
    let patience = args.connect.retry_for;
    let ended = if args.ids.is_empty() {
        let types: Vec<String> = args.types.iter().map(ToString::to_string).collect();
        let flow = flow::Flow::new(client, types, patience, args.until_idle);
        flow.run(&mut screen, &mut signals).await
    } else {
        named::watch(&client, &args.ids, args.last, patience, &mut screen, &mut signals).await
    };
    screen.clear();
    ended
}

/// Watches one task that was just registered.
pub(super) async fn one(connect: &ConnectArgs, id: TaskId, json: bool) -> Ended {
    let mut screen = Screen::new(json);
    let mut signals = Signals::new()?;
    let (client, _) = super::connect(connect)?;
    let patience = connect.retry_for;
    let ended = named::watch(&client, &[id], None, patience, &mut screen, &mut signals).await;
    screen.clear();
    ended
}

/// What ends a watch from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.interrupt.recv() => End::Signal(SIGINT),
            _ = self.terminate.recv() => End::Signal(15),
        }
    }
}
