//! The server: accepts connections, guards them, and lets them end.
//!
//! | module | holds |
//! | --- | --- |
//! | this one | what accepts, and how many; one connection from its first byte to its end |
//! | `guard` | a socket whose client must send heads in time and take what is sent |
//! | `outflow` | what is known of a response's way to its client, and of one inside HTTP/2 that does not get there |
//! | `streamed` | a response that goes on until somebody ends it, and how it leaves hyper |
//! | `line` | a socket with such a stream on it, and nothing else |
//!
//! `axum::serve` leaves all of this open: heads that take for ever, clients that take nothing, any number of
//! connections, an idle connection that is kept until the process ends.

mod guard;
mod line;
mod outflow;
mod streamed;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::observe::made_correlation_id;
use super::problem::{Code, PROBLEM_JSON, Problem};
use super::{Front, Site};
use guard::Guarded;
use line::Line;
pub(super) use outflow::Outflow;
use outflow::{Connection, Streams, Watched};
use streamed::Manner;
pub(super) use streamed::{Source, Streamed};

/// What every HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Connections the kernel holds until they are accepted: as many as it allows, for the moment after
/// a restart when everybody comes back.
const BACKLOG: u32 = 4096;
/// Bytes that are buffered for a connection in each direction at about most.
const BUFFER: usize = 64 << 10;
/// How often an HTTP/2 client is asked whether it is there, and how long it has to say so.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// How long accepting rests when the process is out of files or memory: from, to.
const REST: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Connections that are refused with an answer at once; more are just closed.
const REFUSALS: usize = 64;
/// How long a refused client has to take its answer, and how much more of it is read.
const REFUSAL: (Duration, u64) = (Duration::from_secs(1), 64 << 10);
/// Seconds after which a refused client may come again: from, to. Not all at once.
const COME_AGAIN: std::ops::RangeInclusive<u32> = 2..=10;

/// The address at the other end of the connection a request came on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Listens; port 0 chooses a free one.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `closing`, and then until the requests in flight are answered.
pub async fn serve(
    listener: TcpListener,
    site: Site,
    front: Arc<Front>,
    closing: CancellationToken,
) {
    let connections = TaskTracker::new();
    let (places, refusals) =
        (Arc::new(Semaphore::new(front.connections)), Arc::new(Semaphore::new(REFUSALS)));
    let http = Arc::new(Http::new(site, &front));
    let mut rest = REST.0;
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                rest = REST.0;
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let (http, closing) = (Arc::clone(&http), closing.clone());
                    connections.spawn(async move {
                        http.serve(stream, peer.ip(), closing).await;
                        drop(place);
                    });
                } else {
                    metrics::counter!("connections_refused_total").increment(1);
                    if let Ok(turn) = Arc::clone(&refusals).try_acquire_owned() {
                        connections.spawn(async move {
                            // Too slow to take its answer, or gone: it is closed without one.
                            let _ = tokio::time::timeout(REFUSAL.0, refuse(stream)).await;
                            drop(turn);
                        });
                    }
                }
            }
            // It was gone before it was accepted.
            Err(error) if is_of_one_connection(&error) => {}
            // No files or no memory: what is there is served on, and some of it will end.
            Err(error) => {
                metrics::counter!("accept_errors_total").increment(1);
                tracing::warn!(%error, ?rest, "no connection can be accepted for now");
                closing.run_until_cancelled(tokio::time::sleep(rest)).await;
                rest = (rest * 2).min(REST.1);
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionRefused | K::ConnectionAborted | K::ConnectionReset)
}

/// Answers a connection for which there is no place.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let body =
        Problem::new(Code::Unavailable, "this node has as many connections as it may").json();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\n\
         retry-after: {}\r\nx-correlation-id: {}\r\nconnection: close\r\n\r\n",
        body.len(),
        fastrand::u32(COME_AGAIN),
        made_correlation_id(),
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await?;
    stream.shutdown().await?;
    // What the client sends meanwhile is read: to close on it would reset the answer, too.
    tokio::io::copy(&mut stream.take(REFUSAL.1), &mut tokio::io::sink()).await?;
    Ok(())
}

/// How connections are served.
struct Http {
    site: Site,
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
    header_time: Duration,
    stall: Duration,
}

impl Http {
    fn new(site: Site, front: &Front) -> Self {
        // How many headers there may be is left as it is, a hundred: with another number each request pays for a table.
        let header_bytes = front.header_bytes as usize;
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // It runs between two requests, too; a head that has begun has less, which the guard sees to.
            .header_read_timeout(front.keep_alive.max(front.header_time))
            .max_header_size(header_bytes)
            .max_buf_size(BUFFER.max(header_bytes));
        let mut http2 = http2::Builder::new(Streams { stall: front.stall });
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .max_concurrent_streams(front.requests)
            .max_header_list_size(front.header_bytes)
            .max_send_buf_size(BUFFER);
        Self { site, http1, http2, header_time: front.header_time, stall: front.stall }
    }

