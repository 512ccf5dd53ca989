//! What a client may cost the node, as arguments.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use crate::http::Front;

/// What a client may cost the node.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Front")]
pub struct FrontArgs {
    /// Connections at once; more are answered 503
    #[arg(long, env = "TASK_TRACKER_MAX_CONNECTIONS", default_value_t = 30_000, value_name = "N")]
    pub max_connections: usize,
    /// Requests at once on one HTTP/2 connection
    #[arg(
        long,
        env = "TASK_TRACKER_MAX_REQUESTS_PER_CONNECTION",
        default_value_t = 200,
        value_name = "N"
    )]
    pub max_requests_per_connection: u32,
    /// Bytes of a request's head at most
    #[arg(long, env = "TASK_TRACKER_MAX_HEADER_BYTES", default_value_t = 32 << 10, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1024..=1 << 20))]
    pub max_header_bytes: u32,
    /// Seconds in which a request's head must arrive
    #[arg(long, env = "TASK_TRACKER_HEADER_SECONDS", default_value_t = 10, value_name = "SECONDS")]
    pub header_seconds: u64,
    /// Seconds for which a connection is kept between two requests
    #[arg(
        long,
        env = "TASK_TRACKER_KEEP_ALIVE_SECONDS",
        default_value_t = 75,
        value_name = "SECONDS"
    )]
    pub keep_alive_seconds: u64,
    /// Seconds in which a JSON body must arrive
    #[arg(long, env = "TASK_TRACKER_BODY_SECONDS", default_value_t = 60, value_name = "SECONDS")]
    pub body_seconds: u64,
    /// Seconds for which a body may be silent
    #[arg(
        long,
        env = "TASK_TRACKER_BODY_IDLE_SECONDS",
        default_value_t = 15,
        value_name = "SECONDS"
    )]
    pub body_idle_seconds: u64,
    /// Seconds for which a body of lines may be silent; an empty line is a sign of life
    #[arg(
        long,
        env = "TASK_TRACKER_LINES_IDLE_SECONDS",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub lines_idle_seconds: u64,
    /// Streams at once; more are answered 503
    #[arg(long, env = "TASK_TRACKER_MAX_STREAMS", default_value_t = 25_000, value_name = "N")]
    pub max_streams: usize,
    /// Streams at once of one client address (of IPv6: one /64); more are answered 429
    #[arg(
        long,
        env = "TASK_TRACKER_MAX_STREAMS_PER_CLIENT",
        default_value_t = 12_500,
        value_name = "N"
    )]
    pub max_streams_per_client: usize,
    /// Seconds after which a stream is ended, give or take a tenth; its client resumes it
    #[arg(
        long,
        env = "TASK_TRACKER_STREAM_SECONDS",
        default_value_t = 3600,
        value_name = "SECONDS"
    )]
    pub stream_seconds: u64,
    /// Seconds after which a client is dropped that takes nothing of what it is sent
    #[arg(long, env = "TASK_TRACKER_STALL_SECONDS", default_value_t = 60, value_name = "SECONDS")]
    pub stall_seconds: u64,
    /// Workers that wait for a task at once; more are answered 429
    #[arg(
        long,
        env = "TASK_TRACKER_MAX_WAITING_CLAIMS",
        default_value_t = 10_000,
        value_name = "N"
    )]
    pub max_waiting_claims: usize,
    /// Task types that workers wait for at once; a claim that would add more is answered 429
    #[arg(
        long,
        env = "TASK_TRACKER_MAX_WAITING_TYPES",
        default_value_t = 10_000,
        value_name = "N"
    )]
    pub max_waiting_types: usize,
    /// Proxies whose X-Forwarded-For is believed, as networks separated by commas
    #[arg(
        long,
        env = "TASK_TRACKER_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_name = "NETWORK"
    )]
    pub trusted_proxies: Vec<String>,
}

impl FrontArgs {
    /// The limits these arguments make; what is wrong with them is added to `wrong`.
    pub(super) fn front(&self, wrong: &mut Vec<String>) -> Front {
        let amounts = [
            ("MAX_CONNECTIONS", self.max_connections),
            ("MAX_REQUESTS_PER_CONNECTION", self.max_requests_per_connection as usize),
            ("MAX_STREAMS", self.max_streams),
            ("MAX_STREAMS_PER_CLIENT", self.max_streams_per_client),
            ("MAX_WAITING_CLAIMS", self.max_waiting_claims),
            ("MAX_WAITING_TYPES", self.max_waiting_types),
        ];
        for (name, amount) in amounts {
            // As many as a semaphore counts and a database is asked for.
            if !(1..=1 << 24).contains(&amount) {
                wrong.push(format!("TASK_TRACKER_{name} must be between 1 and {}", 1 << 24));
            }
        }
        let times = [
            ("HEADER_SECONDS", self.header_seconds),
            ("KEEP_ALIVE_SECONDS", self.keep_alive_seconds),
            ("BODY_SECONDS", self.body_seconds),
            ("BODY_IDLE_SECONDS", self.body_idle_seconds),
            ("LINES_IDLE_SECONDS", self.lines_idle_seconds),
            ("STREAM_SECONDS", self.stream_seconds),
            ("STALL_SECONDS", self.stall_seconds),
        ];
        for (name, seconds) in times {
            if !(1..=31_536_000).contains(&seconds) {
                wrong.push(format!("TASK_TRACKER_{name} must be between 1 and 31536000 (a year)"));
            }
        }
        Front {
            connections: self.max_connections,
            header_bytes: self.max_header_bytes,
            header_time: Duration::from_secs(self.header_seconds),
            keep_alive: Duration::from_secs(self.keep_alive_seconds),
            requests: self.max_requests_per_connection,
            body_time: Duration::from_secs(self.body_seconds),
            body_idle: Duration::from_secs(self.body_idle_seconds),
            lines_idle: Duration::from_secs(self.lines_idle_seconds),
            streams: self.max_streams,
            streams_per_client: self.max_streams_per_client,
            stream_life: Duration::from_secs(self.stream_seconds),
            stall: Duration::from_secs(self.stall_seconds),
            waiting_claims: self.max_waiting_claims,
            waiting_types: self.max_waiting_types,
            trusted_proxies: networks(&self.trusted_proxies, wrong),
        }
    }
}

/// Networks, or single addresses.
fn networks(given: &[String], wrong: &mut Vec<String>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in given.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        match text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network),
            Err(_) => wrong.push(format!(
                "TASK_TRACKER_TRUSTED_PROXIES: {text:?} is no network; write 10.0.0.0/8"
            )),
        }
    }
    networks
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;
    use crate::http::Front;

    fn front(arguments: &[&str]) -> Result<Front, String> {
        let cli = Cli::parse_from([&["task-tracker"], arguments].concat());
        cli.serve.config().map(|config| config.front).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        assert_eq!(format!("{:?}", front(&[]).unwrap()), format!("{:?}", Front::default()));
    }

    #[test]
    fn networks_and_addresses_are_read_and_everything_wrong_is_said() {
        let given = front(&["--trusted-proxies", "10.0.0.0/8, 127.0.0.1,::1,"]).unwrap();
        let networks: Vec<String> = given.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "127.0.0.1/32", "::1/128"]);
        let said = front(&[
            "--trusted-proxies",
            "proxy.example.org",
            "--max-streams",
            "0",
            "--stall-seconds",
            "0",
        ]);
        let said = said.unwrap_err();
        for word in ["TRUSTED_PROXIES", "MAX_STREAMS", "STALL_SECONDS"] {
            assert!(said.contains(word), "{word} in {said}");
        }
    }
}
