//! The yardstick: a bare axum endpoint that checks the body to be JSON and sends it back, on one
//! thread, in a process of its own. What the server does beyond that is the server's; what the
//! machine, the kernel and the HTTP library cost today is in both.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::cli::{self, Options};
use crate::client::Connection;
use crate::clock;
use crate::drive::{Meter, Sample, Stage, Step, Worker, drive, float};
use crate::procfs;
use crate::scenarios::{Kind, Scenario};

/// Serves until the driver is gone: the pipe that is this process's input closes with it, however
/// it ends.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut output = std::io::stdout();
    writeln!(output, "{}", listener.local_addr()?)?;
    output.flush()?;
    std::thread::spawn(|| {
        // Whether it ends in an error or in nothing, the other end is closed.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let listener = listener.tap_io(|socket| {
        // Without it the echo would only be slower; the driver sets its own end and fails there if
        // it cannot.
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, Router::new().route("/echo", post(echo))).await?;
    Ok(())
}

async fn echo(Json(body): Json<Box<RawValue>>) -> Json<Box<RawValue>> {
    Json(body)
}

/// The echo endpoint's process, ended when this is dropped.
pub(crate) struct Echo {
    process: Child,
    address: SocketAddr,
}

impl Echo {
    /// The echo's own figure for the connections, the body and the measure of a scenario.
    pub(crate) async fn measure(options: &Options, scenario: &Scenario) -> Result<Sample> {
        let echo = Self::start()?;
        let meter = Meter { server: echo.process.id(), stores: Vec::new() };
        let stage =
            Stage { address: echo.address, meter, options, seconds: options.echo_seconds() };
        let load = scenario.echo_load(options);
        if matches!(scenario.kind, Kind::IdleStreams) {
            return idle_connections(&stage, load.connections, load.body).await;
        }
        let worker = || Exchange { body: load.body.clone() };
        let workers = (0..load.connections).map(|_| worker()).collect();
        Ok(drive(&stage, workers).await?.sample)
    }

    fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(cli::ECHO_SERVER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the echo endpoint could not be started")?;
        let output = process.stdout.take();
        let mut echo = Self { process, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut line = String::new();
        BufReader::new(output.context("the echo endpoint has no output")?).read_line(&mut line)?;
        echo.address =
            line.trim().parse().context("the echo endpoint did not say where it listens")?;
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the scenario's connections send instead of the scenario.
struct Exchange {
    body: Bytes,
}

impl Worker for Exchange {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let reply = connection
            .post("/echo", self.body.clone())
            .await?
            .expect(StatusCode::OK, "the echo")?;
        ensure!(reply.body == self.body, "the echo answered something else than it was sent");
        Ok(Step::Did(1))
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
