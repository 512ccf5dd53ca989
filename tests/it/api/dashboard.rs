//! The dashboard, as the server gives it to browsers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rstest::rstest;

use crate::harness::Mode::{self, Embedded, Node, TwoNodes};
use crate::harness::{Reply, Server};

/// Every file of the folder that is for browsers, by its path below it.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard");
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(&root).expect("below it").to_str().expect("UTF-8");
            if name == "test"
                || name == "tsconfig.json"
                || name == "index.html"
                || name.ends_with(".d.ts")
            {
                continue;
            }
            if path.is_dir() {
                folders.push(path.clone());
            } else {
                found.insert(name.to_owned(), fs::read_to_string(&path).expect("a text"));
            }
        }
    }
    assert!(found.contains_key("app.js"), "{found:?}");
    found
}

fn kind(file: &str) -> &'static str {
    match file.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        other => panic!("nobody said what {other:?} is"),
    }
}

async fn got(server: &Server, path: &str) -> Reply {
    server.send(server.client().get(server.root(path))).await
}

/// What a browser needs to know before it runs any of it.
fn is_guarded(reply: &Reply) {
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    let policy = reply.header("content-security-policy");
    for rule in ["default-src 'none'", "script-src 'self'", "base-uri 'none'"] {
        assert!(policy.split("; ").any(|said| said == rule), "{rule} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(reply.header("cache-control"), "no-cache", "a browser asks each time");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_served_as_the_repository_has_it(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for (file, kept) in files() {
        let reply = got(&server, &format!("/dashboard/{file}")).await;
        assert_eq!(reply.status, 200, "{file}");
        assert_eq!(reply.header("content-type"), kind(&file), "{file}");
        assert!(reply.text == kept, "{file} is not the one of the repository");
        is_guarded(&reply);
    }
    let page = got(&server, "/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.text.starts_with("<!doctype html>"));
    is_guarded(&page);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_has_the_dashboard_is_told_so(
    #[values(Embedded, Node, TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    for path in ["/", "/dashboard/app.js", "/dashboard/style.css"] {
        let tag = got(&server, path).await.header("etag").to_owned();
        let request = server.client().get(server.root(path)).header("if-none-match", &tag);
        let again = server.send(request).await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("etag"), tag);
    }
}

/// Addresses that begin at the root or name a host would break under a prefix, or without a network.
#[test]
fn every_address_in_the_dashboard_is_relative() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard/index.html");
    let page = fs::read_to_string(root).expect("the page");
    let mut all = files();
    all.insert("index.html".to_owned(), page);
    let mut wrong = Vec::new();
    for (file, text) in all {
        if file.starts_with("vendor/") {
            continue;
        }
        // The name of a vocabulary is no address that anybody asks for.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        let roots = ["href=\"/", "src=\"/", "from \"/", "import(\"/", "url(/", "fetch(\"/"];
        for address in roots.into_iter().chain(["http:", "https:", "\"//", "(//"]) {
            if text.contains(address) {
                wrong.push(format!("{file}: {address}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_the_dashboard_leads_to_it(#[values(Embedded)] mode: Mode) {
    let server = Server::start(mode).await;
    for path in ["/dashboard", "/dashboard/"] {
        let reply = got(&server, path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.text.starts_with("<!doctype html>"), "{path} leads to the page");
    }
    got(&server, "/dashboard/nothing.js").await.problem(404, "route_not_found");
}
