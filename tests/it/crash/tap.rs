//! A reader of a stream that costs next to nothing, so that one process can be ten thousand of them.
//!
//! It takes chunks apart and looks at the beginnings of lines. It is strict all the same: numbers without a gap or a
//! repeat, chunks of whole frames, one end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// What a reader has been told, over any number of connections.
#[derive(Debug, Default)]
pub struct Told {
    /// The newest entry; those before it came, too.
    pub last: u64,
    /// When to come back, in milliseconds, each time it was said.
    pub retries: Vec<u64>,
    /// How often it was refused and came again.
    pub refusals: usize,
    /// Whether the end came.
    pub has_ended: bool,
}

/// One connection of a reader.
#[derive(Debug)]
pub struct Tap {
    socket: TcpStream,
    /// What is not taken apart yet.
    bytes: Vec<u8>,
    is_over: bool,
}

impl Tap {
    /// Asks for a task's stream behind what was told already, until it is not refused any more. Taps of different `number`s have different addresses:
    /// one has no more than 28,000 connections to a server.
    pub async fn open(server: SocketAddr, number: usize, task: &str, told: &mut Told) -> Self {
        loop {
            let mut tap = Self::ask(server, number, task, told).await;
            let has_head = tap.read_head().await;
            assert!(has_head, "the server is gone");
            let head = tap.head();
            if head.starts_with("HTTP/1.1 200 OK\r\n") {
                tap.take(told);
                return tap;
            }
            // It may be refused while the server has more to do than it can: it comes again when it is told to.
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            told.refusals += 1;
            let after = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
            let after = after.expect("when to come again").parse().expect("seconds");
            tokio::time::sleep(Duration::from_secs(after)).await;
        }
    }

    async fn ask(server: SocketAddr, number: usize, task: &str, told: &Told) -> Self {
        let last_byte = 2 + u8::try_from(number % 8).expect("a small number");
        let socket = TcpSocket::new_v4().expect("a socket");
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last_byte), 0));
        socket.bind(own).expect("an address of this machine");
        let mut socket = socket.connect(server).await.expect("a connection");
        let request = format!(
            "GET /api/v1/tasks/{task}/track HTTP/1.1\r\nhost: x\r\nlast-event-id: {}\r\n\r\n",
            told.last
        );
        socket.write_all(request.as_bytes()).await.expect("a server that reads");
        Self { socket, bytes: Vec::new(), is_over: false }
    }

    /// Reads until the answer's head is there; `false` where it does not come.
    async fn read_head(&mut self) -> bool {
        while !self.bytes.windows(4).any(|four| four == b"\r\n\r\n") {
            if !self.socket.read_buf(&mut self.bytes).await.is_ok_and(|read| read > 0) {
                return false;
            }
        }
        true
    }

    /// Takes the head from what is there.
    fn head(&mut self) -> String {
        let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = self.bytes.drain(..end + 4).collect();
        String::from_utf8(head).expect("UTF-8")
    }

    /// Reads on until `enough`, or until the stream is over or the server gone: then `false`.
    pub async fn read(&mut self, told: &mut Told, enough: impl Fn(&Told) -> bool) -> bool {
        while !enough(told) {
            match self.socket.read_buf(&mut self.bytes).await {
                Ok(read) if read > 0 => self.take(told),
                _ => return false,
            }
            if self.is_over {
                return enough(told);
            }
        }
        true
    }

    /// Whether the body came to its end, as opposed to being cut off.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn take(&mut self, told: &mut Told) {
        let mut taken = 0;
        while let Some(length) = self.whole(taken) {
            let chunk = &self.bytes[taken..taken + length];
            let line = chunk.windows(2).position(|two| two == b"\r\n").expect("a size");
            let frames = std::str::from_utf8(&chunk[line + 2..length - 2]).expect("UTF-8");
            self.is_over = frames.is_empty();
            told.hear(frames);
            taken += length;
        }
        self.bytes.drain(..taken);
    }

    /// The length of the chunk that begins here, if all of it is there.
    fn whole(&self, begin: usize) -> Option<usize> {
        let bytes = &self.bytes[begin..];
        let line = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..line]).expect("a size");
        let length = line + 2 + usize::from_str_radix(size, 16).expect("a size") + 2;
        (bytes.len() >= length).then_some(length)
    }
}

impl Told {
    fn hear(&mut self, frames: &str) {
        assert!(frames.is_empty() || frames.ends_with("\n\n"), "a chunk is of whole frames");
        for line in frames.lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                assert!(!self.has_ended, "nothing comes behind the end: {line}");
                if let Some(last) = id.strip_suffix("-end") {
                    assert_eq!(last.parse(), Ok(self.last), "the end is behind the last");
                    self.has_ended = true;
                } else {
                    assert_eq!(id.parse(), Ok(self.last + 1), "each once and in order");
                    self.last += 1;
                }
            } else if let Some(retry) = line.strip_prefix("retry: ") {
                self.retries.push(retry.parse().expect("milliseconds"));
            }
        }
    }
}
