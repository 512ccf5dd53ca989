//! The same work by other products on the same servers, in turn with ours: each round first over HTTP,
//! then in process, then each peer. Every run checks that nothing was lost or came twice; one that finds
//! otherwise is void, and so is its cell.

mod child;
pub(crate) mod inprocess;
mod lines;
mod nchan;
mod table;

use anyhow::{Context, Result};

use crate::cli::{Mode, Options, Peers};
use crate::deliver;
use crate::drive::{Behind, Sample};
use crate::report::Conditions;
use crate::run::{bounded, node_stores, play, sweep, unless_interrupted};
use crate::scenarios::{self, Scenario};
use crate::stores::Stores;
use inprocess::Work;
use lines::{LINES, Line, Peer};
use nchan::Nchan;

/// What one product reached in a line, or why there is no figure.
type Outcome = Result<Vec<Sample>, String>;

/// All that was measured of one line.
struct Measured {
    line: &'static Line,
    http: Outcome,
    in_process: Option<Outcome>,
    peers: Vec<(Peer, Outcome)>,
}

/// Measures and prints; false when a figure is void or the run was interrupted.
pub(crate) async fn measure(options: &Options, from: &Peers) -> Result<bool> {
    let stores = node_stores(options, Mode::Node).await?.context("the peers need a node")?;
    let mut measured = Vec::new();
    let all = async {
        for line in LINES.iter().filter(|line| options.wants(line.name)) {
            measured.push(Field { options, from, stores: &stores, line }.measure().await);
        }
    };
    let finished = unless_interrupted(Box::pin(all)).await.is_some();
    sweep(Some(&stores)).await?;
    let conditions = Conditions::gather(options, Some(&stores));
    let markdown = options.markdown || options.into.is_some();
    deliver(options, "peers", &table::render(&conditions, from, &measured, markdown))?;
    Ok(finished && measured.iter().all(Measured::is_whole))
}

impl Measured {
    fn is_whole(&self) -> bool {
        self.http.is_ok()
            && self.in_process.as_ref().is_none_or(Result::is_ok)
            && self.peers.iter().all(|(_, outcome)| outcome.is_ok())
    }
}

/// Where a line is measured.
struct Field<'a> {
    options: &'a Options,
    from: &'a Peers,
    stores: &'a Stores,
    line: &'static Line,
}

impl Field<'_> {
    async fn measure(&self) -> Measured {
        let line = self.line;
        let mut measured = Measured {
            line,
            http: Ok(Vec::new()),
            in_process: line.in_process.map(|_| Ok(Vec::new())),
            peers: line
                .peers
                .iter()
                .filter(|peer| self.has(**peer))
                .map(|&peer| (peer, Ok(Vec::new())))
                .collect(),
        };
        for round in 1..=self.options.rounds {
            let sample = self.http().await;
            self.note(round, "ours over HTTP", &mut measured.http, sample).await;
            if let (Some(work), Some(outcome)) = (line.in_process, &mut measured.in_process) {
                let sample = self.in_process(work).await;
                self.note(round, "ours in process", outcome, sample).await;
            }
            for (peer, outcome) in &mut measured.peers {
                let sample = self.peer(*peer).await;
                self.note(round, peer.name(), outcome, sample).await;
            }
        }
        measured
    }

    fn has(&self, peer: Peer) -> bool {
        !matches!(peer, Peer::Nchan { .. }) || self.from.nchan_module.is_some()
    }

    /// The first fault voids all rounds.
    async fn note(&self, round: u32, who: &str, outcome: &mut Outcome, sample: Result<Sample>) {
        let swept = sweep(Some(self.stores)).await;
        let name = self.line.name;
        match (sample.and_then(|sample| swept.map(|()| sample)), &mut *outcome) {
            (Ok(sample), Ok(samples)) => {
                let (value, unit) = (crate::grid::grouped(sample.value), self.line.unit);
                eprintln!("{name}, round {round}: {who}: {value} {unit}");
                samples.push(sample);
            }
            (Err(error), _) => {
                eprintln!("{name}, round {round}: {who}: VOID: {error:#}");
                *outcome = Err(format!("{error:#}"));
            }
            (Ok(_), Err(_)) => {}
        }
    }

    async fn http(&self) -> Result<Sample> {
        let scenario: &'static Scenario = scenarios::ALL
            .iter()
            .find(|scenario| scenario.name == self.line.scenario)
            .context("a line without its scenario")?;
        bounded(self.options, play(self.options, Some(self.stores), Mode::Node, scenario)).await
    }

    async fn in_process(&self, work: Work) -> Result<Sample> {
        let lease = self.stores.lend().await?;
        child::in_process(self.options, self.stores, &lease, work)
    }

    async fn peer(&self, peer: Peer) -> Result<Sample> {
        let (options, stores) = (self.options, self.stores);
        match peer {
            Peer::Node { script, work, .. } => {
                let lease = stores.lend().await?;
                let script = self.from.folder.join(script);
                child::node(options, stores, &lease, &script, work)
            }
            Peer::Nchan { over_redis, work } => {
                let module = self.from.nchan_module.as_ref().context("no Nchan here")?;
                let redis = over_redis.then(|| stores.redis_url());
                let nchan = Nchan::start(options, module, redis).await?;
                let behind: Option<Behind<u32>> = stores.process_ids().filter(|_| over_redis);
                bounded(options, nchan.run(options, work, behind)).await
            }
        }
    }
}
