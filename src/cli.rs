//! The command line: flags and environment, checked as a whole into a [`Config`].

#![expect(clippy::doc_markdown, reason = "the comments of arguments are the text of --help")]

mod front;
pub mod terminal;
pub mod values;
pub mod work;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{
    BODY_BYTES, CLUSTER_SCHEMES, Config, ENTRY_BYTES, Mode, RedisTls, SERVER_SCHEMES, TASK_BYTES,
    TASK_ENTRIES,
};
use crate::http::Limits;
pub use front::FrontArgs;
pub use terminal::TerminalCommand;

/// Long-running work reports here; everybody watches it live.
///
/// Without DATABASE_URL and REDIS_URL the server is embedded: one process, its data in a folder, no other
/// server. With both it is a node: stateless, as many as wanted beside each other.
#[derive(Debug, Parser)]
#[command(name = "task-tracker", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `serve` unless said otherwise.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Of `serve`.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default)
    Serve(ServeArgs),
    /// Bring the database schema up to date, and end
    Migrate(MigrateArgs),
    /// Talk to a server
    #[command(flatten)]
    Terminal(TerminalCommand),
}

/// Of every command that touches the data.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// Folder of the embedded mode's files
    #[arg(long, env = "TASK_TRACKER_DATA_DIR", default_value = "./data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Postgres 14 or later, as postgres://user:password@host/database; needs REDIS_URL beside it.
    /// With TLS add ?sslmode=verify-full, and &sslrootcert=FILE for an authority of your own
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Redis 6.2 or later or Valkey, as redis://user:password@host:port; needs DATABASE_URL beside it. A
    /// cluster (Redis 7 or later) is redis-cluster://user:password@host:port,host:port, where some of its servers
    /// are enough. With TLS write rediss:// and rediss-cluster://
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,
    /// Certificates of the authorities to trust for rediss://, in PEM; those of the web unless given
    #[arg(long, env = "TASK_TRACKER_REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,
    /// Our own certificate, in PEM, for a Redis that asks for one
    #[arg(long, env = "TASK_TRACKER_REDIS_CERT", value_name = "FILE")]
    pub redis_cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, env = "TASK_TRACKER_REDIS_KEY", value_name = "FILE")]
    pub redis_key: Option<PathBuf>,
    /// Connections to Postgres at most
    #[arg(long, env = "TASK_TRACKER_DATABASE_CONNECTIONS", default_value_t = 20, value_name = "N",
          value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_connections: u32,
    /// What every Redis key begins with
    #[arg(long, env = "TASK_TRACKER_NAMESPACE", default_value = "tracker", value_name = "NAME")]
    pub namespace: String,
    /// Seconds to wait at the start for a database that is still starting
    #[arg(
        long,
        env = "TASK_TRACKER_PATIENCE_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS"
    )]
    pub patience_seconds: u64,
}

/// Of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Address to listen on; loopback unless told otherwise, for there is no password
    #[arg(long, env = "TASK_TRACKER_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: IpAddr,
    /// Port to listen on; 0 chooses a free one
    #[arg(long, env = "TASK_TRACKER_PORT", default_value_t = 3002, value_name = "PORT")]
    pub port: u16,
    /// Threads of the server; as many as there are cores unless told otherwise
    #[arg(long, env = "TASK_TRACKER_THREADS", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Seconds that requests in flight have when the server is told to stop
    #[arg(
        long,
        env = "TASK_TRACKER_SHUTDOWN_GRACE_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub shutdown_grace_seconds: u64,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields say what they are; a comment here would head them in the help"
    )]
    pub data: DataArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub limits: LimitArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub front: FrontArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub log: LogArgs,
}

