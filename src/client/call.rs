//! One request, and the same again while that may help.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::error::{Error, Problem};
use super::{Client, error};

/// For an answer, beyond what the request itself waits for: the service has given up on its dependencies by then.
const ANSWER: Duration = Duration::from_secs(15);

/// A request below the API's base.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<String>,
    key: Option<String>,
    within: Duration,
}

/// How long a request is repeated that might fare better later.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// For so long.
    For(Duration),
    /// Until there is an answer of the service: what is said must not be lost.
    Endless,
}

impl Call {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        let (path, query) = (path.into(), Vec::new());
        Self { method: Method::GET, path, query, body: None, key: None, within: ANSWER }
    }

    /// A POST of a JSON text.
    pub fn post(path: impl Into<String>, body: impl Into<String>) -> Self {
        Self { method: Method::POST, body: Some(body.into()), ..Self::get(path) }
    }

    /// With a member in the query, where there is one.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Under an `Idempotency-Key`: repeated it is done once.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Whose answer may take so much longer.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.within = ANSWER + wait;
        self
    }
}

/// A key that nobody else uses.
pub fn new_key() -> String {
    cuid2::create_id()
}

impl Client {
    /// Sends it once; the body of a success.
    pub async fn once(&self, call: &Call) -> Result<String, Error> {
        let url = self.api(&call.path);
        let mut request = self.http.request(call.method.clone(), url).timeout(call.within);
        request = request.query(&call.query).header(ACCEPT, "application/json");
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", format!("\"{key}\""));
        }
        let lost = |error| Error::unreachable(&self.base, &error);
        let response = request.send().await.map_err(lost)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(lost)?;
        if status.is_success() {
            return Ok(text);
        }
        Err(Error::Refused(Problem::read(status, &headers, &text)))
    }

    /// Sends it until there is an answer that stands, or no patience left. `told` hears of each failure and how long it
    /// rests then.
    pub async fn call(
        &self,
        call: &Call,
        patience: Patience,
        mut told: impl FnMut(&Error, Duration),
    ) -> Result<String, Error> {
        let began = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let error = match self.once(call).await {
                Ok(text) => return Ok(text),
                Err(error) => error,
            };
            let rest = backoff.rest(error.retry_after());
            let is_worth_it = match patience {
                Patience::For(limit) => error.is_passing() && began.elapsed() + rest < limit,
                Patience::Endless => error.is_passing() || error.is_of_another(),
            };
            if !is_worth_it {
                return Err(error);
            }
            told(&error, rest);
            tokio::time::sleep(rest).await;
        }
    }

    /// The same, its answer read as JSON.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        call: &Call,
        patience: Patience,
    ) -> Result<T, Error> {
        let text = self.call(call, patience, |_, _| {}).await?;
        self.read(&text)
    }

    /// Reads an answer.
    pub fn read<T: DeserializeOwned>(&self, text: &str) -> Result<T, Error> {
        serde_json::from_str(text).map_err(|error| Error::Foreign {
            url: error::shown(&self.base),
            why: error.to_string(),
        })
    }
}
