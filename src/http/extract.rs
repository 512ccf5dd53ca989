//! Bodies, queries and paths, checked at the edge: a handler gets what the domain can use, or is not called.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, RawQuery, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::{Code, Problem};
use super::{Api, pace};
use crate::domain::TaskId;

/// A JSON object in the body. An empty body is an empty object.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        parse(&json(request, api).await?).map(Self)
    }
}

/// The bytes of a body that says it is JSON; `{}` where there is none.
pub(super) async fn json(request: Request, api: &Api) -> Result<Bytes, Problem> {
    let is_json = media_type(request.headers()).is_some_and(is_json);
    let bytes = read(request, api.limits.body_bytes, api.front.body_time).await?;
    if bytes.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    if !is_json {
        return Err(unsupported("application/json"));
    }
    Ok(bytes)
}

/// The media type without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

/// `application/json`, or a type that says it is JSON by its suffix (RFC 6839).
pub(super) fn is_json(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// The problem of a content type that is not read here.
pub(super) fn unsupported(expected: &str) -> Problem {
    Problem::new(Code::UnsupportedMediaType, format!("the content type must be {expected}"))
}

/// The problem of something that is too large.
pub(super) fn too_large(what: &str, limit: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("{what} is larger than {limit} bytes"))
}

async fn read(request: Request, limit: usize, time: Duration) -> Result<Bytes, Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large("the body", limit));
    }
    let body = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(time, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(too_large("the body", limit))
        }
        Ok(Err(error)) => Err(pace::broken_off(&*error)),
        Err(_) => Err(pace::too_slow(format!("the body did not arrive within {time:?}"))),
    }
}

/// Reads one JSON object. What is no JSON is malformed; what is JSON of the wrong shape is invalid, and
/// the answer says where.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Problem::new(Code::MalformedBody, "the body is not UTF-8"))?;
    // Serde would take an array for a struct, member by member.
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => Problem::invalid("", "must be a JSON object"),
            Err(error) => malformed(&error),
        });
    }
    // Where something is wrong is found by reading it again: to keep book of the path costs every good one.
    serde_json::from_str(text).map_err(|error| wrong::<T>(text, &error))
}

/// What is wrong with a text, and where.
fn wrong<T: DeserializeOwned>(text: &str, error: &serde_json::Error) -> Problem {
    // A wrong field before a syntax error does not make the rest JSON.
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        return malformed(&error);
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(found) if found.inner().is_data() => {
            invalid(&found.path().to_string(), &found.inner().to_string())
        }
        _ => malformed(error),
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(Code::MalformedBody, error.to_string())
}

/// Names the field: serde says a missing one in the message, not in the path.
fn invalid(path: &str, message: &str) -> Problem {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let path = if path == "." { "" } else { path };
    for (prefix, says) in
        [("missing field `", "is missing"), ("duplicate field `", "is there twice")]
    {
        let field = message.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('`'));
        if let Some(field) = field {
            let at = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
            // A duplicate is reported at its own path already.
            return Problem::invalid(if path.ends_with(field) { path } else { &at }, says);
        }
    }
    Problem::invalid(path, message)
}

/// The query. Unknown parameters are passed over.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let RawQuery(query) =
            RawQuery::from_request_parts(parts, state).await.unwrap_or(RawQuery(None));
        self::query(&query.unwrap_or_default()).map(Self)
    }
}

/// Reads the text of a query.
pub(super) fn query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().to_string();
        invalid(&path, &error.into_inner().to_string())
    })
}

/// The id in the path. One that no task can have is one that no task has.
pub(super) struct Id(pub(super) TaskId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let none = |id: &str| Problem::new(Code::TaskNotFound, format!("there is no task {id}"));
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| none("of this id"))?;
        id.parse().map(Self).map_err(|_| none("of this id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[expect(dead_code, reason = "only its reading is looked at")]
        task_type: String,
    }

    fn code_of(body: &str) -> Code {
        parse::<Shape>(body.as_bytes()).map_err(|problem| problem.code()).unwrap_err()
    }

    #[test]
    fn what_is_no_json_is_told_from_json_of_the_wrong_shape() {
        for body in ["{", "nope", "{\"taskType\":\"a\"} x", "\u{feff}{}"] {
            assert_eq!(code_of(body), Code::MalformedBody, "{body:?}");
        }
        for body in ["[]", "null", "{}", "{\"taskType\":1}", "[\"a\"]"] {
            assert_eq!(code_of(body), Code::ValidationFailed, "{body:?}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(code_of(&deep), Code::MalformedBody);
    }
}
