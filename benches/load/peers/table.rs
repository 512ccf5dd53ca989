//! The one table of the comparison.

use std::fmt::Write as _;

use super::lines::{Against, Line};
use super::{Measured, Outcome};
use crate::bound::median;
use crate::cli::Peers;
use crate::drive::Sample;
use crate::grid::{cost, duration, grid, grouped, or_none, ratio};
use crate::report::Conditions;

const HEADINGS: [&str; 8] = [
    "Scenario",
    "Who",
    "Rate",
    "p50",
    "p99",
    "CPU s/1,000",
    "of it servers'",
    "Ours over HTTP ÷ it",
];

const TARGET_HEADINGS: [&str; 5] = ["Scenario", "Measure", "Figure", "Wanted", ""];

const LEGEND: &str = "\
Ours over HTTP ÷ it: of rates, and of memory for idle streams. CPU of all that takes part but our load \
driver: for ours over HTTP and Nchan the server and Postgres and Redis; in process and for the libraries \
also whoever calls them, which is in the same process. Latencies where the product is asked and answers: of \
a call, for a fan-out from sending to receiving. In process: our service called without HTTP, as the \
libraries are.";

/// The whole report.
pub(super) fn render(
    conditions: &Conditions,
    from: &Peers,
    measured: &[Measured],
    markdown: bool,
) -> String {
    let mut text = String::new();
    for line in conditions.lines.iter().chain(&versions(from)) {
        let _ = writeln!(text, "{}{line}", if markdown { "- " } else { "" });
    }
    let rows: Vec<Vec<String>> = measured.iter().flat_map(rows).collect();
    let _ = write!(text, "\n{}", grid(&HEADINGS, &rows, markdown));
    let targets: Vec<Vec<String>> = measured.iter().filter_map(target).collect();
    if !targets.is_empty() {
        let _ = write!(text, "\n{}", grid(&TARGET_HEADINGS, &targets, markdown));
    }
    let _ = write!(text, "\n{LEGEND}\n\nWhat is not alike:\n\n");
    for Measured { line, .. } in measured {
        let _ = writeln!(text, "- {}: {}.", line.about, line.unlike);
    }
    for (line, who, reason) in measured.iter().flat_map(voids) {
        let reason = reason.lines().next().unwrap_or_default();
        let _ = write!(text, "\nVOID: {}, {who}: {reason}\n", line.about);
    }
    text
}

/// What the folder of the peers says it holds.
fn versions(from: &Peers) -> Vec<String> {
    let manifest = std::fs::read_to_string(from.folder.join("package.json")).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
    let modules = manifest["dependencies"].as_object().into_iter().flatten();
    let modules: Vec<String> = modules
        .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")))
        .collect();
    let nginx = std::process::Command::new("nginx").arg("-v").output().ok();
    let nginx = nginx.map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned());
    let nchan = match (nginx, &from.nchan_module) {
        (Some(nginx), Some(_)) => format!("Nchan as {nginx} has it, one worker process"),
        _ => "Nchan is left out".to_owned(),
    };
    vec![format!("Peers: {}; {nchan}", modules.join(", "))]
}

fn cases(of: &Measured) -> Vec<(&'static str, &Outcome)> {
    let mut cases = vec![("ours, HTTP", &of.http)];
    cases.extend(of.in_process.as_ref().map(|outcome| ("ours, in process", outcome)));
    cases.extend(of.peers.iter().map(|(peer, outcome)| (peer.name(), outcome)));
    cases
}

fn rows(of: &Measured) -> Vec<Vec<String>> {
    let ours = of.http.as_ref().ok();
    let row = |(at, (who, outcome)): (usize, (&str, &Outcome))| {
        let scenario = if at == 0 { of.line.about.to_owned() } else { String::new() };
        let mut row = vec![scenario, who.to_owned()];
        let Ok(samples) = outcome else {
            row.push("VOID".to_owned());
            row.resize(HEADINGS.len(), String::new());
            return row;
        };
        let over = |read: &dyn Fn(&Sample) -> f64| median(samples.iter().map(read).collect());
        let latency =
            |seconds: f64| if seconds > 0.0 { duration(seconds) } else { "–".to_owned() };
        let behind = samples.iter().all(|sample| sample.stores_cpu.is_some());
        let pairs = ours.filter(|_| at > 0).map(|ours| ratio_of(ours, samples, |one| one.value));
        row.extend([
            format!("{} {}", grouped(over(&|sample| sample.value)), of.line.unit),
            latency(over(&|sample| sample.p50)),
            latency(over(&|sample| sample.p99)),
            cost(over(&Sample::all_cpu)),
            or_none(behind.then(|| cost(over(&|sample| sample.all_cpu() - sample.server_cpu)))),
            or_none(pairs.map(ratio)),
        ]);
        row
    };
    cases(of).into_iter().enumerate().map(row).collect()
}

/// The median of each round's ratio: what slowed one slowed the other too.
fn ratio_of(ours: &[Sample], theirs: &[Sample], read: impl Fn(&Sample) -> f64) -> f64 {
    median(ours.iter().zip(theirs).map(|(one, other)| read(one) / read(other)).collect())
}

fn target(of: &Measured) -> Option<Vec<String>> {
    let (against, name, bound) = of.line.target?;
    let theirs = of.peers.iter().find(|(peer, _)| peer.name() == name);
    let pair = of.http.as_ref().ok().zip(theirs.and_then(|(_, outcome)| outcome.as_ref().ok()));
    let figure = pair.map(|(ours, theirs)| match against {
        Against::RateOverHttp => ratio_of(ours, theirs, |sample| sample.value),
        Against::P99 => ratio_of(ours, theirs, |sample| sample.p99),
    });
    let measure = match against {
        Against::RateOverHttp => format!("rate over HTTP ÷ {name}'s"),
        Against::P99 => format!("p99 ÷ {name}'s"),
    };
    let verdict = figure.map_or("not measured", |figure| bound.verdict(figure));
    Some(vec![
        of.line.about.to_owned(),
        measure,
        or_none(figure.map(ratio)),
        bound.to_string(),
        verdict.to_owned(),
    ])
}

fn voids(of: &Measured) -> Vec<(&'static Line, &'static str, &str)> {
    cases(of)
        .into_iter()
        .filter_map(|(who, outcome)| Some((of.line, who, outcome.as_ref().err()?.as_str())))
        .collect()
}
