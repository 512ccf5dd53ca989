//! JSON that clients own: checked once, compacted, and otherwise kept as the text it came in.
//!
//! A tree would cost five times as much and would rewrite numbers; the text keeps 64-bit integers,
//! key order and every digit. White space between tokens goes, because an entry must fit on one
//! line of an event stream and of a file.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Containers that may stand inside an object a client gives, one in the other.
pub const MAX_DEPTH: usize = 64;

/// A JSON object as compact text: no white space between tokens, no line break.
///
/// Every string in it is valid Unicode, every number fits a 64-bit integer or a double, and
/// nesting ends at [`MAX_DEPTH`]: whatever reads it later can.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonObject(Box<str>);

/// Why some JSON is not one of ours; in words for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJson {
    /// It is JSON, but no object.
    #[error("must be a JSON object")]
    NotAnObject,
    /// Brackets inside brackets inside brackets.
    #[error("must not nest deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A number no double holds, or half a surrogate pair.
    #[error("holds a value that cannot be represented: {0}")]
    Unrepresentable(String),
}

impl JsonObject {
    /// Checks and compacts `raw`, which is well-formed JSON already.
    pub fn from_raw(raw: &RawValue) -> Result<Self, InvalidJson> {
        let text = raw.get();
        if !text.starts_with('{') {
            return Err(InvalidJson::NotAnObject);
        }
        // Depth first: the check of values below recurses.
        if depth(text) > MAX_DEPTH + 1 {
            return Err(InvalidJson::TooDeep);
        }
        let mut values = serde_json::Deserializer::from_str(text);
        Representable
            .deserialize(&mut values)
            .map_err(|error| InvalidJson::Unrepresentable(error.to_string()))?;
        Ok(Self(compact(text).into()))
    }

    /// Trusts `text` to be what [`JsonObject::from_raw`] once made: for reading back what was stored.
    pub fn from_stored(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The compact text, from `{` to `}`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same object without its top-level members called `name`, in their order.
    #[must_use]
    pub fn without(self, name: &str) -> Self {
        // A member of that name spells it between quotes, or with an escape.
        if !self.0.contains(name) && !self.0.contains('\\') {
            return self;
        }
        let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(&self.0) else {
            return self;
        };
        if members.iter().all(|(key, _)| key.0 != name) {
            return self;
        }
        let mut text = String::with_capacity(self.0.len());
        text.push('{');
        for (key, value) in members.iter().filter(|(key, _)| key.0 != name) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&serde_json::Value::from(key.0.as_ref()).to_string());
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        Self(text.into())
    }

    /// Writes the same object with `"name":number` as its first member.
    pub fn write_with_first(&self, text: &mut String, name: &str, number: u64) {
        let rest = &self.0[1..];
        let comma = if rest == "}" { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{{\"{name}\":{number}{comma}");
        text.push_str(rest);
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for JsonObject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_raw(&raw).map_err(de::Error::custom)
    }
}

/// How deep brackets nest, by one pass that does not recurse.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The text without white space between tokens. Inside strings JSON allows no raw line break, so
/// the result is one line.
fn compact(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut in_string, mut escaped) = (String::with_capacity(text.len()), false, false);
    for character in text.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            ' ' | '\t' | '\n' | '\r' if !in_string => continue,
            _ => {}
        }
        out.push(character);
    }
    Cow::Owned(out)
}

/// Top-level members in their order, twins included.
pub(crate) struct Members<'a>(pub(crate) Vec<(Key<'a>, &'a RawValue)>);

/// A key without a copy where it has no escape.
#[derive(Deserialize)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Walks every value so that the parser decodes each string and number, and keeps nothing. Skipping
/// (`IgnoredAny`) would let half a surrogate pair and `1e999` through.
struct Representable;

impl<'de> DeserializeSeed<'de> for Representable {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Representable {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Self)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Self)?.is_some() {
            map.next_value_seed(Self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<JsonObject, InvalidJson> {
        JsonObject::from_raw(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn numbers_and_key_order_come_out_as_they_went_in() {
        let text = r#"{"z":9007199254740993,"a":1.10,"big":18446744073709551615,"a":-0}"#;
        assert_eq!(parse(text).unwrap().as_str(), text);
    }

    #[test]
    fn white_space_goes_between_tokens_and_stays_in_strings() {
        let object = parse("{ \"a b\" :\n [ 1 ,\t\" \\\" x\" ] }").unwrap();
        assert_eq!(object.as_str(), r#"{"a b":[1," \" x"]}"#);
    }

    #[test]
    fn what_no_reader_could_read_is_refused() {
        for text in [r#"{"a":1e999}"#, r#"{"a":"\ud800"}"#, r#"{"\udc00":1}"#] {
            assert!(matches!(parse(text), Err(InvalidJson::Unrepresentable(_))), "{text}");
        }
        assert_eq!(parse("[1]"), Err(InvalidJson::NotAnObject));
    }

    #[test]
    fn nesting_ends_at_its_limit_and_never_overflows_the_stack() {
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(parse(&nested(MAX_DEPTH + 1)), Err(InvalidJson::TooDeep));
        assert_eq!(parse(&nested(200_000)), Err(InvalidJson::TooDeep));
        assert!(parse(r#"{"a":"[[[{{{"}"#).is_ok());
    }

    #[test]
    fn a_member_is_removed_however_it_is_spelt() {
        let without = |text: &str| parse(text).unwrap().without("seqId").as_str().to_owned();
        assert_eq!(without(r#"{"seqId":9,"a":{"seqId":1},"seqId":2}"#), r#"{"a":{"seqId":1}}"#);
        assert_eq!(without(r#"{"seq\u0049d":9}"#), "{}");
        assert_eq!(without(r#"{"a":"seqId \n"}"#), r#"{"a":"seqId \n"}"#);
        let numbered = |object| {
            let mut text = String::new();
            parse(object).unwrap().write_with_first(&mut text, "seqId", 3);
            text
        };
        assert_eq!(numbered("{}"), r#"{"seqId":3}"#);
        assert_eq!(numbered(r#"{"a":1}"#), r#"{"seqId":3,"a":1}"#);
    }
}
