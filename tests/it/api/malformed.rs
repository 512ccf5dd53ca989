//! What no client should send: it is refused in the shape of every refusal, and breaks nothing.

use bytes::Bytes;
use rstest::rstest;
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::Server;

/// The limit of a body unless configured otherwise.
const BODY_BYTES: usize = 1 << 20;
const JSON: &str = "application/json";

/// Every call that reads a JSON body; `{id}` is a task in progress.
const CALLS: [&str; 10] = [
    "/tasks",
    "/tasks/cancel",
    "/tasks/retry",
    "/tasks/claim",
    "/tasks/{id}/start",
    "/tasks/{id}/progress",
    "/tasks/{id}/complete",
    "/tasks/{id}/fail",
    "/tasks/{id}/timeout",
    "/tasks/{id}/release",
];

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_malformed(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let deep = "[".repeat(100_000);
    let deep_objects = r#"{"a":"#.repeat(50_000);
    let bodies: [&[u8]; 17] = [
        b"{",
        b"nope",
        b"{\"taskType\":\"a\"} x",
        b"{\"taskType\":\"a\"}{}",
        b"{'taskType':'a'}",
        b"{\"taskType\":\"a\",}",
        b"{\"taskType\":\"a",
        b"{\"taskType\":NaN}",
        b"{\"taskType\":+1}",
        b"{\"taskType\":\"a\nb\"}",
        b"{\"taskType\":\"\xff\"}",
        b"\xff\xfe{\x00}\x00",
        b"\xc0\xaf",
        b"\x00",
        b" ",
        deep.as_bytes(),
        deep_objects.as_bytes(),
    ];
    for call in CALLS {
        let path = call.replace("{id}", &id);
        for body in bodies {
            let reply = server.post_raw(&path, JSON, body.to_vec()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]);
            assert_eq!(reply.status, 400, "{path} {shown}: {}", reply.text);
            reply.problem(400, "malformed_body");
        }
    }
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["progressHistory"]), (&json!("in_progress"), &json!([])));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn json_of_another_shape_is_invalid(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    for call in CALLS {
        let path = call.replace("{id}", &id);
        for body in
            ["[]", "null", "true", "0", "-1.5e3", "\"{}\"", "[{}]", "[\"t\",\"w\"]", " [ ] "]
        {
            let problem =
                server.post_raw(&path, JSON, body).await.problem(422, "validation_failed");
            assert!(problem["errors"].is_array(), "{path} {body}: {problem}");
        }
        let worker = r#"{"workerId":{"name":"w"},"taskTypes":["t"],"taskType":1}"#;
        server.post_raw(&path, JSON, worker).await.problem(422, "validation_failed");
    }
    for (body, field) in [
        (r#"{"taskType":"a","taskType":"b"}"#, "taskType"),
        (r#"{"taskType":"a","metadata":{},"metadata":{}}"#, "metadata"),
    ] {
        let problem = server.post_raw("/tasks", JSON, body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["path"], field, "{problem}");
    }
    assert_eq!(server.task(&id).await["status"], "in_progress");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_json_is_read(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let others = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/jsonp",
        "text/json",
        "json",
        "",
    ];
    for call in CALLS {
        let path = call.replace("{id}", &id);
        for content_type in others {
            let body = r#"{"taskType":"t","taskTypes":["t"],"workerId":"worker-1"}"#;
            let reply = server.post_raw(&path, content_type, body).await;
            reply.problem(415, "unsupported_media_type");
        }
        let bare = server.client().post(server.api(&path)).body("{}");
        server.send(bare).await.problem(415, "unsupported_media_type");
    }
    for (n, content_type) in
        ["application/json; charset=utf-8", "Application/JSON", "application/json;x=y"]
            .into_iter()
            .enumerate()
    {
        let body = format!(r#"{{"taskType":"t","taskId":"{n}"}}"#);
        server.post_raw("/tasks", content_type, body).await.ok();
    }
    assert_eq!(server.task(&id).await["status"], "in_progress");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let padded = |bytes: usize| {
        let body = r#"{"taskType":"t","metadata":{"fill":""}}"#;
        body.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - body.len())))
    };
    server.post_raw("/tasks", JSON, padded(BODY_BYTES)).await.ok();
    for call in CALLS {
        let path = call.replace("{id}", &id);
        let one_more = server.post_raw(&path, JSON, padded(BODY_BYTES + 1)).await;
        one_more.problem(413, "body_too_large");
    }
    let large = server.post_raw("/tasks", JSON, "x".repeat(8 << 20)).await;
    large.problem(413, "body_too_large");
    let deep = server.post_raw("/tasks", JSON, "[".repeat(BODY_BYTES + 1)).await;
    deep.problem(413, "body_too_large");
    assert_eq!(server.get("/tasks").await.ok()["items"].as_array().map(Vec::len), Some(2));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_say_its_length_is_measured(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let chunked = |text: String| {
        let chunks: Vec<_> = text
            .into_bytes()
            .chunks(10_000)
            .map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk)))
            .collect();
        reqwest::Body::wrap_stream(futures::stream::iter(chunks))
    };
    let fine = format!(r#"{{"taskType":"t","metadata":{{"fill":"{}"}}}}"#, "ä".repeat(500_000));
    server.post_raw("/tasks", JSON, chunked(fine)).await.ok();
    let large = format!(r#"{{"taskType":"t","metadata":{{"fill":"{}"}}}}"#, "ä".repeat(525_000));
    server.post_raw("/tasks", JSON, chunked(large)).await.problem(413, "body_too_large");

    // A body without an end: the answer comes as soon as it is too large.
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    let body = reqwest::Body::wrap_stream(ReceiverStream::new(receiver));
    let feed = async { while sender.send(Ok(Bytes::from(vec![b' '; 64 << 10]))).await.is_ok() {} };
    let (endless, ()) = futures::join!(server.post_raw("/tasks", JSON, body), feed);
    endless.problem(413, "body_too_large");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_limits_can_be_configured(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start_with(mode, |mut config| {
        config.limits.body_bytes = 200;
        config.limits.entry_bytes = 50;
        config
    });
    let server = server.await;
    let id = server.started("t").await;
    let path = format!("/tasks/{id}/progress");
    let entry = |bytes: usize| json!({ "fill": "x".repeat(bytes - r#"{"fill":""}"#.len()) });
    server.post(&path, json!({ "progress": entry(50) })).await.ok();
    server.post(&path, json!({ "progress": entry(51) })).await.problem(413, "body_too_large");
    let lines = format!("{}\n{}\n", entry(50), entry(51));
    let problem = server.post_raw(&path, "application/x-ndjson", lines).await;
    assert_eq!(problem.problem(413, "body_too_large")["count"], 1);
    let four = json!({ "entries": [entry(40), entry(40), entry(40), entry(40), entry(40)] });
    server.post(&path, four).await.problem(413, "body_too_large");
    let metadata = json!({ "taskType": "t", "metadata": { "fill": "x".repeat(200) } });
    server.post("/tasks", metadata).await.problem(413, "body_too_large");
    let lines = format!("{}\n", entry(45)).repeat(20);
    let reply = server.post_raw(&path, "application/x-ndjson", lines).await.ok();
    assert_eq!((&reply["count"], &reply["seqId"]), (&json!(20), &json!(22)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_never_a_fault_of_the_server(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let long = "x".repeat(5000);
    let bodies = [
        r#"{"taskId":"\u0000","taskType":"\u0000","workerId":"\u0000","taskTypes":["\u0000"]}"#,
        r#"{"taskType":"\ud800","workerId":"\ud800","taskTypes":["\udfff"],"progress":{"a":"\ud800"}}"#,
        r#"{"timeoutSeconds":1e999,"waitSeconds":1e999,"taskType":"t","workerId":1e999}"#,
        r#"{"timeoutSeconds":-0,"waitSeconds":-0.0,"taskType":"","workerId":""}"#,
        r#"{"progress":{"":{"":""}},"result":[[[[]]]],"error":"error","workerId":[]}"#,
        r#"{"entries":[null,1,"x",[],{}],"workerId":"worker-2"}"#,
        r#"{"__proto__":{"a":1},"constructor":{},"workerId":"worker-2"}"#,
        r#"{"workerId":"'; DROP TABLE tracker_tasks; --"}"#,
    ];
    let ids = [
        id.as_str(),
        "nobody",
        "..",
        ".",
        "%2e%2e%2f",
        "%00",
        "%ff",
        "%F0%9F%A6%80",
        "a%0Ab",
        "*",
        "{id}",
        "'",
        long.as_str(),
    ];
    for body in bodies {
        for call in CALLS {
            for id in ids {
                let reply = server.post_raw(&call.replace("{id}", id), JSON, body).await;
                let known = matches!(reply.status, 200 | 201 | 403 | 404 | 405 | 409 | 400 | 422);
                let id = &id[..id.len().min(20)];
                assert!(known, "{call} of {id} with {body}: {} {}", reply.status, reply.text);
                if reply.status >= 400 {
                    let code = reply.json()["code"].as_str().expect("a code").to_owned();
                    reply.problem(reply.status, &code);
                }
            }
        }
    }
    assert_eq!(server.get("/tasks?limit=1").await.status, 200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_early_arrives_although_the_body_is_long(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let pending = server.registered("t").await;
    let active = server.started("t").await;
    let long = || "{\"a\":1}\n".repeat(1 << 19);
    let lines = "application/x-ndjson";
    for _ in 0..3 {
        let path = format!("/tasks/{pending}/progress");
        let reply = server.post_raw(&path, lines, long()).await;
        reply.problem(409, "invalid_transition");
        let path = format!("/tasks/{active}/progress");
        let body = format!("{{\"first\":true}}\nnonsense\n{}", long());
        let problem = server.post_raw(&path, lines, body).await.problem(400, "malformed_body");
        assert_eq!(problem["count"], 1);
        server
            .post_raw("/tasks/nobody/progress", lines, long())
            .await
            .problem(404, "task_not_found");
        server.post_raw("/tasks/a%20b/start", JSON, long()).await.problem(404, "task_not_found");
        server.post_raw("/unknown", JSON, long()).await.problem(404, "route_not_found");
        let put = server.client().put(server.api("/tasks")).body(long());
        server.send(put).await.problem(405, "method_not_allowed");
        let large = server.post_raw("/tasks", "text/plain", long()).await;
        assert!(matches!(large.status, 413 | 415), "{}", large.text);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_short_however_long_what_it_refuses(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let id = server.started("t").await;
    let long = [r"\u0000".repeat(20_000), "ä".repeat(70_000), r"\ud83e\udd80".repeat(10_000)];
    for text in &long {
        let members =
            ["timeoutSeconds", "leaseSeconds", "taskTypes", "progress", "result", "error"];
        let members = members.map(|name| format!(r#""{name}":"{text}""#)).join(",");
        let body = format!(r#"{{{members},"workerId":["{text}"]}}"#);
        for call in CALLS {
            let path = call.replace("{id}", &id);
            let reply = server.post_raw(&path, JSON, body.clone()).await;
            reply.problem(422, "validation_failed");
            assert!(reply.text.len() < 4000, "{call}: {} bytes", reply.text.len());
        }
    }
    for query in ["status", "limit", "createdAfter", "cursor"] {
        let query = format!("/tasks?{query}={}", "%00".repeat(8000));
        let reply = server.get(&query).await;
        reply.problem(422, "validation_failed");
        assert!(reply.text.len() < 4000, "{} bytes", reply.text.len());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn methods_that_somebody_invents_are_counted_as_one(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for n in 0..20 {
        let method = format!("INVENTED{n}").parse().expect("a method");
        let request = server.client().request(method, server.api("/tasks"));
        server.send(request).await.problem(405, "method_not_allowed");
    }
    let figures = server.send(server.client().get(server.root("/metrics"))).await.text;
    assert!(figures.contains(r#"method="(other)""#), "{figures}");
    assert!(!figures.contains("INVENTED"), "each is a line of figures, for ever");
}
