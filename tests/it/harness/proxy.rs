//! A network that misbehaves as a test says: it stands between a node and its Postgres or Redis.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use task_tracker::config::{Config, Mode as ConfigMode};

use super::{Mode, Server, needed, redis_url};

/// The proxies between a node and its servers.
#[derive(Debug)]
pub struct Proxies {
    /// Before Postgres.
    pub database: Proxy,
    /// Before Redis.
    pub redis: Proxy,
}

impl Proxies {
    /// Proxies before the servers of the tests.
    pub fn new() -> Self {
        let database = Proxy::before(&needed("TEST_DATABASE_URL"));
        Self { database, redis: Proxy::before(&redis_url()) }
    }

    /// The same configuration by way of them.
    pub fn route(&self, mut config: Config) -> Config {
        if let ConfigMode::Node { database_url, redis_url, .. } = &mut config.mode {
            *database_url = self.database.route(database_url);
            *redis_url = self.redis.route(redis_url);
        }
        config
    }
}

impl Server {
    /// A fresh server whose first node reaches its servers through proxies; a second one does not.
    pub async fn start_behind(mode: Mode) -> (Self, Proxies) {
        let (proxies, nodes) = (Proxies::new(), AtomicUsize::new(0));
        let route = |config| {
            let is_first = nodes.fetch_add(1, Ordering::Relaxed) == 0;
            if is_first { proxies.route(config) } else { config }
        };
        (Self::start_with(mode, route).await, proxies)
    }
}

/// What becomes of connections. It may change while they are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing is wrong.
    #[default]
    None,
    /// Nobody listens, and what was open is reset.
    Refused,
    /// New connections are accepted, and nothing passes on any. One that was open meanwhile stays silent for good.
    BlackHole,
    /// What the server says is lost; what it is told arrives. Those connections stay so for good.
    Deaf,
    /// Every chunk comes so much later.
    Slow(Duration),
}

/// What is lost when a client says some word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The word itself; every connection is reset.
    Word,
    /// The answer, which was given: every connection is reset when it comes.
    Answer,
    /// The answer, and from then on every other.
    AnswerSilently,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    fault: Fault,
    /// Connections of an earlier age are reset; the second is that of connections that subscribe.
    ages: (u64, u64),
    /// The same for connections that subscribe and are silent from then on.
    hushed: u64,
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Seen {
    subscribes: AtomicBool,
    /// The next answer on it is lost.
    is_doomed: AtomicBool,
}

