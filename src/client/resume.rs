//! A stream that is opened again where it was, whatever happens to connections.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::error::Error;
use super::frames::Frame;
use super::stream::Stream;
use super::{Client, Event, Told};

/// What comes of it.
#[derive(Debug)]
pub enum Step {
    /// An event.
    Told(Told),
    /// The connection is gone, and is made anew after a rest.
    Rests(Option<Error>),
    /// Nothing more comes, says the server.
    Over,
}

/// A stream, open or about to be.
#[derive(Debug)]
pub struct Resuming {
    client: Client,
    path: String,
    query: Vec<(&'static str, String)>,
    /// The id of the newest event that came.
    last: Option<String>,
    stream: Option<Stream>,
    backoff: Backoff,
    rest: Option<Duration>,
    /// Until it was open for the first time it is tried for so long; after that for ever.
    patience: Option<(Instant, Duration)>,
}

impl Resuming {
    /// Of a path below the API's base. It gives up if there is no stream within `patience`.
    pub fn new(
        client: Client,
        path: String,
        query: Vec<(&'static str, String)>,
        patience: Duration,
    ) -> Self {
        let patience = Some((Instant::now(), patience));
        let (last, stream, backoff, rest) = (None, None, Backoff::default(), None);
        Self { client, path, query, last, stream, backoff, rest, patience }
    }

    /// The next that happens.
    pub async fn next(&mut self) -> Result<Step, Error> {
        if let Some(rest) = self.rest.take() {
            tokio::time::sleep(rest).await;
        }
        let error = match self.frame().await {
            Ok(Some(frame)) => {
                let event: Event = self.client.read(&frame.data)?;
                return Ok(Step::Told(Told { line: frame.data, event }));
            }
            // It was ended between two frames, as at a node that stops: there will be another.
            Ok(None) if self.stream.is_none() => return Ok(Step::Over),
            Ok(None) => {
                let asked = self.close();
                self.rest = Some(self.backoff.rest(asked));
                return Ok(Step::Rests(None));
            }
            Err(error) => error,
        };
        let asked = self.close().or(error.retry_after());
        let rest = self.backoff.rest(asked);
        let is_worth_it = match self.patience {
            Some((began, limit)) => error.is_passing() && began.elapsed() + rest < limit,
            None => error.is_passing() || error.is_of_another(),
        };
        if !is_worth_it {
            return Err(error);
        }
        self.rest = Some(rest);
        Ok(Step::Rests(Some(error)))
    }

    /// Remembers where the stream was; how long the server wants us to rest.
    fn close(&mut self) -> Option<Duration> {
        let stream = self.stream.take()?;
        self.last = stream.last().map(str::to_owned).or(self.last.take());
        stream.retry()
    }

    /// The next frame; `None` where there is no more.
    async fn frame(&mut self) -> Result<Option<Frame>, Error> {
        if self.stream.is_none() {
            let last = self.last.as_deref();
            self.stream = Stream::open(&self.client, &self.path, &self.query, last).await?;
            self.patience = None;
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let frame = stream.next().await?;
        // Whoever only opens and falls is still failing.
        self.backoff.reset();
        Ok(frame)
    }
}
