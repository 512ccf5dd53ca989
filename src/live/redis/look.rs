//! One look at a server: which run of it this is, what it holds, and whether it has what was acknowledged.
//!
//! The generation of its memory is in a key, a *mark*, with the run in which it was seen. In a cluster a key is in a slot, and
//! slots move away with their keys. So a master has two marks, in the first and in the last slot it owns: where one is
//! missing the other says that nothing is lost, and it is made anew. A mark of another master came with a
//! slot, or from the master that this one was a replica of; it says nothing of this one.

use redis::aio::ConnectionLike;
use redis::{InfoDict, RedisError, RedisResult, Script, ServerErrorKind, cmd, pipe};

use super::connections::Commands;
use super::once;
use super::slots::slot;
use crate::domain::Places;

/// What stands for the name of a server that is in no cluster.
const NAMELESS: &str = "-";

/// What was found at a look.
#[derive(Debug)]
pub(super) struct Look {
    /// The generation of the memory.
    pub(super) generation: String,
    /// What the server holds: the slots it owns.
    pub(super) places: Places,
    /// The keys that say so.
    pub(super) marks: Vec<String>,
    /// What stands in them: the generation and the run it was seen in.
    pub(super) text: String,
    /// Which run in only the server that was looked at.
    pub(super) scripts: Scripts,
}

/// The scripts that give numbers, under a text of their own.
#[derive(Debug, Clone)]
pub(super) struct Scripts {
    /// `append.lua`.
    pub(super) append: Script,
    /// The same with what is around it where the request has a key.
    pub(super) append_once: Script,
    /// `close.lua`.
    pub(super) close: Script,
}

impl Scripts {
    /// Loads scripts that no other look has.
    async fn load(server: &mut Commands, said_in_front: &str) -> RedisResult<Self> {
        let label = nonce();
        let script = |text: &str| Script::new(&format!("-- {label}\n{said_in_front}\n{text}"));
        let scripts = Self {
            append: script(include_str!("append.lua")),
            append_once: script(once::SCRIPT),
            close: script(include_str!("close.lua")),
        };
        for script in [&scripts.append, &scripts.append_once, &scripts.close] {
            script.load_async(server).await?;
        }
        Ok(scripts)
    }
}

/// How one looks.
pub(super) struct Eye {
    /// Whether servers are masters of a cluster.
    pub(super) is_of_a_cluster: bool,
    /// The key of the generation; the marks of a cluster's masters begin like this.
    pub(super) key: String,
    /// Stands before each script.
    pub(super) said_in_front: String,
    /// `remember.lua`.
    pub(super) remember: Script,
}

impl Eye {
    /// Looks. Scripts are loaded first, so they are in no server but this run; those of a look at the same run
    /// serve on.
    pub(super) async fn look(
        &self,
        server: &mut Commands,
        before: Option<&Look>,
    ) -> RedisResult<Look> {
        let fresh = match before {
            Some(_) => None,
            None => Some(Scripts::load(server, &self.said_in_front).await?),
        };
        let run = self.run(server).await?;
        let marks = self.marks(&run.places)?;
        let stands = self.remember(server, &run, &marks).await?;
        let scripts = match (fresh, before) {
            (Some(scripts), _) => scripts,
            (None, Some(look)) if look.text == stands => look.scripts.clone(),
            _ => return Box::pin(self.look(server, None)).await,
        };
        let generation = stands.split(' ').next().unwrap_or_default().to_owned();
        Ok(Look { generation, places: run.places, marks, text: stands, scripts })
    }

    /// Whether a server is still the one of a look, and would be found the same.
    pub(super) async fn finds_the_same(
        &self,
        server: &mut Commands,
        look: &Look,
    ) -> RedisResult<bool> {
        let run = self.run(server).await?;
        if !look.text.ends_with(&run.text()) || run.places != look.places {
            return Ok(false);
        }
        let found = read(server, &look.marks).await?;
        Ok(found.iter().all(|mark| *mark == look.text))
    }

