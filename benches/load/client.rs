//! One HTTP/1.1 connection, without a pool, a redirect or a retry between the measurement and the
//! wire.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;

use anyhow::{Context, Result, bail};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

/// Where the nine calls live.
pub(crate) const API: &str = "/api/v1";

/// What a page of a browser asks for, and what the rest of the API answers with.
const ACCEPTED: &str = "text/event-stream, application/json";

/// A kept-alive connection that carries one request at a time.
///
/// Whoever awaits an answer also drives the connection: a second task for that, as is usual, would
/// cost two wake-ups a request, and on a machine shared with the server the driver's CPU is the
/// server's loss.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    wire: Wire,
    host: HeaderValue,
}

struct Wire {
    protocol: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
    closed: bool,
}

/// An answer read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// An answer whose body is still to be read: a stream of events.
pub(crate) struct EventStream {
    wire: Wire,
    body: Incoming,
    /// Dropping it would tell the connection that nothing more is wanted.
    _sender: http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        let (sender, protocol) = http1::handshake(TokioIo::new(socket)).await?;
        let host = HeaderValue::try_from(address.to_string())?;
        Ok(Self { sender, wire: Wire { protocol, closed: false }, host })
    }

    /// `count` connections, one after the other: a burst could overflow the listener's queue and
    /// cost a retransmission.
    pub(crate) async fn open_many(address: SocketAddr, count: usize) -> Result<Vec<Self>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Self::open(address).await?);
        }
        Ok(connections)
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Reply> {
        self.exchange(Method::GET, path, Bytes::new()).await
    }

    /// Sends a JSON body.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> Result<Reply> {
        self.exchange(Method::POST, path, body).await
    }

    /// Opens the stream of a task, which keeps the connection for itself.
    pub(crate) async fn track(self, task: &str) -> Result<EventStream> {
        self.events(&format!("{API}/tasks/{task}/track")).await
    }

    /// Opens any stream of events.
    pub(crate) async fn events(mut self, path: &str) -> Result<EventStream> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        let status = response.status();
        if status != StatusCode::OK {
            bail!("GET {path} answered {status}");
        }
        Ok(EventStream { wire: self.wire, body: response.into_body(), _sender: self.sender })
    }

    async fn exchange(&mut self, method: Method, path: &str, body: Bytes) -> Result<Reply> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let body = self.wire.alongside(response.into_body().collect()).await??.to_bytes();
        Ok(Reply { status, body })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        self.wire.alongside(self.sender.ready()).await??;
        let mut request =
            Request::builder().method(&method).uri(path).header(header::HOST, &self.host);
        if method == Method::GET {
            // Other servers have other kinds of streams besides.
            request = request.header(header::ACCEPT, HeaderValue::from_static(ACCEPTED));
        }
        if method == Method::POST {
            request =
                request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = request.body(Full::new(body))?;
        self.wire
            .alongside(self.sender.send_request(request))
            .await?
            .with_context(|| format!("{method} {path}"))
    }
}

impl Wire {
    /// Polls `future`, which waits for something from the connection, and the connection itself
    /// until the first is ready.
    async fn alongside<F: Future>(&mut self, future: F) -> Result<F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if self.closed {
                return Poll::Pending;
            }
            match Pin::new(&mut self.protocol).poll(context) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(())) => self.closed = true,
                Poll::Pending => {}
            }
            // What the connection has just read may be what the future waits for.
            future.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

impl EventStream {
    /// The next piece of the body as it came off the wire, which may hold part of a frame or
    /// several; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.wire.alongside(self.body.frame()).await? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

impl Reply {
    /// The answer, if it has the only status the scenario allows.
    pub(crate) fn expect(self, status: StatusCode, what: &str) -> Result<Self> {
        if self.status != status {
            let excerpt: String = String::from_utf8_lossy(&self.body).chars().take(300).collect();
            bail!("{what} answered {} instead of {status}: {excerpt}", self.status);
        }
        Ok(self)
    }

    /// The JSON of the answer.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self, what: &str) -> Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{what} answered something else than promised"))
    }
}
