//! The servers that the tests share: `scripts/test` starts them and says where they are.

use std::path::{Path, PathBuf};

use task_tracker::config::Mode as ConfigMode;

use super::{Ground, needed};

impl Ground {
    /// Its Redis; `None` where it is embedded.
    pub fn redis_url(&self) -> Option<&str> {
        match &self.config {
            ConfigMode::Embedded { .. } => None,
            ConfigMode::Node { redis_url, .. } => Some(redis_url),
        }
    }

    /// The same with a Redis of the test's own.
    pub fn on_redis(mut self, url: String) -> Self {
        if let ConfigMode::Node { redis_url, .. } = &mut self.config {
            *redis_url = url;
        }
        self
    }
}

/// The Redis server of the tests.
pub fn redis_url() -> String {
    needed("TEST_REDIS_URL")
}

/// The Redis cluster of the tests.
pub fn cluster_url() -> String {
    needed("TEST_CLUSTER_URL")
}

/// A file beside the authority's certificate that the tests' TLS servers are trusted by.
pub fn certificate(file: &str) -> PathBuf {
    let url = needed("TEST_TLS_DATABASE_URL");
    let (_, ca) = url.split_once("sslrootcert=").expect("an authority in TEST_TLS_DATABASE_URL");
    Path::new(ca).with_file_name(file)
}
