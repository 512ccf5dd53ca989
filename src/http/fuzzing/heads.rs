//! Queries, cursors, and headers that are read for what they say.

use std::fmt::Debug;
use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use ipnet::IpNet;
use serde::de::DeserializeOwned;

use super::refused;
use crate::domain::{TaskId, Timestamp};
use crate::http::explain::WorkersQuery;
use crate::http::extract::{is_json, media_type, query};
use crate::http::lists::{ListQuery, read_cursor, write_cursor};
use crate::http::problem::Code;
use crate::http::progress::ProgressQuery;
use crate::http::stream::Format;
use crate::http::track::{TrackQuery, start};
use crate::http::{front, idempotency, observe};
use crate::service::{By, Cursor, Order, StartAt};

/// The largest number that is counted exactly.
const LARGEST: u64 = (1 << 53) - 1;

/// A query, read as each kind of query there is, is taken or refused; what is taken means the same however it is written.
///
/// # Panics
///
/// Where that does not hold.
pub fn queries(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let others = written_otherwise(text);
    one::<ListQuery>(text, &others);
    one::<TrackQuery>(text, &others);
    one::<ProgressQuery>(text, &others);
    one::<WorkersQuery>(text, &others);
}

/// The same query, written otherwise: printed; all in percents; the other way round, with a parameter that nobody knows.
fn written_otherwise(text: &str) -> [String; 3] {
    let mut pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    let print =
        |pairs: &[(String, String)]| Serializer::new(String::new()).extend_pairs(pairs).finish();
    let printed = print(&pairs);
    let percents = |text: &str| {
        let bytes: Vec<_> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        bytes.concat()
    };
    let in_percents: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", percents(name), percents(value)))
        .collect();
    pairs.reverse();
    pairs.push((" nobody ".to_owned(), "\0".to_owned()));
    [printed, in_percents.join("&"), print(&pairs)]
}

fn one<T: DeserializeOwned + Debug>(text: &str, others: &[String]) {
    let read = |text: &str| match query::<T>(text) {
        Ok(query) => Some(format!("{query:?}")),
        Err(problem) => {
            assert_eq!(refused(&problem), Code::ValidationFailed);
            None
        }
    };
    let meaning = read(text);
    for other in others {
        assert_eq!(read(other), meaning, "{other}");
    }
}

