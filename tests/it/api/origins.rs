//! What a stream says of itself to proxies and browsers, and who may read from elsewhere.

use rstest::rstest;

use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::Server;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_how_it_is_to_be_treated(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let active = server.started("t").await;
    let ended = server.started("t").await;
    server.completed(&ended).await.ok();
    for id in [&active, &ended] {
        let headers = [
            ("accept", "text/event-stream"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("origin", "https://dashboard.example"),
            ("x-correlation-id", "watcher-7"),
        ];
        let mut stream = server.track_with(id, "", &headers).await;
        assert_eq!(stream.status(), 200);
        let header =
            |name: &str| stream.headers().get(name).map(|value| value.to_str().expect("text"));
        assert_eq!(header("content-type"), Some("text/event-stream"));
        assert_eq!(header("cache-control"), Some("no-cache"));
        assert_eq!(header("x-accel-buffering"), Some("no"));
        assert_eq!(header("content-encoding"), None, "never compressed");
        assert_eq!(header("content-length"), None);
        assert_eq!(header("access-control-allow-origin"), Some("*"));
        assert_eq!(header("x-correlation-id"), Some("watcher-7"));
        stream.opened().await;
        assert!(!stream.frames.comments.is_empty(), "a comment at once");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_may_read(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let id = server.registered("t").await;
    let origin = ("origin", "https://dashboard.example");
    let request =
        server.client().get(server.api(&format!("/tasks/{id}"))).header(origin.0, origin.1);
    assert_eq!(server.send(request).await.header("access-control-allow-origin"), "*");
    let preflight = server
        .client()
        .request(reqwest::Method::OPTIONS, server.api(&format!("/tasks/{id}/track")))
        .header(origin.0, origin.1)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "last-event-id, cache-control");
    let preflight = server.send(preflight).await;
    assert!((200..300).contains(&preflight.status), "{}", preflight.status);
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    assert!(preflight.header("access-control-allow-methods").contains("GET"));
    let allowed = preflight.header("access-control-allow-headers").to_ascii_lowercase();
    assert!(allowed == "*" || allowed.contains("last-event-id"), "{allowed}");
    let missing = server.client().get(server.api("/tasks/nobody")).header(origin.0, origin.1);
    let missing = server.send(missing).await;
    assert_eq!(missing.header("access-control-allow-origin"), "*", "errors can be read too");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn configured_origins_may_read_and_others_may_not(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start_with(mode, |mut config| {
        config.cors_origins = vec!["https://ours.example".parse().expect("an origin")];
        config
    });
    let server = server.await;
    let id = server.registered("t").await;
    for (origin, expected) in
        [("https://ours.example", "https://ours.example"), ("https://x.example", "")]
    {
        let request =
            server.client().get(server.api(&format!("/tasks/{id}"))).header("origin", origin);
        let reply = server.send(request).await;
        assert_eq!(reply.header("access-control-allow-origin"), expected);
    }
}