    /// Leaves marks of the generation; says what stands in them. Of several nodes that notice a loss at once
    /// one names the new generation.
    async fn remember(
        &self,
        server: &mut Commands,
        run: &Run,
        marks: &[String],
    ) -> RedisResult<String> {
        'found: loop {
            let found = read(server, marks).await?;
            let mut kept = found.iter().filter_map(|mark| run.keeps(mark));
            let generation = match (kept.next(), kept.next()) {
                // Of two that do not agree one came back with a slot, and nobody knows which.
                (Some(one), Some(other)) if one != other => nonce(),
                (Some(one), _) => one.to_owned(),
                _ => nonce(),
            };
            let stands = format!("{generation} {}", run.text());
            for (key, found) in marks.iter().zip(&found) {
                let mut replace = self.remember.key(key);
                let now: String = replace.arg(found).arg(&stands).invoke_async(server).await?;
                if now != stands {
                    continue 'found;
                }
            }
            if !found.contains(&stands) {
                tracing::info!(generation, run = run.text(), "a memory of the live log");
            }
            return Ok(stands);
        }
    }

    /// The keys that hold the generation.
    fn marks(&self, places: &Places) -> RedisResult<Vec<String>> {
        if !self.is_of_a_cluster {
            return Ok(vec![self.key.clone()]);
        }
        let (first, last) = places.ends().ok_or_else(is_no_master)?;
        let mark = |place| format!("{}:{{{}}}", self.key, tag_of(place));
        let mut marks = vec![mark(first), mark(last)];
        marks.dedup();
        Ok(marks)
    }

    async fn run(&self, server: &mut Commands) -> RedisResult<Run> {
        let mut asked = pipe();
        asked.cmd("INFO");
        let (info, nodes): (InfoDict, String) = if self.is_of_a_cluster {
            asked.cmd("CLUSTER").arg("NODES").query_async(server).await?
        } else {
            let (info,) = asked.query_async(server).await?;
            (info, String::new())
        };
        let text = |name: &str| info.get::<String>(name).unwrap_or_default();
        let (node, places) = if self.is_of_a_cluster {
            myself(&nodes).ok_or_else(is_no_master)?
        } else {
            (NAMELESS.to_owned(), Places::all())
        };
        Ok(Run {
            id: text("run_id"),
            history: text("master_replid"),
            node,
            places,
            has_file: text("aof_enabled") == "1",
            was_replica: text("master_replid2").bytes().any(|byte| byte != b'0'),
        })
    }
}

/// One life of a server.
#[derive(Debug)]
struct Run {
    id: String,
    /// The name of what it replicates: another one when it has been a replica in between.
    history: String,
    /// Its name in the cluster, which outlives it.
    node: String,
    places: Places,
    /// Whether it writes an append-only file.
    has_file: bool,
    /// A replica that was promoted says whom it followed; what it had not received yet is lost.
    was_replica: bool,
}

impl Run {
    fn text(&self) -> String {
        format!("{} {} {}", self.id, self.history, self.node)
    }

    /// The generation of a mark, if this run has all that was acknowledged in the one that left it.
    fn keeps<'m>(&self, mark: &'m str) -> Option<&'m str> {
        let mut words = mark.split(' ');
        let (generation, id) = (words.next()?, words.next()?);
        // Marks of the first versions have no more words.
        let history = words.next().unwrap_or(&self.history);
        let node = words.next().unwrap_or(NAMELESS);
        let is_same = id == self.id && (history == self.history || !self.was_replica);
        let is_whole = is_same || (self.has_file && !self.was_replica);
        (node == self.node && is_whole).then_some(generation)
    }
}

async fn read(server: &mut impl ConnectionLike, marks: &[String]) -> RedisResult<Vec<String>> {
    let mut asked = pipe();
    for key in marks {
        asked.get(key);
    }
    let found: Vec<Option<String>> = asked.query_async(server).await?;
    Ok(found.into_iter().map(Option::unwrap_or_default).collect())
}

