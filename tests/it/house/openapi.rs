//! The API's own document: up to date, complete, and its routes frozen.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use serde_json::Value;
use task_tracker::http::document;

use super::root;

/// Every operation: its method, its path, its id. A route that changes here changes for clients.
const ROUTES: &str = "\
GET /api/v1/events events
GET /api/v1/nodes nodes
GET /api/v1/overview overview
GET /api/v1/tasks list
POST /api/v1/tasks register
POST /api/v1/tasks/bulk register_bulk
POST /api/v1/tasks/cancel cancel_bulk
POST /api/v1/tasks/claim claim
POST /api/v1/tasks/retry retry_bulk
POST /api/v1/tasks/timeouts/process process_timeouts
GET /api/v1/tasks/{id} get
POST /api/v1/tasks/{id}/cancel cancel
POST /api/v1/tasks/{id}/complete complete
POST /api/v1/tasks/{id}/fail fail
POST /api/v1/tasks/{id}/heartbeat heartbeat
POST /api/v1/tasks/{id}/progress progress
POST /api/v1/tasks/{id}/release release
POST /api/v1/tasks/{id}/retry retry
POST /api/v1/tasks/{id}/start start
POST /api/v1/tasks/{id}/timeout time_out
GET /api/v1/tasks/{id}/track track
GET /api/v1/tasks/{id}/why why
GET /api/v1/workers workers
GET /healthz healthz
GET /livez livez
GET /metrics metrics
GET /readyz readyz
";

fn built() -> Value {
    serde_json::from_str(&document::json()).expect("JSON")
}

/// Every operation of the document: method, path, and what is said of it.
fn operations(document: &Value) -> Vec<(String, &str, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut operations = Vec::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            operations.push((method.to_uppercase(), path.as_str(), operation));
        }
    }
    operations
}

#[test]
fn the_document_in_the_repository_is_up_to_date() {
    let file = root().join("openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, document::json()).expect("openapi.json");
        return;
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == document::json(),
        "openapi.json is stale. Renew it and look at the difference:\n\n    \
         UPDATE=1 cargo test --test it openapi && git diff openapi.json\n"
    );
}

#[test]
fn the_routes_are_those_that_clients_know() {
    let document = built();
    let mut routes = String::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().expect("an operationId");
        writeln!(routes, "{method} {path} {id}").expect("memory");
    }
    assert_eq!(routes, ROUTES, "a route came, went or changed its name");
}

#[test]
fn every_operation_has_an_id_of_its_own_a_tag_and_a_summary() {
    let document = built();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().expect("an operationId");
        assert!(ids.insert(id), "{id} is used twice");
        for member in ["summary", "tags"] {
            assert!(!operation[member].is_null(), "{method} {path} has no {member}");
        }
    }
}

#[test]
fn every_refusal_is_a_problem_with_an_example() {
    let document = built();
    for (method, path, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            // `/readyz` says 503 with the same body as 200.
            if status.as_str() < "400" || path == "/readyz" {
                continue;
            }
            let media = &response["content"]["application/problem+json"];
            assert!(media.is_object(), "{method} {path} {status} is no problem: {response}");
            let examples = media["examples"].as_object().expect("examples");
            assert!(!examples.is_empty(), "{method} {path} {status}");
            for (code, example) in examples {
                let value = &example["value"];
                assert_eq!(value["code"], **code, "{method} {path} {status}");
                assert_eq!(value["status"].to_string(), *status, "{method} {path} {code}");
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = built();
    let mut waiting = vec![&document];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.strip_prefix('#').expect("a local reference");
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                waiting.extend(members.values());
            }
            Value::Array(items) => waiting.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
