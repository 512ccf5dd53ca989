//! The bare writer: a process that writes frames of the same size as ours to sockets, each frame of
//! each reader in a system call of its own, or sixteen frames of a replay in one. No runtime, no
//! parser, no lock: a lower bound of what a delivery can cost without fewer calls to the kernel.
//!
//! It answers three kinds of request: a stream to be fed (`…/fan/track`), a replay
//! (`…/replay/track?entries=N`), and the word to begin (`/feed?…`), which is answered when the feeding
//! is over with the number of frames.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::http::StatusCode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::{self, Options};
use crate::client::Connection;
use crate::clock;
use crate::companion::{Companion, listens_at};
use crate::drive::{Meter, Sample, Window};
use crate::scenarios::{Dialect, Following, gather, replays};

/// Frames of a replay in one write.
const REPLAY_FRAMES: usize = 16;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                    transfer-encoding: chunked\r\n\r\n";

/// Serves until the driver is gone.
pub(crate) fn serve() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listens_at(listener.local_addr()?)?;
    let readers = Arc::new(Mutex::new(Vec::new()));
    loop {
        let (socket, _) = listener.accept()?;
        let readers = Arc::clone(&readers);
        // One at a time and quickly, but for the word to begin: a stream only changes hands here.
        let (path, socket) = greet(socket)?;
        if path.contains("/fan/") {
            readers.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
        } else {
            thread::spawn(move || answer(&path, socket, &readers));
        }
    }
}

/// Reads the head of a request; a stream that is to be fed gets its own at once.
fn greet(mut socket: TcpStream) -> Result<(String, TcpStream)> {
    socket.set_nodelay(true)?;
    let mut lines = BufReader::new(socket.try_clone()?).lines();
    let request = lines.next().context("no request")??;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    if path.contains("/track") {
        // The first comment, as our server sends it: it says that the stream is open.
        socket.write_all(HEAD.as_bytes())?;
        socket.write_all(&chunk(b":\n\n"))?;
    }
    Ok((path, socket))
}

fn answer(path: &str, mut socket: TcpStream, readers: &Mutex<Vec<TcpStream>>) {
    // Whoever hangs up first, the driver notices what it did not get.
    let _ = if path.contains("/replay/") {
        replay_to(&mut socket, parameter(path, "entries"))
    } else {
        let readers = std::mem::take(&mut *readers.lock().unwrap_or_else(PoisonError::into_inner));
        feed(readers, path).and_then(|frames| {
            let body = frames.to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            socket.write_all((head + &body).as_bytes())
        })
    };
}

fn replay_to(socket: &mut TcpStream, entries: u64) -> std::io::Result<()> {
    for first in (1..=entries).step_by(REPLAY_FRAMES) {
        let last = entries.min(first + REPLAY_FRAMES as u64 - 1);
        let frames: Vec<u8> = (first..=last).flat_map(|number| frame(number, 0)).collect();
        socket.write_all(&chunk(&frames))?;
    }
    Ok(())
}

/// Feeds all readers for `millis`, `entries` frames every `apart` milliseconds or without pause, and ends
/// their streams. The stamps count as the driver's clock does, which said at which moment it is.
fn feed(mut readers: Vec<TcpStream>, path: &str) -> std::io::Result<u64> {
    let (begun, base) = (clock::now(), parameter(path, "now"));
    let until = begun + Duration::from_millis(parameter(path, "millis"));
    let apart = Duration::from_millis(parameter(path, "apart"));
    let entries = parameter(path, "entries");
    let (mut number, mut next) = (0, begun);
    while clock::now() < until {
        for _ in 0..entries {
            number += 1;
            let stamp = base + clock::nanoseconds(begun.elapsed());
            let frame = chunk(&frame(number, stamp));
            for reader in &mut readers {
                reader.write_all(&frame)?;
            }
        }
        next += apart;
        thread::park_timeout(next.saturating_duration_since(clock::now()));
    }
    let end = format!(
        "id: {number}-end\nevent: status_change\ndata: {{\"event\":\"status_change\"}}\n\n"
    );
    for reader in &mut readers {
        reader.write_all(&chunk(end.as_bytes()))?;
        reader.write_all(b"0\r\n\r\n")?;
    }
    Ok(number)
}

/// What our server sends for one entry of the fan-out, byte for byte as long.
fn frame(number: u64, stamp: u64) -> Vec<u8> {
    format!(
        "id: {number}\nevent: progress\ndata: {{\"event\":\"progress\",\"data\":{{\"seqId\":{number},\
         \"at\":{stamp},\"message\":\"rows 41000 to 42000 of 100000\",\"percent\":42}},\
         \"taskId\":\"running-0\",\"timestamp\":\"2026-11-20T12:00:00.123Z\"}}\n\n"
    )
    .into_bytes()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut text = format!("{:x}\r\n", bytes.len()).into_bytes();
    text.extend_from_slice(bytes);
    text.extend_from_slice(b"\r\n");
    text
}

fn parameter(path: &str, name: &str) -> u64 {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| value);
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

// ---- the driver's side -------------------------------------------------------------------------

/// The fan-out of a scenario, by the bare writer.
pub(super) async fn fan_out(options: &Options, paced: bool, entries: usize) -> Result<Sample> {
    let writer = Companion::start(cli::BARE_WRITER)?;
    let meter = Meter { server: writer.id(), stores: None, profile: None };
    let mut streams = Vec::with_capacity(options.readers);
    for _ in 0..options.readers {
        // One after the other: it greets whoever connects before it accepts the next.
        streams.push(Connection::open(writer.address).await?.track("fan").await?);
    }
    let window = Window::after_warmup(options, options.seconds);
    let mut crew = JoinSet::new();
    let following = Following::new(window, Dialect::Ours);
    for stream in streams {
        crew.spawn(following.clone().follow(stream));
    }
    let frames = fed_until(writer.address, window, paced, entries);
    let never = CancellationToken::new();
    let (cpu, frames) = tokio::try_join!(window.metered(&meter, &never), frames)?;
    gather(crew, window, frames, cpu).await
}

async fn fed_until(
    address: SocketAddr,
    window: Window,
    paced: bool,
    entries: usize,
) -> Result<u64> {
    let mut connection = Connection::open(address).await?;
    let (now, apart) = (clock::now(), if paced { 100 } else { 0 });
    let millis = window.end.saturating_duration_since(now).as_millis();
    let stamp = clock::stamp(now);
    let path = format!("/feed?now={stamp}&millis={millis}&apart={apart}&entries={entries}");
    let reply = connection.get(&path).await?.expect(StatusCode::OK, "the bare writer")?;
    reply.json("the bare writer")
}

/// The replay of a scenario, by the bare writer.
pub(super) async fn replay(options: &Options) -> Result<Sample> {
    let writer = Companion::start(cli::BARE_WRITER)?;
    let meter = Meter { server: writer.id(), stores: None, profile: None };
    let window = Window::after_warmup(options, options.echo_seconds());
    let entries = u64::try_from(options.entries)?;
    let path = format!("/replay/track?entries={entries}");
    replays(window, &meter, entries, Dialect::Ours, async || {
        Connection::open(writer.address).await?.events(&path).await
    })
    .await
}
