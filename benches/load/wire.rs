//! The parts of answers that more than one scenario reads.

use serde::Deserialize;

/// A claimed task.
#[derive(Debug, Deserialize)]
pub(crate) struct Claimed {
    pub(crate) id: String,
}

/// The answer to an append; `count` is there for several entries only.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Appended {
    pub(crate) seq_id: u64,
    pub(crate) count: Option<u64>,
}
