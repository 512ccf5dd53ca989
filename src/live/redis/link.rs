//! The ways to the servers whose channels this node hears.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ::redis::RedisError;
use ::redis::aio::MultiplexedConnection;

use super::slots::Address;

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
    Up(Connection),
}

pub(super) struct Connection {
    pub(super) id: LinkId,
    pub(super) connection: MultiplexedConnection,
    /// Channels we have asked to leave, and how often, without having heard of it.
    pub(super) leaving: HashMap<String, u32>,
    pub(super) since: Instant,
    pub(super) pinged: Instant,
    pub(super) pause: Duration,
}

/// The connection, if it still is the one that stands.
pub(super) fn up<'a>(
    links: &'a mut HashMap<Address, Link>,
    id: &LinkId,
) -> Option<&'a mut Connection> {
    match links.get_mut(&id.0) {
        Some(Link::Up(up)) if up.id == *id => Some(up),
        _ => None,
    }
}

/// Whether the connection is of no use any more, by its end or by its silence.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}
