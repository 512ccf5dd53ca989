//! A reader of an event stream, as strict as a browser.

use std::collections::VecDeque;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::PATIENCE;

/// One event.
#[derive(Debug, Clone, PartialEq)]
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

/// An open stream.
#[derive(Debug)]
pub struct Events {
    response: reqwest::Response,
    buffer: String,
    ready: VecDeque<Event>,
    /// The comment lines so far.
    pub comments: Vec<String>,
    /// The last `retry:`.
    pub retry: Option<u64>,
}

impl Events {
    /// Sends the request; the answer's head must come, its body may take for ever.
    pub async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = tokio::time::timeout(PATIENCE, request.send()).await;
        let response = response.expect("an answer in time").expect("an answer");
        Self {
            response,
            buffer: String::new(),
            ready: VecDeque::new(),
            comments: Vec::new(),
            retry: None,
        }
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
        while self.ready.is_empty() {
            if !self.read().await {
                assert!(self.buffer.is_empty(), "cut off in the middle: {:?}", self.buffer);
                return None;
            }
        }
        self.ready.pop_front()
    }

    /// Waits for the first bytes, which come at once: from then on the server watches for us.
    pub async fn opened(&mut self) {
        while self.retry.is_none() {
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

    async fn read(&mut self) -> bool {
        let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("nothing came within {PATIENCE:?}"));
        let Some(chunk) = chunk.expect("an unbroken stream") else { return false };
        self.buffer.push_str(std::str::from_utf8(&chunk).expect("UTF-8 at chunk borders"));
        while let Some(end) = self.buffer.find("\n\n") {
            let frame: String = self.buffer.drain(..end + 2).collect();
            self.frame(frame.trim_end_matches('\n'));
        }
        true
    }

    fn frame(&mut self, frame: &str) {
        let (mut id, mut event, mut data) = (None, None, String::new());
        for line in frame.lines() {
            match line.split_once(':').expect("a field or a comment") {
                ("", comment) => self.comments.push(comment.trim().to_owned()),
                ("id", value) => id = Some(value.trim_start().to_owned()),
                ("event", value) => event = Some(value.trim_start().to_owned()),
                ("data", value) => data.push_str(value.trim_start()),
                ("retry", value) => self.retry = value.trim_start().parse().ok(),
                (field, _) => panic!("unknown field {field:?}"),
            }
        }
        // A frame without data is none, as browsers have it.
        if !data.is_empty() {
            let data = serde_json::from_str(&data).expect("JSON data");
            self.ready.push_back(Event { id, event: event.expect("a kind"), data });
        }
    }
}
