//! One table from error to answer: `application/problem+json` (RFC 9457), everywhere.

use std::any::Any;
use std::collections::BTreeMap;

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::response::Response as DocumentedResponse;
use utoipa::openapi::{ContentBuilder, RefOr, ResponseBuilder};

use crate::domain::lifecycle::Refused;
use crate::service;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Seconds after which an unavailable service may be asked again: from, to. Not all at once.
const RETRY_AFTER: std::ops::RangeInclusive<u32> = 1..=3;
/// Seconds after which a client may come again that has as much as it may.
const RETRY_AFTER_TOO_MANY: std::ops::RangeInclusive<u32> = 5..=15;

/// Characters of a text for people at most. Libraries quote what they refuse, and a client may have sent a megabyte.
const LONGEST: usize = 300;

/// What went wrong, as a stable word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The body is not JSON.
    MalformedBody,
    /// Another worker holds the task.
    NotTheWorker,
    /// No such task.
    TaskNotFound,
    /// No such route.
    RouteNotFound,
    /// The route does not know the method.
    MethodNotAllowed,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The id is taken.
    TaskExists,
    /// The present status does not allow it.
    InvalidTransition,
    /// The caller's token is of an attempt that is over.
    LeaseLost,
    /// The history of the task may not become longer.
    LogFull,
    /// Too large.
    BodyTooLarge,
    /// Not the content type that is read here.
    UnsupportedMediaType,
    /// A field is missing or wrong.
    ValidationFailed,
    /// The key was sent with another request before.
    IdempotencyKeyReused,
    /// The client has as many streams open as it may.
    TooManyStreams,
    /// As many workers wait as may.
    TooManyClaims,
    /// A defect of ours.
    Internal,
    /// The store or the broker is away, or the node is closing.
    Unavailable,
}

impl Code {
    /// The word, the status and the title: the whole table.
    pub fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::MalformedBody => ("malformed_body", S::BAD_REQUEST, "The body is not JSON"),
            Self::NotTheWorker => ("not_the_worker", S::FORBIDDEN, "Another worker holds the task"),
            Self::TaskNotFound => ("task_not_found", S::NOT_FOUND, "There is no such task"),
            Self::RouteNotFound => ("route_not_found", S::NOT_FOUND, "There is no such route"),
            Self::MethodNotAllowed => {
                ("method_not_allowed", S::METHOD_NOT_ALLOWED, "The route does not know this method")
            }
            Self::RequestTimeout => {
                ("request_timeout", S::REQUEST_TIMEOUT, "The request did not arrive in time")
            }
            Self::TaskExists => ("task_exists", S::CONFLICT, "The task id is taken"),
            Self::InvalidTransition => {
                ("invalid_transition", S::CONFLICT, "The status of the task does not allow this")
            }
            Self::LeaseLost => ("lease_lost", S::CONFLICT, "The attempt of this lease is over"),
            Self::LogFull => ("log_full", S::CONFLICT, "The history of the task is full"),
            Self::BodyTooLarge => ("body_too_large", S::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "The content type is not supported",
            ),
            Self::ValidationFailed => {
                ("validation_failed", S::UNPROCESSABLE_ENTITY, "A field is missing or wrong")
            }
            Self::IdempotencyKeyReused => (
                "idempotency_key_reused",
                S::UNPROCESSABLE_ENTITY,
                "The Idempotency-Key was sent with another request",
            ),
            Self::TooManyStreams => {
                ("too_many_streams", S::TOO_MANY_REQUESTS, "Too many streams are open")
            }
            Self::TooManyClaims => {
                ("too_many_claims", S::TOO_MANY_REQUESTS, "Too many workers wait")
            }
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "Something went wrong here"),
            Self::Unavailable => {
                ("unavailable", S::SERVICE_UNAVAILABLE, "Not available at the moment")
            }
        }
    }

    /// A problem a client might be answered, for the document; of our own faults, all a client is told.
    pub(super) fn example(self) -> Problem {
        let problem = |detail: &str| Problem::new(self, detail);
        match self {
            Self::MalformedBody => problem("expected `,` or `}` at line 1 column 20"),
            Self::NotTheWorker => {
                problem("task tz4a98xxat96iws9zmbrgj3a: the task is held by another worker")
            }
            Self::TaskNotFound => problem("there is no task tz4a98xxat96iws9zmbrgj3a"),
            Self::RouteNotFound => problem("there is nothing at /api/v2"),
            Self::MethodNotAllowed => problem("PUT is not allowed at /api/v1/tasks"),
            Self::RequestTimeout => problem("nothing came of the body for 15s"),
            Self::TaskExists => problem("there is a task nightly-2026-11-20 already"),
            Self::InvalidTransition => Problem::from_refused(
                "task tz4a98xxat96iws9zmbrgj3a",
                Refused::InvalidTransition {
                    from: crate::domain::Status::Completed,
                    attempted: "complete",
                },
            ),
            Self::LeaseLost => {
                Problem::from_refused("task tz4a98xxat96iws9zmbrgj3a", Refused::LeaseLost)
            }
            Self::LogFull => {
                problem("the log of task tz4a98xxat96iws9zmbrgj3a may not become longer")
            }
            Self::BodyTooLarge => problem("the body is larger than 1048576 bytes"),
            Self::UnsupportedMediaType => problem("the content type must be application/json"),
            Self::ValidationFailed => Problem::invalid("taskType", "is missing"),
            Self::IdempotencyKeyReused => {
                problem("this Idempotency-Key was sent with another request before")
            }
            Self::TooManyStreams => {
                problem("this address has 12500 streams open, which is the most")
            }
            Self::TooManyClaims => problem("as many workers wait here as may; ask again later"),
            Self::Internal => {
                problem("the service failed; the correlation id finds the reason in its log")
            }
            Self::Unavailable => problem("a dependency is away; try again"),
        }
    }
}

