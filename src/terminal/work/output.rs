//! What a program prints, cut into lines and held back where nobody takes them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::line::{self, LONGEST_OBJECT, Said, Source};
use crate::domain::JsonObject;

/// Bytes of entries that wait to be sent, of both streams: behind them the program waits at its pipe.
const ROOM: usize = 4 << 20;
/// What an entry takes besides its text.
const ENTRY: usize = 64;
/// Once the program has ended, somebody else may hold its pipes: it is listened to for so long while nothing comes.
const ECHO: Duration = Duration::from_secs(1);
/// And for so much in all: more than a pipe can hold is said by somebody else.
const ECHO_BYTES: usize = 2 << 20;
/// Of a failure: lines, and characters of each.
const TAIL: (usize, usize) = (20, 500);

/// An entry that waits, and its place in the room.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) entry: JsonObject,
    _place: OwnedSemaphorePermit,
}

/// Where lines go.
#[derive(Debug, Clone)]
pub(super) struct Output {
    queue: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
    kept: Arc<Mutex<Kept>>,
}

/// What is kept of what was printed.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The result that was said last.
    pub(super) result: Option<JsonObject>,
    /// The last lines of both streams.
    pub(super) tail: VecDeque<String>,
}

impl Output {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Waiting>) {
        let (queue, entries) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(ROOM));
        (Self { queue, room, kept: Arc::default() }, entries)
    }

    /// What is kept, for the end.
    pub(super) fn kept(&self) -> Kept {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads one stream to its end. `is_over` says that the program itself has ended.
    pub(super) async fn read(
        self,
        mut pipe: impl AsyncRead + Unpin,
        source: Source,
        is_over: CancellationToken,
    ) {
        let mut cutter = Cutter::default();
        let mut buffer = vec![0; 64 << 10];
        let mut echoed = 0;
        loop {
            let silence = async {
                is_over.cancelled().await;
                tokio::time::sleep(ECHO).await;
            };
            let read = tokio::select! {
                biased;
                read = pipe.read(&mut buffer) => read,
                () = silence => break,
            };
            // A pipe that cannot be read is one that has ended.
            let Ok(length @ 1..) = read else { break };
            let mut lines = Vec::new();
            cutter.push(&buffer[..length], |line| lines.push(line));
            for line in lines {
                self.take(&line, source).await;
            }
            if is_over.is_cancelled() {
                echoed += length;
                if echoed > ECHO_BYTES {
                    break;
                }
            }
        }
        if let Some(line) = cutter.rest() {
            self.take(&line, source).await;
        }
    }

    async fn take(&self, line: &[u8], source: Source) {
        let line = String::from_utf8_lossy(line);
        self.keep(&line);
        let entries = match line::read(&line, source) {
            Said::Entries(entries) => entries,
            Said::Result(result) => {
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).result = Some(result);
                return;
            }
        };
        for entry in entries {
            let bytes = (entry.as_str().len() + ENTRY).min(ROOM);
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            // Neither is ever closed while somebody reads.
            let Ok(place) = Arc::clone(&self.room).acquire_many_owned(bytes).await else { return };
            let _ = self.queue.send(Waiting { entry, _place: place });
        }
    }

    fn keep(&self, line: &str) {
        let line = console::strip_ansi_codes(line);
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.tail.len() == TAIL.0 {
            kept.tail.pop_front();
        }
        kept.tail.push_back(line.chars().take(TAIL.1).collect());
    }
}

/// Cuts bytes into lines, which end with `\n`, `\r\n`, or with `\r` as those do that are written over each other.
#[derive(Debug, Default)]
struct Cutter {
    line: Vec<u8>,
    is_behind_return: bool,
}

impl Cutter {
    fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Vec<u8>)) {
        while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let is_return = bytes[at] == b'\r';
            self.add(&bytes[..at], &mut each);
            bytes = &bytes[at + 1..];
            // Between two breaks, of which one is a return, there is no line.
            if !self.line.is_empty() || !(is_return || self.is_behind_return) {
                each(std::mem::take(&mut self.line));
            }
            self.is_behind_return = is_return;
        }
        self.add(bytes, &mut each);
    }

    /// Adds to the line; what is too long is cut between two characters.
    fn add(&mut self, bytes: &[u8], each: &mut impl FnMut(Vec<u8>)) {
        if bytes.is_empty() {
            return;
        }
        self.is_behind_return = false;
        self.line.extend_from_slice(bytes);
        while self.line.len() > line::limit(&self.line) {
            let is_inside = |at: &usize| self.line[*at] & 0xc0 == 0x80;
            let most = line::limit(&self.line).min(LONGEST_OBJECT);
            let at = (most - 3..=most).rev().find(|at| !is_inside(at)).unwrap_or(most);
            let rest = self.line.split_off(at);
            each(std::mem::replace(&mut self.line, rest));
        }
    }

    fn rest(self) -> Option<Vec<u8>> {
        (!self.line.is_empty()).then_some(self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &[u8], size: usize) -> Vec<String> {
        let mut cutter = Cutter::default();
        let mut lines = Vec::new();
        for part in text.chunks(size) {
            cutter.push(part, |line| lines.push(String::from_utf8(line).unwrap()));
        }
        lines.extend(cutter.rest().map(|line| String::from_utf8(line).unwrap()));
        lines
    }

    #[test]
    fn lines_are_the_same_wherever_the_bytes_are_cut() {
        let text = "a\r\n\r\n\nü\r50%\r\r51%\n\nlast".as_bytes();
        for size in 1..text.len() {
            assert_eq!(cut(text, size), ["a", "", "ü", "50%", "51%", "", "last"], "{size}");
        }
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let text = "x".to_owned() + &"€".repeat(line::LONGEST_MESSAGE);
        let lines = cut(text.as_bytes(), 4096);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= line::LONGEST_MESSAGE));
        assert_eq!(lines.concat(), text);
        let object = format!("{{\"a\":\"{}\"}}", "b".repeat(500_000));
        assert_eq!(cut(format!("{object}\n").as_bytes(), 65_536), [object]);
    }

    #[tokio::test]
    async fn what_nobody_takes_holds_the_program_back() {
        let (output, mut entries) = Output::new();
        let lines: Vec<String> = (0..200_000).map(|n| format!("line {n}\n")).collect();
        let text = lines.concat();
        let over = CancellationToken::new();
        let read = output.clone().read(std::io::Cursor::new(text), Source::Stdout, over);
        let reader = tokio::spawn(read);
        // It stops where the room is full, which is a fact once the room has no place for one more.
        while output.room.available_permits() > 200 {
            tokio::task::yield_now().await;
        }
        assert!(!reader.is_finished() && entries.len() < 60_000, "{}", entries.len());
        drop(output);
        let mut count = 0;
        while let Some(Waiting { entry, .. }) = entries.recv().await {
            assert!(entry.as_str().contains(&format!("\"line {count}\"")), "{entry:?}");
            count += 1;
        }
        assert_eq!(count, 200_000);
    }
}
