//! The browser client, as the server gives it to pages.

use rstest::rstest;

use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

async fn got(server: &Server, path: &str, known: Option<&str>) -> Reply {
    let request = server.client().get(server.root(path)).header("origin", "https://page.example");
    server
        .send(match known {
            Some(tag) => request.header("if-none-match", tag),
            None => request,
        })
        .await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn pages_import_the_client_from_the_server(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let files = ["client.js", "elements.js"].map(str::to_owned).into_iter();
    let imported = ["client", "elements"].into_iter().flat_map(|folder| {
        let path = format!("{}/clients/javascript/{folder}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_dir(path).expect("a folder").map(move |file| {
            format!("{folder}/{}", file.expect("a file").file_name().to_str().expect("UTF-8"))
        })
    });
    for file in files.chain(imported) {
        let reply = got(&server, &format!("/{file}"), None).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("access-control-allow-origin"), "*", "from any page");
        let root = env!("CARGO_MANIFEST_DIR");
        let kept = std::fs::read_to_string(format!("{root}/clients/javascript/{file}"));
        assert!(reply.text == kept.expect("a module"), "{file} is not the one of the repository");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_has_the_client_is_told_so(#[values(Embedded, Node, TwoNodes)] mode: Mode) {
    let server = Server::start(mode).await;
    let first = got(&server, "/client.js", None).await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10, "{tag}");
    assert_eq!(first.header("cache-control"), "no-cache", "asks each time");
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let again = got(&server, "/client.js", Some(&known)).await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{known}");
        assert_eq!(again.header("etag"), tag);
    }
    let other = got(&server, "/client.js", Some("\"other\"")).await;
    assert_eq!(other.status, 200);
    assert_ne!(got(&server, "/elements.js", None).await.header("etag"), tag);
}
