//! From rounds to figures: medians, ratios, and the conditions without which none of them says
//! anything.

use std::path::Path;

use serde::Serialize;

use crate::bound::median;
use crate::cli::{Mode, Options};
use crate::drive::{Behind, Sample};
use crate::procfs;
use crate::scenarios::Scenario;
use crate::server;
use crate::stores::Stores;

/// One round of a scenario, and what was measured right after it to hold it against.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Round {
    pub(crate) subject: Sample,
    pub(crate) echo: Sample,
    pub(crate) bare: Option<Sample>,
}

/// All rounds of a scenario in one mode, or why there is no figure.
pub(crate) struct Figure {
    pub(crate) mode: Mode,
    pub(crate) scenario: &'static Scenario,
    pub(crate) outcome: Result<Vec<Round>, String>,
}

/// The medians of a figure. The ratios are medians of each round's ratio, not ratios of medians:
/// what slowed a round slowed its echo too.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Summary {
    pub(crate) value: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    /// Seconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// CPU-seconds per 1,000 operations.
    pub(crate) server_cpu: f64,
    pub(crate) stores_cpu: Option<Behind<f64>>,
    pub(crate) echo: f64,
    /// CPU-seconds per 1,000 echoes.
    pub(crate) echo_cpu: f64,
    /// Requests per second over echoes per second; for memory, KiB over KiB. Absent where the
    /// driver set the pace, as is the next.
    pub(crate) ratio: Option<f64>,
    /// Operations per second over echoes per second.
    pub(crate) operations_to_echo: Option<f64>,
    /// CPU of all servers per request over CPU per echo.
    pub(crate) cpu_ratio: f64,
    pub(crate) p50_to_echo: f64,
    pub(crate) p99_to_echo: f64,
    /// The bare baseline, where there is one.
    pub(crate) bare: Option<Baseline>,
    pub(crate) driver: f64,
}

/// What a figure is to its bare baseline.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Baseline {
    pub(crate) value: f64,
    pub(crate) server_cpu: f64,
    /// Rate over rate.
    pub(crate) ratio: f64,
    /// CPU of the server over that of the baseline, per operation.
    pub(crate) cpu_ratio: f64,
}

impl Summary {
    pub(crate) fn of(scenario: &Scenario, rounds: &[Round]) -> Self {
        let over = |read: &dyn Fn(&Round) -> f64| median(rounds.iter().map(read).collect());
        let values = || rounds.iter().map(|round| round.subject.value);
        let requests = scenario.requests_per_operation();
        let is_paced = scenario.is_paced();
        let have_stores = rounds.iter().all(|round| round.subject.stores_cpu.is_some());
        let stores = |read: &dyn Fn(Behind<f64>) -> f64| {
            over(&|round| round.subject.stores_cpu.map_or(f64::NAN, read))
        };
        let have_bare = rounds.iter().all(|round| round.bare.is_some());
        let bare = |read: &dyn Fn(&Sample, &Sample) -> f64| {
            over(&|round| round.bare.map_or(f64::NAN, |bare| read(&round.subject, &bare)))
        };
        Self {
            value: over(&|round| round.subject.value),
            lowest: values().fold(f64::INFINITY, f64::min),
            highest: values().fold(0.0, f64::max),
            p50: over(&|round| round.subject.p50),
            p99: over(&|round| round.subject.p99),
            p999: over(&|round| round.subject.p999),
            server_cpu: over(&|round| round.subject.server_cpu),
            stores_cpu: have_stores.then(|| Behind {
                postgres: stores(&|stores| stores.postgres),
                redis: stores(&|stores| stores.redis),
            }),
            echo: over(&|round| round.echo.value),
            echo_cpu: over(&|round| round.echo.server_cpu),
            ratio: (!is_paced)
                .then(|| over(&|round| round.subject.value * requests / round.echo.value)),
            operations_to_echo: (!is_paced)
                .then(|| over(&|round| round.subject.value / round.echo.value)),
            cpu_ratio: over(&|round| round.subject.all_cpu() / requests / round.echo.server_cpu),
            p50_to_echo: over(&|round| round.subject.p50 / round.echo.p50),
            p99_to_echo: over(&|round| round.subject.p99 / round.echo.p99),
            bare: have_bare.then(|| Baseline {
                value: bare(&|_, bare| bare.value),
                server_cpu: bare(&|_, bare| bare.server_cpu),
                ratio: bare(&|subject, bare| subject.value / bare.value),
                cpu_ratio: bare(&|subject, bare| subject.server_cpu / bare.server_cpu),
            }),
            driver: over(&|round| round.subject.driver),
        }
    }
}

/// Where the figures come from, a line for each fact.
pub(crate) struct Conditions {
    pub(crate) lines: Vec<String>,
    /// How many of them are about the machine and the servers, whatever is measured there.
    about_place: usize,
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
        let busy = procfs::load_average().unwrap_or_else(|| "unknown".to_owned());
        let mut lines = vec![
            format!(
                "Machine: {}; server, driver and databases share it, all traffic on loopback; load \
                 average of the minute before {busy}",
                procfs::machine()
            ),
            format!("Compiler: rustc {compiler}, {profile}"),
        ];
        if options.mode != Mode::Node {
            lines.push(format!("Embedded: data directory on {disk}"));
        }
        if let Some(stores) = stores {
            let counted = if stores.process_ids().is_none() {
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
        let about_place = lines.len();
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
             {} entries, claims from {} pending tasks, sweeps of {}",
            options.readers,
            options.ahead,
            options.streams,
            options.entries,
            options.backlog,
            options.overdue,
        ));
        lines.push(format!(
            "Echo: bare axum on 1 thread, same connections and body, {} s after each round",
            options.echo_seconds()
        ));
        Self { lines, about_place }
    }

    /// Where it was measured, without how.
    pub(crate) fn place(&self) -> &[String] {
        &self.lines[..self.about_place]
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
