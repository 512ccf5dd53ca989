//! The one connection that carries all subscriptions of this node.
//!
//! It serves the hub's requests, passes messages on, and notices by a ping that the broker is silent. When it
//! is lost, it is made again; everything wanted is subscribed anew, and only then are the readers told to catch
//! up from the log: what was published in between they read there.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::PubSubSink;
use redis::{Client, Msg, RedisError, RedisResult};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_stream::StreamExt;

use super::connections::within;
use super::keys::Keys;
use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};
use crate::domain::{Entry, Event};
use crate::live::hub::{Hub, Interest};

/// How often the broker is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Channels in one SUBSCRIBE at most.
const BATCH: usize = 500;
/// The first and the longest pause before connecting again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Keeps the connection for ever; dropping the future ends it.
pub(super) async fn run(
    client: Client,
    keys: Keys,
    hub: Arc<Hub>,
    mut interests: UnboundedReceiver<Interest>,
) {
    let mut pause = PAUSES.0;
    loop {
        let connected = std::time::Instant::now();
        if let Err(error) = serve(&client, &keys, &hub, &mut interests).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "subscriptions lost, connecting again"
            );
        }
        hub.broker_lost();
        metrics::counter!("subscriptions_lost_total").increment(1);
        if connected.elapsed() > PAUSES.1 {
            pause = PAUSES.0;
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn serve(
    client: &Client,
    keys: &Keys,
    hub: &Arc<Hub>,
    interests: &mut UnboundedReceiver<Interest>,
) -> RedisResult<()> {
    let pubsub = within(CONNECT_TIMEOUT, client.get_async_pubsub()).await?;
    let (mut sink, mut messages) = pubsub.split();
    let wanted = hub.wanted(interests);
    within(RESPONSE_TIMEOUT, sink.subscribe(keys.wake())).await?;
    for batch in wanted.chunks(BATCH) {
        let channels: Vec<String> = batch.iter().map(|wanted| keys.live(&wanted.task)).collect();
        within(RESPONSE_TIMEOUT, sink.subscribe(channels)).await?;
    }
    hub.broker_back(&wanted);
    tracing::debug!(topics = wanted.len(), "subscribed");

    // Two halves: messages are passed on while a request waits for its confirmation.
    let pass_on = async {
        while let Some(message) = messages.next().await {
            deliver(keys, hub, &message);
        }
    };
    tokio::select! {
        () = pass_on => Err(lost()),
        result = ask(&mut sink, keys, interests) => result,
    }
}

/// Subscribes and unsubscribes as the hub requests, and pings in between.
async fn ask(
    sink: &mut PubSubSink,
    keys: &Keys,
    interests: &mut UnboundedReceiver<Interest>,
) -> RedisResult<()> {
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ping.tick() => {
                within(RESPONSE_TIMEOUT, sink.ping::<redis::Value>()).await?;
            }
            interest = interests.recv() => match interest {
                Some(Interest::Watch(task, ready)) => {
                    within(RESPONSE_TIMEOUT, sink.subscribe(keys.live(&task))).await?;
                    ready.send_replace(true);
                }
                Some(Interest::Unwatch(task)) => {
                    within(RESPONSE_TIMEOUT, sink.unsubscribe(keys.live(&task))).await?;
                }
                // The hub lives as long as this loop.
                None => return Ok(()),
            },
        }
    }
}

fn deliver(keys: &Keys, hub: &Hub, message: &Msg) {
    let Ok(text) = std::str::from_utf8(message.get_payload_bytes()) else {
        return unreadable(message, "not UTF-8");
    };
    let channel = message.get_channel_name();
    if channel == keys.wake() {
        if let Ok(task_type) = text.parse() {
            hub.waiters().wake(&task_type);
        }
        return;
    }
    let Some(task) = keys.task_of_live(channel).and_then(|task| task.parse().ok()) else {
        return unreadable(message, "no task's channel");
    };
    if !hub.is_watched(&task) {
        return;
    }
    if let Some(lines) = text.strip_prefix('p') {
        for line in lines.split('\n') {
            match Entry::parse(line) {
                Ok(entry) => hub.deliver(&task, Event::Progress(entry)),
                Err(_) => unreadable(message, "an entry"),
            }
        }
    } else if let Some(change) = text.strip_prefix('s') {
        match serde_json::from_str(change) {
            Ok(change) => hub.deliver(&task, Event::Status(change)),
            Err(_) => unreadable(message, "a change of status"),
        }
    } else {
        unreadable(message, "an unknown kind");
    }
}

/// Somebody else publishes on our channels, or a newer node does: said, and passed over. Readers notice a
/// missing number and read the log.
fn unreadable(message: &Msg, what: &str) {
    tracing::warn!(channel = message.get_channel_name(), what, "unreadable message");
}

fn lost() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}
