//! What happens around every request: a correlation id, a span, figures.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use metrics::Histogram;
use tracing::Instrument;

/// The header that ties a request to its log lines, here and at the caller's.
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// How long requests took: one figure for each route, method and status there was.
#[derive(Debug)]
pub(super) struct Figures {
    /// The route of a path: its place in `names`.
    routes: matchit::Router<usize>,
    names: Vec<String>,
    kept: RwLock<HashMap<(usize, &'static str, u16), Histogram>>,
}

impl Figures {
    /// Of routes with these patterns; whatever leads nowhere is one more.
    pub(super) fn new(paths: impl IntoIterator<Item = String>) -> Self {
        let (mut routes, mut names) = (matchit::Router::new(), vec!["(none)".to_owned()]);
        for path in paths {
            // A pattern that the router of the service took is one, and none is there twice.
            if routes.insert(path.clone(), names.len()).is_ok() {
                names.push(path);
            }
        }
        Self { routes, names, kept: RwLock::default() }
    }

    /// The pattern, not the path: a label for each task would never stop growing.
    fn route(&self, path: &str) -> usize {
        self.routes.at(path).map_or(0, |found| *found.value)
    }

    fn record(&self, route: usize, method: &Method, status: StatusCode, took: Duration) {
        let key = (route, counted_as(method), status.as_u16());
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(figure) = kept.get(&key) {
            figure.record(took);
            return;
        }
        drop(kept);
        let figure = metrics::histogram!(
            "http_request_seconds",
            "method" => key.1,
            "route" => self.names[route].clone(),
            "status" => key.2.to_string(),
        );
        figure.record(took);
        self.kept.write().unwrap_or_else(PoisonError::into_inner).insert(key, figure);
    }
}

/// Gives the request its correlation id and its span, has it answered, and counts it.
pub(super) async fn observe(
    figures: &Figures,
    request: Request,
    answer: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let asked = Instant::now();
    let correlation_id = correlation_id(request.headers());
    let method = request.method().clone();
    let route = figures.route(request.uri().path());
    let span = tracing::info_span!(
        "request",
        %method,
        path = short(request.uri().path()),
        correlation_id = correlation_id.to_str().unwrap_or_default(),
        trace_id = trace_id(request.headers()),
    );
    let mut response = answer(request).instrument(span.clone()).await;
    response.headers_mut().insert(CORRELATION_ID, correlation_id);
    let (took, status) = (asked.elapsed(), response.status());
    figures.record(route, &method, status, took);
    span.in_scope(|| {
        tracing::debug!(status = status.as_u16(), took_ms = took.as_secs_f64() * 1e3, "answered");
    });
    response
}

/// A path with its ids, in the log: what nobody knows is cut.
fn short(path: &str) -> &str {
    // A path is ASCII.
    path.get(..200).unwrap_or(path)
}

/// A method that HTTP has by its name, and all others as one: a client invents as many as it likes, and each figure is kept
/// for ever.
fn counted_as(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("(other)")
}

/// The caller's, if it is printable and short; else a new one.
pub(super) fn correlation_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(CORRELATION_ID).filter(|value| {
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        // Hexadecimal digits are a valid header value.
        let made = made_correlation_id();
        HeaderValue::from_str(&made).unwrap_or(HeaderValue::from_static("none"))
    })
}

/// A new one. It needs to be unlike others, not unguessable.
pub(super) fn made_correlation_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// The trace of a W3C `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`, neither part all zeros.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = value.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |text: &str| text.bytes().any(|b| b != b'0');
    let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16);
    (valid && some(trace) && some(span)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )])
    }

    #[test]
    fn a_callers_correlation_id_is_kept_if_it_is_decent() {
        assert_eq!(correlation_id(&headers("x-correlation-id", "abc-1")), "abc-1");
        for indecent in ["", "a b", &"x".repeat(129)] {
            assert_ne!(correlation_id(&headers("x-correlation-id", indecent)), indecent);
        }
    }

    #[test]
    fn only_a_valid_traceparent_is_honoured() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = headers("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
        assert_eq!(trace_id(&parent), Some(trace));
        for wrong in ["", "00-0-1-01", &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))] {
            assert_eq!(trace_id(&headers("traceparent", wrong)), None);
        }
    }
}