    /// One connection, from its first byte to its end.
    async fn serve(&self, stream: TcpStream, peer: IpAddr, closing: CancellationToken) {
        metrics::gauge!("connections_open").increment(1.0);
        // A frame of a stream is small and must not wait for the next.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let call = Call { connection: Arc::default(), peer, closing };
        // What hyper and the handlers take is in a box, which is gone while a stream goes on without them.
        let mut left = Box::pin(self.begin(stream, &call)).await;
        let ended = loop {
            let line = match left {
                Left::Ended(reason) => break reason,
                Left::Stream(line) => line,
            };
            match line.run().await {
                Ok(Some((stream, ahead))) => {
                    left = Box::pin(self.serve_http1(stream, ahead, &call)).await;
                }
                Ok(None) => break "closed",
                Err(error) => break call.connection.broke(&error),
            }
        };
        metrics::gauge!("connections_open").decrement(1.0);
        metrics::counter!("connections_closed_total", "reason" => ended).increment(1);
    }

    /// Finds out what is spoken, and serves it.
    async fn begin(&self, mut stream: TcpStream, call: &Call) -> Left {
        let hello = tokio::time::timeout(self.header_time, hello(&mut stream));
        match call.closing.run_until_cancelled(hello).await {
            Some(Ok(Ok((hello, is_http2)))) if !hello.is_empty() => {
                if !is_http2 {
                    return self.serve_http1(stream, hello, call).await;
                }
                let guarded = Guarded::new(stream, hello, Arc::clone(&call.connection), self);
                let http =
                    pin!(self.http2.serve_connection(TokioIo::new(guarded), self.service(call)));
                let served = run(http, &call.closing, || false).await;
                Left::Ended(call.connection.ended(served.unwrap_or(Ok(()))))
            }
            Some(Err(_)) => Left::Ended("slow"),
            _ => Left::Ended("closed"),
        }
    }

    /// Serves requests until the connection ends, or is left to a stream.
    async fn serve_http1(&self, stream: TcpStream, hello: Bytes, call: &Call) -> Left {
        let connection = &call.connection;
        let guarded = Guarded::new(stream, hello, Arc::clone(connection), self).with_heads();
        let mut http = self.http1.serve_connection(TokioIo::new(guarded), self.service(call));
        let served = run(Pin::new(&mut http), &call.closing, || connection.exit.is_open()).await;
        if let Some(served) = served {
            return Left::Ended(connection.ended(served));
        }
        let Some(stream) = connection.exit.take() else { return Left::Ended("broken") };
        let parts = http.into_parts();
        // hyper has asked for all that was read before.
        let (socket, _) = parts.io.into_inner().into_parts();
        // Copied, for it lies in hyper's buffer, which an empty piece would keep as well.
        let socket = (socket, Bytes::copy_from_slice(&parts.read_buf));
        Left::Stream(Line::new(socket, stream, Arc::clone(connection), self.stall))
    }

    fn service(
        &self,
        call: &Call,
    ) -> impl Service<
        Request<Incoming>,
        Response = axum::http::Response<Watched>,
        Error = std::convert::Infallible,
        Future: Send + 'static,
    > + Unpin
    + use<> {
        let (site, peer) = (self.site.clone(), Peer(call.peer));
        let connection = Arc::clone(&call.connection);
        service_fn(move |mut request: Request<Incoming>| {
            connection.begins();
            let (site, connection) = (site.clone(), Arc::clone(&connection));
            async move {
                let outflow = connection.outflow();
                let manner = Manner::of(&request);
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(Arc::clone(&outflow));
                let mut response = site.answer(request).await;
                let stream = response.extensions_mut().remove::<Streamed>();
                let watched = |body| Watched::new(body, outflow, connection);
                Ok(response.map(|body| match stream.zip(manner) {
                    Some((stream, manner)) => watched(body).leaving(stream, manner),
                    None => watched(body),
                }))
            }
        })
    }
}

/// A connection that is being served.
struct Call {
    connection: Arc<Connection>,
    peer: IpAddr,
    closing: CancellationToken,
}

/// How hyper came to the end of its part.
enum Left {
    /// With the connection, for this reason.
    Ended(&'static str),
    /// With a stream that goes on alone.
    Stream(Line),
}

/// Reads as much as tells HTTP/2 from HTTP/1, and says which it is. Nothing where the client has closed.
async fn hello(stream: &mut TcpStream) -> io::Result<(Bytes, bool)> {
    let (mut read, mut length) = ([0; PREFACE.len()], 0);
    while length < PREFACE.len() {
        let more = stream.read(&mut read[length..]).await?;
        length += more;
        if more == 0 || read[..length] != PREFACE[..length] {
            return Ok((Bytes::copy_from_slice(&read[..length]), false));
        }
    }
    Ok((Bytes::from_static(PREFACE), true))
}

/// Runs a connection to its end, or until `is_left`: then `None`. When the node closes, its requests in flight are its last.
async fn run<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    closing: &CancellationToken,
    is_left: impl Fn() -> bool,
) -> Option<Result<(), C::Error>> {
    let mut closes = pin!(closing.cancelled());
    let mut is_closing = false;
    std::future::poll_fn(|context| {
        if !is_closing && closes.as_mut().poll(context).is_ready() {
            is_closing = true;
            connection.as_mut().graceful_shutdown();
        }
        match connection.as_mut().poll(context) {
            Poll::Ready(served) => Poll::Ready(Some(served)),
            Poll::Pending if is_left() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