/// What clients may do.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Bytes of a request body at most
    #[arg(long, env = "TASK_TRACKER_MAX_BODY_BYTES", default_value_t = BODY_BYTES, value_name = "BYTES")]
    pub max_body_bytes: usize,
    /// Bytes of one progress entry at most
    #[arg(long, env = "TASK_TRACKER_MAX_ENTRY_BYTES", default_value_t = ENTRY_BYTES, value_name = "BYTES")]
    pub max_entry_bytes: usize,
    /// Entries of one task at most
    #[arg(long, env = "TASK_TRACKER_MAX_TASK_ENTRIES", default_value_t = TASK_ENTRIES, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub max_task_entries: u64,
    /// Bytes of all entries of one task at most
    #[arg(long, env = "TASK_TRACKER_MAX_TASK_BYTES", default_value_t = TASK_BYTES, value_name = "BYTES",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000_000))]
    pub max_task_bytes: u64,
    /// Seconds between two looks for overdue tasks
    #[arg(long, env = "TASK_TRACKER_SWEEP_SECONDS", default_value_t = 2.0, value_name = "SECONDS")]
    pub sweep_seconds: f64,
    /// Seconds between two looks for entries of running tasks that are to move from the live log to the database
    #[arg(long, env = "TASK_TRACKER_SEAL_SECONDS", default_value_t = 0.25, value_name = "SECONDS")]
    pub seal_seconds: f64,
    /// Origins whose pages may read and write, separated by commas; none: every page may read
    #[arg(long, env = "TASK_TRACKER_CORS_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_origins: Vec<String>,
}

/// Of `migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub data: DataArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub log: LogArgs,
}

/// How the log looks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// What is logged: error, warn, info, debug or trace, also by module as task_tracker::live=debug
    #[arg(
        long,
        env = "TASK_TRACKER_LOG",
        default_value = "info,sqlx::postgres::notice=warn",
        value_name = "FILTER"
    )]
    pub log: String,
    /// How it is written
    #[arg(long, env = "TASK_TRACKER_LOG_FORMAT", default_value = "auto", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal, else JSON
    Auto,
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

/// What is wrong with the configuration, all of it, each with what to set.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n  - {}", .0.join("\n  - "))]
pub struct Unusable(Vec<String>);

impl DataArgs {
    /// Which mode the URLs make, if they make one.
    pub fn mode(&self) -> Result<Mode, Unusable> {
        let mut wrong = Vec::new();
        let mode = self.checked_mode(&mut wrong);
        mode.filter(|_| wrong.is_empty()).ok_or(Unusable(wrong))
    }

    fn checked_mode(&self, wrong: &mut Vec<String>) -> Option<Mode> {
        // An empty variable is an unset one, as compose files write it.
        let given = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
        match (given(&self.database_url), given(&self.redis_url)) {
            (None, None) => Some(Mode::Embedded { data_dir: self.data_dir.clone() }),
            (Some(database_url), Some(redis_url)) => {
                check_url("DATABASE_URL", &database_url, &["postgres", "postgresql"], wrong);
                let schemes = [SERVER_SCHEMES, CLUSTER_SCHEMES].concat();
                check_url("REDIS_URL", &redis_url, &schemes, wrong);
                let database_connections = self.database_connections;
                Some(Mode::Node { database_url, redis_url, database_connections })
            }
            (Some(_), None) => {
                wrong.push("DATABASE_URL is set and REDIS_URL is not: set both for a node, or neither for the embedded mode".into());
                None
            }
            (None, Some(_)) => {
                wrong.push("REDIS_URL is set and DATABASE_URL is not: set both for a node, or neither for the embedded mode".into());
                None
            }
        }
    }
}

impl DataArgs {
    fn redis_tls(&self, wrong: &mut Vec<String>) -> RedisTls {
        let given =
            |file: &Option<PathBuf>| file.clone().filter(|file| !file.as_os_str().is_empty());
        let client = match (given(&self.redis_cert), given(&self.redis_key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                wrong.push("TASK_TRACKER_REDIS_CERT and TASK_TRACKER_REDIS_KEY go together: set both or neither".into());
                None
            }
        };
        RedisTls { ca: given(&self.redis_ca), client }
    }
}

