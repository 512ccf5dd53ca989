//! How many streams there may be, in all and of one client, and how each ended.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Front;
use super::problem::{Code, Problem};
use super::server::Outflow;

/// The streams that are open on this node, by client.
#[derive(Debug)]
pub struct Readers {
    most: usize,
    most_per_client: usize,
    open: Mutex<Open>,
    /// How many there are in all, for whoever wants to know.
    count: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Open {
    in_all: usize,
    /// Clients that have streams, and no others: it is as large as there are streams at most.
    by_client: HashMap<IpAddr, usize>,
}

/// Why a stream ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// With its task.
    End,
    /// It had lived for as long as a stream may; its client resumes it.
    Life,
    /// The node closes; its client resumes it elsewhere.
    Shutdown,
    /// Something failed here.
    Error,
    /// The client took nothing for too long.
    Stalled,
    /// The client went away.
    Gone,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Life => "life",
            Self::Shutdown => "shutdown",
            Self::Error => "error",
            Self::Stalled => "stalled",
            Self::Gone => "gone",
        }
    }
}

/// A place for a stream; dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    readers: Arc<Readers>,
    client: IpAddr,
}

/// An open stream: holds its place, and is counted when it ends.
#[derive(Debug)]
pub(super) struct OpenStream {
    /// Why it ends, once that is known; whoever is dropped without was left by its client.
    pub(super) reason: Option<Reason>,
    outflow: Arc<Outflow>,
    place: Place,
}

impl Readers {
    /// Nobody yet, and as many as `front` says at most.
    pub fn new(front: &Front) -> Self {
        let (most, most_per_client) = (front.streams, front.streams_per_client);
        Self { most, most_per_client, open: Mutex::default(), count: Arc::default() }
    }

    /// How many streams are open at any time.
    pub fn count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    /// Takes a place for a client.
    ///
    /// A client that has as many as it may is told so (429): it should close one. Where the node has no place
    /// for anybody, that is said as of any node that cannot serve at the moment (503): a proxy then tries another.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Place, Problem> {
        let mut open = self.lock();
        if open.in_all >= self.most {
            metrics::counter!("streams_refused_total", "limit" => "node").increment(1);
            let detail = "this node has as many streams open as it may; try again, or at another";
            return Err(Problem::new(Code::Unavailable, detail));
        }
        let of_client = open.by_client.get(&client).copied().unwrap_or(0);
        if of_client >= self.most_per_client {
            metrics::counter!("streams_refused_total", "limit" => "client").increment(1);
            let detail = format!("{client} has {of_client} streams open, which is the most");
            return Err(Problem::new(Code::TooManyStreams, detail));
        }
        open.in_all += 1;
        self.count.store(open.in_all, Ordering::Relaxed);
        open.by_client.insert(client, of_client + 1);
        Ok(Place { readers: Arc::clone(self), client })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Streams that are open on this node, this one among them.
    pub(super) fn crowd(&self) -> usize {
        self.readers.lock().in_all
    }

    /// The stream is open.
    pub(super) fn open(self, outflow: Arc<Outflow>) -> OpenStream {
        metrics::gauge!("streams_open").increment(1.0);
        metrics::counter!("streams_opened_total").increment(1);
        OpenStream { reason: None, outflow, place: self }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.readers.lock();
        open.in_all -= 1;
        self.readers.count.store(open.in_all, Ordering::Relaxed);
        if let Some(streams) = open.by_client.get_mut(&self.client) {
            *streams -= 1;
            if *streams == 0 {
                open.by_client.remove(&self.client);
            }
        }
    }
}

impl OpenStream {
    /// Streams that are open on this node, this one among them.
    pub(super) fn crowd(&self) -> usize {
        self.place.crowd()
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        metrics::gauge!("streams_open").decrement(1.0);
        let left = || if self.outflow.has_stalled() { Reason::Stalled } else { Reason::Gone };
        let reason = self.reason.unwrap_or_else(left);
        metrics::counter!("streams_closed_total", "reason" => reason.word()).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(refused: Result<Place, Problem>) -> Code {
        refused.map(|_| ()).unwrap_err().code()
    }

    #[test]
    fn places_are_counted_in_all_and_by_client_and_freed_exactly() {
        let front = Front { streams: 3, streams_per_client: 2, ..Front::default() };
        let readers = Arc::new(Readers::new(&front));
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let first = readers.admit(a).unwrap();
        let second = readers.admit(a).unwrap();
        assert_eq!(code(readers.admit(a)), Code::TooManyStreams);
        let third = readers.admit(b).unwrap();
        assert_eq!(code(readers.admit(c)), Code::Unavailable);
        assert_eq!((third.crowd(), readers.count().load(Ordering::Relaxed)), (3, 3));
        drop(first);
        let fourth = readers.admit(c).unwrap();
        assert_eq!(code(readers.admit(a)), Code::Unavailable);
        drop((second, third, fourth));
        let open = readers.lock();
        assert_eq!((open.in_all, open.by_client.len()), (0, 0));
        assert_eq!(readers.count().load(Ordering::Relaxed), 0);
    }
}
