//! The open loop: requests are sent at a fixed rate, and the latency of each counts from when it was
//! *due*. A closed loop asks a slow server less often and so hides how long others would have
//! waited; here whoever is late is late in the figure (no coordinated omission).

mod schedule;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::client::Connection;
use crate::clock;
use crate::drive::{Meter, Sample, Window};
use schedule::Schedule;

/// Connections that share the arrivals: enough that a request that takes long keeps no other back.
pub(crate) const CONNECTIONS: usize = 64;

/// One request that is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) index: u64,
    pub(crate) due: Instant,
}

/// What is due and not taken yet, in its order, for whichever connection is free.
#[derive(Clone)]
pub(crate) struct Arrivals(Arc<Mutex<UnboundedReceiver<Arrival>>>);

impl Arrivals {
    /// `rate` a second from now until the end of the window. A thread of its own keeps the time: the
    /// runtime's timer counts in milliseconds, which is longer than what is measured.
    pub(crate) fn start(rate: f64, window: Window) -> Self {
        let (sender, receiver) = unbounded_channel();
        thread::spawn(move || keep_time(rate, window.end, &sender));
        Self(Arc::new(Mutex::new(receiver)))
    }

    /// The next; `None` when the window has passed.
    pub(crate) async fn next(&self) -> Option<Arrival> {
        self.0.lock().await.recv().await
    }
}

fn keep_time(rate: f64, end: Instant, sender: &UnboundedSender<Arrival>) {
    let (schedule, begin) = (Schedule::new(rate), clock::now());
    for index in 0_u64.. {
        let due = begin + schedule.due(index);
        if due > end {
            return;
        }
        loop {
            let left = due.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        if sender.send(Arrival { index, due }).is_err() {
            return;
        }
    }
}

/// What one connection does with an arrival.
pub(crate) trait Client: Clone + Send + 'static {
    /// One request, checked.
    fn send(
        &self,
        connection: &mut Connection,
        arrival: Arrival,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Runs clients at a rate and tells for each arrival of the window how long after it was due its
/// answer was there, and how many requests were sent in all.
pub(crate) async fn run<C: Client>(
    connections: Vec<Connection>,
    rate: f64,
    window: Window,
    client: C,
) -> Result<(Vec<u64>, u64)> {
    let arrivals = Arrivals::start(rate, window);
    let mut crew = JoinSet::new();
    for mut connection in connections {
        let (arrivals, client) = (arrivals.clone(), client.clone());
        crew.spawn(async move {
            let (mut latencies, mut sent) = (Vec::new(), 0_u64);
            while let Some(arrival) = arrivals.next().await {
                client.send(&mut connection, arrival).await?;
                sent += 1;
                if window.holds(arrival.due) {
                    latencies.push(clock::nanoseconds(arrival.due.elapsed()));
                }
            }
            anyhow::Ok((latencies, sent))
        });
    }
    let (mut latencies, mut sent) = (Vec::new(), 0);
    while let Some(done) = crew.join_next().await {
        let (more, count) = done.context("a connection of the open loop panicked")??;
        latencies.extend(more);
        sent += count;
    }
    Ok((latencies, sent))
}

/// The figure of an open loop by itself: from due to answered.
pub(crate) async fn measure<C: Client>(
    connections: Vec<Connection>,
    rate: f64,
    window: Window,
    meter: &Meter,
    client: C,
) -> Result<Sample> {
    let never = tokio_util::sync::CancellationToken::new();
    let ((latencies, _), cpu) =
        tokio::try_join!(run(connections, rate, window, client), window.metered(meter, &never))?;
    let elapsed: Duration = window.end - window.begin;
    Sample::of_rate(u64::try_from(latencies.len())?, elapsed, &latencies, cpu)
}
