//! What is measured, as one list; each kind of scenario is a module.

mod bulk;
mod claim;
mod fanout;
mod idle;
mod lifecycle;
mod open;
mod process;
mod progress;
mod register;
mod replay;
mod sweep;

use anyhow::Result;
use bytes::Bytes;

use crate::cli::Options;
use crate::drive::{Sample, Stage};
use crate::openloop;
use crate::seed;
pub(crate) use crate::sse::Dialect;
pub(crate) use fanout::{Fan, Following, gather, message};
pub(crate) use progress::request as entries;
pub(crate) use replay::replays;

/// One line of the tables.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Of what the figure counts.
    pub(crate) unit: &'static str,
    pub(crate) kind: Kind,
}

/// How it is played.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Tasks registered, one a request.
    Register { connections: usize },
    /// Tasks registered, `tasks` a request.
    RegisterBulk { connections: usize, tasks: usize },
    /// Tasks claimed from a backlog of `types` types, each worker asking for `asked` of them.
    Claim { workers: usize, types: usize, asked: usize },
    /// Entries appended to a hundred running tasks, `entries` a request.
    Progress { connections: usize, entries: usize, listened: bool },
    /// Tasks claimed from a backlog, and completed.
    Process { workers: usize },
    /// Whole lives: register, claim, ten entries, complete.
    Lifecycle { connections: usize },
    /// One task watched by many; `entries` a request, ten requests a second or as many as it takes.
    FanOut { paced: bool, entries: usize },
    /// Streams on which nothing happens.
    IdleStreams,
    /// A long history read from its beginning, of a task that runs or has ended.
    Replay { finished: bool },
    /// Overdue tasks ended.
    Sweep,
    /// Requests at half of the rate that is possible, until the other side has them.
    Open { what: Open },
}

/// What arrives at a fixed rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// Entries, for the readers of their tasks.
    Appends,
    /// Tasks, for workers that wait.
    Claims,
}

/// All scenarios, in the order they are run.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "register-32",
        about: "register, 32 connections",
        unit: "tasks/s",
        kind: Kind::Register { connections: 32 },
    },
    Scenario {
        name: "register-128",
        about: "register, 128 connections",
        unit: "tasks/s",
        kind: Kind::Register { connections: 128 },
    },
    Scenario {
        name: "register-bulk",
        about: "register in bulk of 1,000, 8 connections",
        unit: "tasks/s",
        kind: Kind::RegisterBulk { connections: 8, tasks: 1_000 },
    },
    Scenario {
        name: "claim-8",
        about: "claim, 8 workers, one type",
        unit: "claims/s",
        kind: Kind::Claim { workers: 8, types: 1, asked: 1 },
    },
    Scenario {
        name: "claim-64",
        about: "claim, 64 workers, one type",
        unit: "claims/s",
        kind: Kind::Claim { workers: 64, types: 1, asked: 1 },
    },
    Scenario {
        name: "claim-8-types",
        about: "claim, 8 workers, 50 types, each asking for 3",
        unit: "claims/s",
        kind: Kind::Claim { workers: 8, types: 50, asked: 3 },
    },
    Scenario {
        name: "claim-64-types",
        about: "claim, 64 workers, 50 types, each asking for 3",
        unit: "claims/s",
        kind: Kind::Claim { workers: 64, types: 50, asked: 3 },
    },
    Scenario {
        name: "progress-1",
        about: "append to 100 tasks, 1 connection",
        unit: "entries/s",
        kind: Kind::Progress { connections: 1, entries: 1, listened: false },
    },
    Scenario {
        name: "progress-32",
        about: "append to 100 tasks, 32 connections",
        unit: "entries/s",
        kind: Kind::Progress { connections: 32, entries: 1, listened: false },
    },
    Scenario {
        name: "progress-batch",
        about: "append to 100 tasks, 32 connections, 100 entries a request",
        unit: "entries/s",
        kind: Kind::Progress { connections: 32, entries: 100, listened: false },
    },
    Scenario {
        name: "progress-listened",
        about: "append to 100 tasks, each with a listener, 32 connections",
        unit: "entries/s",
        kind: Kind::Progress { connections: 32, entries: 1, listened: true },
    },
    Scenario {
        name: "process-64",
        about: "claim and complete, 64 workers, one type",
        unit: "tasks/s",
        kind: Kind::Process { workers: 64 },
    },
    Scenario {
        name: "lifecycle-64",
        about: "register, claim, 10 appends, complete, 64 connections",
        unit: "tasks/s",
        kind: Kind::Lifecycle { connections: 64 },
    },
    Scenario {
        name: "fanout-paced",
        about: "one task to all readers, 10 entries/s",
        unit: "deliveries/s",
        kind: Kind::FanOut { paced: true, entries: 1 },
    },
    Scenario {
        name: "fanout-saturated",
        about: "one task to all readers, 1 appender without pause",
        unit: "deliveries/s",
        kind: Kind::FanOut { paced: false, entries: 1 },
    },
    Scenario {
        name: "fanout-saturated-batch",
        about: "one task to all readers, 1 appender without pause, 16 entries a request",
        unit: "deliveries/s",
        kind: Kind::FanOut { paced: false, entries: 16 },
    },
    Scenario {
        name: "idle-streams",
        about: "memory of an idle stream",
        unit: "KiB/stream",
        kind: Kind::IdleStreams,
    },
    Scenario {
        name: "replay-running",
        about: "replay the history of a running task",
        unit: "entries/s",
        kind: Kind::Replay { finished: false },
    },
    Scenario {
        name: "replay-finished",
        about: "replay the history of a finished task",
        unit: "entries/s",
        kind: Kind::Replay { finished: true },
    },
    Scenario {
        name: "sweep",
        about: "end overdue tasks, 10 entries each",
        unit: "tasks/s",
        kind: Kind::Sweep,
    },
    Scenario {
        name: "open-append",
        about: "open loop at half of saturation: append to delivery, 100 tasks",
        unit: "entries/s",
        kind: Kind::Open { what: Open::Appends },
    },
    Scenario {
        name: "open-claim",
        about: "open loop at half of saturation: register to claimed by one of 32 waiting workers",
        unit: "tasks/s",
        kind: Kind::Open { what: Open::Claims },
    },
];