/// An error as the client sees it. It never holds an internal message.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    /// Further members: `errors`, `from`, `attempted`, `count`, `seqId`.
    members: serde_json::Map<String, Value>,
}

impl Problem {
    /// A problem in words for the client.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: shortened(detail.into()), members: serde_json::Map::new() }
    }

    /// One wrong field. An empty path is the body or the query as a whole.
    pub fn invalid(path: &str, message: &str) -> Self {
        let message = shortened(message.to_owned());
        let place = if path.is_empty() { "the request" } else { path };
        Self::new(Code::ValidationFailed, format!("{place}: {message}"))
            .with("errors", json!([{ "path": path, "message": message }]))
    }

    /// The same for a part of a body, which stands at `place` in the whole.
    #[must_use]
    pub(super) fn within(self, place: &str) -> Self {
        let error = self.members.get("errors").and_then(|errors| errors.get(0));
        let text = |member: &str| error.and_then(|error| error[member].as_str());
        match (text("path"), text("message")) {
            (Some(""), Some(message)) => Self::invalid(place, message),
            (Some(path), Some(message)) => Self::invalid(&format!("{place}.{path}"), message),
            _ => Self { detail: format!("{place}: {}", self.detail), ..self },
        }
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// As one of many answers in a body: its status, and all its members.
    pub(super) fn of_an_item(&self) -> (u16, Value) {
        let body = self.body();
        // Strings and JSON values become a JSON value.
        (body.status, serde_json::to_value(&body).unwrap_or_default())
    }

    fn from_refused(task: &str, refused: Refused) -> Self {
        let detail = format!("{task}: {refused}");
        match refused {
            Refused::NotTheWorker => Self::new(Code::NotTheWorker, detail),
            Refused::LeaseLost => Self::new(Code::LeaseLost, detail),
            Refused::InvalidTransition { from, attempted } => {
                Self::new(Code::InvalidTransition, detail)
                    .with("from", from.as_str())
                    .with("attempted", attempted)
            }
        }
    }

    fn body(&self) -> Body<'_> {
        let (code, status, title) = self.code.row();
        Body {
            kind: format!("urn:task-tracker:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            code,
            members: &self.members,
        }
    }

    /// Its body, for where there is no response to put it in.
    pub(super) fn json(&self) -> Vec<u8> {
        // Serialising strings and JSON values cannot fail.
        serde_json::to_vec(&self.body()).unwrap_or_default()
    }
}

/// The text without its middle where it is long: what is wrong stands first, and what was expected last.
fn shortened(text: String) -> String {
    let ends = (text.char_indices().nth(LONGEST), text.char_indices().rev().nth(LONGEST / 4));
    let (Some(_), Some((tail, _))) = ends else { return text };
    let head = text.char_indices().nth(LONGEST * 3 / 4 - 2).map_or(0, |(head, _)| head);
    format!("{}…{}", &text[..head], &text[tail..])
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(flatten)]
    members: &'a serde_json::Map<String, Value>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (word, status, _) = self.code.row();
        metrics::counter!("problems_total", "code" => word).increment(1);
        let content_type = [(header::CONTENT_TYPE, PROBLEM_JSON)];
        let mut response = (status, content_type, self.json()).into_response();
        let after = match status {
            StatusCode::SERVICE_UNAVAILABLE => RETRY_AFTER,
            StatusCode::TOO_MANY_REQUESTS => RETRY_AFTER_TOO_MANY,
            _ => return response,
        };
        let after = HeaderValue::from(fastrand::u32(after));
        response.headers_mut().insert(header::RETRY_AFTER, after);
        response
    }
}

