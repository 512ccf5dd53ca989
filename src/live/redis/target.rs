//! Where `REDIS_URL` points: one server or a cluster, and how to trust it.

use std::path::{Path, PathBuf};

use ::redis::io::tcp::TcpSettings;
use ::redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
    TlsCertificates,
};

use super::slots::Address;

/// Schemes of one server. Each has `s` behind it where TLS is spoken.
pub const SERVER_SCHEMES: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];
/// Schemes of a cluster.
pub const CLUSTER_SCHEMES: [&str; 4] =
    ["redis-cluster", "rediss-cluster", "valkey-cluster", "valkeys-cluster"];
/// The port of a server that says none.
const PORT: u16 = 6379;

/// Files, in PEM, that say whom to trust and who we are.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Certificates of the authorities that are trusted; without it those that every browser trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, for a server that asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A URL or a file that cannot be used. None of it shows the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The URL is not understood.
    #[error("the URL is not understood")]
    Url(#[source] RedisError),
    /// A cluster has one database.
    #[error("a cluster has no numbered databases: leave the number out of the URL")]
    Database,
    /// Files for TLS, and a URL without.
    #[error(
        "a certificate file is given, and a URL with TLS begins with rediss:// or rediss-cluster://"
    )]
    NoTls,
    /// A file cannot be read.
    #[error("{} cannot be read", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// The files hold no certificates, or no key.
    #[error("the certificate files are not understood")]
    Certificates(#[source] RedisError),
    /// The file of authorities has none.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
}

/// Where the servers are.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// How each is talked to; of a single server also where it is.
    template: ConnectionInfo,
    /// Servers to ask first.
    pub(super) seeds: Vec<Address>,
    /// Whether they make a cluster.
    pub(super) is_cluster: bool,
}

impl Target {
    /// Reads a URL: `redis://user:password@host:port/database`, or of a cluster
    /// `redis-cluster://user:password@host:port,host:port`, where any of its servers will do.
    pub(super) fn parse(url: &str, tls: &Tls) -> Result<Self, Unusable> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let is_cluster = CLUSTER_SCHEMES.contains(&scheme);
        let urls = if is_cluster { servers_of(url) } else { vec![url.to_owned()] };
        let mut infos = Vec::new();
        for url in urls {
            let info = url.into_connection_info().map_err(Unusable::Url)?;
            if is_cluster && info.redis_settings().db() != 0 {
                return Err(Unusable::Database);
            }
            infos.push(info);
        }
        let seeds = infos.iter().map(|info| address(info.addr())).collect();
        let first = infos.swap_remove(0);
        let template =
            tls.applied_to(first)?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self { template, seeds, is_cluster })
    }

    /// How to talk to a server.
    pub(super) fn connection(&self, address: &Address) -> ConnectionInfo {
        let info = self.template.clone();
        if !self.is_cluster {
            return info;
        }
        let (host, port) = (address.host.to_string(), address.port);
        let addr = match info.addr().clone() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        info.set_addr(addr)
    }
}

/// One URL for each server of a cluster's: what is before and behind the list is that of all.
fn servers_of(url: &str) -> Vec<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, servers) = authority
        .rsplit_once('@')
        .map_or(("", authority), |(user, servers)| (&authority[..=user.len()], servers));
    let scheme = scheme.trim_end_matches("-cluster");
    servers.split(',').map(|server| format!("{scheme}://{user}{server}{path}")).collect()
}

fn address(addr: &ConnectionAddr) -> Address {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Address { host: host.as_str().into(), port: *port }
        }
        _ => Address { host: "a socket".into(), port: PORT },
    }
}

impl Tls {
    fn applied_to(&self, info: ConnectionInfo) -> Result<ConnectionInfo, Unusable> {
        if self.ca.is_none() && self.client.is_none() {
            return Ok(info);
        }
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(Unusable::NoTls);
        }
        let root_cert = self.ca.as_deref().map(read).transpose()?;
        if let (Some(ca), Some(pem)) = (&self.ca, &root_cert)
            && !String::from_utf8_lossy(pem).contains("BEGIN CERTIFICATE")
        {
            return Err(Unusable::NoCertificate(ca.clone()));
        }
        let client_tls = match &self.client {
            Some((certificate, key)) => {
                Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
            }
            None => None,
        };
        let certificates = TlsCertificates { client_tls, root_cert };
        let client = Client::build_with_tls(info, certificates).map_err(Unusable::Certificates)?;
        Ok(client.get_connection_info().clone())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Unusable> {
    std::fs::read(file).map_err(|error| Unusable::File(file.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Target {
        Target::parse(url, &Tls::default()).unwrap()
    }

    #[test]
    fn a_cluster_is_a_list_of_servers_with_one_password() {
        let target = parsed("rediss-cluster://me:p%40ss@one:7000,10.0.0.2,[::3]:7003/");
        let seeds: Vec<String> = target.seeds.iter().map(ToString::to_string).collect();
        assert_eq!(seeds, ["one:7000", "10.0.0.2:6379", "::3:7003"]);
        assert!(target.is_cluster);
        let elsewhere = Address { host: "four".into(), port: 4 };
        let info = target.connection(&elsewhere);
        let ConnectionAddr::TcpTls { host, port, insecure: false, .. } = info.addr() else {
            panic!("{info:?}")
        };
        assert_eq!((host.as_str(), *port), ("four", 4));
        assert_eq!(info.redis_settings().username(), Some("me"));
        assert_eq!(info.redis_settings().password(), Some("p@ss"));
    }

    #[test]
    fn one_server_is_what_the_url_says() {
        let target = parsed("valkey://host:1/3");
        assert!(!target.is_cluster);
        let info = target.connection(&target.seeds[0]);
        assert_eq!(info.redis_settings().db(), 3);
        assert!(matches!(info.addr(), ConnectionAddr::Tcp(host, 1) if host == "host"));
    }

    #[test]
    fn what_cannot_be_is_refused_without_showing_the_password() {
        let tls = Tls { ca: Some("/nowhere/ca.pem".into()), client: None };
        let refused = |url: &str, tls: &Tls| {
            let error = Target::parse(url, tls).unwrap_err();
            let said = format!("{:#}", anyhow::Error::from(error));
            assert!(!said.contains("secret"), "{said}");
            said
        };
        let plain = Tls::default();
        assert!(refused("redis-cluster://u:secret@one,two/2", &plain).contains("database"));
        assert!(refused("redis-cluster://u:secret@one,,two", &plain).contains("not understood"));
        assert!(refused("redis://u:secret@one", &tls).contains("rediss://"));
        assert!(refused("rediss://u:secret@one", &tls).contains("/nowhere/ca.pem"));
    }
}
