//! The scenarios, one after the other: each round on a fresh server, and right after it the echo and
//! the bare baseline it is held against.

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Mode, Options};
use crate::drive::{Meter, Sample, Stage};
use crate::profile::Profile;
use crate::report::{Conditions, Figure, Round, Summary};
use crate::scenarios::Scenario;
use crate::server::Server;
use crate::stores::Stores;
use crate::{bare, deliver, echo, scenarios, table};

/// Measures what was asked for and prints it; false when a figure is void or the run was
/// interrupted.
pub(crate) async fn bench(options: &Options) -> Result<bool> {
    let chosen: Vec<&'static Scenario> =
        scenarios::ALL.iter().filter(|scenario| options.wants(scenario.name)).collect();
    if chosen.is_empty() {
        bail!("no scenario matches --only; see --list");
    }
    let stores = node_stores(options, options.mode).await?;
    let conditions = Conditions::gather(options, stores.as_ref());
    let mut figures = Vec::new();
    let all = measure_all(options, stores.as_ref(), &chosen, &mut figures);
    let finished = unless_interrupted(Box::pin(all)).await.is_some();
    sweep(stores.as_ref()).await?;
    let markdown = options.markdown || options.into.is_some();
    deliver(options, "scenarios", &table::render(&conditions, &figures, markdown))?;
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&medians(&conditions, &figures))?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(finished && figures.iter().all(|figure| figure.outcome.is_ok()))
}

/// Node mode needs two servers this driver does not start; without them it is left out, and says
/// so.
pub(crate) async fn node_stores(options: &Options, mode: Mode) -> Result<Option<Stores>> {
    if mode == Mode::Embedded {
        return Ok(None);
    }
    match (&options.database_url, &options.redis_url) {
        (Some(database), Some(redis)) => Stores::connect(database, redis, options).await.map(Some),
        _ if mode == Mode::Node => {
            bail!("node mode needs BENCH_DATABASE_URL and BENCH_REDIS_URL")
        }
        _ => {
            eprintln!("node mode is left out: it needs BENCH_DATABASE_URL and BENCH_REDIS_URL");
            Ok(None)
        }
    }
}

/// The modes to measure, each with its stores.
pub(crate) fn modes<'a>(
    options: &Options,
    stores: Option<&'a Stores>,
) -> impl Iterator<Item = (Mode, Option<&'a Stores>)> + use<'a> {
    let embedded = (options.mode != Mode::Node).then_some((Mode::Embedded, None));
    let node = stores.map(|stores| (Mode::Node, Some(stores)));
    embedded.into_iter().chain(node)
}

/// What was lent is removed.
pub(crate) async fn sweep(stores: Option<&Stores>) -> Result<()> {
    let Some(stores) = stores else { return Ok(()) };
    let swept = stores.sweep().await;
    swept.context("what this run made in Postgres and Redis could not be removed")
}

async fn measure_all(
    options: &Options,
    stores: Option<&Stores>,
    chosen: &[&'static Scenario],
    figures: &mut Vec<Figure>,
) {
    for (mode, stores) in modes(options, stores) {
        for &scenario in chosen {
            let outcome = measure(options, stores, mode, scenario)
                .await
                .map_err(|error| format!("{error:#}"));
            if let Err(reason) = &outcome {
                eprintln!("{mode} {}: VOID: {reason}", scenario.name);
            }
            figures.push(Figure { mode, scenario, outcome });
        }
    }
}

/// Every round of one scenario, each beside its echo. The first fault voids them all: a median over
/// the rounds that happened to go well would hide it.
async fn measure(
    options: &Options,
    stores: Option<&Stores>,
    mode: Mode,
    scenario: &'static Scenario,
) -> Result<Vec<Round>> {
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let subject = bounded(options, play(options, stores, mode, scenario)).await;
        sweep(stores).await?;
        let subject = subject.with_context(|| format!("round {number}"))?;
        let echo = bounded(options, echo::measure(options, scenario, &subject)).await;
        let echo = echo.with_context(|| format!("the echo of round {number}"))?;
        let bare = bounded(options, bare::measure(options, stores, scenario)).await;
        sweep(stores).await?;
        let bare = bare.with_context(|| format!("the baseline of round {number}"))?;
        let round = Round { subject, echo, bare };
        let (name, line) = (scenario.name, table::progress(scenario, &round));
        eprintln!("{mode} {name}, round {number} of {}: {line}", options.rounds);
        rounds.push(round);
    }
    Ok(rounds)
}

/// One round, on a server of its own over an empty store: none inherits the backlog, the caches or
/// the memory of another.
pub(crate) async fn play(
    options: &Options,
    stores: Option<&Stores>,
    mode: Mode,
    scenario: &'static Scenario,
) -> Result<Sample> {
    let lease = match stores {
        Some(stores) => Some(stores.lend().await?),
        None => None,
    };
    let mut server = Server::start(options, lease.as_ref(), scenario.server_env()).await?;
    let profile = |folder: &std::path::PathBuf| Profile {
        file: folder.join(format!("{mode}-{}.perf", scenario.name)),
        address: server.address(),
    };
    let stage = Stage {
        address: server.address(),
        meter: Meter {
            server: server.id(),
            stores: stores.and_then(Stores::process_ids),
            profile: options.profile.as_ref().map(profile),
        },
        place: Some(server.at()),
        options,
        seconds: options.seconds,
    };
    let sample = scenario.run(&stage).await;
    sample.map_err(|error| server.obituary(error))
}

/// A server that hangs must not hang the run.
pub(crate) async fn bounded<T>(
    options: &Options,
    round: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(options.deadline(), round)
        .await
        .unwrap_or_else(|_| bail!("it did not finish within {:?}", options.deadline()))
}

/// The outcome, or `None` when one of the two signals came that ask a process to end. Left to their
/// default they would leave the server running, and its database lent.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        done = work => Some(done),
        _ = tokio::signal::ctrl_c() => None,
        _ = terminated => None,
    }
    .or_else(|| {
        eprintln!("interrupted: what was measured so far follows");
        None
    })
}

/// What the computation of scale starts from.
fn medians(conditions: &Conditions, figures: &[Figure]) -> serde_json::Value {
    let measured = figures.iter().filter_map(|figure| {
        let rounds = figure.outcome.as_ref().ok()?;
        Some(json!({
            "mode": figure.mode,
            "scenario": figure.scenario.name,
            "unit": figure.scenario.unit,
            "medians": Summary::of(figure.scenario, rounds),
        }))
    });
    json!({ "conditions": conditions.lines, "figures": measured.collect::<Vec<_>>() })
}