/// The name and the slots of the master that answers `CLUSTER NODES` so; `None` where it is none.
fn myself(nodes: &str) -> Option<(String, Places)> {
    nodes.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (name, _address, flags) = (words.next()?, words.next()?, words.next()?);
        let mut flags = flags.split(',');
        if !(flags.any(|flag| flag == "myself") && flags.any(|flag| flag == "master")) {
            return None;
        }
        let mut places = Places::none();
        // In brackets are those on their way.
        for range in words.skip(5).filter(|range| !range.starts_with('[')) {
            places.add(&range.parse().ok()?);
        }
        Some((name.to_owned(), places))
    })
}

/// A hash tag whose keys are in a slot.
fn tag_of(place: u16) -> String {
    // Every slot is found among so many numbers, and most far sooner.
    (0..150_000_u32)
        .map(|number| number.to_string())
        .find(|tag| slot(tag) == place)
        .unwrap_or_default()
}

/// The server owns nothing, or not yet: it is asked again where the map says so then.
fn is_no_master() -> RedisError {
    let kind = redis::ErrorKind::Server(ServerErrorKind::TryAgain);
    (kind, "the server owns no slot of the cluster").into()
}

/// A sign of life of its memory: what the first of a look's marks says.
pub(super) fn mark_of(look: &Look) -> redis::Cmd {
    let mut get = cmd("GET");
    get.arg(look.marks.first());
    get
}

/// Unlike any other; nobody needs to be kept from guessing it.
fn nonce() -> String {
    format!("{:016x}", fastrand::u64(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let [id, history, node] = ["run", "history", "node"].map(str::to_owned);
        Run { id, history, node, places: Places::all(), has_file: false, was_replica: false }
    }

    #[test]
    fn a_run_keeps_what_it_saw_itself_or_what_is_in_its_file() {
        assert_eq!(run().keeps("g run history node"), Some("g"));
        assert_eq!(run().keeps("g run before-its-first-replica node"), Some("g"));
        assert_eq!(run().keeps("g earlier before node"), None);
        assert_eq!(Run { has_file: true, ..run() }.keeps("g earlier before node"), Some("g"));
        assert_eq!(run().keeps(""), None);
    }

    #[test]
    fn a_replica_that_was_promoted_keeps_nothing_it_has_not_seen_as_a_master() {
        let promoted = || Run { has_file: true, was_replica: true, ..run() };
        assert_eq!(promoted().keeps("g run history node"), Some("g"), "looked at since");
        assert_eq!(promoted().keeps("g run before-it-was-a-replica node"), None);
        assert_eq!(promoted().keeps("g earlier before node"), None);
        // Killed before anybody looked, and started again from its file: the mark is that of its master.
        assert_eq!(Run { has_file: true, ..run() }.keeps("g earlier before master"), None);
        assert_eq!(run().keeps("g run history master"), None, "it came with a slot");
    }

    #[test]
    fn marks_of_the_first_versions_are_understood() {
        let alone = || Run { node: NAMELESS.to_owned(), ..run() };
        assert_eq!(alone().keeps("g run"), Some("g"));
        assert_eq!(alone().keeps("g earlier"), None);
        assert_eq!(Run { has_file: true, ..alone() }.keeps("g earlier"), Some("g"));
    }

    #[test]
    fn a_master_says_its_name_and_its_slots() {
        let nodes = "b 127.0.0.1:2@12 master - 0 1 2 connected 5461-10922\n\
                     a 127.0.0.1:1@11 myself,master - 0 0 1 connected 0-5459 7000 [93-<-b]\n";
        let (name, places) = myself(nodes).unwrap();
        assert_eq!((&*name, &*places.to_string()), ("a", "0-5459,7000"));
        assert!(myself("a 127.0.0.1:1@11 myself,slave b 0 0 1 connected\n").is_none());
        assert!(myself("a 127.0.0.1:1@11 master - 0 0 1 connected 0-5\n").is_none());
    }

    #[test]
    fn every_slot_has_a_tag() {
        for place in [0, 1, 5460, 5461, 16383] {
            assert_eq!(slot(&format!("tracker:generation:{{{}}}", tag_of(place))), place);
        }
    }
}