impl From<service::Error> for Problem {
    fn from(error: service::Error) -> Self {
        use service::Error as E;
        match error {
            E::TaskNotFound(_) => Self::new(Code::TaskNotFound, error.to_string()),
            E::TaskExists(_) => Self::new(Code::TaskExists, error.to_string()),
            E::KeyReused => Self::new(Code::IdempotencyKeyReused, error.to_string()),
            E::TooManyClaims => Self::new(Code::TooManyClaims, error.to_string()),
            E::LogFull(_) => Self::new(Code::LogFull, error.to_string()),
            E::Refused { task, refused } => {
                // Information: a caller is late or lost a race, which an operator may want to follow.
                tracing::info!(task.id = %task, %refused, "refused");
                Self::from_refused(&format!("task {task}"), refused)
            }
            // Logged here, at the boundary, once; the client is told nothing of the inside.
            E::Unavailable(source) => {
                tracing::warn!(error = chain(&*source), "unavailable");
                Code::Unavailable.example()
            }
            E::Internal(source) => {
                tracing::error!(error = chain(&*source), "failed");
                Code::Internal.example()
            }
        }
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Answers a path that leads nowhere.
pub(super) async fn no_route(uri: Uri) -> Problem {
    Problem::new(Code::RouteNotFound, format!("there is nothing at {}", uri.path()))
}

/// Answers in place of a library's bare 404, as the docs page has for a file it does not know.
pub(super) fn mend(response: Response) -> Response {
    let is_bare = !response.headers().contains_key(header::CONTENT_TYPE);
    if response.status() == StatusCode::NOT_FOUND && is_bare {
        return Problem::new(Code::RouteNotFound, "there is nothing here").into_response();
    }
    response
}

/// Answers a method that a route does not know.
pub(super) async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{method} is not allowed at {}", uri.path()))
}

/// Answers in place of a handler that panicked.
#[expect(clippy::needless_pass_by_value, reason = "whoever catches a panic hands it over")]
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = text, "a handler panicked");
    Code::Internal.example().into_response()
}

/// The documented responses for `codes`, grouped by status, each with an example.
pub(super) fn documented(codes: &[Code]) -> BTreeMap<String, RefOr<DocumentedResponse>> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    // Whatever reads a body may wait for it in vain.
    let in_vain = codes.contains(&Code::MalformedBody).then_some(&Code::RequestTimeout);
    for code in codes.iter().chain(in_vain).chain(&[Code::Internal, Code::Unavailable]) {
        by_status.entry(code.row().1.as_u16()).or_default().push(*code);
    }
    let response = |codes: Vec<Code>| {
        let titles: Vec<_> =
            codes.iter().map(|code| format!("`{}`: {}", code.row().0, code.row().2)).collect();
        let examples = codes.iter().map(|code| {
            let example = serde_json::to_value(code.example().body()).unwrap_or_default();
            (
                code.row().0,
                utoipa::openapi::example::ExampleBuilder::new().value(Some(example)).build(),
            )
        });
        let content = ContentBuilder::new()
            .schema(Some(utoipa::openapi::Ref::from_schema_name("Problem")))
            .examples_from_iter(examples)
            .build();
        ResponseBuilder::new()
            .description(titles.join(" · "))
            .content(PROBLEM_JSON, content)
            .build()
    };
    by_status
        .into_iter()
        .map(|(status, codes)| (status.to_string(), RefOr::T(response(codes))))
        .collect()
}

/// Names the set of problems a handler may answer with, besides `internal`, `unavailable` and, where it
/// reads a body, `request_timeout`, for its `responses(…)`.
macro_rules! problems {
    ($(#[$doc:meta])* $name:ident: $($code:ident),* $(,)?) => {
        $(#[$doc])*
        pub(super) struct $name;
        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::response::Response>,
            > {
                $crate::http::problem::documented(&[$($crate::http::problem::Code::$code),*])
            }
        }
    };
}
pub(super) use problems;
