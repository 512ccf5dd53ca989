//! Why there is no answer to use.

use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

/// Characters of a text that is no problem document which are shown.
const SHOWN: usize = 200;
/// A `Retry-After` is believed up to here.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// There is no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was refused.
    #[error("{0}")]
    Refused(Problem),
    /// Nothing or only a part came back: it may have been done, or not.
    #[error("cannot reach {url}: {why}")]
    Unreachable {
        /// Where it was sent.
        url: String,
        /// In the words of whoever knows most.
        why: String,
    },
    /// Somebody else answered.
    #[error("what answers at {url} is no Task Tracker: {why}")]
    Foreign {
        /// Where it was sent.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A refusal: a problem document (RFC 9457), or what stands in its place.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable word; `None` where the answer is not of the service but of something on the way.
    pub code: Option<String>,
    title: String,
    detail: String,
    errors: Vec<FieldError>,
    /// When to ask again, if it says so.
    pub retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Deserialize)]
struct FieldError {
    path: String,
    message: String,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    code: Option<String>,
    #[serde(default)]
    errors: Vec<FieldError>,
}

impl Error {
    pub(super) fn unreachable(url: &Url, error: &reqwest::Error) -> Self {
        let why = if error.is_timeout() { "no answer in time".to_owned() } else { deepest(error) };
        Self::Unreachable { url: shown(url), why }
    }

    /// The stable word of a refusal by the service.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => problem.code.as_deref(),
            _ => None,
        }
    }

    /// Whether the same request may fare better later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused(problem) => matches!(problem.status, 408 | 425 | 429 | 500..=599),
            Self::Unreachable { .. } => true,
            Self::Foreign { .. } => false,
        }
    }

    /// Whether something on the way said it, and not the service: an operator may mend it.
    pub fn is_of_another(&self) -> bool {
        match self {
            Self::Refused(problem) => problem.code.is_none(),
            Self::Unreachable { .. } => false,
            Self::Foreign { .. } => true,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) => problem.retry_after,
            _ => None,
        }
    }
}

impl Problem {
    /// Reads the answer to a request that was refused.
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, text: &str) -> Self {
        let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_REST));
        let status_word = status.canonical_reason().unwrap_or("refused");
        let status = status.as_u16();
        match serde_json::from_str::<Body>(text) {
            // Others write problem documents, too: ours say so in their type.
            Ok(body) if body.kind.starts_with("urn:task-tracker:") => {
                let Body { title, detail, code, errors, .. } = body;
                Self { status, code, title, detail, errors, retry_after }
            }
            _ => {
                let detail: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
                let detail = detail.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
                let title = format!("{status} {status_word}");
                Self { status, code: None, title, detail, errors: Vec::new(), retry_after }
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        // Where one field is wrong the detail has said which.
        if self.errors.len() > 1 {
            for FieldError { path, message } in &self.errors {
                write!(f, "\n  {path}: {message}")?;
            }
        }
        Ok(())
    }
}

/// A URL without the credentials in it.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // It fails only for URLs that can have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// Errors of connections wrap each other, and the innermost says what happened.
fn deepest(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, text: &str) -> Problem {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        Problem::read(StatusCode::from_u16(status).unwrap(), &headers, text)
    }

    #[test]
    fn a_problem_is_said_in_its_own_words() {
        let one = r#"{"type":"urn:task-tracker:problem:validation_failed","title":"A field is missing or wrong","status":422,
            "detail":"taskType: is missing","code":"validation_failed","errors":[{"path":"taskType","message":"is missing"}]}"#;
        let problem = read(422, one);
        assert_eq!(problem.to_string(), "A field is missing or wrong: taskType: is missing");
        assert_eq!(problem.code.as_deref(), Some("validation_failed"));
        let two = one.replace("}]}", r#"},{"path":"params","message":"must be a JSON object"}]}"#);
        assert!(read(422, &two).to_string().ends_with("\n  params: must be a JSON object"));
    }

    #[test]
    fn what_something_on_the_way_says_is_told_apart() {
        let problem = read(401, "<html>\n<h1>Sign in</h1>\u{1b}[2J</html>");
        assert_eq!(problem.to_string(), "401 Unauthorized: <html> <h1>Sign in</h1>[2J</html>");
        assert_eq!((problem.code, problem.retry_after), (None, Some(Duration::from_secs(7))));
        let foreign = read(403, r#"{"type":"about:blank","code":"lease_lost","title":"no"}"#);
        assert_eq!(foreign.code, None);
    }

    #[test]
    fn credentials_in_a_url_are_not_shown() {
        let url = Url::parse("https://me:secret@example.org/tracker/").unwrap();
        assert_eq!(shown(&url), "https://example.org/tracker");
    }
}
