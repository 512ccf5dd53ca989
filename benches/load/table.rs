//! The tables, for a terminal or as Markdown.

use std::fmt::Write as _;

use crate::cli::Mode;
use crate::report::{Conditions, Figure, Pair, Summary};
use crate::scenarios::Scenario;

const HEADINGS: [&str; 11] = [
    "Scenario",
    "Rate",
    "Lowest–highest",
    "p50",
    "p99",
    "CPU s/1,000",
    "DB CPU s/1,000",
    "Echo",
    "Rate ÷ echo",
    "CPU ÷ echo",
    "Driver's cores",
];

/// What the columns mean, under every table.
const LEGEND: &str = "\
CPU: of the server process (DB CPU: of Postgres and Redis), in CPU-seconds per 1,000 operations, \
which is milliseconds for each. Rate ÷ echo and CPU ÷ echo compare per request: a lifecycle is 13 of \
them, a batch of 100 entries is 1, a delivery or a replayed entry counts as 1; for idle streams the \
first is memory over memory. Latencies: of a request; for a fan-out from sending to receiving; for a \
replay of all of it; for idle streams of opening one. Where the driver's cores come near its threads, \
the driver is what was measured.";

/// The whole report.
pub(crate) fn render(conditions: &Conditions, figures: &[Figure], markdown: bool) -> String {
    let mut text = String::new();
    for line in &conditions.lines {
        let _ = writeln!(text, "{}{line}", if markdown { "- " } else { "" });
    }
    for mode in [Mode::Embedded, Mode::Node] {
        let of_mode = || figures.iter().filter(|figure| figure.mode == mode);
        if of_mode().next().is_none() {
            continue;
        }
        let _ = write!(text, "\n{}{mode}\n\n", if markdown { "### " } else { "" });
        text.push_str(&grid(of_mode().map(row), markdown));
        for figure in of_mode() {
            if let Err(reason) = &figure.outcome {
                // The first line: any other is the log of a dead server, which went to stderr.
                let reason = reason.lines().next().unwrap_or_default();
                let _ = write!(text, "\nVOID: {}: {reason}\n", figure.scenario.about);
            }
        }
    }
    let _ = write!(text, "\n{LEGEND}\n");
    text
}

/// The names for `--list`.
pub(crate) fn list(scenarios: &[Scenario]) -> String {
    scenarios.iter().fold(String::new(), |mut text, scenario| {
        let _ = writeln!(text, "{:<24}{} ({})", scenario.name, scenario.about, scenario.unit);
        text
    })
}

/// One round, for whoever watches.
pub(crate) fn progress(scenario: &Scenario, pair: &Pair) -> String {
    let summary = Summary::of(scenario, &[*pair]);
    format!(
        "{} {}, p50 {}, p99 {}, CPU {} s/1,000; echo {}, ratio {}",
        grouped(summary.value),
        scenario.unit,
        duration(summary.p50),
        duration(summary.p99),
        cost(summary.server_cpu),
        grouped(summary.echo),
        summary.ratio.map_or_else(|| "–".to_owned(), figure),
    )
}

type Row = [String; HEADINGS.len()];

fn row(of: &Figure) -> Row {
    let mut row = Row::default();
    of.scenario.about.clone_into(&mut row[0]);
    let Ok(pairs) = &of.outcome else {
        "VOID".clone_into(&mut row[1]);
        return row;
    };
    let summary = Summary::of(of.scenario, pairs);
    let cells = [
        format!("{} {}", grouped(summary.value), of.scenario.unit),
        format!("{}–{}", grouped(summary.lowest), grouped(summary.highest)),
        duration(summary.p50),
        duration(summary.p99),
        cost(summary.server_cpu),
        summary.stores_cpu.map_or_else(|| "–".to_owned(), cost),
        grouped(summary.echo),
        summary.ratio.map_or_else(|| "paced".to_owned(), figure),
        figure(summary.cpu_ratio),
        format!("{:.2}", summary.driver),
    ];
    row[1..].clone_from_slice(&cells);
    row
}

fn grid(rows: impl Iterator<Item = Row>, markdown: bool) -> String {
    let rows: Vec<Row> = [HEADINGS.map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        line(&mut text, row, &widths, markdown);
        if markdown && index == 0 {
            let rules = widths.iter().enumerate().map(|(column, &width)| rule(column, width));
            let _ = writeln!(text, "| {} |", rules.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

/// Names to the left, figures to the right.
fn line(text: &mut String, row: &Row, widths: &[usize], markdown: bool) {
    let filled = row.iter().zip(widths).enumerate().map(|(column, (cell, &width))| match column {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    let cells: Vec<String> = filled.collect();
    let _ = if markdown {
        writeln!(text, "| {} |", cells.join(" | "))
    } else {
        writeln!(text, "{}", cells.join("  ").trim_end())
    };
}

fn rule(column: usize, width: usize) -> String {
    let dashes = "-".repeat(width.saturating_sub(1).max(2));
    if column == 0 { format!("{dashes}-") } else { format!("{dashes}:") }
}

/// A rate: whole and in groups of three, or with one decimal where it is small.
fn grouped(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn duration(seconds: f64) -> String {
    match seconds {
        short if short < 0.001 => format!("{:.0} µs", short * 1e6),
        middling if middling < 0.1 => format!("{:.1} ms", middling * 1e3),
        long if long < 10.0 => format!("{:.0} ms", long * 1e3),
        longer => format!("{longer:.1} s"),
    }
}

/// CPU time, to three digits that say something: a replayed entry costs a ten-thousandth of a
/// claim.
fn cost(seconds: f64) -> String {
    match seconds {
        tiny if tiny < 0.001 => format!("{tiny:.6}"),
        small if small < 0.1 => format!("{small:.4}"),
        large => format!("{large:.3}"),
    }
}

/// A ratio, with as many decimals as say something.
fn figure(ratio: f64) -> String {
    if ratio < 0.1 {
        format!("{ratio:.3}")
    } else if ratio < 10.0 {
        format!("{ratio:.2}")
    } else {
        format!("{ratio:.1}")
    }
}
