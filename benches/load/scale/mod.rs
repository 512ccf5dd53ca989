//! Past one machine: what nodes, Redis and Postgres of given sizes carry, from the CPU that was measured
//! for each operation. Two answers beside each other: the processors kept at most so busy, and a
//! simulation of queues in front of them, with random arrivals, that must answer in time.

mod queue;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::grid::{cost, grid, grouped, or_none};
use queue::{Station, highest_rate};

/// How busy a processor may be on average.
const BUSY: f64 = 0.7;
/// Within which a request must have passed all stations, 99 of 100 times, in the simulation.
const IN_TIME: f64 = 0.05;
const REQUESTS: usize = 60_000;
const NODE_CORES: usize = 8;
const NODE_GIB: f64 = 16.0;
const POSTGRES_CORES: usize = 16;
/// What each part of a distributed Postgres does of what it would do alone: rows are routed.
const DISTRIBUTED: f64 = 0.8;

/// A deployment.
#[derive(Clone, Copy)]
struct Machines {
    about: &'static str,
    nodes: usize,
    /// Masters of Redis; each does one command at a time.
    redis: usize,
    /// Parts of Postgres, each a machine.
    postgres: usize,
}

const DEPLOYMENTS: &[Machines] = &[
    Machines { about: "1 node, 1 Redis, 1 Postgres", nodes: 1, redis: 1, postgres: 1 },
    Machines { about: "2 nodes", nodes: 2, redis: 1, postgres: 1 },
    Machines { about: "4 nodes", nodes: 4, redis: 1, postgres: 1 },
    Machines { about: "4 nodes, Redis Cluster of 3", nodes: 4, redis: 3, postgres: 1 },
    Machines { about: "8 nodes, Redis Cluster of 3", nodes: 8, redis: 3, postgres: 1 },
    Machines {
        about: "8 nodes, Cluster of 6, Postgres in 4 parts",
        nodes: 8,
        redis: 6,
        postgres: 4,
    },
    Machines {
        about: "16 nodes, Cluster of 12, Postgres in 8 parts",
        nodes: 16,
        redis: 12,
        postgres: 8,
    },
];

/// What is carried, by the scenario whose cost it has.
struct Load {
    about: &'static str,
    scenario: &'static str,
    /// Requests of one operation, for the simulation.
    requests: f64,
}

const LOADS: &[Load] = &[
    Load { about: "registrations/s", scenario: "register-128", requests: 1.0 },
    Load { about: "claims/s", scenario: "claim-64-types", requests: 1.0 },
    Load { about: "appends/s, one entry each", scenario: "progress-32", requests: 1.0 },
    Load { about: "entries/s, 100 a request", scenario: "progress-batch", requests: 0.01 },
    Load { about: "deliveries/s to readers", scenario: "fanout-saturated", requests: 1.0 },
    Load { about: "lifecycles/s (1+1+10+1)", scenario: "lifecycle-64", requests: 13.0 },
];

#[derive(Deserialize)]
struct Figures {
    conditions: Vec<String>,
    figures: Vec<Measured>,
}

#[derive(Deserialize)]
struct Measured {
    mode: String,
    scenario: String,
    medians: Medians,
}

#[derive(Deserialize, Clone, Copy)]
struct Medians {
    value: f64,
    server_cpu: f64,
    stores_cpu: Option<Stores>,
}

#[derive(Deserialize, Clone, Copy)]
struct Stores {
    postgres: f64,
    redis: f64,
}

/// CPU-seconds of one operation.
#[derive(Clone, Copy)]
struct Costs {
    server: f64,
    redis: f64,
    postgres: f64,
}

