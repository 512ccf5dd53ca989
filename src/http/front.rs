//! What a client may cost a node, and who the client is.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use ipnet::IpNet;

use super::Api;
use super::server::{Outflow, Peer};

/// What a client may cost a node before, while and after it is served.
#[derive(Debug, Clone)]
pub struct Front {
    /// Connections at once. Whoever comes then is answered 503.
    pub connections: usize,
    /// Bytes of a request's head.
    pub header_bytes: u32,
    /// How long the head of a request may take, once it has begun; and the first, once it could begin.
    pub header_time: Duration,
    /// How long a connection is kept between two requests.
    pub keep_alive: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub requests: u32,
    /// How long a JSON body may take in all.
    pub body_time: Duration,
    /// How long a body may be silent.
    pub body_idle: Duration,
    /// How long a body of lines may be silent: a worker may have nothing to say for a while.
    pub lines_idle: Duration,
    /// Streams at once.
    pub streams: usize,
    /// Streams at once of one client.
    pub streams_per_client: usize,
    /// How long a stream lives, give or take a tenth; its client resumes it.
    pub stream_life: Duration,
    /// How long a client may take not one byte of what waits for it.
    pub stall: Duration,
    /// Workers that wait at once.
    pub waiting_claims: usize,
    /// Types that are waited for at once.
    pub waiting_types: usize,
    /// Proxies whose word on where a request came from is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Front {
    fn default() -> Self {
        Self {
            connections: 30_000,
            header_bytes: 32 << 10,
            header_time: Duration::from_secs(10),
            // Longer than the minute after which common proxies and clients let go themselves: who closes
            // first loses no request.
            keep_alive: Duration::from_secs(75),
            requests: 200,
            body_time: Duration::from_mins(1),
            body_idle: Duration::from_secs(15),
            lines_idle: Duration::from_mins(5),
            streams: 25_000,
            // Half of them, so that no address alone takes every place.
            streams_per_client: 12_500,
            stream_life: Duration::from_hours(1),
            stall: Duration::from_mins(1),
            waiting_claims: 10_000,
            waiting_types: 10_000,
            trusted_proxies: Vec::new(),
        }
    }
}

/// Who sent a request, and where its response goes.
#[derive(Debug)]
pub(super) struct Visitor {
    /// The client's address, or of IPv6 its network: one client has all of a /64.
    pub(super) client: IpAddr,
    /// Where the response goes.
    pub(super) outflow: Arc<Outflow>,
}

impl FromRequestParts<Api> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        // Both are there whenever a request came in through the server.
        let peer = parts.extensions.get::<Peer>();
        let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0);
        let outflow = parts.extensions.get::<Arc<Outflow>>().cloned().unwrap_or_default();
        Ok(Self { client: client(peer, &parts.headers, &api.front.trusted_proxies), outflow })
    }
}

/// The client's address: the peer's, or, where the peer is a proxy that is trusted, the one that
/// proxy says it had the request from, and so on along trusted proxies. What stands further left in
/// `X-Forwarded-For` was written by whoever sent the request, and is not believed.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let values = headers.get_all("x-forwarded-for").iter();
    let hops: Vec<&str> =
        values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).collect();
    for hop in hops.into_iter().rev() {
        if !trusted.iter().any(|network| network.contains(&client)) {
            break;
        }
        let Some(before) = address(hop.trim()) else { break };
        client = before.to_canonical();
    }
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// An address, as proxies write it: with a port or without.
fn address(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse::<SocketAddr>().map(|address| address.ip());
    hop.parse().or_else(|_| with_port()).ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn what_a_stranger_says_of_itself_is_not_believed() {
        assert_eq!(seen("203.0.113.9", &["198.51.100.1"], &[]), "203.0.113.9");
        assert_eq!(seen("203.0.113.9", &["198.51.100.1"], &["10.0.0.0/8"]), "203.0.113.9");
    }

    #[test]
    fn a_trusted_proxy_says_whom_it_had_the_request_from() {
        let trusted = ["10.0.0.0/8", "::1/128"];
        assert_eq!(seen("10.0.0.1", &["198.51.100.1"], &trusted), "198.51.100.1");
        assert_eq!(seen("::ffff:10.0.0.1", &["198.51.100.1"], &trusted), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.1:4711"], &trusted), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["1.1.1.1, 198.51.100.1"], &trusted), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["1.1.1.1", "198.51.100.1"], &trusted), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.1, 10.9.9.9"], &trusted), "198.51.100.1");
        assert_eq!(seen("::1", &["[2001:db8:1:2:3::4]:80"], &trusted), "2001:db8:1:2::");
    }

    #[test]
    fn a_proxy_that_says_nothing_is_the_client() {
        let trusted = ["10.0.0.0/8"];
        for forwarded in [&[][..], &[""], &["unknown"], &["1.1.1.1, _hidden"], &["1.1.1.1,"]] {
            assert_eq!(seen("10.0.0.1", forwarded, &trusted), "10.0.0.1", "{forwarded:?}");
        }
    }
}