/// A proxy of one test.
#[derive(Debug)]
pub struct Proxy {
    /// Keeps the port while nobody listens.
    _port: TcpSocket,
    link: Arc<Link>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Link {
    address: SocketAddr,
    upstream: String,
    state: watch::Sender<State>,
    trap: Mutex<Option<(&'static [u8], Lost)>>,
    /// Connections so far.
    accepted: AtomicUsize,
}

impl Proxy {
    /// A proxy before the server of `url`.
    pub fn before(url: &str) -> Self {
        let url = reqwest::Url::parse(url).expect("a URL");
        let port = url.port().expect("a port in the URL");
        let upstream = format!("{}:{port}", url.host_str().expect("a host in the URL"));
        let held = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = held.local_addr().expect("an address");
        let (state, trap) = (watch::Sender::new(State::default()), Mutex::new(None));
        let accepted = AtomicUsize::new(0);
        let link = Arc::new(Link { address, upstream, state, trap, accepted });
        let listening = tokio::spawn(listen(Arc::clone(&link)));
        Self { _port: held, link, listening }
    }

    /// `url` by way of this proxy.
    pub fn route(&self, url: &str) -> String {
        let mut url = reqwest::Url::parse(url).expect("a URL");
        url.set_host(Some("127.0.0.1")).expect("a URL with a host");
        url.set_port(Some(self.link.address.port())).expect("a URL with a port");
        url.into()
    }

    /// Has something go wrong, or be well again.
    pub fn set(&self, fault: Fault) {
        self.link.state.send_modify(|state| {
            state.fault = fault;
            if fault == Fault::Refused {
                state.ages.0 += 1;
            }
        });
    }

    /// Resets every connection. New ones are served.
    pub fn cut(&self) {
        self.link.cut();
    }

    /// Resets the connections that subscribe.
    pub fn cut_subscriptions(&self) {
        self.link.state.send_modify(|state| state.ages.1 += 1);
    }

    /// Lets the connections that subscribe fall silent for good.
    pub fn hush_subscriptions(&self) {
        self.link.state.send_modify(|state| state.hushed += 1);
    }

    /// Loses the next `word` a client says, or the answer to it.
    pub fn lose(&self, lost: Lost, word: &'static [u8]) {
        *self.link.trap() = Some((word, lost));
    }

    /// How many connections were made so far.
    pub fn accepted(&self) -> usize {
        self.link.accepted.load(Ordering::SeqCst)
    }

    /// Whether what was to be lost is lost.
    pub fn has_lost(&self) -> bool {
        self.link.trap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

impl Link {
    fn trap(&self) -> std::sync::MutexGuard<'_, Option<(&'static [u8], Lost)>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be lost of what a client says.
    fn hears(&self, words: &[u8]) -> Option<Lost> {
        let mut trap = self.trap();
        let (_, lost) = (*trap).filter(|(word, _)| has(words, word))?;
        *trap = None;
        Some(lost)
    }

    fn cut(&self) {
        self.state.send_modify(|state| state.ages.0 += 1);
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseport(true).expect("a shared port");
    socket.bind(address).expect("a free port");
    socket
}

async fn listen(link: Arc<Link>) {
    let mut state = link.state.subscribe();
    loop {
        let listener = bound(link.address).listen(1024).expect("a listener");
        tokio::select! {
            () = accept(&link, &listener) => {}
            refused = state.wait_for(|state| state.fault == Fault::Refused) => drop(refused),
        }
        drop(listener);
        drop(state.wait_for(|state| state.fault != Fault::Refused).await);
    }
}

async fn accept(link: &Arc<Link>, listener: &TcpListener) {
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        link.accepted.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve(Arc::clone(link), client));
    }
}

async fn serve(link: Arc<Link>, client: TcpStream) {
    let state = link.state.subscribe();
    let begun = *state.borrow();
    client.set_zero_linger().expect("a reset at the end");
    client.set_nodelay(true).expect("no delay");
    if begun.fault == Fault::BlackHole {
        let (read, _write) = client.into_split();
        return swallow(read).await;
    }
    let Ok(server) = TcpStream::connect(&link.upstream).await else {
        return;
    };
    server.set_nodelay(true).expect("no delay");
    let ((requests, to_client), (answers, to_server)) = (client.into_split(), server.into_split());
    let seen = Seen::default();
    // Whether it is cut is looked at first: nothing that is said afterwards passes.
    tokio::select! {
        biased;
        () = is_cut(state, &begun, &seen) => {}
        () = pump(&link, &begun, requests, to_server, &seen, true) => {}
        () = pump(&link, &begun, answers, to_client, &seen, false) => {}
    }
}

/// Waits until this connection is to be reset.
async fn is_cut(mut state: watch::Receiver<State>, begun: &State, seen: &Seen) {
    let is_cut = |state: &State| {
        let subscribes = seen.subscribes.load(Ordering::SeqCst);
        state.ages.0 > begun.ages.0 || (subscribes && state.ages.1 > begun.ages.1)
    };
    drop(state.wait_for(is_cut).await);
}

/// Passes on what one side says, as long as the state lets it.
async fn pump(
    link: &Link,
    begun: &State,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    seen: &Seen,
    is_client: bool,
) {
    let mut chunk = vec![0; 64 << 10];
    let mut state = link.state.subscribe();
    loop {
        let now = *state.borrow_and_update();
        let is_hushed = seen.subscribes.load(Ordering::SeqCst) && now.hushed > begun.hushed;
        if is_hushed || now.fault == Fault::BlackHole || (now.fault == Fault::Deaf && !is_client) {
            swallow(from).await;
            // That one side has gone away does not reach the other either.
            return std::future::pending().await;
        }
        let read = tokio::select! {
            biased;
            changed = state.changed() => { changed.expect("a proxy"); continue }
            read = from.read(&mut chunk) => read,
        };
        let (Ok(length @ 1..), words) = (read, &chunk) else {
            return;
        };
        let words = &words[..length];
        if is_client && has(words, b"SUBSCRIBE") {
            seen.subscribes.store(true, Ordering::SeqCst);
        }
        let lost = if is_client {
            link.hears(words)
        } else {
            seen.is_doomed.load(Ordering::SeqCst).then_some(Lost::Word)
        };
        match lost {
            Some(Lost::Word) => return link.cut(),
            Some(Lost::Answer) => seen.is_doomed.store(true, Ordering::SeqCst),
            Some(Lost::AnswerSilently) => {
                link.state.send_modify(|state| state.fault = Fault::Deaf);
            }
            None => {}
        }
        let now = *state.borrow();
        if let Fault::Slow(delay) = now.fault {
            sleep(delay).await;
        }
        if to.write_all(words).await.is_err() {
            return;
        }
    }
}

/// Takes what comes and keeps it, until the other side goes away.
async fn swallow(mut from: OwnedReadHalf) {
    let mut chunk = vec![0; 4 << 10];
    while let Ok(1..) = from.read(&mut chunk).await {}
}

fn has(words: &[u8], word: &[u8]) -> bool {
    words.windows(word.len()).any(|window| window == word)
}
