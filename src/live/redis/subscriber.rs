//! The connections that carry all subscriptions of this node: one to each server that owns a channel of it.
//!
//! One loop holds all the state and never waits for one thing alone: it serves the hub's requests, passes messages on,
//! and notices by a ping that a server is silent. A channel whose connection is lost, or whose slot
//! went elsewhere, is subscribed anew where it is now, and only then are its readers told to catch up from
//! the log: what was published in between they read there.
//!
//! A subscription stands when the server's own word about that channel came by, never by the reply of a command: in a
//! cluster a server ends subscriptions unasked when a slot moves, and the library takes that word for the
//! reply of whatever is under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    Msg, PushInfo, PushKind, RedisError, RedisResult, Value, cmd, from_redis_value_ref, pipe,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::RESPONSE_TIMEOUT;
use super::keys::Keys;
use super::link::{Channel, Link, LinkId, Place, Up, is_lost, up};
use super::messages;
use super::servers::Servers;
use super::slots::{Address, slot};
use crate::live::hub::{Hub, Interest, Subject};

/// How often a server is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked for channels that nobody sends.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Channels that are asked for in one write.
const BATCH: usize = 500;
/// The first and the longest pause before connecting again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Keeps the subscriptions for ever; dropping the future ends them.
pub(super) async fn run(
    servers: &Arc<Servers>,
    keys: &Keys,
    hub: &Arc<Hub>,
    interests: &mut UnboundedReceiver<Interest>,
) {
    let (heard, mut pushes) = unbounded_channel();
    let mut slots = servers.slots();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut subscriber = Subscriber {
        servers: Arc::clone(servers),
        keys: keys.clone(),
        hub: Arc::clone(hub),
        channels: HashMap::new(),
        links: HashMap::new(),
        under_way: FuturesUnordered::new(),
        heard,
        connections: 0,
    };
    subscriber.watch(keys.wake(), None);
    loop {
        tokio::select! {
            Some((link, push)) = pushes.recv() => subscriber.hear(&link, push),
            Some(done) = subscriber.under_way.next() => subscriber.done(done),
            interest = interests.recv() => match interest {
                Some(Interest::Watch(subject, ready)) => {
                    subscriber.watch(keys.of(&subject), Some((subject, ready)));
                }
                Some(Interest::Unwatch(subject)) => subscriber.unwatch(&keys.of(&subject)),
                // The hub lives as long as this loop.
                None => return,
            },
            Ok(()) = slots.changed() => subscriber.follow_the_slots(),
            _ = look.tick() => subscriber.look(),
        }
    }
}

/// What came of something under way.
enum Done {
    Connected(LinkId, RedisResult<MultiplexedConnection>),
    Asked(LinkId, Vec<String>, RedisResult<Vec<Value>>),
    /// A ping, or a channel left.
    Said(LinkId, RedisResult<Value>),
}

struct Subscriber {
    servers: Arc<Servers>,
    keys: Keys,
    hub: Arc<Hub>,
    channels: HashMap<String, Channel>,
    links: HashMap<Address, Link>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    heard: UnboundedSender<(LinkId, PushInfo)>,
    connections: u64,
}

impl Subscriber {
    fn watch(&mut self, name: String, topic: Option<(Subject, watch::Sender<bool>)>) {
        let slot = slot(&name);
        let owner = self.servers.slots().borrow().owner(slot).cloned();
        let channel = Channel { slot, topic, place: Place::Nowhere, was_heard: false };
        self.channels.insert(name.clone(), channel);
        match owner {
            Some(owner) => self.ask(&owner, &[name]),
            None => self.servers.doubt(),
        }
    }

    fn unwatch(&mut self, name: &str) {
        let Some(channel) = self.channels.remove(name) else { return };
        let Some(up) = channel.place.link().and_then(|link| up(&mut self.links, link)) else {
            return;
        };
        *up.leaving.entry(name.to_owned()).or_default() += 1;
        let verb = if self.servers.is_cluster() { "SUNSUBSCRIBE" } else { "UNSUBSCRIBE" };
        let (id, mut connection) = (up.id.clone(), up.connection.clone());
        let leave = cmd(verb).arg(name).take();
        self.under_way.push(Box::pin(async move {
            Done::Said(id, leave.query_async(&mut connection).await)
        }));
    }

