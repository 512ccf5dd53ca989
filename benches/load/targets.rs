//! What must hold, as data: which figure of which scenario is held against what.

use std::fmt;

use crate::bound::Bound;
use crate::cli::Mode;
use crate::report::Summary;

/// What is held against the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Requests per second over echoes per second.
    RateToEcho,
    /// Operations per second over echoes per second, however many a request does.
    OperationsToEcho,
    /// CPU of all servers together, per request, over the echo's.
    CpuToEcho,
    /// The median latency over the echo's.
    P50ToEcho,
    /// The 99th percentile over the echo's.
    P99ToEcho,
    /// The rate over that of the bare baseline.
    RateToBare,
    /// CPU of the server per operation over that of the bare baseline.
    CpuToBare,
    /// KiB.
    Memory,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) mode: Mode,
    pub(crate) scenario: &'static str,
    pub(crate) measure: Measure,
    pub(crate) bound: Bound,
}

const fn node(scenario: &'static str, measure: Measure, bound: Bound) -> Target {
    Target { mode: Mode::Node, scenario, measure, bound }
}

const fn embedded(scenario: &'static str, measure: Measure, bound: Bound) -> Target {
    Target { mode: Mode::Embedded, scenario, measure, bound }
}

const fn both(scenario: &'static str, measure: Measure, bound: Bound) -> Target {
    Target { mode: Mode::Both, scenario, measure, bound }
}

use Bound::{AtLeast, AtMost};
use Measure::{
    CpuToBare, CpuToEcho, Memory, OperationsToEcho, P50ToEcho, P99ToEcho, RateToBare, RateToEcho,
};

/// All of them, in the order of the scenarios. Those against other products are in `peers/lines.rs`.
pub(crate) const ALL: &[Target] = &[
    node("register-32", RateToEcho, AtLeast(0.20)),
    node("register-32", CpuToEcho, AtMost(5.0)),
    node("register-128", RateToEcho, AtLeast(0.40)),
    node("register-128", CpuToEcho, AtMost(5.0)),
    node("register-bulk", RateToBare, AtLeast(0.6)),
    node("claim-8-types", RateToBare, AtLeast(0.6)),
    node("claim-64-types", RateToBare, AtLeast(1.3)),
    node("progress-1", P50ToEcho, AtMost(3.0)),
    node("progress-32", RateToEcho, AtLeast(0.65)),
    node("progress-32", CpuToEcho, AtMost(2.5)),
    node("progress-batch", OperationsToEcho, AtLeast(4.0)),
    node("lifecycle-64", RateToEcho, AtLeast(0.40)),
    both("fanout-paced", CpuToBare, AtMost(1.6)),
    both("fanout-saturated", RateToBare, AtLeast(3.0)),
    both("idle-streams", Memory, AtMost(8.0)),
    both("replay-running", RateToBare, AtLeast(0.35)),
    both("replay-finished", RateToBare, AtLeast(0.35)),
    node("sweep", RateToBare, AtLeast(0.2)),
    both("open-append", P99ToEcho, AtMost(4.0)),
    both("open-claim", P99ToEcho, AtMost(8.0)),
    embedded("register-128", RateToEcho, AtLeast(0.30)),
    embedded("claim-8", RateToEcho, AtLeast(0.15)),
    embedded("progress-32", RateToEcho, AtLeast(0.50)),
];

impl Target {
    /// Those of a scenario in a mode.
    pub(crate) fn of(mode: Mode, scenario: &str) -> impl Iterator<Item = &'static Self> {
        ALL.iter().filter(move |target| {
            target.scenario == scenario && (target.mode == mode || target.mode == Mode::Both)
        })
    }
}

impl Measure {
    /// What a summary says of it; `None` where what it is compared with was not measured.
    pub(crate) fn of(self, summary: &Summary) -> Option<f64> {
        match self {
            Self::RateToEcho => summary.ratio,
            Self::OperationsToEcho => summary.operations_to_echo,
            Self::CpuToEcho => Some(summary.cpu_ratio),
            Self::P50ToEcho => Some(summary.p50_to_echo),
            Self::P99ToEcho => Some(summary.p99_to_echo),
            Self::RateToBare => summary.bare.map(|bare| bare.ratio),
            Self::CpuToBare => summary.bare.map(|bare| bare.cpu_ratio),
            Self::Memory => Some(summary.value),
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::RateToEcho => "rate ÷ echo",
            Self::OperationsToEcho => "entries ÷ echo",
            Self::CpuToEcho => "CPU of all servers ÷ echo's",
            Self::P50ToEcho => "p50 ÷ echo's",
            Self::P99ToEcho => "p99 ÷ echo's",
            Self::RateToBare => "rate ÷ bare",
            Self::CpuToBare => "CPU ÷ bare",
            Self::Memory => "KiB",
        })
    }
}
