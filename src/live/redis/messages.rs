//! What a message of a channel says.

use ::redis::Msg;

use super::keys::Keys;
use crate::domain::{Entry, Event};
use crate::live::hub::Hub;

/// Gives a message to whom it concerns on this node.
pub(super) fn deliver(keys: &Keys, hub: &Hub, message: &Msg) {
    let Ok(text) = std::str::from_utf8(message.get_payload_bytes()) else {
        return unreadable(message, "not UTF-8");
    };
    let channel = message.get_channel_name();
    let Some(task) = keys.task_of_live(channel).and_then(|task| task.parse().ok()) else {
        return deliver_to_all(keys, hub, message, text);
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
    } else if let Some(notice) = text.strip_prefix('n') {
        match serde_json::from_str(notice) {
            Ok(notice) => hub.deliver(&task, Event::Notice(notice)),
            Err(_) => unreadable(message, "a notice"),
        }
    } else {
        unreadable(message, "an unknown kind");
    }
}

/// Gives a message of a channel that is no task's.
fn deliver_to_all(keys: &Keys, hub: &Hub, message: &Msg, text: &str) {
    let channel = message.get_channel_name();
    if channel == keys.wake() {
        text.lines().filter_map(|line| line.parse().ok()).for_each(|task_type| {
            hub.waiters().wake(&task_type);
        });
    } else if channel == keys.moves() {
        let moves: Vec<_> = text.lines().filter_map(|line| line.parse().ok()).collect();
        hub.deliver_moves(&moves);
    } else {
        unreadable(message, "no channel of ours");
    }
}

/// Somebody else publishes on our channels, or a newer node does: said, and passed over. Readers notice a
/// missing number and read the log.
fn unreadable(message: &Msg, what: &str) {
    tracing::warn!(channel = message.get_channel_name(), what, "unreadable message");
}
