//! Closing a log: its fence, what is remembered of it and what it holds, in one round trip where that is little.

use ::redis::{RedisError, Value, from_redis_value};

use super::look::mark_of;
use super::memory::Found;
use super::node::Request;
use super::{RedisLive, entry, millis, once, unexpected};
use crate::domain::{TaskId, Timestamp};
use crate::live::{CLOSED_FOR, Closed, Error, Live, PAGE_ENTRIES, Page};

/// What comes over the connection that all short requests share, at most: entries and bytes of a log.
const SHORT: (usize, usize) = (PAGE_ENTRIES, 64 << 10);
/// The same of receipts, of which each is about 200 bytes.
const FEW_RECEIPTS: usize = 200;

/// What `close.lua` says of a log that it has closed.
type Held = (u64, u64, String, Vec<Value>, Option<Vec<String>>);

impl RedisLive {
    pub(super) async fn close_log(
        &self,
        task: &TaskId,
        attempt: u32,
        now: Timestamp,
    ) -> Result<Closed, Error> {
        let [today, yesterday] = once::days(&self.keys, task, now);
        let seq = self.keys.seq(task);
        let [fence, list, log] =
            [self.keys.fence(task), self.keys.progress(task), self.keys.log(task)];
        let keys = [fence, seq.clone(), list, log, yesterday, today];
        let close = self.lookout.run(&seq, |look| {
            Request::resident(&look.scripts.close, &keys)
                .arg(attempt)
                .arg(millis(CLOSED_FOR))
                .arg(SHORT.0)
                .arg(SHORT.1)
                .arg(FEW_RECEIPTS)
                // Read last: what is older than the mark is of its generation.
                .followed_by(mark_of(look))
        });
        let (answer, at) = close.await?;
        let (held, mark): (Value, Option<String>) =
            from_redis_value(answer).map_err(RedisError::from)?;
        if held == Value::Array(vec![Value::Int(-1)]) {
            return Err(unexpected("a later attempt has the log"));
        }
        let (last_seq_id, behind, log, lines, receipts): Held =
            from_redis_value(held).map_err(RedisError::from)?;
        let log = Some(log).filter(|generation| !generation.is_empty());
        let memory = self.lookout.judge(at, &seq, Found { log, last_seq_id, mark }).await?;
        let page = if lines.is_empty() && behind < last_seq_id {
            self.read(task, behind, PAGE_ENTRIES).await?
        } else {
            let entries = lines.into_iter().map(entry).collect::<Result<_, _>>()?;
            Page { entries, behind, last_seq_id }
        };
        let receipts = match receipts {
            Some(texts) => once::parse_all(pairs(texts))?,
            None => once::read(&self.servers, &self.keys, task, now).await?,
        };
        Ok(Closed { memory, page, receipts })
    }
}

fn pairs(texts: Vec<String>) -> impl Iterator<Item = (String, String)> {
    let mut texts = texts.into_iter();
    std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
}
