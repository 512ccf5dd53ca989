//! Events out of the bytes of a stream (the HTML standard, 9.2.6), however they are cut.

use std::collections::VecDeque;
use std::time::Duration;

/// Bytes of one frame at most: an entry is a hundred times smaller, unless the service is configured otherwise.
const LONGEST: usize = 64 << 20;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its own `id:`, if it has one.
    pub id: Option<String>,
    /// Its `data:`.
    pub data: String,
}

/// What has come of a stream and is not taken yet.
#[derive(Debug, Default)]
pub struct Frames {
    line: Vec<u8>,
    id: Option<String>,
    data: Option<String>,
    ready: VecDeque<Frame>,
    /// The newest id, which may also stand beside a comment.
    pub last: Option<String>,
    /// How long the server wants us to rest before we come again.
    pub retry: Option<Duration>,
}

/// A frame has no end.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Frames {
    /// Takes the next bytes. A border may stand anywhere, inside a character too.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            self.take_line(line.strip_suffix('\r').unwrap_or(&line));
        }
        self.line.extend_from_slice(bytes);
        let length = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if length > LONGEST { Err(TooLong) } else { Ok(()) }
    }

    /// The next whole frame.
    pub fn pop(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn take_line(&mut self, line: &str) {
        if line.is_empty() {
            let id = self.id.take();
            self.last = id.clone().or(self.last.take());
            // A frame without data is none.
            self.ready.extend(self.data.take().map(|data| Frame { id, data }));
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => data.extend(["\n", value]),
                None => self.data = Some(value.to_owned()),
            },
            "retry" => self.retry = value.parse().map(Duration::from_millis).ok().or(self.retry),
            // Comments; and the kind, which the data says as well.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": open\nretry: 1200\n\nid: 6\nevent: progress\ndata: {\"ü\":1}\n\n: alive\n\ndata: a\r\ndata:b\r\n\r\nid: 9\n\n";

    #[test]
    fn frames_are_the_same_wherever_the_bytes_are_cut() {
        let expected = [
            Frame { id: Some("6".to_owned()), data: "{\"ü\":1}".to_owned() },
            Frame { id: None, data: "a\nb".to_owned() },
        ];
        for size in 1..STREAM.len() {
            let mut frames = Frames::default();
            for part in STREAM.as_bytes().chunks(size) {
                frames.push(part).unwrap();
            }
            let read: Vec<Frame> = std::iter::from_fn(|| frames.pop()).collect();
            assert_eq!(read, expected, "{size}");
            assert_eq!(frames.last.as_deref(), Some("9"), "also of a frame without data");
            assert_eq!(frames.retry, Some(Duration::from_millis(1200)));
        }
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut frames = Frames::default();
        let part = vec![b'x'; 1 << 20];
        let refused = (0..100).find(|_| frames.push(&part).is_err());
        assert_eq!(refused, Some(64));
    }
}
