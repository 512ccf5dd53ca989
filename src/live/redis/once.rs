//! Appends that may come twice: a receipt is kept beside the log, by the script that appends.
//!
//! Receipts are in a hash for each day (UTC) in which they were given, which expires at the end of the next: so they cost
//! no sweeping, and a task that runs for months keeps those of two days at most.

use std::collections::HashMap;

use ::redis::{Cmd, RedisError, from_redis_value};

use super::keys::Keys;
use super::node::Request;
use super::servers::Servers;
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

/// Adds to an append on the keys of [`days`], too, what `once.lua` takes.
pub(super) fn say<'a>(call: Request<'a>, key: &Key, now: Timestamp) -> Request<'a> {
    call.arg(&key.hash)
        .arg(&key.fingerprint)
        .arg(now.as_micros())
        .arg(now.minus(KEPT_FOR).as_micros())
        .arg((day(now) + 2) * (DAY / 1000))
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
    servers: &Servers,
    keys: &Keys,
    task: &TaskId,
    now: Timestamp,
) -> Result<Vec<Receipt>, Error> {
    // Yesterday's first: a key whose receipt was over may have another by now.
    let [today, yesterday] = days(keys, task, now);
    let all = |key: String| (key.clone(), Cmd::hgetall(key));
    let mut receipts = Vec::new();
    for day in servers.ask_each(&[all(yesterday), all(today)]).await? {
        let day: Vec<(String, String)> = from_redis_value(day).map_err(RedisError::from)?;
        receipts.extend(day);
    }
    parse_all(receipts)
}

/// Reads receipts, each with its key: of those with the same the last counts.
pub(super) fn parse_all(
    texts: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Receipt>, Error> {
    let texts: HashMap<String, String> = texts.into_iter().collect();
    texts.into_iter().map(|(hash, text)| parse(hash, &text)).collect()
}

fn parse(hash: String, text: &str) -> Result<Receipt, Error> {
    Receipt::parse(hash, text).map_err(|error| Error::Failed(error.into()))
}
