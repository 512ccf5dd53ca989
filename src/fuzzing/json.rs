//! JSON that clients own, held against a tree of the same text that the library makes.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::json::{InvalidJson, MAX_DEPTH};
use crate::domain::progress::{SEQ_ID, seal};
use crate::domain::{Entry, JsonObject, Timestamp};
use crate::http::fuzzing::framed;

/// Whatever JSON a client gives is an object as it was, or refused for the reason that it is none of ours.
///
/// # Panics
///
/// Where that does not hold.
pub fn json(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        assert!(serde_json::from_str::<JsonObject>(text).is_err(), "no JSON was taken");
        return;
    };
    match (JsonObject::from_raw(raw), serde_json::from_str::<Tree>(raw.get())) {
        (Ok(object), Ok(tree @ Tree::Object(_))) => {
            assert!(tree.depth() <= MAX_DEPTH + 1, "too deep");
            is_kept_as_it_was(&object, &tree);
        }
        (Err(InvalidJson::NotAnObject), Ok(Tree::Object(_))) => panic!("it is an object"),
        (Err(InvalidJson::TooDeep), Ok(tree)) => assert!(tree.depth() > MAX_DEPTH + 1),
        // What no tree can be made of may be no object beside.
        (Err(InvalidJson::NotAnObject), _)
        | (Err(InvalidJson::TooDeep | InvalidJson::Unrepresentable(_)), Err(_)) => {}
        (object, tree) => panic!("{object:?} of {tree:?}"),
    }
}

fn is_kept_as_it_was(object: &JsonObject, tree: &Tree) {
    let text = object.as_str();
    assert_eq!(read(text), *tree, "another value");
    assert!(!text.contains(['\n', '\r']), "more than a line");
    assert_eq!(serde_json::to_string(object).expect("text"), text);
    assert_eq!(
        serde_json::from_str::<JsonObject>(text).expect("ours"),
        *object,
        "compact is not compact"
    );

    let Tree::Object(members) = tree else { unreachable!("it is an object") };
    let ends = [members.first(), members.last()].into_iter().flatten().map(|(name, _)| &**name);
    for name in ends.chain([SEQ_ID, "", "\""]) {
        let rest = members.iter().filter(|(key, _)| key != name).cloned().collect();
        let without = object.clone().without(name);
        assert_eq!(read(without.as_str()), Tree::Object(rest), "without {name:?}");
    }
    is_an_entry(object.clone().without(SEQ_ID));
}

/// As an entry it is one line, reads back, and its number is the server's.
fn is_an_entry(progress: JsonObject) {
    let at = Timestamp::from_micros(1_763_640_000_123_000).expect("an instant");
    let entry = Entry { seq_id: u64::MAX, timestamp: at, progress };
    assert_eq!(Entry::parse(&entry.line()).expect("an entry"), entry);
    let twice = [entry.clone(), entry.clone()];
    assert_eq!(Entry::parse_sealed(&seal(twice.iter())).expect("an array"), twice);

    let Tree::Object(said) = read(entry.progress.as_str()) else { panic!("no object") };
    let number = (SEQ_ID.to_owned(), Tree::Natural(u64::MAX));
    let expected: Vec<_> = std::iter::once(number).chain(said).collect();
    assert_eq!(read(&entry.public()), Tree::Object(expected));
    framed(&entry);
}

fn read(text: &str) -> Tree {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// JSON with all its members, twins included, in their order.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Null,
    Is(bool),
    Natural(u64),
    Negative(i64),
    Real(f64),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => {
                1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0)
            }
            _ => 0,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Is(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Natural(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Negative(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Real(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
