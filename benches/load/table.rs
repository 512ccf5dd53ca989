//! The tables of the scenarios and of their targets.

use std::fmt::Write as _;

use crate::bare;
use crate::cli::Mode;
use crate::grid::{cost, duration, grid, grouped, or_none, ratio};
use crate::report::{Conditions, Figure, Round, Summary};
use crate::scenarios::Scenario;
use crate::targets::Target;

const HEADINGS: [&str; 15] = [
    "Scenario",
    "Rate",
    "Lowest–highest",
    "p50",
    "p99",
    "p99.9",
    "CPU s/1,000",
    "Postgres",
    "Redis",
    "Echo",
    "Rate ÷ echo",
    "CPU ÷ echo",
    "Bare",
    "Rate ÷ bare",
    "Driver's cores",
];

const TARGET_HEADINGS: [&str; 5] = ["Scenario", "Measure", "Figure", "Wanted", ""];

/// What the columns mean, under every table.
const LEGEND: &str = "\
CPU: of the server process, and beside it of Postgres and Redis, in CPU-seconds per 1,000 operations, \
which is milliseconds for each. Rate ÷ echo and CPU ÷ echo (of all servers together) compare per \
request: a lifecycle is 13 of them, a batch of 100 entries is 1, a delivery or a replayed entry counts \
as 1; for idle streams the first is memory over memory. Bare: what the barest program does on the same \
servers, see below. Latencies: of a request; for a fan-out from sending to receiving; for a replay of \
all of it; for idle streams of opening one; for an open loop from when a request was due, whether or \
not the driver could send it by then, to when the other side had it. Where the driver's cores come near \
its threads, the driver is what was measured.";

/// The whole report.
pub(crate) fn render(conditions: &Conditions, figures: &[Figure], markdown: bool) -> String {
    let mut text = String::new();
    for line in &conditions.lines {
        let _ = writeln!(text, "{}{line}", if markdown { "- " } else { "" });
    }
    for mode in [Mode::Embedded, Mode::Node] {
        let of_mode: Vec<&Figure> = figures.iter().filter(|figure| figure.mode == mode).collect();
        if of_mode.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{}{mode}\n\n", if markdown { "### " } else { "" });
        let rows: Vec<_> = of_mode.iter().map(|figure| row(figure)).collect();
        text.push_str(&grid(&HEADINGS, &rows, markdown));
        let targets: Vec<_> = of_mode.iter().flat_map(|figure| target_rows(figure)).collect();
        if !targets.is_empty() {
            let _ = write!(
                text,
                "\n{}{mode}\n\n",
                if markdown { "#### Targets, " } else { "Targets, " }
            );
            text.push_str(&grid(&TARGET_HEADINGS, &targets, markdown));
        }
        for figure in of_mode {
            if let Err(reason) = &figure.outcome {
                // The first line: any other is the log of a dead server, which went to stderr.
                let reason = reason.lines().next().unwrap_or_default();
                let _ = write!(text, "\nVOID: {}: {reason}\n", figure.scenario.about);
            }
        }
    }
    let _ = write!(text, "\n{LEGEND}\n");
    text.push_str(&baselines(figures));
    text
}

/// What the baselines are of those that were measured.
fn baselines(figures: &[Figure]) -> String {
    let mut said = Vec::new();
    for figure in figures {
        let about = bare::about(figure.scenario.kind);
        if let Some(about) = about.filter(|about| !said.contains(about)) {
            said.push(about);
        }
    }
    if said.is_empty() {
        return String::new();
    }
    format!("\nThe bare baselines: {}.\n", said.join("; "))
}

/// The names for `--list`.
pub(crate) fn list(scenarios: &[Scenario]) -> String {
    scenarios.iter().fold(String::new(), |mut text, scenario| {
        let _ = writeln!(text, "{:<24}{} ({})", scenario.name, scenario.about, scenario.unit);
        text
    })
}

/// One round, for whoever watches.
pub(crate) fn progress(scenario: &Scenario, round: &Round) -> String {
    let summary = Summary::of(scenario, &[*round]);
    let bare = summary.bare.map_or_else(String::new, |bare| {
        format!("; bare {}, ratio {}", grouped(bare.value), ratio(bare.ratio))
    });
    format!(
        "{} {}, p50 {}, p99 {}, CPU {} s/1,000; echo {}, ratio {}{bare}",
        grouped(summary.value),
        scenario.unit,
        duration(summary.p50),
        duration(summary.p99),
        cost(summary.server_cpu),
        grouped(summary.echo),
        or_none(summary.ratio.map(ratio)),
    )
}

fn row(of: &Figure) -> Vec<String> {
    let mut row = vec![of.scenario.about.to_owned()];
    let Ok(rounds) = &of.outcome else {
        row.push("VOID".to_owned());
        row.resize(HEADINGS.len(), String::new());
        return row;
    };
    let summary = Summary::of(of.scenario, rounds);
    row.extend([
        format!("{} {}", grouped(summary.value), of.scenario.unit),
        format!("{}–{}", grouped(summary.lowest), grouped(summary.highest)),
        duration(summary.p50),
        duration(summary.p99),
        duration(summary.p999),
        cost(summary.server_cpu),
        or_none(summary.stores_cpu.map(|stores| cost(stores.postgres))),
        or_none(summary.stores_cpu.map(|stores| cost(stores.redis))),
        grouped(summary.echo),
        summary.ratio.map_or_else(|| "paced".to_owned(), ratio),
        ratio(summary.cpu_ratio),
        or_none(summary.bare.map(|bare| grouped(bare.value))),
        or_none(summary.bare.map(|bare| ratio(bare.ratio))),
        format!("{:.2}", summary.driver),
    ]);
    row
}

fn target_rows(of: &Figure) -> Vec<Vec<String>> {
    let summary = of.outcome.as_ref().ok().map(|rounds| Summary::of(of.scenario, rounds));
    let targets = Target::of(of.mode, of.scenario.name);
    targets
        .map(|target| {
            let figure = summary.as_ref().and_then(|summary| target.measure.of(summary));
            let verdict = figure.map_or("not measured", |figure| target.bound.verdict(figure));
            vec![
                of.scenario.about.to_owned(),
                target.measure.to_string(),
                or_none(figure.map(ratio)),
                target.bound.to_string(),
                verdict.to_owned(),
            ]
        })
        .collect()
}
