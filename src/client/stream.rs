//! One open stream.
//!
//! It is read as Server-Sent Events and not as JSON lines: their comments, one every 15 s, tell a quiet stream from a
//! connection that has died without a word.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::Client;
use super::error::{Error, Problem, shown};
use super::frames::{Frame, Frames};

/// For the answer to begin.
const OPEN: Duration = Duration::from_secs(15);
/// Two and a half of the server's comments.
const SILENCE: Duration = Duration::from_secs(40);
const MEDIA_TYPE: &str = "text/event-stream";

/// A stream that was opened.
#[derive(Debug)]
pub struct Stream {
    client: Client,
    response: Response,
    frames: Frames,
}

impl Stream {
    /// Opens one behind the event that `last` names; `None`: the server says that nothing is behind it.
    pub async fn open(
        client: &Client,
        path: &str,
        query: &[(&str, String)],
        last: Option<&str>,
    ) -> Result<Option<Self>, Error> {
        let mut request = client.http.get(client.api(path)).query(query).header(ACCEPT, MEDIA_TYPE);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let silent = |_| unreachable(client, "no answer in time");
        let failed = |error| Error::unreachable(&client.base, &error);
        let response = timeout(OPEN, request.send()).await.map_err(silent)?.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        if !status.is_success() {
            let text = timeout(OPEN, response.text()).await.map_err(silent)?.map_err(failed)?;
            return Err(Error::Refused(Problem::read(status, &headers, &text)));
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(MEDIA_TYPE)) {
            let why = format!("it sends {} and no events", kind.unwrap_or("nothing"));
            return Err(Error::Foreign { url: shown(&client.base), why });
        }
        Ok(Some(Self { client: client.clone(), response, frames: Frames::default() }))
    }

    /// The next frame; `None` where the server ended the stream between two.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.frames.pop() {
                return Ok(Some(frame));
            }
            let part = timeout(SILENCE, self.response.chunk()).await;
            let part = part.map_err(|_| unreachable(&self.client, "the stream fell silent"))?;
            match part.map_err(|error| Error::unreachable(&self.client.base, &error))? {
                None => return Ok(None),
                Some(bytes) => self.frames.push(&bytes).map_err(|_| Error::Foreign {
                    url: shown(&self.client.base),
                    why: "an event has no end".to_owned(),
                })?,
            }
        }
    }

    /// The id of the newest event, or what stands for it.
    pub fn last(&self) -> Option<&str> {
        self.frames.last.as_deref()
    }

    /// How long the server wants us to rest before we come again.
    pub fn retry(&self) -> Option<Duration> {
        self.frames.retry
    }
}

fn unreachable(client: &Client, why: &str) -> Error {
    Error::Unreachable { url: shown(&client.base), why: why.to_owned() }
}
