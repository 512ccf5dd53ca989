//! A client of the service over HTTP, for the commands of the terminal. It knows the wire and nothing of what is behind it.
//!
//! | module | says |
//! | --- | --- |
//! | [`error`] | why there is no answer to use: refused, away, or not of this service |
//! | [`call`] | one request, and the same again while that may help |
//! | [`backoff`] | how long to rest before that |
//! | [`wire`] | what answers and events hold, as far as it is looked at |
//! | [`frames`] | events out of the bytes of a stream |
//! | [`stream`] | one open stream |
//! | [`resume`] | the same, opened again where it was |
//! | [`follow`] | a task's events through whatever happens to connections |
//! | [`feed`] | the events of many tasks, likewise |

pub mod backoff;
pub mod call;
pub mod error;
pub mod feed;
pub mod follow;
pub mod frames;
pub mod resume;
pub mod stream;
pub mod wire;

pub use call::{Call, Patience};
pub use error::{Error, Problem};
pub use wire::{Event, Told};

use std::time::Duration;

use reqwest::header::HeaderMap;

/// For a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// One service. A copy is cheap, and shares connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: reqwest::Url,
}

impl Client {
    /// Of the service at `base`, which may have a path; every request carries `headers`.
    pub fn new(base: reqwest::Url, headers: &HeaderMap) -> Result<Self, Error> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("task-tracker/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers.clone())
                .connect_timeout(CONNECT)
                // The headers may be credentials, which are for this service and no other.
                .redirect(reqwest::redirect::Policy::none())
        };
        let http = if base.scheme() == "https" {
            // Those whom the system trusts; where it names nobody, those whom the web trusts.
            builder().build().or_else(|_| builder().tls_certs_only(web()).build())
        } else {
            // Nobody is verified, and a system without authorities is not to stand in the way.
            builder().tls_certs_only([]).build()
        };
        let http = http.map_err(|error| Error::unreachable(&base, &error))?;
        Ok(Self { http, base })
    }

    /// Where it is, without the credentials that a URL may hold.
    pub fn shown(&self) -> String {
        error::shown(&self.base)
    }

    /// The URL as it was given, without a slash at its end.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The URL of a path below the API's base.
    fn api(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base())
    }
}

/// The authorities of the web.
fn web() -> impl Iterator<Item = reqwest::Certificate> {
    let certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    certificates.filter_map(|certificate| reqwest::Certificate::from_der(certificate).ok())
}
