//! One call each, for scripts.

use std::process::{Command as Blocking, Stdio};

use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::command::{Running, command, run, run_with};
use crate::harness::{Mode, Server};

#[rstest]
#[tokio::test]
async fn a_script_registers_claims_cancels_and_retries(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let claim = ["claim", "--type", "build", "--worker", "w", "--lease", "90s"];
    assert_eq!(run(&server, &claim).await.with(3), "", "there is none");
    let params = r#"{"big":18446744073709551615,"exact":1.10}"#;
    let register = ["register", "--type", "build", "--id", "a", "--params", params];
    let terms = ["--timeout", "2h", "--max-attempts", "5", "--stall", "1m"];
    let registered = run(&server, &[&register[..], &terms].concat()).await;
    assert_eq!(registered.with(0), "a\n");
    let text = server.get("/tasks/a").await.text;
    assert!(text.contains(params), "to the digit: {text}");
    let task = server.task("a").await;
    assert_eq!(task["timeoutSeconds"], 7200);
    assert_eq!((&task["maxAttempts"], &task["stallSeconds"]), (&json!(5), &json!(60)));

    let claimed = run(&server, &claim).await.with(0);
    let claimed: Value = serde_json::from_str(&claimed).expect("JSON");
    assert_eq!((&claimed["id"], &claimed["workerId"]), (&json!("a"), &json!("w")));
    assert_eq!(claimed["leaseSeconds"], 90);
    assert!(claimed["leaseToken"].is_string());

    let cancel = ["cancel", "a", "--reason", "enough", "--grace", "1h"];
    assert_eq!(run(&server, &cancel).await.with(0), "a  asked to end\n");
    assert_eq!(server.task("a").await["cancelReason"], "enough");
    assert_eq!(run(&server, &["cancel", "a", "--force"]).await.with(0), "a  cancelled\n");

    let retried = run(&server, &["retry", "a"]).await.with(0);
    let retried = retried.trim();
    let retry = server.task(retried).await;
    assert_eq!((&retry["originalTaskId"], &retry["status"]), (&json!("a"), &json!("pending")));
    let again = run(&server, &["cancel", "--json", retried]).await.with(0);
    assert_eq!(serde_json::from_str::<Value>(&again).expect("JSON")["status"], "cancelled");
}

#[tokio::test]
async fn a_claim_waits_for_a_task_as_long_as_it_is_told() {
    let server = Server::start(Mode::Embedded).await;
    let claim = ["claim", "--type", "build", "--wait", "1h"];
    let waiting = Running::start(command(&server.root(""), &claim));
    let id = server.registered("build").await;
    let claimed = waiting.ended().await.with(0);
    assert!(claimed.contains(&id), "{claimed}");
}

#[tokio::test]
async fn params_come_from_a_file_or_from_stdin() {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("params.json");
    std::fs::write(&file, "{\n \"month\": 11 }\n").expect("a file");
    let file = format!("@{}", file.display());
    let register = ["register", "--type", "t", "--id", "a", "--params", &file, "--metadata", "-"];
    run_with(&server, &register, r#"{"by":"me"}"#).await.with(0);
    let task = server.task("a").await;
    assert_eq!(task["params"], json!({ "month": 11 }));
    assert_eq!(task["metadata"], json!({ "by": "me" }));
    for wrong in ["[1]", "{", "@/does/not/exist", "17"] {
        let ran = run(&server, &["register", "--type", "t", "--params", wrong]).await;
        assert!(ran.err.contains("--params"), "{}", ran.err);
        ran.with(2);
    }
}

#[tokio::test]
async fn a_refusal_is_said_in_words_and_by_the_exit_status() {
    let server = Server::start(Mode::Embedded).await;
    let id = server.registered("t").await;
    let ran = run(&server, &["register", "--type", "t", "--id", &id]).await;
    assert!(ran.err.contains("The task id is taken: there is a task"), "{}", ran.err);
    ran.with(1);
    let ran = run(&server, &["cancel", "none", &id]).await;
    assert!(ran.err.contains("there is no task none"), "{}", ran.err);
    assert_eq!(ran.with(1), format!("{id}  cancelled\n"), "the others are cancelled");
    run(&server, &["register"]).await.with(2);
    run(&server, &["watch"]).await.with(2);
    run(&server, &["register", "--type", "t", "--id", "a b"]).await.with(2);
    let nobody = command("http://127.0.0.1:9", &["tasks", "--retry-for", "0"]);
    let ran = Running::start(nobody).ended().await;
    assert!(ran.err.contains("cannot reach http://127.0.0.1:9"), "{}", ran.err);
    ran.with(4);
}

#[tokio::test]
async fn a_system_that_trusts_nobody_does_not_stand_in_the_way() {
    let server = Server::start(Mode::Embedded).await;
    let nobody = |url: &str| {
        let mut command = command(url, &["tasks", "--retry-for", "0"]);
        command.env("SSL_CERT_FILE", "/nobody").env("SSL_CERT_DIR", "/nobody");
        Running::start(command)
    };
    nobody(&server.root("")).ended().await.with(0);
    let ran = nobody("https://127.0.0.1:9").ended().await;
    assert!(ran.err.contains("Connection refused"), "the web's are trusted: {}", ran.err);
}

#[tokio::test]
async fn a_key_registers_a_task_once() {
    let server = Server::start(Mode::Embedded).await;
    let register = ["register", "--type", "t", "--idempotency-key", "nightly"];
    let first = run(&server, &register).await.with(0);
    assert_eq!(run(&server, &register).await.with(0), first);
}

#[tokio::test]
async fn headers_go_with_every_request_and_what_a_proxy_says_is_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://me:secret@{}/tracker/", listener.local_addr().expect("bound"));
    let mut command = command(&url, &["tasks", "--header", "X-Team: blue", "--retry-for", "0"]);
    command.env("TASK_TRACKER_HEADERS", "");
    let running = Running::start(command);
    let (mut connection, _) = listener.accept().await.expect("a client");
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert!(connection.read_buf(&mut request).await.expect("a request") > 0);
    }
    let answer = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/html\r\ncontent-length: 14\r\nconnection: close\r\n\r\n<p>not you</p>";
    connection.write_all(answer.as_bytes()).await.expect("a client that reads");
    let request = String::from_utf8(request).expect("text").to_lowercase();
    assert!(request.starts_with("get /tracker/api/v1/tasks?limit=50 http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nx-team: blue\r\n"), "{request}");
    assert!(request.contains("\r\nauthorization: basic "), "{request}");
    let ran = running.ended().await;
    assert!(ran.err.contains("403 Forbidden: <p>not you</p>"), "{}", ran.err);
    assert!(!ran.err.contains("secret"), "{}", ran.err);
    ran.with(1);
}

