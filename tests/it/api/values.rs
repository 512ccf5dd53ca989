//! What clients put into JSON comes out as it went in, or is refused; the server never breaks on it.

use rstest::rstest;
use serde_json::{Value, json};

use super::{items, member};
use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

/// Numbers no double holds, keys out of order, every script, every escape.
const HARD: &str = concat!(
    r#"{"z":9007199254740993,"a":-9223372036854775808,"max":9223372036854775807,"#,
    r#""unsigned":18446744073709551615,"float":1.5,"tiny":-2.5e-7,"ünïcödé 🦀":"日本語 עברית 👩‍👩‍👧","#,
    "\"lines\":\"\u{2028}\u{2029}\u{feff}\u{7f}\",",
    r#""escaped":"\"\\\/\b\f\n\r\t\u00e9\ud83e\udd80","":"empty key","#,
    r#""data":"id: 7\\n\\nevent: x","b":{"b":[],"a":{},"c":[null,true,false,[[1]]]}}"#,
);

/// A body around a value that is text already.
fn around(name: &str, value: &str) -> String {
    format!(r#"{{"workerId":"worker-1","taskType":"t","{name}":{value}}}"#)
}

async fn sent(server: &Server, path: &str, body: String) -> Reply {
    server.post_raw(path, "application/json", body).await
}

async fn registered(server: &Server, name: &str, value: &str) -> Reply {
    sent(server, "/tasks", around(name, value)).await
}

/// Where a value can stand, each with what comes back of it: the answer, and the text read again.
async fn everywhere(server: &Server, value: &str) -> Vec<(&'static str, Reply, Option<String>)> {
    let mut outcomes = Vec::new();
    for name in ["metadata", "params"] {
        let reply = registered(server, name, value).await;
        let mut back = None;
        if reply.status == 201 {
            let id = reply.json()["taskId"].as_str().expect("an id").to_owned();
            back = Some(member(&server.get(&format!("/tasks/{id}")).await.text, name));
        }
        outcomes.push((name, reply, back));
    }
    for (word, name) in [("complete", "result"), ("fail", "error")] {
        let id = server.started("t").await;
        let reply = sent(server, &format!("/tasks/{id}/{word}"), around(name, value)).await;
        let task = server.get(&format!("/tasks/{id}")).await;
        let back = (reply.status == 200).then(|| member(&task.text, name));
        outcomes.push((name, reply, back));
    }
    let id = server.started("t").await;
    let path = format!("/tasks/{id}/progress");
    let numbered = |text: &str| {
        let entry = items(&member(text, "progressHistory")).pop().expect("an entry");
        let (number, rest) = entry.split_once([',', '}']).expect("a number first");
        assert_eq!(number, r#"{"seqId":1"#);
        if rest.is_empty() { "{}".to_owned() } else { format!("{{{rest}") }
    };
    let reply = sent(server, &path, around("progress", value)).await;
    let mut back = None;
    if reply.status == 200 {
        let live = numbered(&server.get(&format!("/tasks/{id}")).await.text);
        server.completed(&id).await.ok();
        let sealed = numbered(&server.get(&format!("/tasks/{id}")).await.text);
        assert_eq!(live, sealed, "the same live and sealed");
        back = Some(live);
    }
    outcomes.push(("progress", reply, back));
    outcomes
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_value_comes_out_as_it_went_in(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    for value in [HARD, "{}", r#"{"a":{"a":{"a":null}}}"#] {
        for (place, reply, back) in everywhere(&server, value).await {
            assert_eq!(back.as_deref(), Some(value), "{place}: {}", reply.text);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn white_space_between_tokens_may_go_and_nothing_else(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let spaced = "{ \"a b\" :\r\n\t[ 1 , \" \\\" : { , \" ] ,\n\n\"data: x\" : { } }";
    for (place, reply, back) in everywhere(&server, spaced).await {
        let back = back.unwrap_or_else(|| panic!("{place}: {}", reply.text));
        let (expected, came): (Value, Value) = (
            serde_json::from_str(spaced).expect("JSON"),
            serde_json::from_str(&back).expect("JSON"),
        );
        assert_eq!(came, expected, "{place}");
        assert!(!back.contains('\n'), "{place}: an entry is one line");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_levels_are_kept(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let objects = format!("{}1{}", r#"{"a":"#.repeat(64), "}".repeat(64));
    let arrays = format!(r#"{{"a":{}{}}}"#, "[".repeat(63), "]".repeat(63));
    for value in [objects, arrays] {
        for (place, reply, back) in everywhere(&server, &value).await {
            assert_eq!(back.as_deref(), Some(value.as_str()), "{place}: {}", reply.text);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn deeper_than_the_limit_is_refused_and_breaks_nothing(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for levels in [100, 127, 128, 129, 1000, 100_000] {
        let objects = format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let arrays = format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        for value in [objects, arrays] {
            for (place, reply, _) in everywhere(&server, &value).await {
                let (status, text) = (reply.status, &reply.text);
                assert!(matches!(status, 413 | 422), "{levels} in {place}: {status} {text}");
            }
        }
    }
}

/// The text a string stands for, in whatever way it is spelt.
fn decoded(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_nul_in_a_string_comes_back_or_is_refused(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let nuls = [
        r#"{"a":"x\u0000y"}"#,
        r#"{"\u0000":1}"#,
        r#"{"a":["\u0000","\\u0000"]}"#,
        r#"{"deep":{"a":{"b":"\u0000\u0000"}}}"#,
    ];
    for value in nuls {
        for (place, reply, back) in everywhere(&server, value).await {
            match back {
                Some(back) => assert_eq!(decoded(&back), decoded(value), "{place}"),
                None => drop(reply.problem(422, "validation_failed")),
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_no_reader_could_read_is_refused(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let unreadable = [
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00\ud800"}"#,
        r#"{"\ud83e":1}"#,
        r#"{"a":1e999}"#,
        r#"{"a":[-1e400]}"#,
    ];
    for value in unreadable {
        for (place, reply, _) in everywhere(&server, value).await {
            let (status, text) = (reply.status, &reply.text);
            assert!(matches!(status, 400 | 422), "{value} in {place}: {status} {text}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn huge_numbers_break_nothing(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let digits = "9".repeat(5000);
    for number in ["123456789012345678901234567890", "0.1e-999", "-0", digits.as_str()] {
        for (place, reply, _) in everywhere(&server, &format!(r#"{{"n":{number}}}"#)).await {
            assert!(reply.status < 500, "{number} in {place}: {} {}", reply.status, reply.text);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_the_same_in_claims_lists_retries_and_streams(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let body = format!(r#"{{"taskType":"t","metadata":{HARD},"params":{HARD}}}"#);
    sent(&server, "/tasks", body).await.ok();
    let claim = json!({ "taskTypes": ["t"], "workerId": "worker-1" });
    let claimed = server.post("/tasks/claim", claim).await;
    let id = claimed.ok()["id"].as_str().expect("an id").to_owned();
    let mut stream = server.track(&id, "").await;
    stream.opened().await;
    sent(&server, &format!("/tasks/{id}/progress"), around("progress", HARD)).await.ok();
    sent(&server, &format!("/tasks/{id}/fail"), around("error", HARD)).await.ok();
    let retried = server.post_nothing(&format!("/tasks/{id}/retry")).await.ok();
    let child = retried["newTaskId"].as_str().expect("an id");

    let listed = items(&member(&server.get("/tasks?status=failed").await.text, "items"));
    for name in ["metadata", "params"] {
        assert_eq!(member(&claimed.text, name), HARD, "claimed {name}");
        assert_eq!(member(&listed[0], name), HARD, "listed {name}");
        let child = server.get(&format!("/tasks/{child}")).await;
        assert_eq!(member(&child.text, name), HARD, "retried {name}");
    }
    let numbered = HARD.replacen('{', r#"{"seqId":1,"#, 1);
    assert_eq!(member(&listed[0], "latestProgress"), numbered);
    let live = stream.rest().await;
    let replayed = server.track(&id, "").await.rest().await;
    assert_eq!(live, replayed);
    assert_eq!(live[0].data["data"], decoded(&numbered));
    assert_eq!(live[1].data["data"]["error"], decoded(HARD));
    let text = server.track(&id, "").await.text().await;
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(member(lines[0], "data"), numbered);
    assert_eq!(member(&member(lines[1], "data"), "error"), HARD);
}
