//! What is known of a response's way to its client.
//!
//! A response goes out on an HTTP/1 connection, where the socket says whether the client takes it, or inside an HTTP/2
//! connection, whose client may stop taking one response and go on with the others: then the
//! response's body is not asked for more although it gave something, and only this stream is ended.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use super::streamed::{Exit, Manner, Streamed};

tokio::task_local! {
    /// Of the HTTP/2 stream that the present task serves.
    static STREAM: Arc<Outflow>;
}

/// The way of a response to its client.
#[derive(Debug, Default)]
pub(in crate::http) struct Outflow {
    stalled: AtomicBool,
    times: Mutex<Times>,
    /// Of the HTTP/2 connection it is in.
    connection: OnceLock<Arc<Connection>>,
}

#[derive(Debug, Default)]
struct Times {
    /// Since when something that was given is not taken: the body was not asked for more.
    waits_since: Option<Instant>,
    /// When it has to be over, however little the client takes.
    ends_at: Option<Instant>,
}

impl Outflow {
    /// Says when the response has to be over: a client that takes a byte a minute takes none after that.
    pub(in crate::http) fn ends_at(&self, at: Instant) {
        self.times().ends_at = Some(at);
    }

    /// Whether it ended because the client took nothing any more.
    pub(in crate::http) fn has_stalled(&self) -> bool {
        let in_all = || self.connection.get().is_some_and(|whole| whole.outflow.has_stalled());
        self.stalled.load(Ordering::Relaxed) || in_all()
    }

    /// Until when a client that takes nothing is borne with.
    fn patience(&self, since: Instant, stall: Duration) -> Instant {
        let patience = since + stall;
        self.times().ends_at.map_or(patience, |ends_at| patience.min(ends_at))
    }

    fn waits(&self, since: Option<Instant>) {
        self.times().waits_since = since;
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What its socket, its requests and its responses know of a connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) outflow: Arc<Outflow>,
    requests: AtomicU64,
    in_flight: AtomicU64,
    slow: AtomicBool,
    /// By which its stream may leave hyper.
    pub(super) exit: Exit,
}

impl Connection {
    /// A request has arrived.
    pub(super) fn begins(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A response has gone out, or will not.
    pub(super) fn done(&self, outflow: &Outflow) {
        *outflow.times() = Times::default();
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Where the response of the request goes that the present task serves.
    pub(super) fn outflow(self: &Arc<Self>) -> Arc<Outflow> {
        let of_stream = STREAM.try_with(|outflow| {
            let _ = outflow.connection.set(Arc::clone(self));
            Arc::clone(outflow)
        });
        of_stream.unwrap_or_else(|_| Arc::clone(&self.outflow))
    }

    /// Where no request is being served: how many there have been.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let is_idle = self.in_flight.load(Ordering::Relaxed) == 0;
        is_idle.then(|| self.requests.load(Ordering::Relaxed))
    }

    /// Until when a socket that takes nothing is borne with.
    pub(super) fn patience(&self, since: Instant, stall: Duration) -> Instant {
        self.outflow.patience(since, stall)
    }

    /// Its client took nothing for too long.
    pub(super) fn mark_stalled(&self) {
        self.outflow.stalled.store(true, Ordering::Relaxed);
    }

    /// Its client took too long to send a head.
    pub(super) fn mark_slow(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }

    /// Why it ended.
    pub(super) fn ended(&self, served: Result<(), hyper::Error>) -> &'static str {
        let Err(error) = served else { return "closed" };
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended");
        if self.outflow.stalled.load(Ordering::Relaxed) {
            "stalled"
        } else if self.slow.load(Ordering::Relaxed) {
            "slow"
        } else if error.is_timeout() {
            "idle"
        } else if error.is_parse() {
            "malformed"
        } else {
            "broken"
        }
    }

    /// Why it ended while a stream was on it that had left hyper.
    pub(super) fn broke(&self, error: &std::io::Error) -> &'static str {
        tracing::debug!(error = error as &dyn std::error::Error, "a stream's connection ended");
        if self.outflow.stalled.load(Ordering::Relaxed) { "stalled" } else { "broken" }
    }
}

/// The body of a response on its way.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    outflow: Arc<Outflow>,
    connection: Arc<Connection>,
    /// Whether it may leave hyper before its end.
    may_leave: bool,
}

impl Watched {
    pub(super) fn new(body: Body, outflow: Arc<Outflow>, connection: Arc<Connection>) -> Self {
        Self { body, outflow, connection, may_leave: false }
    }

    /// Of a stream that may leave hyper.
    pub(super) fn leaving(mut self, stream: Streamed, manner: Manner) -> Self {
        self.connection.exit.open(stream, manner);
        self.may_leave = true;
        self
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let gave = matches!(polled, Poll::Ready(Some(_)));
        self.outflow.waits(gave.then(Instant::now));
        if self.may_leave {
            self.connection.exit.asked(polled.is_pending());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A stream that has left is not done: its line says when.
        if !self.may_leave || self.connection.exit.close().is_some() {
            self.connection.done(&self.outflow);
        }
    }
}

/// Runs the streams of HTTP/2 connections, each for as long as its client takes what is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    pub(super) stall: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::spawn(unless_stalled(stream, self.stall));
    }
}

/// Runs `stream` to its end, or drops it, which resets it, when something waits too long to be taken.
async fn unless_stalled(stream: impl Future<Output = ()>, stall: Duration) {
    let outflow = Arc::<Outflow>::default();
    let mut stream = pin!(STREAM.scope(Arc::clone(&outflow), stream));
    let mut timer = pin!(sleep_until(Instant::now()));
    std::future::poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let waits_since = outflow.times().waits_since;
        let Some(since) = waits_since else { return Poll::Pending };
        timer.as_mut().reset(outflow.patience(since, stall));
        timer.as_mut().poll(context).map(|()| outflow.stalled.store(true, Ordering::Relaxed))
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_a_little_now_and_then_is_borne_with_until_the_response_must_be_over() {
        let (outflow, now) = (Outflow::default(), Instant::now());
        let seconds = Duration::from_secs;
        assert_eq!(outflow.patience(now, seconds(60)), now + seconds(60));
        outflow.ends_at(now + seconds(100));
        assert_eq!(outflow.patience(now, seconds(60)), now + seconds(60));
        assert_eq!(outflow.patience(now + seconds(90), seconds(60)), now + seconds(100));
    }

    #[tokio::test]
    async fn a_stream_that_waits_to_be_taken_is_dropped_and_one_that_waits_for_news_is_not() {
        let stall = Duration::from_millis(20);
        let news = async {
            let outflow = STREAM.with(Arc::clone);
            outflow.waits(Some(Instant::now()));
            outflow.waits(None);
            tokio::time::sleep(4 * stall).await;
            outflow.waits(Some(Instant::now()));
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        unless_stalled(news, stall).await;
        assert!(began.elapsed() >= 5 * stall, "{:?}", began.elapsed());
    }
}
