//! Nchan, a module of nginx: an nginx of our own on a free port, with its messages in memory or in the
//! run's Redis. The readers and the publisher are ours, the same as of our own fan-out.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::cli::Options;
use crate::client::{Connection, EventStream};
use crate::clock;
use crate::drive::{Behind, Meter, Sample, Step, Window, Worker, drive, float};
use crate::procfs;
use crate::scenarios::{Dialect, Fan, Following, message, replays};

/// What is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    FanOut { paced: bool },
    Idle,
    Replay,
    Publish,
}

const CHANNELS: usize = 100;

const START_LIMIT: Duration = Duration::from_secs(10);

/// The running nginx, ended when this is dropped.
pub(crate) struct Nchan {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Nchan {
    /// Starts it, over Redis if that is given, and waits until it answers.
    pub(crate) async fn start(
        options: &Options,
        module: &Path,
        redis: Option<&str>,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("nchan-").tempdir_in(&options.data_dir)?;
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration(module, address, redis))?;
        let process = Command::new("nginx")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("error.log"))?)
            .spawn()
            .context("nginx could not be started")?;
        let nchan = Self { process, address, directory };
        let begun = clock::now();
        // It listens before it has a worker, and answers before it has its Redis.
        while nchan.end("ready").await.is_err() {
            if begun.elapsed() > START_LIMIT {
                let log = fs::read_to_string(nchan.directory.path().join("error.log"));
                bail!("nginx does not start: {}", log.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(nchan)
    }

    fn meter(&self, redis: Option<Behind<u32>>) -> Result<Meter> {
        // With one worker process its time is nginx's.
        let worker = procfs::children(self.process.id()).first().copied();
        Ok(Meter { server: worker.context("nginx has no worker")?, stores: redis, profile: None })
    }

    async fn subscribe(&self, channel: &str) -> Result<EventStream> {
        Connection::open(self.address).await?.events(&format!("/sub/{channel}")).await
    }

    /// Does the work.
    pub(crate) async fn run(
        &self,
        options: &Options,
        work: Work,
        stores: Option<Behind<u32>>,
    ) -> Result<Sample> {
        let meter = self.meter(stores)?;
        match work {
            Work::FanOut { paced } => self.fan_out(options, &meter, paced).await,
            Work::Idle => self.idle(options, &meter).await,
            Work::Replay => self.replay(options, &meter).await,
            Work::Publish => self.publish(options, meter).await,
        }
    }

    async fn fan_out(&self, options: &Options, meter: &Meter, paced: bool) -> Result<Sample> {
        let mut streams = Vec::with_capacity(options.readers);
        for _ in 0..options.readers {
            streams.push(self.subscribe("fan").await?);
        }
        let (dialect, path) = (Dialect::Plain, "/pub/fan".to_owned());
        let fan = Fan { address: self.address, streams, path, dialect };
        fan.feed(options, meter, paced, 1, self.end("fan")).await
    }

    async fn end(&self, channel: &str) -> Result<()> {
        let mut connection = Connection::open(self.address).await?;
        let reply = connection.post(&format!("/pub/{channel}"), message(0, 0)).await?;
        ensure!(reply.status.is_success(), "publishing answered {}", reply.status);
        Ok(())
    }

    async fn idle(&self, options: &Options, meter: &Meter) -> Result<Sample> {
        drop(self.subscribe("idle-0").await?);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (before, cpu) = (procfs::resident_kib(meter.server)?, meter.read()?);
        let (mut streams, mut latencies) = (Vec::new(), Vec::new());
        let begun = clock::now();
        for index in 0..options.streams {
            let started = clock::now();
            streams
                .push(self.subscribe(&format!("idle-{}", index % (options.streams / 10))).await?);
            latencies.push(clock::nanoseconds(started.elapsed()));
        }
        let (elapsed, cpu) = (begun.elapsed(), meter.read()?.since(cpu));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let grown = procfs::resident_kib(meter.server)?.saturating_sub(before);
        for channel in 0..options.streams / 10 {
            self.end(&format!("idle-{channel}")).await?;
        }
        let window = Window::after_warmup(options, 0.0);
        for stream in streams {
            Following::new(window, Dialect::Plain).follow(stream).await?;
        }
        let count = u64::try_from(options.streams)?;
        Sample::of(float(grown) / float(count), count, elapsed, &latencies, cpu)
    }

    async fn replay(&self, options: &Options, meter: &Meter) -> Result<Sample> {
        let entries = u64::try_from(options.entries)?;
        let mut connection = Connection::open(self.address).await?;
        for number in 1..=entries {
            let reply = connection.post("/pub/replay", message(number, 0)).await?;
            ensure!(reply.status.is_success(), "publishing answered {}", reply.status);
        }
        let window = Window::after_warmup(options, options.seconds);
        replays(window, meter, entries, Dialect::Plain, async || self.subscribe("replay").await)
            .await
    }

    /// Publishing to a hundred channels with a reader each. A channel belongs to one connection, so
    /// that its numbers count in the order they are sent.
    async fn publish(&self, options: &Options, meter: Meter) -> Result<Sample> {
        let window = Window::after_warmup(options, options.seconds);
        let following = Following::new(window, Dialect::Plain);
        let mut readers = Vec::new();
        for channel in 0..CHANNELS {
            let stream = self.subscribe(&format!("progress-{channel}")).await?;
            readers.push(tokio::spawn(following.clone().follow(stream)));
        }
        let sent: Arc<Vec<AtomicU64>> =
            Arc::new((0..CHANNELS).map(|_| AtomicU64::new(0)).collect());
        let lanes = 32;
        let publisher = |lane: usize| Publisher { sent: Arc::clone(&sent), lane, lanes, turn: 0 };
        let stage = crate::drive::Stage {
            address: self.address,
            meter,
            place: None,
            options,
            seconds: options.seconds,
        };
        let driven = drive(&stage, (0..lanes).map(publisher).collect()).await?;
        let all = sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum();
        following.caught_up(all).await;
        for (channel, reader) in readers.into_iter().enumerate() {
            self.end(&format!("progress-{channel}")).await?;
            let followed = reader.await.context("a reader panicked")??;
            let sent = sent[channel].load(Ordering::Relaxed);
            ensure!(followed.entries == sent, "a reader got {} of {sent}", followed.entries);
        }
        Ok(driven.sample)
    }
}

struct Publisher {
    sent: Arc<Vec<AtomicU64>>,
    lane: usize,
    lanes: usize,
    turn: usize,
}

impl Worker for Publisher {
    async fn step(&mut self, connection: &mut Connection) -> Result<Step> {
        let own = (CHANNELS - self.lane).div_ceil(self.lanes);
        let channel = self.lane + self.lanes * (self.turn % own);
        self.turn += 1;
        let number = self.sent[channel].fetch_add(1, Ordering::Relaxed) + 1;
        let reply =
            connection.post(&format!("/pub/progress-{channel}"), message(number, 0)).await?;
        ensure!(reply.status.is_success(), "publishing answered {}", reply.status);
        Ok(Step::Did(1))
    }
}

impl Drop for Nchan {
    fn drop(&mut self) {
        // TERM ends the workers too; it may have ended already, which is as good.
        let id = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.process.wait();
    }
}

/// One worker process, as the echo has one thread, and as it is fastest beside a driver on two cores.
fn configuration(module: &Path, address: SocketAddr, redis: Option<&str>) -> String {
    let (upstream, pass) = match redis {
        Some(url) => (
            format!("upstream messages {{ nchan_redis_server {url}; }}"),
            "nchan_redis_pass messages; nchan_redis_storage_mode distributed;",
        ),
        None => (String::new(), ""),
    };
    format!(
        "load_module {module};
        daemon off;
        worker_processes 1;
        worker_rlimit_nofile 40000;
        pid nginx.pid;
        events {{ worker_connections 20000; }}
        http {{
            access_log off;
            keepalive_requests 1000000000;
            keepalive_timeout 3600;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            nchan_shared_memory_size 512M;
            {upstream}
            server {{
                listen {address};
                location ~ ^/pub/(.+)$ {{
                    nchan_publisher; nchan_channel_id $1; {pass}
                    nchan_message_buffer_length 20000; nchan_message_timeout 10m;
                }}
                location ~ ^/sub/(.+)$ {{
                    nchan_subscriber eventsource; nchan_channel_id $1; {pass}
                    nchan_subscriber_first_message oldest;
                }}
            }}
        }}",
        module = module.display(),
    )
}
