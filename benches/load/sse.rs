//! The frames of an event stream, read with as little work as their check needs: at saturation the
//! driver reads half a million of them a second on one core.
//!
//! Lines end with a line feed alone, as the server under test writes them; a general client would
//! accept all three forms.

use anyhow::{Context, Result, ensure};

/// One frame, borrowed from the chunk it came in. Comments and `retry` are not frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Frame<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) event: &'a [u8],
    pub(crate) data: &'a [u8],
}

/// Cuts a body into frames, keeping the beginning of one whose end has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// Hands every frame that `chunk` completes to `each`.
    pub(crate) fn feed(
        &mut self,
        chunk: &[u8],
        each: impl FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.rest.is_empty() {
            let rest = cut(chunk, each)?;
            self.rest.extend_from_slice(rest);
        } else {
            self.rest.extend_from_slice(chunk);
            let left = cut(&self.rest, each)?.len();
            let used = self.rest.len() - left;
            self.rest.drain(..used);
        }
        Ok(())
    }
}

/// The complete frames of `bytes` go to `each`; what follows the last of them is returned.
fn cut(bytes: &[u8], mut each: impl FnMut(Frame<'_>) -> Result<()>) -> Result<&[u8]> {
    let mut left = bytes;
    let mut rest = bytes;
    let mut frame = Frame::default();
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() {
            if !frame.data.is_empty() {
                each(frame)?;
            }
            frame = Frame::default();
            left = rest;
        } else if let Some(value) = line.strip_prefix(b"data: ") {
            frame.data = value;
        } else if let Some(value) = line.strip_prefix(b"id: ") {
            frame.id = value;
        } else if let Some(value) = line.strip_prefix(b"event: ") {
            frame.event = value;
        }
    }
    Ok(left)
}

impl Frame<'_> {
    /// The number an entry carries under `"at"`, wherever the server puts that key.
    pub(crate) fn stamp(&self) -> Result<u64> {
        self.value(b"\"at\":").context("an entry without its stamp")
    }

    fn value(&self, key: &[u8]) -> Option<u64> {
        let start = self.data.windows(key.len()).position(|window| window == key)?;
        number(&self.data[start + key.len()..])
    }
}

/// Whose frames are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Ours: the number is the id of the frame.
    Ours,
    /// A server that knows of no entries: what was published is the data, and holds under `"n"` the
    /// number, which is 0 for the end.
    Plain,
}

/// Whether the entries of one stream come each once, in order, and with an end after the last.
#[derive(Debug, Default)]
pub(crate) struct Order {
    pub(crate) last: u64,
    pub(crate) ended: bool,
}

impl Order {
    /// Checks the next frame; true when it is an entry.
    pub(crate) fn admit_as(&mut self, dialect: Dialect, frame: &Frame<'_>) -> Result<bool> {
        if dialect == Dialect::Ours {
            return self.admit(frame);
        }
        let number = frame.value(b"\"n\":").context("a message without its number")?;
        self.ended = number == 0;
        ensure!(self.ended || number == self.last + 1, "message {number} came after {}", self.last);
        if !self.ended {
            self.last = number;
        }
        Ok(!self.ended)
    }

    /// The same of our own.
    pub(crate) fn admit(&mut self, frame: &Frame<'_>) -> Result<bool> {
        ensure!(!self.ended, "a frame came after the end of the stream");
        match frame.event {
            b"progress" => {
                let seq_id = number(frame.id).context("an entry without a number for its id")?;
                ensure!(seq_id == self.last + 1, "entry {seq_id} came after {}", self.last);
                self.last = seq_id;
                Ok(true)
            }
            b"status_change" => {
                if let Some(last) = frame.id.strip_suffix(b"-end") {
                    ensure!(
                        number(last) == Some(self.last),
                        "the end says {}, the last entry was {}",
                        String::from_utf8_lossy(last),
                        self.last
                    );
                    self.ended = true;
                }
                Ok(false)
            }
            other => anyhow::bail!("an unknown event: {}", String::from_utf8_lossy(other)),
        }
    }

    /// After the body's end: the end was announced, and all `entries` came before it.
    pub(crate) fn complete(&self, entries: u64) -> Result<()> {
        ensure!(
            self.ended,
            "a stream closed without its end, after {} of {entries} entries",
            self.last
        );
        ensure!(self.last == entries, "a stream ended after {} of {entries} entries", self.last);
        Ok(())
    }
}

/// The decimal digits `text` begins with, after blanks; `None` without any.
fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    text.first().filter(|byte| byte.is_ascii_digit())?;
    Some(digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}
