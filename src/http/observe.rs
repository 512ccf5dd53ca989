//! What happens around every request: a correlation id, a span, figures.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

/// The header that ties a request to its log lines, here and at the caller's.
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Gives the request its correlation id and its span, and counts it.
pub(super) async fn observe(request: Request, next: Next) -> Response {
    let asked = Instant::now();
    let correlation_id = correlation_id(request.headers());
    let method = request.method().clone();
    // The pattern, not the path: a label for each task would never stop growing.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "(none)".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!(
        "request",
        %method,
        route,
        correlation_id = correlation_id.to_str().unwrap_or_default(),
        trace_id = trace_id(request.headers()),
    );
    let mut response = next.run(request).instrument(span.clone()).await;
    response.headers_mut().insert(CORRELATION_ID, correlation_id);
    let took = asked.elapsed();
    let status = response.status().as_u16();
    metrics::histogram!(
        "http_request_seconds",
        "method" => counted_as(&method),
        "route" => route,
        "status" => status.to_string(),
    )
    .record(took.as_secs_f64());
    span.in_scope(|| {
        tracing::debug!(status, took_ms = took.as_secs_f64() * 1e3, "answered");
    });
    response
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