/// Whatever says where to begin says it, or is refused; what this service said reads back.
///
/// # Panics
///
/// Where that does not hold.
pub fn cursors(input: &[u8]) {
    if let Some((micros, rest)) = input.split_first_chunk()
        && let Some(at) = Timestamp::from_micros(i64::from_le_bytes(*micros))
        && let Some(id) = std::str::from_utf8(rest).ok().and_then(|id| id.parse::<TaskId>().ok())
    {
        for by in [By::CreatedAt, By::CompletedAt] {
            for is_ascending in [false, true] {
                let order = Order { by, is_ascending };
                reads_back(&Cursor { order, at, id: id.clone() });
            }
        }
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    for text in [text.to_owned(), URL_SAFE_NO_PAD.encode(text)] {
        let cursor = read_cursor(&text);
        let in_query = query::<ListQuery>(&format!("cursor={}", escaped(&text)));
        assert_eq!(cursor.is_some(), in_query.is_ok(), "another in a query");
        cursor.as_ref().inspect(|cursor| reads_back(cursor));
    }
    begins(text);
}

fn reads_back(cursor: &Cursor) {
    let written = write_cursor(cursor);
    assert_eq!(escaped(&written), written, "it must be escaped in a query");
    assert_eq!(read_cursor(&written).as_ref(), Some(cursor));
}

fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// `Last-Event-ID` and `afterSeqId`, of the same text.
fn begins(text: &str) {
    let nothing = query::<TrackQuery>("").expect("an empty query");
    let in_query = query::<TrackQuery>(&format!("afterSeqId={}", escaped(text)));
    if let Ok(query) = &in_query {
        let Some(StartAt::After(after)) = start(query, &HeaderMap::new()) else {
            panic!("no number")
        };
        assert_eq!(after, text.parse::<u64>().expect("a number").min(LARGEST));
    }
    let Ok(value) = HeaderValue::from_str(text) else { return };
    let headers = HeaderMap::from_iter([(HeaderName::from_static("last-event-id"), value)]);
    let in_header = start(&nothing, &headers);
    match &in_header {
        None => assert!(text.trim().ends_with("-end")),
        Some(StartAt::After(after)) => {
            assert!(*after <= LARGEST);
            let said = text.trim().parse::<u64>().unwrap_or(0).min(LARGEST);
            assert_eq!(*after, said, "another number than it says");
        }
        Some(StartAt::Now) => panic!("nobody asked for that"),
    }
    // The larger wins.
    if let (Ok(query), Some(StartAt::After(last))) = (&in_query, in_header) {
        let Some(StartAt::After(both)) = start(query, &headers) else { panic!("no number") };
        assert!(both >= last);
    }
}

/// Headers, a line each, are read for what they say and for no more.
///
/// # Panics
///
/// Where that does not hold.
pub fn headers(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let name = HeaderName::from_bytes(name.trim_ascii());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    key(&headers);
    client(&headers);
    let id = observe::correlation_id(&headers);
    assert!((1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
    if let Some(trace) = observe::trace_id(&headers) {
        assert!(trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    if let Some(kind) = media_type(&headers) {
        assert!(!kind.contains(';') && kind.trim() == kind);
        assert_eq!(is_json(kind), is_json(&kind.to_ascii_uppercase()));
    }
    let format = Format::accepted(&headers);
    if !headers.contains_key(header::ACCEPT) {
        assert_eq!(format, Format::EventStream);
    }
}

/// A key is 1 to 255 visible characters, and the same quoted, with parameters, and bare.
fn key(headers: &HeaderMap) {
    let sent = |value: &str| {
        let value = HeaderValue::from_str(value).expect("visible characters");
        idempotency::key(&HeaderMap::from_iter([(idempotency::KEY, value)])).ok().flatten()
    };
    match idempotency::key(headers) {
        Ok(None) => assert!(!headers.contains_key(idempotency::KEY)),
        Ok(Some(key)) => {
            assert!(
                (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
            );
            let quoted = format!("\"{}\"", key.replace('\\', r"\\").replace('"', "\\\""));
            assert_eq!(sent(&quoted).as_ref(), Some(&key), "quoted");
            assert_eq!(sent(&format!(" {quoted};v=1;w ")).as_ref(), Some(&key), "with parameters");
            if !key.contains(['"', '\\', ',']) {
                assert_eq!(sent(&key).as_ref(), Some(&key), "bare");
            }
        }
        Err(problem) => {
            assert_eq!(refused(&problem), Code::ValidationFailed);
            assert!(headers.contains_key(idempotency::KEY));
        }
    }
}

/// What nobody who is trusted said is not believed, and of IPv6 a client is its network.
fn client(headers: &HeaderMap) {
    let peers: [IpAddr; 4] = ["203.0.113.9", "10.0.0.1", "2001:db8:1:2:3::4", "::ffff:10.0.0.1"]
        .map(|peer| peer.parse().expect("an address"));
    let networks = |networks: &[&str]| -> Vec<IpNet> {
        networks.iter().map(|network| network.parse().expect("a network")).collect()
    };
    let (none, some, all) =
        (networks(&[]), networks(&["10.0.0.0/8"]), networks(&["0.0.0.0/0", "::/0"]));
    for peer in peers {
        let bare = front::client(peer, &HeaderMap::new(), &none);
        assert_eq!(front::client(peer, headers, &none), bare, "a stranger was believed");
        for trusted in [&some, &all] {
            let client = front::client(peer, headers, trusted);
            assert_eq!(client, client.to_canonical(), "one client, two addresses");
            if let IpAddr::V6(address) = client {
                assert_eq!(address.to_bits() << 64, 0, "it has more than one address");
            }
            // It is somebody who was named, or the peer.
            let hops = headers.get_all("x-forwarded-for").iter();
            assert!(client == bare || hops.count() > 0);
        }
        if peer.to_canonical() == peers[0] {
            assert_eq!(front::client(peer, headers, &some), bare, "a stranger was believed");
        }
        // What stands left of a stranger changes nothing.
        let mut more = HeaderMap::new();
        let name = HeaderName::from_static("x-forwarded-for");
        more.append(&name, HeaderValue::from_static("192.0.2.1, nonsense"));
        for value in headers.get_all(&name) {
            more.append(&name, value.clone());
        }
        let (before, after) =
            (front::client(peer, headers, &some), front::client(peer, &more, &some));
        let is_stranger = !some.iter().any(|network| network.contains(&before));
        assert!(before == after || !is_stranger, "{before} became {after}");
    }
}
