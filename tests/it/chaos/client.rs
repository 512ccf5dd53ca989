//! A client as a careful one is written: it tells what was refused from what is not known.

use std::time::Duration;

use serde_json::Value;

use super::ledger::Ledger;

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It was done.
    Done(Value),
    /// It was refused, and has changed nothing: the problem.
    Refused(Value),
    /// It never left: there was no connection.
    Unreached,
    /// Its answer was lost, or says that a dependency was away in the middle of it: it may have been done.
    Unknown,
}

impl Outcome {
    /// Whether trying again may help.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Unreached | Self::Unknown)
    }
}

/// Talks to every node.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    urls: Vec<String>,
    patience: Duration,
}

impl Client {
    /// One that knows where each node listens, and how long any answer may take.
    pub fn new(urls: Vec<String>, patience: Duration) -> Self {
        let http = reqwest::Client::builder().build().expect("a client");
        Self { http, urls, patience }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.urls.len()
    }

    /// A GET of a stream or of anything else.
    pub fn get(&self, node: usize, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}/api/v1{path}", self.urls[node]))
    }

    /// POSTs to a node below the API's base, and says what came of it.
    pub async fn post(&self, node: usize, path: &str, body: &Value, ledger: &Ledger) -> Outcome {
        let request = self.http.post(format!("{}/api/v1{path}", self.urls[node])).json(body);
        ledger.tally("requests");
        let answer = async {
            let response = request.timeout(self.patience).send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.text().await?))
        };
        match answer.await {
            Err(error) if error.is_connect() => {
                ledger.tally("no connection");
                Outcome::Unreached
            }
            Err(error) => {
                if error.is_timeout() {
                    ledger.violation(format!("{path}: no answer within {:?}", self.patience));
                }
                ledger.tally("answer lost");
                Outcome::Unknown
            }
            Ok((503, _)) => {
                ledger.tally("503");
                Outcome::Unknown
            }
            Ok((status, text)) => {
                let Ok(value) = serde_json::from_str(&text) else {
                    ledger.violation(format!("{path}: {status} is no JSON: {text:?}"));
                    return Outcome::Unknown;
                };
                match status {
                    200..=299 => Outcome::Done(value),
                    400..=499 => Outcome::Refused(value),
                    _ => {
                        // Who is away is no fault of ours: that is a 503.
                        ledger.violation(format!("{path} at node {node}: {status} {text}"));
                        Outcome::Unknown
                    }
                }
            }
        }
    }
}