/// The tables, from figures that were written as JSON.
pub(crate) fn render(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} (scripts/bench --json writes it)", path.display()))?;
    let figures: Figures = serde_json::from_str(&text).context("these are no figures")?;
    let mut said = String::from("Costs as measured:\n\n");
    for line in &figures.conditions {
        let _ = writeln!(said, "- {line}");
    }
    let known: Vec<(&Load, Costs)> =
        LOADS.iter().filter_map(|load| Some((load, figures.costs(load.scenario)?))).collect();
    let headings = ["CPU ms of one of", "Node", "Redis", "Postgres"];
    let rows: Vec<Vec<String>> = known.iter().map(|(load, costs)| costs.row(load.about)).collect();
    let _ = write!(said, "\n{}", grid(&headings, &rows, true));

    let headings = ["Carried by", "a node", "a Redis master", "a Postgres", "First wall"];
    let rows: Vec<Vec<String>> = known.iter().map(|(load, costs)| alone(load, *costs)).collect();
    let _ = write!(
        said,
        "\nWhat each carries by itself at {:.0} % of its processors: a node with {NODE_CORES} cores, a Redis \
         master with one that executes commands, a Postgres with {POSTGRES_CORES}:\n\n{}",
        BUSY * 100.0,
        grid(&headings, &rows, true)
    );
    if let Some(stream) = figures.find("idle-streams") {
        let streams = NODE_GIB * 1_048_576.0 * BUSY / stream.value;
        let _ = write!(
            said,
            "\nIdle streams: {:.1} KiB each, {} on a node with {NODE_GIB} GiB.\n",
            stream.value,
            grouped(streams)
        );
    }
    let mut headings = vec!["Deployment"];
    headings.extend(known.iter().map(|(load, _)| load.about));
    let rows: Vec<Vec<String>> = DEPLOYMENTS.iter().map(|on| together(*on, &known)).collect();
    let _ = write!(
        said,
        "\nTogether, and which of them is the wall (N: nodes, R: Redis, P: Postgres). In brackets the rate at \
         which 99 of 100 requests are through within {:.0} ms in the simulation:\n\n{}",
        IN_TIME * 1e3,
        grid(&headings, &rows, true)
    );
    Ok(said)
}

impl Figures {
    fn find(&self, scenario: &str) -> Option<Medians> {
        let found = |one: &&Measured| one.mode == "node" && one.scenario == scenario;
        self.figures.iter().find(found).map(|one| one.medians)
    }

    /// Figures are in CPU-seconds per 1,000 operations.
    fn costs(&self, scenario: &str) -> Option<Costs> {
        let Medians { server_cpu, stores_cpu, .. } = self.find(scenario)?;
        let Stores { postgres, redis } = stores_cpu?;
        let one = |thousand: f64| thousand / 1e3;
        Some(Costs { server: one(server_cpu), redis: one(redis), postgres: one(postgres) })
    }
}

impl Costs {
    fn row(&self, about: &str) -> Vec<String> {
        let cells = [self.server, self.redis, self.postgres].map(|seconds| cost(seconds * 1e3));
        [about.to_owned()].into_iter().chain(cells).collect()
    }
}

/// What a part carries that works so long on each: without bound where it has nothing to do.
fn carried(cores: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { cores * BUSY / seconds } else { f64::INFINITY }
}

fn alone(load: &Load, costs: Costs) -> Vec<String> {
    let parts = limits(Machines { about: "", nodes: 1, redis: 1, postgres: 1 }, costs);
    let wall = wall(parts);
    let cells = parts.map(|(_, rate)| rate_of(rate));
    [load.about.to_owned()].into_iter().chain(cells).chain([wall.0.to_owned()]).collect()
}

/// What nodes, Redis and Postgres of a deployment carry.
fn limits(on: Machines, costs: Costs) -> [(&'static str, f64); 3] {
    [
        ("N", carried(cores(on.nodes * NODE_CORES), costs.server)),
        ("R", carried(cores(on.redis), costs.redis)),
        ("P", carried(cores(on.postgres * POSTGRES_CORES) * shared(on.postgres), costs.postgres)),
    ]
}

fn shared(parts: usize) -> f64 {
    if parts > 1 { DISTRIBUTED } else { 1.0 }
}

fn wall(parts: [(&'static str, f64); 3]) -> (&'static str, f64) {
    parts
        .into_iter()
        .fold(("", f64::INFINITY), |least, part| if part.1 < least.1 { part } else { least })
}

fn together(on: Machines, loads: &[(&Load, Costs)]) -> Vec<String> {
    let mut row = vec![on.about.to_owned()];
    for (load, costs) in loads {
        let (name, rate) = wall(limits(on, *costs));
        let station =
            |servers: usize, seconds: f64| Station { servers, mean: seconds / load.requests };
        let stations = [
            station(on.nodes * NODE_CORES, costs.server),
            station(on.redis, costs.redis),
            station(on.postgres * POSTGRES_CORES, costs.postgres / shared(on.postgres)),
        ];
        let in_time = highest_rate(&stations, IN_TIME, REQUESTS, 0.99) / load.requests;
        row.push(format!("{} {name} ({})", rate_of(rate), rate_of(in_time)));
    }
    row
}

/// Two digits: the third would pretend to know.
fn rate_of(rate: f64) -> String {
    let known = rate.is_finite().then(|| {
        let unit = 10_f64.powf((rate.log10().floor() - 1.0).max(0.0));
        grouped((rate / unit).round() * unit)
    });
    or_none(known)
}

fn cores(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
