//! A client that speaks bytes, and nothing else.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// A connection to a node.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("a connection") }
    }

    /// Sends bytes. A server that has closed already is none of our business here: says whether it took them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("a server that reads or closes").is_ok()
    }

    /// Says that nothing more comes.
    pub async fn finish(&mut self) {
        // It fails where the server has closed.
        let _ = self.stream.shutdown().await;
    }

    /// Reads one answer that says its length, the connection staying open.
    pub async fn answer(&mut self) -> String {
        let read = async {
            let mut answer = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&answer).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| {
                        line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                    });
                    if body.len() >= length.unwrap_or(0) {
                        return text;
                    }
                }
                let read = self.stream.read_buf(&mut answer).await.expect("an answer");
                assert!(read > 0, "closed in the middle of an answer: {text:?}");
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer in time")
    }

    /// What comes until `text` has come, and what came with it.
    pub async fn until(&mut self, text: &str) -> String {
        let read = async {
            let mut bytes = Vec::new();
            while !String::from_utf8_lossy(&bytes).contains(text) {
                let read = self.stream.read_buf(&mut bytes).await.expect("an open connection");
                assert!(read > 0, "closed before {text:?}: {}", String::from_utf8_lossy(&bytes));
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        tokio::time::timeout(PATIENCE, read).await.expect("it comes in time")
    }

    /// Everything until the server closes, which it must; a reset is a close.
    pub async fn rest(&mut self) -> String {
        let read = async {
            let mut rest = Vec::new();
            while self.stream.read_buf(&mut rest).await.is_ok_and(|read| read > 0) {}
            rest
        };
        let rest = tokio::time::timeout(PATIENCE, read).await;
        String::from_utf8_lossy(&rest.expect("a server that closes in time")).into_owned()
    }
}

/// The status in the first line of an answer.
#[track_caller]
pub fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").or_else(|| answer.strip_prefix("HTTP/1.0 "));
    let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}
