//! This program again, in a process of its own so that its CPU time is its own: as the echo, as the
//! bare writer, as the barest service.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use axum::serve::{Listener, ListenerExt};
use tokio::net::TcpListener;

/// A child that listens somewhere, ended when this is dropped.
pub(crate) struct Companion {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Companion {
    /// Starts this program as `what` and waits until it says where it listens.
    pub(crate) fn start(what: &str) -> Result<Self> {
        Self::start_told(what, &[])
    }

    /// The same, with these variables in its environment.
    pub(crate) fn start_told(what: &str, told: &[(&str, &str)]) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(what)
            .envs(told.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("the {what} could not be started"))?;
        let output = process.stdout.take();
        let mut companion = Self { process, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut line = String::new();
        BufReader::new(output.context("it has no output")?).read_line(&mut line)?;
        companion.address = line
            .trim()
            .parse()
            .with_context(|| format!("the {what} did not say where it listens"))?;
        Ok(companion)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the child: a socket of its own for axum to serve, as the driver is told.
pub(crate) async fn listener() -> Result<impl Listener<Addr = SocketAddr>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    listens_at(listener.local_addr()?)?;
    Ok(listener.tap_io(|socket| {
        // Without it the child would only be slower; the driver sets its own end and fails there if
        // it cannot.
        let _ = socket.set_nodelay(true);
    }))
}

/// In the child: says where it listens, and ends when the driver is gone. The pipe that is this
/// process's input closes with the driver, however that ends.
pub(crate) fn listens_at(address: SocketAddr) -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{address}")?;
    output.flush()?;
    std::thread::spawn(|| {
        // Whether it ends in an error or in nothing, the other end is closed.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    Ok(())
}
