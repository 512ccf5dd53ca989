//! The browser client and its custom elements, as `clients/javascript` has them: a page of any origin imports them
//! from the server that it watches.
//!
//! They name each other by relative paths, so a proxy may put them under any prefix. A browser keeps them and asks
//! each time whether they are still the same: after an update of the server no page runs an old client.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use sha2::{Digest, Sha256};

use super::Api;

/// Where each module is, and its text: the same below `/` as in its folder.
macro_rules! scripts {
    ($($file:literal),* $(,)?) => {
        [$((concat!("/", $file), include_str!(concat!("../../clients/javascript/", $file)))),*]
    };
}

const SCRIPTS: [(&str, &str); 19] = scripts![
    "client.js",
    "client/feed.js",
    "client/follow.js",
    "client/link.js",
    "client/parser.js",
    "client/shared.js",
    "client/sight.js",
    "client/view.js",
    "client/wire.js",
    "elements.js",
    "elements/bar.js",
    "elements/dom.js",
    "elements/list.js",
    "elements/progress.js",
    "elements/recent.js",
    "elements/rows.js",
    "elements/tasks.js",
    "elements/watching.js",
    "elements/words.js",
];

/// The type of a module.
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The path of each module, and its route.
pub(super) fn routes() -> impl Iterator<Item = (String, MethodRouter<Api>)> {
    SCRIPTS.into_iter().map(|(path, text)| {
        let tag = tag(text);
        let route = get(async move |headers: HeaderMap| answer(text, SCRIPT, &tag, &headers));
        (path.to_owned(), route)
    })
}

/// An entity tag (RFC 9110, 8.8.3) of the text.
pub(super) fn tag(text: &str) -> HeaderValue {
    use std::fmt::Write;
    let mut tag = String::from("\"");
    for byte in &Sha256::digest(text)[..12] {
        // Writing to memory cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    // Quotes and hexadecimal digits are a valid header value.
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"none\""))
}

/// The text, which is of this type; or that the client has it already.
pub(super) fn answer(
    text: &'static str,
    kind: &'static str,
    tag: &HeaderValue,
    headers: &HeaderMap,
) -> Response {
    let caching = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    if is_known(tag, headers) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let nosniff = HeaderValue::from_static("nosniff");
    let content_type = HeaderValue::from_static(kind);
    let kind = [(header::CONTENT_TYPE, content_type), (header::X_CONTENT_TYPE_OPTIONS, nosniff)];
    (caching, kind, text).into_response()
}

/// Whether the client has this text already. A proxy that compresses makes a tag weak, and it is the same text.
fn is_known(tag: &HeaderValue, headers: &HeaderMap) -> bool {
    let known =
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}
