//! The yardstick: a bare axum endpoint that checks the body to be JSON and sends it back, on one
//! thread, in a process of its own. What the server does beyond that is the server's; what the
//! machine, the kernel and the HTTP library cost today is in both.

use std::time::Duration;

use anyhow::{Result, ensure};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::cli::{self, Options};
use crate::client::Connection;
use crate::clock;
use crate::companion::{Companion, listener};
use crate::drive::{Meter, Sample, Stage, Step, Worker, drive, float};
use crate::openloop::{self, Arrival, Client};
use crate::procfs;
use crate::scenarios::{Kind, Scenario};

/// Serves until the driver is gone.
pub(crate) async fn serve() -> Result<()> {
    axum::serve(listener().await?, Router::new().route("/echo", post(echo))).await?;
    Ok(())
}

async fn echo(Json(body): Json<Box<RawValue>>) -> Json<Box<RawValue>> {
    Json(body)
}

/// The echo endpoint's own figure for the connections, the body and the measure of a scenario. Where
/// the scenario kept to a rate, the echo gets the rate that `subject` reached.
pub(crate) async fn measure(
    options: &Options,
    scenario: &Scenario,
    subject: &Sample,
) -> Result<Sample> {
    let echo = Companion::start(cli::ECHO_SERVER)?;
    let meter = Meter { server: echo.id(), stores: None, profile: None };
    let seconds = options.echo_seconds();
    let stage = Stage { address: echo.address, meter, place: None, options, seconds };
    let load = scenario.echo_load(options);
    match scenario.kind {
        Kind::IdleStreams => idle_connections(&stage, load.connections, load.body).await,
        Kind::Open { .. } => {
            let connections = Connection::open_many(echo.address, load.connections).await?;
            let client = Exchange { body: load.body };
            let rate = subject.value;
            openloop::measure(connections, rate, stage.window(), &stage.meter, client).await
        }
        _ => {
            let worker = || Exchange { body: load.body.clone() };
            let workers = (0..load.connections).map(|_| worker()).collect();
            Ok(drive(&stage, workers).await?.sample)
        }
    }
}

/// What the scenario's connections send instead of the scenario.
#[derive(Clone)]
struct Exchange {
    body: Bytes,
}

impl Exchange {
    async fn exchange(&self, connection: &mut Connection) -> Result<()> {
        let reply = connection
            .post("/echo", self.body.clone())
            .await?
            .expect(StatusCode::OK, "the echo")?;
        ensure!(reply.body == self.body, "the echo answered something else than it was sent");
        Ok(())
    }
}

impl Worker for Exchange {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        self.exchange(connection).await?;
        Ok(Step::Did(1))
    }
}

impl Client for Exchange {
    async fn send(&self, connection: &mut Connection, _: Arrival) -> Result<()> {
        self.exchange(connection).await
    }
}

/// The memory of connections that have sent one request and are kept open: what hyper and axum need
/// at least.
async fn idle_connections(stage: &Stage<'_>, count: usize, body: Bytes) -> Result<Sample> {
    let mut first = Connection::open(stage.address).await?;
    first.post("/echo", body.clone()).await?;
    let (before, cpu_before) = (procfs::resident_kib(stage.meter.server)?, stage.meter.read()?);
    let (mut connections, mut latencies) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let begun = clock::now();
    for _ in 0..count {
        let started = clock::now();
        let mut connection = Connection::open(stage.address).await?;
        connection.post("/echo", body.clone()).await?.expect(StatusCode::OK, "the echo")?;
        latencies.push(clock::nanoseconds(started.elapsed()));
        connections.push(connection);
    }
    let (elapsed, cpu) = (begun.elapsed(), stage.meter.read()?.since(cpu_before));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let grown = procfs::resident_kib(stage.meter.server)?.saturating_sub(before);
    let count = u64::try_from(connections.len())?;
    Sample::of(float(grown) / float(count), count, elapsed, &latencies, cpu)
}
