//! A socket whose client must send heads in time and take what is sent.
//!
//! Both limits stand here because only the socket knows: hyper does not ask a body for more while the client takes
//! nothing, so a body cannot time its client; and hyper's own limit on heads runs from the end of the
//! request before, which must be long enough to keep an idle connection. (It still holds for a head that came
//! in part with the request before: those bytes were read when nobody could tell them from a body's.)

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Http;
use super::outflow::Connection;

/// A connection's socket.
pub(super) struct Guarded {
    stream: TcpStream,
    /// What was read already, to find out what is spoken.
    hello: Bytes,
    connection: Arc<Connection>,
    stall: Duration,
    header_time: Duration,
    /// Whether heads are timed: of HTTP/1. An HTTP/2 client that stops in the middle of one cannot answer pings.
    has_heads: bool,
    /// Runs since a head began; with the number of requests there had been by then.
    head: Option<(u64, Pin<Box<Sleep>>)>,
    /// Runs since the socket took no more.
    full: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    pub(super) fn new(
        stream: TcpStream,
        hello: Bytes,
        connection: Arc<Connection>,
        http: &Http,
    ) -> Self {
        let (stall, header_time) = (http.stall, http.header_time);
        Self {
            stream,
            hello,
            connection,
            stall,
            header_time,
            has_heads: false,
            head: None,
            full: None,
        }
    }

    /// Times heads, too.
    pub(super) fn with_heads(mut self) -> Self {
        self.has_heads = true;
        self
    }

    /// The socket, and what was read of it that nobody has asked for.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.hello)
    }

    /// Bytes came: where no request is being served, they begin a head.
    fn begin_head(&mut self) {
        if let (true, Some(before)) = (self.has_heads, self.connection.idle_since()) {
            let runs = self.head.as_ref().is_some_and(|(since, _)| *since == before);
            if !runs {
                let timer = Box::pin(sleep_until(Instant::now() + self.header_time));
                self.head = Some((before, timer));
            }
        }
    }

    /// No bytes came. Fails where the head that has begun should be here by now.
    fn await_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((since, timer)) = &mut self.head else { return Poll::Pending };
        // The head has come: a request was made of it.
        if self.connection.idle_since() != Some(*since) {
            self.head = None;
            return Poll::Pending;
        }
        timer.as_mut().poll(context).map(|()| {
            self.connection.mark_slow();
            Err(io::Error::new(io::ErrorKind::TimedOut, "the head of a request did not arrive"))
        })
    }

    /// Times how long the socket takes nothing.
    fn timed(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.full = None;
            return written;
        }
        let (connection, stall) = (&self.connection, self.stall);
        let timer = self.full.get_or_insert_with(|| {
            Box::pin(sleep_until(connection.patience(Instant::now(), stall)))
        });
        timer.as_mut().poll(context).map(|()| {
            self.connection.mark_stalled();
            Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))
        })
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.hello.has_remaining() {
            let length = self.hello.remaining().min(buffer.remaining());
            buffer.put_slice(&self.hello.split_to(length));
            self.begin_head();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match read {
            Poll::Pending => self.await_head(context),
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                self.begin_head();
                read
            }
            Poll::Ready(_) => read,
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.timed(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.exit.flushed();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
