//! What this service wrote itself, and reads back from a store or a broker that somebody else may have written to.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::progress::seal;
use crate::domain::{Entry, JsonObject, Notice, Receipt, StatusChange};
use crate::live::Fence;

/// What is read is printed so that it reads the same again.
///
/// # Panics
///
/// Where that does not hold.
pub fn stored(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(fence) = text.parse::<Fence>() {
        assert_eq!(fence.to_string().parse::<Fence>().expect("a fence"), fence);
    }
    if let Ok(receipt) = Receipt::parse("hash".to_owned(), text) {
        let again = Receipt::parse("hash".to_owned(), &receipt.text());
        assert_eq!(again.expect("a receipt"), receipt);
    }
    if let Ok(entry) = Entry::parse(text) {
        // A time is printed to the millisecond, so it is printed before it is compared.
        let entry = Entry::parse(&entry.line()).expect("an entry");
        assert_eq!(Entry::parse(&entry.line()).expect("an entry"), entry);
        let _ = entry.public();
    }
    if let Ok(entries) = Entry::parse_sealed(text) {
        let again = Entry::parse_sealed(&seal(entries.iter())).expect("entries");
        assert_eq!(seal(again.iter()), seal(entries.iter()));
    }
    message::<StatusChange>(text);
    message::<Notice>(text);
    let trusted = JsonObject::from_stored(text);
    // What no longer is JSON is an error, not a fault.
    let _ = serde_json::to_string(&trusted);
    let _ = trusted.without("seqId");
}

fn message<T: Serialize + DeserializeOwned + Debug + PartialEq>(text: &str) {
    let Ok(read) = serde_json::from_str::<T>(text) else { return };
    let printed = serde_json::to_string(&read).expect("text");
    let again: T = serde_json::from_str(&printed).expect("what was printed");
    assert_eq!(serde_json::to_string(&again).expect("text"), printed);
}
