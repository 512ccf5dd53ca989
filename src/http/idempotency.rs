//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that is sent again is answered
//! what was answered first.
//!
//! Where the draft has a twin in flight refused with 409, here it waits and hears the same answer. Only what was done is
//! remembered, see [`crate::domain::once`].

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sfv::{BareItem, Item, Parser};
use utoipa::IntoParams;

use super::extract::{json, parse};
use super::problem::Problem;
use super::{Api, BASE_PATH};
use crate::domain::{Key, Keyed, TaskId};
use crate::service::{Error, Said};

/// The request's header.
pub(super) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `true` on an answer that was given before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// How it is called in problems.
const NAME: &str = "Idempotency-Key";
/// Characters of a key at most.
const LONGEST: usize = 255;

/// The header in the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header that `SentKey` reads")]
pub(super) struct KeyHeader {
    /// Makes the request safe to send again: for 24 h the same key with the same request is answered the same, with
    /// `Idempotency-Replayed: true`, and nothing is done twice; with another request it is refused. Keys of different
    /// routes and different tasks have nothing to do with each other. A structured string (`"8e03978e-40d5"`) or its bare
    /// text. A refused request is not remembered.
    #[param(rename = "Idempotency-Key", value_type = Option<String>,
        pattern = r#"^([!#-+\-\.-\[\]-~]{1,255}|"[!#-\[\]-~]{1,255}")$"#)]
    idempotency_key: Option<String>,
}

/// A JSON object in the body, as [`super::extract::Json`] reads it, and the key that came with it.
pub(super) struct Sent<T> {
    pub(super) request: T,
    pub(super) key: SentKey,
}

impl<T: DeserializeOwned> FromRequest<Api> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let key = SentKey::of(request.headers(), request.uri())?;
        let body = json(request, api).await?;
        Ok(Self { request: parse(&body)?, key: key.with(body) })
    }
}

/// The key that came with a request, if one did, and what its request is recognised by.
pub(super) struct SentKey(Option<Chosen>);

struct Chosen {
    key: String,
    query: String,
    body: Bytes,
}

/// Of a route that reads no body.
impl<S: Send + Sync> FromRequestParts<S> for SentKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of_parts(parts)
    }
}

impl SentKey {
    pub(super) fn of_parts(parts: &Parts) -> Result<Self, Problem> {
        Self::of(&parts.headers, &parts.uri)
    }

    fn of(headers: &HeaderMap, uri: &Uri) -> Result<Self, Problem> {
        let query = uri.query().unwrap_or_default().to_owned();
        Ok(Self(key(headers)?.map(|key| Chosen { key, query, body: Bytes::new() })))
    }

    fn with(self, body: Bytes) -> Self {
        Self(self.0.map(|chosen| Chosen { body, ..chosen }))
    }

    /// Refuses a key where there can be none, saying why.
    pub(super) fn none(&self, why: &str) -> Result<(), Problem> {
        if self.0.is_some() { Err(Problem::invalid(NAME, why)) } else { Ok(()) }
    }

    /// The key, of `scope`.
    pub(super) fn in_scope(&self, scope: String) -> Option<Key> {
        let Chosen { key, query, body } = self.0.as_ref()?;
        Some(Key::new(scope, key, &[query.as_bytes(), body]))
    }

    /// The request as one of the use case called `word`, about `task` where it is about one, to be answered by `answer`.
    pub(super) fn keyed<T>(
        &self,
        word: &str,
        task: Option<&TaskId>,
        answer: impl Fn(&T) -> Answer + Send + Sync + 'static,
    ) -> Option<Keyed<T>> {
        let scope = task.map_or_else(|| word.to_owned(), |task| format!("{word} {task}"));
        let answer = Arc::new(move |done: &T| answer(done).text());
        Some(Keyed { key: self.in_scope(scope)?, answer })
    }
}

