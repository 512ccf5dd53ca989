//! What the parts can do without us: the same work as a scenario's, done by the barest program that
//! does it on the same servers, in the same run. A ratio to it says how much of the possible is
//! reached.

pub(crate) mod service;
mod statements;
pub(crate) mod writer;

use anyhow::Result;

use crate::cli::Options;
use crate::drive::Sample;
use crate::scenarios::{Kind, Scenario};
use crate::stores::Stores;

/// The baseline of a scenario, where it has one in this mode: those of SQL need Postgres.
pub(crate) async fn measure(
    options: &Options,
    stores: Option<&Stores>,
    scenario: &Scenario,
) -> Result<Option<Sample>> {
    let sample = match (scenario.kind, stores) {
        (Kind::FanOut { paced, entries }, _) => writer::fan_out(options, paced, entries).await?,
        (Kind::Replay { .. }, _) => writer::replay(options).await?,
        (Kind::Register { .. }, Some(stores)) => {
            service::registrations(options, stores, scenario.echo_load(options)).await?
        }
        (Kind::Progress { entries: 1, listened: false, .. }, Some(stores)) => {
            service::appends(options, stores, scenario.echo_load(options)).await?
        }
        (Kind::RegisterBulk { connections, .. }, Some(stores)) => {
            statements::insert(options, stores, connections).await?
        }
        (Kind::Claim { workers, types, .. }, Some(stores)) => {
            statements::claim(options, stores, workers, types).await?
        }
        (Kind::Sweep, Some(stores)) => statements::end_overdue(options, stores).await?,
        _ => return Ok(None),
    };
    Ok(Some(sample))
}

/// What it is, for the reader of a table.
pub(crate) fn about(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::FanOut { .. } => "one write per frame and reader, 1 thread",
        Kind::Replay { .. } => "one write per 16 frames, 1 thread",
        Kind::Register { .. } => "the barest service, INSERT … UNNEST of those that come meanwhile",
        Kind::Progress { entries: 1, listened: false, .. } => {
            "the barest service, one script of INCR, RPUSH and PUBLISH"
        }
        Kind::RegisterBulk { .. } => "INSERT … UNNEST of 100 rows, a key and the claim's index",
        Kind::Claim { .. } => "UPDATE of one row found by SKIP LOCKED, one type",
        Kind::Sweep => "one UPDATE … RETURNING of the same rows",
        _ => return None,
    })
}