    /// Asks a server for channels, or connects to it first.
    fn ask(&mut self, owner: &Address, names: &[String]) {
        let now = Instant::now();
        let up = match self.links.get_mut(owner) {
            Some(Link::Up(up)) => up,
            Some(Link::Connecting { .. }) => return,
            Some(Link::Down { until, .. }) if now < *until => return,
            Some(Link::Down { pause, .. }) => {
                let pause = *pause;
                return self.connect(owner, pause);
            }
            None => return self.connect(owner, PAUSES.0),
        };
        let verb = if self.servers.is_cluster() { "SSUBSCRIBE" } else { "SUBSCRIBE" };
        for names in names.chunks(BATCH) {
            // A command for each: in a cluster one command may name the channels of one slot only.
            let mut asked = pipe();
            for name in names {
                asked.cmd(verb).arg(name);
                if let Some(channel) = self.channels.get_mut(name) {
                    channel.place = Place::Asked(up.id.clone(), now);
                }
            }
            let (id, mut connection, names) =
                (up.id.clone(), up.connection.clone(), names.to_vec());
            self.under_way.push(Box::pin(async move {
                let replies = connection.req_packed_commands(&asked, 0, names.len()).await;
                Done::Asked(id, names, replies)
            }));
        }
    }

    fn connect(&mut self, owner: &Address, pause: Duration) {
        self.connections += 1;
        let id = LinkId(owner.clone(), self.connections);
        self.links.insert(owner.clone(), Link::Connecting { pause });
        let (servers, heard, of) = (Arc::clone(&self.servers), self.heard.clone(), id.clone());
        self.under_way.push(Box::pin(async move {
            // It fails only where this loop has ended.
            let hear = move |push| drop(heard.send((of.clone(), push)));
            let connected = servers.listen(&id.0, hear).await;
            Done::Connected(id, connected)
        }));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Connected(id, Ok(connection)) => {
                let Some(Link::Connecting { pause }) = self.links.get(&id.0) else { return };
                let (pause, now) = (*pause, Instant::now());
                let owner = id.0.clone();
                let leaving = HashMap::new();
                let up = Up { id, connection, leaving, since: now, pinged: now, pause };
                self.links.insert(owner, Link::Up(up));
                self.ask_for_all();
            }
            Done::Connected(id, Err(error)) => {
                let Some(Link::Connecting { pause }) = self.links.get(&id.0) else { return };
                let pause = *pause;
                self.down(&id, pause, &error);
            }
            Done::Asked(id, names, Ok(replies)) => {
                if replies.iter().any(|reply| matches!(reply, Value::ServerError(_))) {
                    self.refused(&id, &names);
                }
            }
            // A server that refuses to send away is not lost: the channel is not there any more.
            Done::Said(id, Err(error)) if is_lost(&error) => self.lost(&id, &error),
            Done::Asked(id, names, Err(error)) => {
                if is_lost(&error) {
                    self.lost(&id, &error);
                } else {
                    self.refused(&id, &names);
                }
            }
            Done::Said(..) => {}
        }
    }

    /// The slot is elsewhere, or the server cannot do it now. Which channels stand all the same, the server's own
    /// word will say.
    fn refused(&mut self, id: &LinkId, names: &[String]) {
        for name in names {
            if let Some(channel) = self.channels.get_mut(name)
                && matches!(&channel.place, Place::Asked(link, _) if link == id)
            {
                channel.place = Place::Nowhere;
            }
        }
        self.servers.doubt();
    }

    fn hear(&mut self, id: &LinkId, push: PushInfo) {
        if up(&mut self.links, id).is_none() {
            return;
        }
        let name = || push.data.first().and_then(|name| from_redis_value_ref::<String>(name).ok());
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                if let Some(message) = Msg::from_push_info(push) {
                    messages::deliver(&self.keys, &self.hub, &message);
                }
            }
            PushKind::Subscribe | PushKind::SSubscribe => {
                if let Some(name) = name() {
                    self.confirmed(id, &name);
                }
            }
            PushKind::Unsubscribe | PushKind::SUnsubscribe => {
                if let Some(name) = name() {
                    self.left(id, &name);
                }
            }
            PushKind::Disconnection => {
                self.lost(id, &std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
            }
            _ => {}
        }
    }

    /// The server sends this channel from now on.
    fn confirmed(&mut self, id: &LinkId, name: &str) {
        // The word about an earlier subscription, which we have asked to end since.
        if up(&mut self.links, id).is_none_or(|up| up.leaving.contains_key(name)) {
            return;
        }
        let Some(channel) = self.channels.get_mut(name) else { return };
        match &channel.place {
            Place::Heard(_) => return,
            Place::Asked(link, _) if link != id => return,
            // Nowhere: the reply to its write came first, which refused another channel.
            Place::Asked(..) | Place::Nowhere => {}
        }
        channel.place = Place::Heard(id.clone());
        let was_heard = std::mem::replace(&mut channel.was_heard, true);
        match &channel.topic {
            None => self.hub.waiters().wake_all(),
            Some((subject, ready)) if was_heard => self.hub.back(subject, ready),
            Some((_, ready)) => drop(ready.send_replace(true)),
        }
    }

    /// The server does not send this channel any more: we asked for that, or its slot went elsewhere.
    fn left(&mut self, id: &LinkId, name: &str) {
        let Some(up) = up(&mut self.links, id) else { return };
        if let Some(times) = up.leaving.get_mut(name) {
            *times -= 1;
            if *times == 0 {
                up.leaving.remove(name);
            }
            return;
        }
        if let Some(channel) = self.channels.get_mut(name)
            && channel.place.link() == Some(id)
        {
            channel.lose();
            self.servers.doubt();
        }
    }

    fn lost(&mut self, id: &LinkId, error: &RedisError) {
        let Some(up) = up(&mut self.links, id) else { return };
        let was_short = up.since.elapsed() <= PAUSES.1;
        let pause = if was_short { up.pause } else { PAUSES.0 };
        self.down(id, pause, error);
    }

    fn down(&mut self, id: &LinkId, pause: Duration, error: &RedisError) {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            server = %id.0,
            "subscriptions lost, connecting again"
        );
        metrics::counter!("subscriptions_lost_total").increment(1);
        let until = Instant::now() + pause.mul_f64(0.5 + fastrand::f64());
        let pause = (pause * 2).min(PAUSES.1);
        self.links.insert(id.0.clone(), Link::Down { until, pause });
        for channel in self.channels.values_mut() {
            if channel.place.link() == Some(id) {
                channel.lose();
            }
        }
        self.servers.doubt();
    }

    /// Channels follow their slots, and connections that lead to nobody's owner are closed.
    fn follow_the_slots(&mut self) {
        let slots = self.servers.slots().borrow().clone();
        self.links.retain(|address, _| slots.masters().contains(address));
        for channel in self.channels.values_mut() {
            let owner = slots.owner(channel.slot);
            if channel.place.link().is_some_and(|link| Some(&link.0) != owner) {
                channel.lose();
            }
        }
        self.ask_for_all();
    }

    /// What must be looked for, because nobody says it.
    fn look(&mut self) {
        let now = Instant::now();
        let mut is_lacking = false;
        for (name, channel) in &mut self.channels {
            if let Place::Asked(id, since) = &channel.place
                && now.duration_since(*since) > RESPONSE_TIMEOUT
            {
                if let Some(up) = up(&mut self.links, id) {
                    up.leaving.remove(name);
                }
                channel.place = Place::Nowhere;
            }
            is_lacking |= channel.place == Place::Nowhere;
        }
        if is_lacking {
            self.servers.doubt();
            self.ask_for_all();
        }
        for link in self.links.values_mut() {
            if let Link::Up(up) = link
                && now.duration_since(up.pinged) > PING_EVERY
            {
                up.pinged = now;
                let (id, mut connection) = (up.id.clone(), up.connection.clone());
                self.under_way.push(Box::pin(async move {
                    Done::Said(id, cmd("PING").query_async(&mut connection).await)
                }));
            }
        }
    }

    /// Asks for every channel that nobody sends, where its slot is.
    fn ask_for_all(&mut self) {
        let slots = self.servers.slots().borrow().clone();
        let mut lacking: HashMap<&Address, Vec<String>> = HashMap::new();
        for (name, channel) in &self.channels {
            if let (Place::Nowhere, Some(owner)) = (&channel.place, slots.owner(channel.slot)) {
                lacking.entry(owner).or_default().push(name.clone());
            }
        }
        for (owner, names) in lacking {
            self.ask(owner, &names);
        }
    }
}