impl ServeArgs {
    /// The configuration these arguments make, or everything that is wrong with them.
    pub fn config(&self) -> Result<Config, Unusable> {
        let mut wrong = Vec::new();
        let mode = self.data.checked_mode(&mut wrong);
        let redis_tls = self.data.redis_tls(&mut wrong);
        let namespace = &self.data.namespace;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        if namespace.is_empty() || !namespace.bytes().all(plain) {
            wrong.push("TASK_TRACKER_NAMESPACE must be letters, digits, and _ - . :".into());
        }
        let limits = &self.limits;
        if limits.max_entry_bytes == 0 || limits.max_entry_bytes > limits.max_body_bytes {
            wrong.push(
                "TASK_TRACKER_MAX_ENTRY_BYTES must be between 1 and TASK_TRACKER_MAX_BODY_BYTES"
                    .into(),
            );
        }
        if !(0.05..=3600.0).contains(&limits.sweep_seconds) {
            wrong.push("TASK_TRACKER_SWEEP_SECONDS must be between 0.05 and 3600".into());
        }
        if !(0.05..=60.0).contains(&limits.seal_seconds) {
            wrong.push("TASK_TRACKER_SEAL_SECONDS must be between 0.05 and 60".into());
        }
        let mut cors_origins = Vec::new();
        for origin in limits.cors_origins.iter().filter(|origin| !origin.is_empty()) {
            match origin.parse() {
                Ok(value) if origin.contains("://") && !origin.ends_with('/') => cors_origins.push(value),
                _ => wrong.push(format!("TASK_TRACKER_CORS_ORIGINS: {origin:?} is no origin; write https://app.example.org")),
            }
        }
        let front = self.front.front(&mut wrong);
        let Some(mode) = mode.filter(|_| wrong.is_empty()) else {
            return Err(Unusable(wrong));
        };
        Ok(Config {
            host: self.host,
            port: self.port,
            mode,
            redis_tls,
            namespace: namespace.clone(),
            limits: Limits {
                body_bytes: limits.max_body_bytes,
                entry_bytes: limits.max_entry_bytes,
            },
            front,
            task_entries: limits.max_task_entries,
            task_bytes: limits.max_task_bytes,
            sweep_every: Duration::from_secs_f64(limits.sweep_seconds),
            seal_every: Duration::from_secs_f64(limits.seal_seconds),
            shutdown_grace: Duration::from_secs(self.shutdown_grace_seconds),
            patience: Duration::from_secs(self.data.patience_seconds),
            cors_origins,
        })
    }
}

/// Only the scheme is looked at here, and the URL is not shown: it may hold a password.
fn check_url(variable: &str, url: &str, schemes: &[&str], wrong: &mut Vec<String>) {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !scheme.is_some_and(|scheme| schemes.contains(&scheme)) {
        wrong.push(format!("{variable} must begin with {}://", schemes.join(":// or ")));
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, Unusable> {
        Cli::parse_from([&["task-tracker"], arguments].concat()).serve.config()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn neither_url_is_embedded_both_are_a_node_and_one_is_refused() {
        let both = ["--database-url", "postgres://h/d", "--redis-url", "redis://h"];
        assert!(matches!(config(&[]).unwrap().mode, Mode::Embedded { .. }));
        assert!(matches!(config(&both).unwrap().mode, Mode::Node { .. }));
        for one in [&both[..2], &both[2..]] {
            let said = config(one).unwrap_err().to_string();
            assert!(said.contains("set both for a node"), "{said}");
        }
    }

    #[test]
    fn a_cluster_is_a_node_and_a_certificate_comes_with_its_key() {
        let of = |url: &'static str| ["--database-url", "postgres://h/d", "--redis-url", url];
        for url in ["redis-cluster://a,b:1", "rediss-cluster://a", "valkeys-cluster://a"] {
            assert!(matches!(config(&of(url)).unwrap().mode, Mode::Node { .. }), "{url}");
        }
        let tls = ["--redis-ca", "ca.pem", "--redis-cert", "our.pem"];
        let said = config(&[&of("rediss://a")[..], &tls].concat()).unwrap_err().to_string();
        assert!(said.contains("TASK_TRACKER_REDIS_KEY"), "{said}");
        let both = [&of("rediss://a")[..], &tls, &["--redis-key", "our.key"]].concat();
        let tls = config(&both).unwrap().redis_tls;
        assert_eq!(tls.ca.as_deref(), Some(std::path::Path::new("ca.pem")));
        assert!(tls.client.is_some());
    }

    #[test]
    fn everything_wrong_is_said_at_once_and_no_password_with_it() {
        let said = config(&[
            "--database-url",
            "mysql://u:secret@h/d",
            "--redis-url",
            "h:6379",
            "--namespace",
            "a b",
            "--max-entry-bytes",
            "9999999",
            "--sweep-seconds",
            "0",
            "--seal-seconds",
            "0",
            "--cors-origins",
            "example.org",
        ])
        .unwrap_err()
        .to_string();
        for word in ["DATABASE_URL", "REDIS_URL", "NAMESPACE", "MAX_ENTRY", "SWEEP", "SEAL", "CORS"]
        {
            assert!(said.contains(word), "{word} in {said}");
        }
        assert!(!said.contains("secret"), "{said}");
    }
}
