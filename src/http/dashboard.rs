//! The dashboard, as `/dashboard` of the repository has it: a page at `/`, and what it is made of below `/dashboard/`.
//!
//! All its addresses are relative, so a proxy may put it under any prefix, and all of it comes from here: it works where
//! there is no other network. Nothing runs in it that is not one of these files, whatever a task is called or says.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::Api;
use super::scripts::{self, SCRIPT};

/// What the page may load and do. Its scripts set what moves through the CSSOM, which needs no inline style; `data:` is for
/// small drawings.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
);

const PAGE: &str = "text/html; charset=utf-8";
const SHEET: &str = "text/css; charset=utf-8";
const DRAWING: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// Where each file is, its type, and its text: the same below `/dashboard/` as in its folder.
macro_rules! files {
    ($($kind:ident: $($file:literal),+;)+) => {
        &[$($((
            concat!("/dashboard/", $file),
            $kind,
            include_str!(concat!("../../dashboard/", $file)),
        )),+),+]
    };
}

const INDEX: (&str, &str, &str) = ("/", PAGE, include_str!("../../dashboard/index.html"));
const FILES: &[(&str, &str, &str)] = files! {
    SCRIPT: "app.js", "theme.js";
    SCRIPT: "pages/operations.js", "pages/overview.js", "pages/task.js", "pages/tasks.js";
    SCRIPT: "parts/badge.js", "parts/bulk.js", "parts/chart.js", "parts/confirm.js", "parts/demonstration.js";
    SCRIPT: "parts/dom.js", "parts/feed.js", "parts/filterbar.js", "parts/filters.js", "parts/loader.js";
    SCRIPT: "parts/refresher.js", "parts/row.js", "parts/selection.js", "parts/tasks.js", "parts/time.js";
    SCRIPT: "parts/toast.js", "parts/virtual.js";
    SCRIPT: "parts/chain.js", "parts/copy.js", "parts/curl.js", "parts/deeds.js", "parts/follow.js", "parts/head.js", "parts/history.js";
    SCRIPT: "parts/lines.js", "parts/log.js", "parts/timeline.js", "parts/tree.js";
    SCRIPT: "vendor/uPlot.esm.js";
    SHEET: "task.css";
    SHEET: "pages.css", "style.css", "vendor/uPlot.min.css";
    DRAWING: "icon.svg";
    TEXT: "vendor/uPlot.LICENSE.txt";
};

/// The path of each file, and its route.
pub(super) fn routes() -> impl Iterator<Item = (String, MethodRouter<Api>)> {
    let files = std::iter::once(&INDEX).chain(FILES).map(|&(path, kind, text)| {
        let tag = scripts::tag(text);
        let route = get(async move |headers: HeaderMap| {
            guarded(scripts::answer(text, kind, &tag, &headers))
        });
        (path.to_owned(), route)
    });
    // Relative, as everything here: the address of the page behind a proxy is the browser's to know.
    let folder = [("/dashboard", "./"), ("/dashboard/", "../")].map(|(path, home)| {
        let home = [(header::LOCATION, HeaderValue::from_static(home))];
        (path.to_owned(), get(async move || (StatusCode::FOUND, home).into_response()))
    });
    files.chain(folder)
}

/// With what keeps the page to itself.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    // An id of a task in the address is nobody else's to read.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}
