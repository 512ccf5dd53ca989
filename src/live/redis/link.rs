//! The ways to the servers, and the channels that are heard over them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ::redis::RedisError;
use ::redis::aio::MultiplexedConnection;
use tokio::sync::watch;

use super::slots::Address;
use crate::live::hub::Subject;

/// One connection: where it leads and which of them it is, for a connection that was lost may still speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkId(pub(super) Address, pub(super) u64);

/// The way to a server.
pub(super) enum Link {
    /// It failed, and is not tried before then.
    Down { until: Instant, pause: Duration },
    /// It is being made; a failure is followed by this pause.
    Connecting { pause: Duration },
    /// It stands.
    Up(Up),
}

/// A connection that stands.
pub(super) struct Up {
    /// Which of them it is.
    pub(super) id: LinkId,
    /// Over it we ask; what is heard comes to the loop.
    pub(super) connection: MultiplexedConnection,
    /// Channels we have asked to leave, and how often, without having heard of it.
    pub(super) leaving: HashMap<String, u32>,
    /// When it was made.
    pub(super) since: Instant,
    /// When it was asked for a sign of life.
    pub(super) pinged: Instant,
    /// The pause after it, should it be lost soon.
    pub(super) pause: Duration,
}

/// A channel that this node wants to hear.
pub(super) struct Channel {
    /// Its slot.
    pub(super) slot: u16,
    /// The topic it carries, and whom to tell that it does; the channel of wakes carries none.
    pub(super) topic: Option<(Subject, watch::Sender<bool>)>,
    /// Where it is heard.
    pub(super) place: Place,
    /// Whether it ever stood: then its readers may have missed something.
    pub(super) was_heard: bool,
}

/// Where a channel is heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody sends it.
    Nowhere,
    /// A server was asked for it, then.
    Asked(LinkId, Instant),
    /// A server has said that it sends it.
    Heard(LinkId),
}

impl Place {
    /// The connection it is to come over.
    pub(super) fn link(&self) -> Option<&LinkId> {
        match self {
            Self::Nowhere => None,
            Self::Asked(link, _) | Self::Heard(link) => Some(link),
        }
    }
}

impl Channel {
    /// Nobody sends it any more.
    pub(super) fn lose(&mut self) {
        self.place = Place::Nowhere;
        // New readers wait until it stands again.
        if let Some((_, ready)) = &self.topic {
            ready.send_replace(false);
        }
    }
}

/// The connection, if it still is the one that stands.
pub(super) fn up<'a>(links: &'a mut HashMap<Address, Link>, id: &LinkId) -> Option<&'a mut Up> {
    match links.get_mut(&id.0) {
        Some(Link::Up(up)) if up.id == *id => Some(up),
        _ => None,
    }
}

/// Whether the connection is of no use any more, by its end or by its silence.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}
