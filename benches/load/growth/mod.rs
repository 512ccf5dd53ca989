//! How cost grows: the same work over a small table and a large one, behind a short log and a long one,
//! before and after many tasks have lived, with and without a sweep beside it. A figure is a ratio of two
//! measurements of one run; what must hold is beside it.

mod beside;
mod lists;
mod memory;
mod tables;

use std::fmt::Write as _;

use anyhow::Result;

use crate::bound::Bound;
use crate::cli::{Growth, Mode, Options};
use crate::deliver;
use crate::drive::{Meter, Stage};
use crate::grid::{cost, duration, grid, grouped, or_none, ratio};
use crate::report::Conditions;
use crate::run::{modes, node_stores, sweep, unless_interrupted};
use crate::server::Server;
use crate::stores::{Lease, Stores};

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
struct Side {
    value: f64,
    /// Seconds.
    p99: f64,
    /// CPU-seconds of all servers per 1,000 operations, where that says something.
    cpu: Option<f64>,
}

/// Two measurements of the same work, under little and under much.
struct Pair {
    about: String,
    unit: &'static str,
    little: Side,
    much: Side,
    /// What is held against the bound, and the bound.
    held: Held,
}

/// What must hold of a pair.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// CPU under much over CPU under little, which noise disturbs least.
    Cpu(Bound),
    /// The value under much over that under little.
    Value(Bound),
}

const HEADINGS: [&str; 10] = [
    "Work",
    "Little",
    "Much",
    "Much ÷ little",
    "p99 little",
    "p99 much",
    "CPU s/1,000 little",
    "much",
    "CPU ratio",
    "Wanted",
];

/// Within which two costs are the same.
const SAME: f64 = 1.3;

const LEGEND: &str = "\
CPU: of the server, Postgres and Redis together. What is wanted is held against the ratio it names; CPU is \
the one that noise disturbs least.";

/// Measures and prints; false when something could not be measured or the run was interrupted.
pub(crate) async fn measure(options: &Options, sizes: &Growth) -> Result<bool> {
    let stores = node_stores(options, options.mode).await?;
    let mut text = String::new();
    let markdown = options.markdown || options.into.is_some();
    let conditions = Conditions::gather(options, stores.as_ref());
    let how = format!(
        "Each figure of {} s after {} s of warm-up, measured once: little and much right after each other",
        options.seconds, options.warmup
    );
    for line in conditions.place().iter().chain([&how]) {
        let _ = writeln!(text, "{}{line}", if markdown { "- " } else { "" });
    }
    let mut whole = true;
    let all = async {
        for (mode, stores) in modes(options, stores.as_ref()) {
            let field = Field { options, sizes, mode, stores };
            let (pairs, faults) = field.measure().await;
            let _ = write!(text, "\n{}{mode}\n\n", if markdown { "### " } else { "" });
            let rows: Vec<Vec<String>> = pairs.iter().map(Pair::row).collect();
            text.push_str(&grid(&HEADINGS, &rows, markdown));
            whole &= faults.is_empty();
            for fault in faults {
                let _ = write!(text, "\nVOID: {fault}\n");
            }
        }
    };
    let finished = unless_interrupted(Box::pin(all)).await.is_some();
    sweep(stores.as_ref()).await?;
    let _ = write!(text, "\n{LEGEND}\n");
    deliver(options, "growth", &text)?;
    Ok(finished && whole)
}

/// Where growth is measured.
struct Field<'a> {
    options: &'a Options,
    sizes: &'a Growth,
    mode: Mode,
    stores: Option<&'a Stores>,
}

impl Field<'_> {
    async fn measure(&self) -> (Vec<Pair>, Vec<String>) {
        let (mut pairs, mut faults) = (Vec::new(), Vec::new());
        let parts: [(&str, Part<'_>); 4] = [
            ("tables", Box::pin(tables::measure(self))),
            ("lists", Box::pin(lists::measure(self))),
            ("memory", Box::pin(memory::measure(self))),
            ("beside", Box::pin(beside::measure(self))),
        ];
        for (name, part) in parts {
            if !self.options.wants(name) {
                continue;
            }
            eprintln!("{}: {name}", self.mode);
            match part.await {
                Ok(more) => {
                    for pair in &more {
                        eprintln!("{}: {}", self.mode, pair.row().join(" · "));
                    }
                    pairs.extend(more);
                }
                Err(error) => {
                    eprintln!("{} {name}: VOID: {error:#}", self.mode);
                    faults.push(format!("{name}: {error:#}"));
                }
            }
            if let Err(error) = sweep(self.stores).await {
                faults.push(format!("{error:#}"));
            }
        }
        (pairs, faults)
    }

    async fn lend(&self) -> Result<Option<Lease>> {
        Ok(match self.stores {
            Some(stores) => Some(stores.lend().await?),
            None => None,
        })
    }

    fn stage<'s>(&'s self, server: &Server) -> Stage<'s> {
        Stage {
            address: server.address(),
            meter: Meter {
                server: server.id(),
                stores: self.stores.and_then(Stores::process_ids),
                profile: None,
            },
            place: Some(server.at()),
            options: self.options,
            seconds: self.options.seconds,
        }
    }
}

type Part<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Vec<Pair>>> + 'a>>;

impl Pair {
    fn row(&self) -> Vec<String> {
        let grown = self.much.value / self.little.value;
        let cpu = self.much.cpu.zip(self.little.cpu).map(|(much, little)| much / little);
        let wanted = match self.held {
            Held::Cpu(bound) => {
                let verdict = cpu.map_or("not measured", |cpu| bound.verdict(cpu));
                format!("CPU {bound}: {verdict}")
            }
            Held::Value(bound) => format!("value {bound}: {}", bound.verdict(grown)),
        };
        let latency = |seconds: f64| or_none((seconds > 0.0).then(|| duration(seconds)));
        vec![
            self.about.clone(),
            format!("{} {}", grouped(self.little.value), self.unit),
            format!("{} {}", grouped(self.much.value), self.unit),
            ratio(grown),
            latency(self.little.p99),
            latency(self.much.p99),
            or_none(self.little.cpu.map(cost)),
            or_none(self.much.cpu.map(cost)),
            or_none(cpu.map(ratio)),
            wanted,
        ]
    }
}

impl From<crate::drive::Sample> for Side {
    fn from(sample: crate::drive::Sample) -> Self {
        Self { value: sample.value, p99: sample.p99, cpu: Some(sample.all_cpu()) }
    }
}