#[rstest]
#[tokio::test]
async fn tasks_are_listed_as_a_table_and_as_json(#[values(Mode::Embedded, Mode::Node)] mode: Mode) {
    let server = Server::start(mode).await;
    assert_eq!(run(&server, &["tasks"]).await.with(0), "");
    let many: Vec<Value> = (0..230).map(|_| json!({ "taskType": "many" })).collect();
    server.post("/tasks/bulk", json!({ "tasks": many })).await.ok();
    let id = server.started("one").await;
    let entry =
        json!({ "current": 3, "total": 12, "message": "reading \u{1b}[31mfiles\nand more" });
    server.progressed(&id, entry).await;
    let table = run(&server, &["tasks", "--type", "one"]).await.with(0);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("ID  ") && !table.contains('\u{1b}'), "{table}");
    for word in [&*id, "in_progress", "worker-1", "25%", "3/12", "reading files and more"] {
        assert!(lines[1].contains(word), "{word} in {table}");
    }
    let listed = run(&server, &["tasks", "--json", "--limit", "215"]).await;
    let items = listed.lines();
    assert_eq!((items.len(), &items[0]["id"]), (215, &json!(id)), "pages are put together");
    let pending = ["tasks", "--status", "pending", "--since", "1h", "--limit", "1000", "--json"];
    assert_eq!(run(&server, &pending).await.lines().len(), 230);
    let before = run(&server, &["tasks", "--before", "2020-01-01T00:00:00Z"]).await;
    assert_eq!(before.with(0), "");
    run(&server, &["tasks", "--status", "busy"]).await.with(2);
}

#[tokio::test]
async fn whoever_closes_the_pipe_has_seen_enough() {
    let server = Server::start(Mode::Embedded).await;
    for _ in 0..3 {
        server.registered("t").await;
    }
    let mut tasks = command(&server.root(""), &["tasks", "--json"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    tasks.stdout(Stdio::from(writer)).stderr(Stdio::piped());
    let child = tasks.spawn().expect("a process");
    drop(tasks);
    let output = child.wait_with_output().await.expect("an end");
    assert_eq!((output.status.code(), &*output.stderr), (Some(141), &b""[..]), "as cat would");
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let script = |shell: &str| {
        let output = Blocking::new(env!("CARGO_BIN_EXE_task-tracker"))
            .args(["completions", shell])
            .output()
            .expect("a process");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(script(shell).contains("task-tracker"), "{shell}");
    }
    let asked = format!(
        "{}\ncomplete -p task-tracker\nCOMP_WORDS=(task-tracker watch --un) COMP_CWORD=2\n\
         _task__tracker task-tracker --un watch\necho \"${{COMPREPLY[@]}}\"",
        script("bash")
    );
    let bash = Blocking::new("bash").args(["--norc", "-c", &asked]).output().expect("bash");
    let said = String::from_utf8_lossy(&bash.stdout).into_owned();
    assert!(bash.status.success() && bash.stderr.is_empty(), "{bash:?}");
    assert!(said.contains("-F _task__tracker") && said.ends_with("--until-idle\n"), "{said}");
}
