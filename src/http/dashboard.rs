//! The dashboard, as `/dashboard` has it: a page at `/`, and what it is made of below `/dashboard/`.
//!
//! All its addresses are relative, so a proxy may put it under any prefix, and all of it comes from here: it works where
//! there is no other network. Nothing of it runs that is not one of these files, whatever a task is called or says.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::Api;
use super::files::File;

/// What the page may load and do. Its scripts and sheets set what moves through the CSSOM, which needs no inline style; `data:`
/// is for small drawings.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
);
const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");

const SCRIPT: &str = "text/javascript; charset=utf-8";
const SHEET: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Each file with its type, and its text: the same below `/dashboard/` as in its folder.
macro_rules! files {
    ($($kind:ident: $($file:literal)*;)*) => {
        &[$($((
            concat!("/dashboard/", $file),
            $kind,
            include_str!(concat!("../../dashboard/", $file)),
        ),)*)*]
    };
}

const PAGE: &str = include_str!("../../dashboard/index.html");
const DRAWING: &str = "image/svg+xml";
const FILES: &[(&str, &str, &str)] = files! {
    SCRIPT:
        "app.js" "theme.js"
        "pages/operations.js" "pages/overview.js" "pages/task.js" "pages/tasks.js"
        "parts/badge.js" "parts/confirm.js" "parts/dom.js" "parts/feed.js" "parts/time.js" "parts/toast.js";
    SHEET: "pages.css" "style.css";
    DRAWING: "icon.svg";
};
