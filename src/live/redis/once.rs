//! Appends that may come twice: a receipt is kept beside the log, by the script that appends.
//!
//! Receipts are in a hash for each day (UTC) in which they were given, which expires at the end of the next: so they cost
//! no sweeping, and a task that runs for months keeps those of two days at most.

use ::redis::ScriptInvocation;
use deadpool_redis::Connection;

use super::keys::Keys;
use crate::domain::once::KEPT_FOR;
use crate::domain::{Key, Receipt, TaskId, Timestamp};
use crate::live::{Appended, Error};

/// The script of an append, and what is around it where the request has a key.
pub(super) const SCRIPT: &str =
    concat!(include_str!("once.lua"), include_str!("append.lua"), include_str!("receipt.lua"));
/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

/// The keys of today and of yesterday.
pub(super) fn days(keys: &Keys, task: &TaskId, now: Timestamp) -> [String; 2] {
    let today = day(now);
    [keys.receipts(task, today), keys.receipts(task, today - 1)]
}

fn day(now: Timestamp) -> i64 {
    now.as_micros().div_euclid(DAY)
}

/// Adds to an append what `once.lua` takes.
pub(super) fn say(
    call: &mut ScriptInvocation<'_>,
    keys: &Keys,
    task: &TaskId,
    key: &Key,
    now: Timestamp,
) {
    for key in days(keys, task, now) {
        call.key(key);
    }
    call.arg(&key.hash)
        .arg(&key.fingerprint)
        .arg(now.as_micros())
        .arg(now.minus(KEPT_FOR).as_micros())
        .arg((day(now) + 2) * (DAY / 1000));
}

/// What comes of an append whose key has a receipt.
pub(super) fn before(key: Option<&Key>, receipt: &str) -> Result<Appended, Error> {
    let key = key.ok_or_else(|| super::unexpected("a receipt without a key"))?;
    let receipt = parse(key.hash.clone(), receipt)?;
    let is_the_same = receipt.fingerprint == key.fingerprint;
    Ok(if is_the_same { Appended::Before(receipt) } else { Appended::Reused })
}

/// Reads every receipt of a task.
pub(super) async fn read(
    connection: &mut Connection,
    keys: &Keys,
    task: &TaskId,
    now: Timestamp,
) -> Result<Vec<Receipt>, Error> {
    let mut pipeline = ::redis::pipe();
    // Yesterday's first: a key whose receipt was over may have another by now.
    for key in days(keys, task, now).iter().rev() {
        pipeline.hgetall(key);
    }
    let days: [Vec<(String, String)>; 2] = pipeline.query_async(&mut **connection).await?;
    let mut receipts = std::collections::HashMap::new();
    for (hash, text) in days.into_iter().flatten() {
        receipts.insert(hash.clone(), parse(hash, &text)?);
    }
    Ok(receipts.into_values().collect())
}

fn parse(hash: String, text: &str) -> Result<Receipt, Error> {
    Receipt::parse(hash, text).map_err(|error| Error::Failed(error.into()))
}
