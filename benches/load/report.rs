//! From rounds to figures: medians, ratios, and the conditions without which none of them says
//! anything.

use std::path::Path;

use anyhow::Result;

use crate::cli::{Mode, Options};
use crate::drive::Sample;
use crate::procfs;
use crate::scenarios::Scenario;
use crate::server;
use crate::stores::Stores;

/// One round of a scenario and the echo measured right after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) subject: Sample,
    pub(crate) echo: Sample,
}

/// All rounds of a scenario in one mode, or why there is no figure.
pub(crate) struct Figure {
    pub(crate) mode: Mode,
    pub(crate) scenario: &'static Scenario,
    pub(crate) outcome: Result<Vec<Pair>, String>,
}

/// The medians of a figure. The ratios are medians of each round's ratio, not ratios of medians:
/// what slowed a round slowed its echo too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) value: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    /// Seconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU-seconds per 1,000 operations.
    pub(crate) server_cpu: f64,
    pub(crate) stores_cpu: Option<f64>,
    pub(crate) echo: f64,
    /// Requests per second over echoes per second; for memory, KiB over KiB. Absent where the
    /// driver set the pace.
    pub(crate) ratio: Option<f64>,
    /// CPU per request over CPU per echo.
    pub(crate) cpu_ratio: f64,
    pub(crate) driver: f64,
}

impl Summary {
    pub(crate) fn of(scenario: &Scenario, pairs: &[Pair]) -> Self {
        let over = |read: &dyn Fn(&Pair) -> f64| median(pairs.iter().map(read).collect());
        let values = || pairs.iter().map(|pair| pair.subject.value);
        let requests = scenario.requests_per_operation();
        Self {
            value: over(&|pair| pair.subject.value),
            lowest: values().fold(f64::INFINITY, f64::min),
            highest: values().fold(0.0, f64::max),
            p50: over(&|pair| pair.subject.p50.as_secs_f64()),
            p99: over(&|pair| pair.subject.p99.as_secs_f64()),
            server_cpu: over(&|pair| pair.subject.server_cpu),
            stores_cpu: pairs
                .iter()
                .all(|pair| pair.subject.stores_cpu.is_some())
                .then(|| over(&|pair| pair.subject.stores_cpu.unwrap_or_default())),
            echo: over(&|pair| pair.echo.value),
            ratio: (!scenario.is_paced())
                .then(|| over(&|pair| pair.subject.value * requests / pair.echo.value)),
            cpu_ratio: over(&|pair| pair.subject.server_cpu / requests / pair.echo.server_cpu),
            driver: over(&|pair| pair.subject.driver),
        }
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Where the figures come from, a line for each fact.
pub(crate) struct Conditions {
    pub(crate) lines: Vec<String>,
}

impl Conditions {
    pub(crate) fn gather(options: &Options, stores: Option<&Stores>) -> Self {
        let binary = Path::new(server::BINARY);
        let compiler = procfs::compiler_of(binary).unwrap_or_else(|| "unknown".to_owned());
        let profile = if cfg!(debug_assertions) {
            "debug build, so the figures mean nothing"
        } else {
            "release build"
        };
        let disk = procfs::file_system(&options.data_dir).unwrap_or_else(|| "unknown".to_owned());
        let mut lines = vec![
            format!(
                "Machine: {}; server, driver and databases share it, all traffic on loopback",
                procfs::machine()
            ),
            format!("Compiler: rustc {compiler}, {profile}"),
        ];
        if options.mode != Mode::Node {
            lines.push(format!("Embedded: data directory on {disk}"));
        }
        if let Some(stores) = stores {
            let counted = if stores.process_ids().is_empty() {
                "their CPU time is not counted"
            } else {
                "their CPU time is counted"
            };
            lines.push(format!("Node: {}; {counted}", stores.description));
        }
        let settings: Vec<String> =
            options.server_env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if !settings.is_empty() {
            lines.push(format!("Server settings: {}", settings.join(" ")));
        }
        lines.push(format!(
            "Rounds: {} of {} s after {} s of warm-up, medians; each on a fresh server and an empty \
             store; driver on {}",
            options.rounds,
            options.seconds,
            options.warmup,
            plural(options.driver_threads, "thread"),
        ));
        lines.push(format!(
            "Sizes: {} readers of a fan-out (at most {} entries behind), {} idle streams, replays of \
             {} entries, claims from {} pending tasks",
            options.readers, options.ahead, options.streams, options.entries, options.backlog,
        ));
        lines.push(format!(
            "Echo: bare axum on 1 thread, same connections and body, {} s after each round",
            options.echo_seconds()
        ));
        Self { lines }
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
