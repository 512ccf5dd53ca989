//! The figures of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Stage;
use super::verdict::Found;

/// What is told of a run.
pub struct Report<'a> {
    /// What was killed.
    pub name: &'a str,
    /// Who played.
    pub stage: &'a Stage,
    /// What was found.
    pub found: &'a Found,
    /// How long all tasks took to end when nothing was killed any more.
    pub settled: Duration,
}

impl Report<'_> {
    /// Prints it.
    pub fn print(&self) {
        let Self { name, stage, found, settled } = self;
        let told = |what| stage.ledger.tallied(what);
        let settings = &stage.settings;
        println!("\nchaos: {name}, seed {}, {} s of it", settings.seed, settings.length.as_secs());
        let tasks: usize = found.statuses.values().sum();
        let statuses = found.statuses.iter().map(|(status, count)| format!("{count} {status}"));
        let line = |what: &str, figures: String| println!("  {what:<10} {figures}");
        line("tasks", format!("{tasks}: {}", statuses.collect::<Vec<_>>().join(", ")));
        line(
            "attempts",
            format!(
                "{}; {} zombies, {} of them refused",
                found.attempts,
                told("zombies"),
                told("zombies refused")
            ),
        );
        line(
            "entries",
            format!(
                "{} in histories, {} acknowledged, {} lost; {} unknown, of which {} are there; {} repeated",
                found.entries,
                told("acknowledged"),
                found.lost,
                found.unknown,
                found.unknown_kept,
                found.repeated
            ),
        );
        if stage.forgets {
            let what = format!(
                "{} acknowledged entries in {} gaps; {} leases forgotten; readers were told of {} gaps",
                found.gone,
                found.gaps,
                told("leases forgotten"),
                told("gaps told")
            );
            line("gone", what);
        }
        let connections = told("connections of readers");
        line(
            "readers",
            format!("{} saw everything, over {connections} connections", found.readers),
        );
        line(
            "requests",
            format!(
                "{}: {} without a connection, {} whose answer was lost, {} answered with 503",
                told("requests"),
                told("no connection"),
                told("answer lost"),
                told("503")
            ),
        );
        let mut kills: BTreeMap<&str, usize> = BTreeMap::new();
        for (part, _) in stage.ledger.kills() {
            *kills.entry(part.name()).or_default() += 1;
        }
        let all: usize = kills.values().sum();
        let kills = kills.iter().map(|(part, count)| format!("{count} {part}"));
        let kills = kills.collect::<Vec<_>>().join(", ");
        line("kills", format!("{all}: {kills}; {} stood still for a while", told("freezes")));
        let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for (part, took) in stage.ledger.recoveries() {
            times.entry(part.name()).or_default().push(took);
        }
        for (part, times) in times {
            let longest = times.iter().max().copied().unwrap_or_default();
            let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
            let mean = (times.iter().sum::<Duration>() / count).as_secs_f64();
            let what = format!(
                "{mean:.2} s in the mean, {:.2} s at the longest, after a {part} came back ({})",
                longest.as_secs_f64(),
                times.len()
            );
            line("recovery", what);
        }
        line(
            "settling",
            format!(
                "{:.1} s until all had ended, {:.1} s more until nothing of them was left, at last {}",
                settled.as_secs_f64(),
                found.settled.as_secs_f64(),
                found.last_left
            ),
        );
        println!("  {:<10} {}", "violations", stage.ledger.violated());
    }
}
