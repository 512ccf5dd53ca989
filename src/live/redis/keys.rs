//! Every key and channel of Redis, by name.
//!
//! The braces are literal: keys of one task share a slot of a cluster, so that a script may use them together.

use crate::domain::TaskId;
use crate::live::hub::Subject;

/// Names under one namespace.
#[derive(Debug, Clone)]
pub struct Keys {
    namespace: String,
}

impl Keys {
    /// Names that begin with `namespace`.
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    /// List: the entries of an active task, in order.
    pub fn progress(&self, task: &TaskId) -> String {
        self.of_task("progress", task)
    }

    /// Counter: the number of its newest entry.
    pub fn seq(&self, task: &TaskId) -> String {
        self.of_task("seq", task)
    }

    /// Hash: in which generation it was begun, how far it is sealed, and its bytes.
    pub fn log(&self, task: &TaskId) -> String {
        self.of_task("log", task)
    }

    /// Text: the generation of the server's memory, and the run of the server that it was seen in. A master of
    /// a cluster has two, behind which stands a hash tag.
    pub fn generation(&self) -> String {
        format!("{}:generation", self.namespace)
    }

    /// Text: who may append (see [`crate::live::fence`]).
    pub fn fence(&self, task: &TaskId) -> String {
        self.of_task("fence", task)
    }

    /// Hash: receipts of appends with a key, those of a day. They stay a second day, and go by themselves.
    pub fn receipts(&self, task: &TaskId, day: i64) -> String {
        format!("{}:{day}", self.of_task("receipts", task))
    }

    /// Channel: its events. `p` and lines of entries, `s` and a change of status, or `n` and a notice.
    pub fn live(&self, task: &TaskId) -> String {
        self.of_task("live", task)
    }

    /// Channel: types of which a task waits.
    pub fn wake(&self) -> String {
        format!("{}:wake", self.namespace)
    }

    /// Channel: tasks that stand elsewhere now, a line each.
    pub fn moves(&self) -> String {
        format!("{}:moves", self.namespace)
    }

    /// The channel of what one may subscribe to.
    pub fn of(&self, subject: &Subject) -> String {
        match subject {
            Subject::Task(task) => self.live(task),
            Subject::Moves => self.moves(),
        }
    }

    /// The task of a channel that [`Keys::live`] named.
    pub fn task_of_live<'a>(&self, channel: &'a str) -> Option<&'a str> {
        channel.strip_prefix(self.namespace.as_str())?.strip_prefix(":live:{")?.strip_suffix('}')
    }

    fn of_task(&self, kind: &str, task: &TaskId) -> String {
        format!("{}:{kind}:{{{task}}}", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_task_share_the_hash_tag() {
        let (keys, task) = (Keys::new("tracker"), "a:b".parse().unwrap());
        assert_eq!(keys.progress(&task), "tracker:progress:{a:b}");
        assert_eq!(keys.seq(&task), "tracker:seq:{a:b}");
        assert_eq!(keys.task_of_live(&keys.live(&task)), Some("a:b"));
        assert_eq!(keys.task_of_live("tracker:wake"), None);
    }
}