/// What the echo is given to be comparable.
pub(crate) struct EchoLoad {
    pub(crate) connections: usize,
    pub(crate) body: Bytes,
}

impl Scenario {
    /// One round on a fresh server.
    pub(crate) async fn run(&self, stage: &Stage<'_>) -> Result<Sample> {
        match self.kind {
            Kind::Register { connections } => register::run(stage, connections).await,
            Kind::RegisterBulk { connections, tasks } => bulk::run(stage, connections, tasks).await,
            Kind::Claim { workers, types, asked } => claim::run(stage, workers, types, asked).await,
            Kind::Progress { connections, entries, listened } => {
                progress::run(stage, connections, entries, listened).await
            }
            Kind::Process { workers } => process::run(stage, workers).await,
            Kind::Lifecycle { connections } => lifecycle::run(stage, connections).await,
            Kind::FanOut { paced, entries } => fanout::run(stage, paced, entries).await,
            Kind::IdleStreams => idle::run(stage).await,
            Kind::Replay { finished } => replay::run(stage, finished).await,
            Kind::Sweep => sweep::run(stage).await,
            Kind::Open { what: Open::Appends } => open::appends(stage).await,
            Kind::Open { what: Open::Claims } => open::claims(stage).await,
        }
    }

    /// Settings that the server of this scenario has besides those of the run.
    pub(crate) fn server_env(&self) -> &'static [(&'static str, &'static str)] {
        match self.kind {
            Kind::Sweep => sweep::SERVER_ENV,
            _ => &[],
        }
    }

    /// As many connections as the scenario has, each sending the body it sends most.
    pub(crate) fn echo_load(&self, options: &Options) -> EchoLoad {
        let entry = || progress::request(1);
        let (connections, body) = match self.kind {
            Kind::Register { connections } => {
                (connections, seed::registration(None, seed::TASK_TYPE))
            }
            Kind::Claim { workers, types, asked } => (workers, claim::request(0, types, asked)),
            Kind::Progress { connections, entries, .. } => {
                (connections, progress::request(entries))
            }
            Kind::Process { workers } => (workers, claim::request(0, 1, 1)),
            Kind::Lifecycle { connections } => (connections, entry()),
            Kind::FanOut { entries, .. } => (options.readers + 1, progress::request(entries)),
            Kind::IdleStreams => (options.streams, entry()),
            Kind::RegisterBulk { connections, tasks } => (connections, bulk::request(tasks)),
            Kind::Replay { .. } | Kind::Sweep => (1, entry()),
            Kind::Open { what: Open::Appends } => (openloop::CONNECTIONS, open::entry(0)),
            Kind::Open { what: Open::Claims } => (openloop::CONNECTIONS, open::task(0)),
        };
        EchoLoad { connections, body }
    }

    /// Requests behind one operation, so that what takes thirteen is compared with thirteen echoes.
    /// A delivery to a reader counts as one.
    pub(crate) fn requests_per_operation(&self) -> f64 {
        match self.kind {
            Kind::Lifecycle { .. } => lifecycle::REQUESTS,
            Kind::Process { .. } => 2.0,
            Kind::Progress { entries: 100, .. } => 0.01,
            Kind::RegisterBulk { .. } => 0.001,
            _ => 1.0,
        }
    }

    /// Whether the rate is what the driver set, so that only latency and cost are a result.
    pub(crate) fn is_paced(&self) -> bool {
        matches!(self.kind, Kind::FanOut { paced: true, .. } | Kind::Open { .. })
    }
}