/// The key as the client chose it; quoted or bare it is the same.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let wrong = |message: &str| Problem::invalid(NAME, message);
    let mut values = headers.get_all(KEY).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong("is there twice"));
    }
    let value = value.as_bytes().trim_ascii();
    let key = if value.starts_with(b"\"") {
        match Parser::new(value).parse::<Item>() {
            Ok(Item { bare_item: BareItem::String(text), .. }) => String::from(text),
            _ => return Err(wrong("is no structured string (RFC 9651)")),
        }
    } else {
        // A comma shows that somebody made one header of two.
        let is_bare = |byte: &u8| !matches!(byte, b'"' | b'\\' | b',');
        if !value.iter().all(is_bare) {
            return Err(wrong("must be in quotes if it holds quotes, backslashes or commas"));
        }
        String::from_utf8_lossy(value).into_owned()
    };
    let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_visible || !(1..=LONGEST).contains(&key.len()) {
        return Err(wrong("must be 1 to 255 visible ASCII characters"));
    }
    Ok(Some(key))
}

/// An answer that can be remembered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    body: Box<RawValue>,
}

impl Answer {
    pub(super) fn ok(body: &impl Serialize) -> Self {
        Self::new(StatusCode::OK, None, body)
    }

    /// 201, and where the new task is.
    pub(super) fn created(id: &TaskId, body: &impl Serialize) -> Self {
        Self::new(StatusCode::CREATED, Some(format!("{BASE_PATH}/tasks/{id}")), body)
    }

    fn new(status: StatusCode, location: Option<String>, body: &impl Serialize) -> Self {
        // Serialising what we answer cannot fail: names are strings, and JSON was checked.
        let body = serde_json::value::to_raw_value(body).unwrap_or_default();
        Self { status: status.as_u16(), location, body }
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let body = Box::<str>::from(self.body);
        let json = HeaderValue::from_static("application/json");
        let mut response =
            (status, [(header::CONTENT_TYPE, json)], String::from(body)).into_response();
        if let Some(location) = self.location.and_then(|at| HeaderValue::try_from(at).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// What is said to a request: now by `answer`, or again what was said before.
pub(super) fn say<T>(
    said: Said<T>,
    answer: impl FnOnce(&T) -> Answer,
) -> Result<Response, Problem> {
    match said {
        Said::Now(done) => Ok(answer(&done).into_response()),
        Said::Before(text) => {
            let answer: Answer =
                serde_json::from_str(&text).map_err(|error| Error::Internal(error.into()))?;
            Ok(repeated(answer))
        }
    }
}

/// An answer that was given before.
pub(super) fn repeated(answer: Answer) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&[u8]]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(KEY, HeaderValue::from_bytes(value).unwrap());
        }
        key(&headers).map_err(|problem| format!("{:?}", problem.code()))
    }

    #[test]
    fn quoted_and_bare_it_is_the_same_key() {
        for value in [&b"\"8e03978e-40d5\""[..], b"8e03978e-40d5", b" \"8e03978e-40d5\";v=1 "] {
            assert_eq!(read(&[value]), Ok(Some("8e03978e-40d5".to_owned())), "{value:?}");
        }
        assert_eq!(read(&[br#""a\"b\\c,d""#]), Ok(Some(r#"a"b\c,d"#.to_owned())));
        assert_eq!(read(&[]), Ok(None));
        let longest = "x".repeat(255);
        assert_eq!(read(&[longest.as_bytes()]), Ok(Some(longest)));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let (long, quoted) = ("x".repeat(256), format!("\"{}\"", "x".repeat(256)));
        let rubbish: [&[u8]; 14] = [
            b"",
            b" ",
            b"\"\"",
            b"\"a",
            b"a\"",
            b"\"a\"b",
            b"\"a\", \"b\"",
            b"a,b",
            b"a b",
            b"\"a b\"",
            b"a\\b",
            b"\xff",
            long.as_bytes(),
            quoted.as_bytes(),
        ];
        for value in rubbish {
            assert_eq!(read(&[value]), Err("ValidationFailed".to_owned()), "{value:?}");
        }
        assert!(read(&[b"a", b"a"]).is_err(), "one at most");
    }
}
