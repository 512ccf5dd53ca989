//! A socket with a stream on it, and nothing else: what a quiet stream costs.
//!
//! It writes what the source gives, a piece at a time, as hyper began to ([`Manner`]), and has the limits of a
//! [`Guarded`](super::guard::Guarded) socket: a client that takes nothing for too long is dropped, one that hangs up is noticed
//! at once. What a client sends meanwhile is the beginning of its next request: a little of it is kept, the rest stays with
//! the kernel. It holds no piece of the stream but the one it is writing.

use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::outflow::Connection;
use super::streamed::{Manner, Source};

/// Bytes of the next request that are kept at most.
const AHEAD: usize = 1024;
/// Room for the size of a chunk in hexadecimal digits, and its line break.
const SIZE: usize = 18;

pub(super) struct Line {
    socket: TcpStream,
    /// What the client has sent for the time after the stream.
    ahead: Bytes,
    source: Source,
    manner: Manner,
    connection: Arc<Connection>,
    stall: Duration,
}

impl Line {
    pub(super) fn new(
        (socket, ahead): (TcpStream, Bytes),
        (source, manner): (Source, Manner),
        connection: Arc<Connection>,
        stall: Duration,
    ) -> Self {
        Self { socket, ahead, source, manner, connection, stall }
    }

    /// Writes the stream to its end. Gives the socket back where the client may send another request, with
    /// what there is of it.
    pub(super) async fn run(mut self) -> io::Result<Option<(TcpStream, Bytes)>> {
        while let Some(piece) = poll_fn(|context| self.poll_next(context)).await? {
            self.write(&piece).await?;
        }
        if self.manner.is_chunked {
            self.send(&b"0\r\n\r\n"[..]).await?;
        }
        self.connection.done(&self.connection.outflow);
        if self.manner.is_kept {
            return Ok(Some((self.socket, self.ahead)));
        }
        self.socket.shutdown().await?;
        Ok(None)
    }

    /// The next piece; fails where the client has hung up.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        match self.source.as_mut().poll_next(context) {
            Poll::Ready(piece) => Poll::Ready(Ok(piece)),
            Poll::Pending => self.poll_hung_up(context).map(Err),
        }
    }

    async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if !self.manner.is_chunked {
            return self.send(piece).await;
        }
        // An empty chunk would be the end.
        if piece.is_empty() {
            return Ok(());
        }
        let mut size = [0; SIZE];
        let mut rest = &mut size[..];
        write!(rest, "{:x}\r\n", piece.len())?;
        let length = SIZE - rest.len();
        self.send(size[..length].chain(piece).chain(&b"\r\n"[..])).await
    }

    async fn send(&mut self, mut bytes: impl Buf) -> io::Result<()> {
        while bytes.has_remaining() {
            let mut pieces = [IoSlice::new(&[]); 3];
            let count = bytes.chunks_vectored(&mut pieces);
            match self.socket.try_write_vectored(&pieces[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.room().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the socket takes something again, for as long as a client is borne with.
    async fn room(&mut self) -> io::Result<()> {
        let until = self.connection.patience(Instant::now(), self.stall);
        // Few lines wait, and those that do not need no room for it.
        let mut timer = Box::pin(sleep_until(until));
        poll_fn(|context| {
            if let Poll::Ready(ready) = self.socket.poll_write_ready(context) {
                return Poll::Ready(ready);
            }
            if let Poll::Ready(gone) = self.poll_hung_up(context) {
                return Poll::Ready(Err(gone));
            }
            ready!(timer.as_mut().poll(context));
            self.connection.mark_stalled();
            Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
        })
        .await
    }

    /// Ready when the client has hung up. One that has sent something is not listened to any more, or a client could
    /// send without end; whether it is there is seen when something is written.
    fn poll_hung_up(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if !self.ahead.is_empty() {
            return Poll::Pending;
        }
        let mut room = [const { MaybeUninit::uninit() }; AHEAD];
        let mut read = ReadBuf::uninit(&mut room);
        match ready!(Pin::new(&mut self.socket).poll_read(context, &mut read)) {
            Err(error) => Poll::Ready(error),
            Ok(()) if read.filled().is_empty() => Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
            Ok(()) => {
                self.ahead = Bytes::copy_from_slice(read.filled());
                Poll::Pending
            }
        }
    }
}
