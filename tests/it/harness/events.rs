//! A reader of an event stream, as strict as a browser.

use std::collections::VecDeque;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::PATIENCE;

/// One event.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_field_names, reason = "as the lines of a frame are called")]
pub struct Event {
    /// Its `id:`, if it has one.
    pub id: Option<String>,
    /// Its `event:`.
    pub event: String,
    /// Its `data:`, as JSON.
    pub data: Value,
}

impl Event {
    /// The number of a progress event.
    pub fn seq_id(&self) -> Option<u64> {
        self.data["data"]["seqId"].as_u64()
    }

    /// The status of a change.
    pub fn status(&self) -> Option<&str> {
        self.data["data"]["status"].as_str()
    }

    /// Whether the stream ends with it.
    pub fn is_end(&self) -> bool {
        self.id.as_deref().is_some_and(|id| id.ends_with("-end"))
    }
}

/// What a browser makes of the bytes of a stream, however they are cut.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    ready: VecDeque<Event>,
    /// The comment lines so far.
    pub comments: Vec<String>,
    /// The last `retry:`.
    pub retry: Option<u64>,
}

/// An open stream.
#[derive(Debug)]
pub struct Events {
    response: reqwest::Response,
    /// What came of it so far.
    pub frames: Frames,
}

impl Frames {
    /// Takes the next bytes. A border may stand anywhere, inside a character too.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(length) = self.buffer[begin..].windows(2).position(|pair| pair == b"\n\n") {
            let frame = self.buffer[begin..begin + length].to_vec();
            self.frame(&String::from_utf8(frame).expect("UTF-8"));
            begin += length + 2;
        }
        self.buffer.drain(..begin);
    }

    /// The next whole event that came.
    pub fn pop(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Checks that nothing is left of a frame that was begun.
    #[track_caller]
    pub fn assert_whole(&self) {
        let rest = String::from_utf8_lossy(&self.buffer);
        assert!(rest.is_empty(), "cut off in the middle: {rest:?}");
    }

    fn frame(&mut self, frame: &str) {
        let (mut id, mut event, mut data) = (None, None, Vec::new());
        for line in frame.lines() {
            let (field, value) = line.split_once(':').expect("a field or a comment");
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments.push(value.to_owned()),
                "id" => id = Some(value.to_owned()),
                "event" => event = Some(value.to_owned()),
                "data" => data.push(value),
                "retry" => self.retry = Some(value.parse().expect("milliseconds")),
                field => panic!("unknown field {field:?}"),
            }
        }
        // A frame without data is none, as browsers have it.
        if !data.is_empty() {
            let data = serde_json::from_str(&data.join("\n")).expect("JSON data");
            self.ready.push_back(Event { id, event: event.expect("a kind"), data });
        }
    }
}

impl Events {
    /// Sends the request; the answer's head must come, its body may take for ever.
    pub async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = tokio::time::timeout(PATIENCE, request.send()).await;
        let response = response.expect("an answer in time").expect("an answer");
        Self { response, frames: Frames::default() }
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The headers of the answer.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next event; `None` where the server closed the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.frames.pop() {
                return Some(event);
            }
            if !self.read().await {
                self.frames.assert_whole();
                return None;
            }
        }
    }

    /// Waits for the first bytes, which come at once: from then on the server watches for us.
    pub async fn opened(&mut self) {
        while self.frames.retry.is_none() {
            assert!(self.read().await, "closed before it was open");
        }
    }

    /// Everything until the server closes.
    pub async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// The next `count` events.
    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await.expect("another event before the end"));
        }
        events
    }

    /// Everything to the end of the stream, as it came.
    pub async fn text(self) -> String {
        assert!(self.frames.buffer.is_empty() && self.frames.retry.is_none(), "read already");
        tokio::time::timeout(PATIENCE, self.response.text())
            .await
            .expect("an end in time")
            .expect("text")
    }

    /// Reads some more; `false` where the server closed the stream.
    pub async fn read(&mut self) -> bool {
        let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("nothing came within {PATIENCE:?}"));
        let Some(chunk) = chunk.expect("an unbroken stream") else {
            return false;
        };
        self.frames.push(&chunk);
        true
    }
}
