//! Which server of a cluster owns which slot.

use std::fmt;
use std::sync::Arc;

use ::redis::Value;

/// Slots of a cluster.
const SLOTS: u16 = 16384;
/// The place of a slot that nobody owns.
const NOBODY: u16 = u16::MAX;

/// Where a server of a cluster listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    /// Its name or IP.
    pub(super) host: Arc<str>,
    /// Its port.
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// Reads `host:port` as a server says it; without a host it is that of the server that answered.
    pub(super) fn parse(text: &str, answered: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self::of(host, port.parse().ok()?, answered))
    }

    fn of(host: &str, port: u16, answered: &Self) -> Self {
        let is_unknown = host.is_empty() || host == "0.0.0.0" || host == "::";
        let host = if is_unknown { Arc::clone(&answered.host) } else { host.into() };
        Self { host, port }
    }
}

/// Who owns which slot. A single server owns them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slots {
    masters: Vec<Address>,
    /// For each slot the place of its owner among the masters.
    owners: Vec<u16>,
}

impl Slots {
    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self { masters: Vec::new(), owners: vec![NOBODY; SLOTS.into()] }
    }

    /// One server owns every slot.
    pub(super) fn all_at(server: Address) -> Self {
        Self { masters: vec![server], owners: vec![0; SLOTS.into()] }
    }

    /// Reads the reply to `CLUSTER SLOTS`: entries of first slot, last slot, master `[host, port, …]`, replicas.
    /// What is not understood is left out; its slots are then owned by nobody.
    pub(super) fn parse(reply: Value, answered: &Address) -> Self {
        let mut slots = Self::unknown();
        for range in array(reply) {
            let mut range = array(range).into_iter();
            let (Some(Value::Int(first)), Some(Value::Int(last)), Some(master)) =
                (range.next(), range.next(), range.next())
            else {
                continue;
            };
            let mut master = array(master).into_iter();
            let host = match master.next() {
                Some(Value::BulkString(host)) => String::from_utf8_lossy(&host).into_owned(),
                Some(Value::Nil) => String::new(),
                _ => continue,
            };
            let Some(Value::Int(port)) = master.next() else { continue };
            let (Ok(first), Ok(last), Ok(port)) =
                (u16::try_from(first), u16::try_from(last), u16::try_from(port))
            else {
                continue;
            };
            // "?" is a server whose address the one that answered does not know.
            if host != "?" && last < SLOTS {
                let address = Address::of(&host, port, answered);
                (first..=last).for_each(|slot| slots.give(slot, &address));
            }
        }
        slots
    }

    /// Notes that `slot` is at `owner` now.
    pub(super) fn give(&mut self, slot: u16, owner: &Address) {
        let place = self.masters.iter().position(|master| master == owner).unwrap_or_else(|| {
            self.masters.push(owner.clone());
            self.masters.len() - 1
        });
        self.owners[usize::from(slot)] = u16::try_from(place).unwrap_or(NOBODY);
    }

    /// Who owns a slot, as far as it is known.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        self.masters.get(usize::from(self.owners[usize::from(slot)]))
    }

    /// Everybody who owns a slot.
    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }
}

fn array(value: Value) -> Vec<Value> {
    if let Value::Array(items) = value { items } else { Vec::new() }
}

/// The slot of a key or a sharded channel: CRC16 (XMODEM) of its hash tag, or of all of it where it has none.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty());
    let crc = tag.unwrap_or(key).bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::redis::keys::Keys;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // "123456789" has the CRC 0x31C3, and the rest was asked of a server by CLUSTER KEYSLOT.
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12182);
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(slot("foo{}{bar}"), 8363, "an empty tag is none");
        assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
        assert_eq!(slot("foo{bar}{zap}"), slot("bar"));
    }

    #[test]
    fn all_names_of_a_task_share_its_slot() {
        let (keys, task) = (Keys::new("a:name.space"), "a:b".parse().unwrap());
        for name in [keys.progress(&task), keys.seq(&task), keys.fence(&task), keys.live(&task)] {
            assert_eq!(slot(&name), slot("a:b"), "{name}");
        }
    }

    #[test]
    fn a_map_is_read_from_what_a_server_says() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let server = |host: Value, port| Value::Array(vec![host, Value::Int(port), bulk("id")]);
        let range = |first, last, servers: Vec<Value>| {
            Value::Array([vec![Value::Int(first), Value::Int(last)], servers].concat())
        };
        let reply = Value::Array(vec![
            range(0, 5, vec![server(bulk("10.0.0.1"), 1), server(bulk("10.0.0.9"), 9)]),
            range(6, 7, vec![server(Value::Nil, 2)]),
            range(8, 8, vec![server(bulk("?"), 3)]),
            range(9, 16383, vec![server(bulk("10.0.0.1"), 1)]),
            range(0, 70_000, vec![server(bulk("10.0.0.7"), 1)]),
            Value::Nil,
        ]);
        let mut slots = Slots::parse(reply, &address("seed", 7));
        assert_eq!(slots.owner(5), Some(&address("10.0.0.1", 1)));
        assert_eq!(slots.owner(7), Some(&address("seed", 2)), "no host: the one that answered");
        assert_eq!(slots.owner(8), None);
        assert_eq!(slots.owner(16383), slots.owner(0));
        assert_eq!(slots.masters().len(), 2, "replicas are none");
        slots.give(5, &address("10.0.0.9", 9));
        assert_eq!(slots.owner(5), Some(&address("10.0.0.9", 9)));
        assert_eq!(slots.owner(4), Some(&address("10.0.0.1", 1)));
    }

    #[test]
    fn an_address_without_a_host_is_at_the_server_that_said_it() {
        let answered = address("10.0.0.1", 1);
        assert_eq!(Address::parse(":7", &answered), Some(address("10.0.0.1", 7)));
        assert_eq!(Address::parse("::2:7", &answered), Some(address("::2", 7)));
        assert_eq!(Address::parse("host", &answered), None);
    }
}
