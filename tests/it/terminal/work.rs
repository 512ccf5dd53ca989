//! A worker made of a program: what goes in and what comes out.

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::tempdir;

use super::command::{Running, command, gone, run, worker, written};
use crate::harness::{Mode, Server, eventually, seq_ids};

async fn registered(server: &Server, params: Value) -> String {
    let body = json!({ "taskType": "work", "params": params, "metadata": { "by": "me" } });
    let task = server.post("/tasks", body).await.ok();
    task["taskId"].as_str().expect("an id").to_owned()
}

/// The history without its numbers.
fn entries(task: &Value) -> Vec<Value> {
    let mut entries = task["progressHistory"].as_array().expect("a history").clone();
    for entry in &mut entries {
        entry.as_object_mut().expect("an object").remove("seqId");
    }
    entries
}

fn message(text: &str, level: &str, stream: &str) -> Value {
    json!({ "message": text, "level": level, "stream": stream })
}

#[rstest]
#[tokio::test]
async fn a_program_gets_its_params_and_what_it_prints_is_progress(
    #[values(Mode::Embedded, Mode::TwoNodes)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let folder = tempdir().expect("a folder");
    let id = registered(&server, json!({ "month": "2026-11", "n": u64::MAX })).await;
    let script = r#"
        cat > "$DIR/stdin"; echo >> "$DIR/stdin"
        printf '%s\n' "$TASK_ID" "$TASK_TYPE" "$TASK_PARAMS" "$TASK_METADATA" "$TASK_ATTEMPT" "$TASK_WORKER_ID" \
            "$TASK_LEASE_TOKEN" "$TASK_TRACKER_URL" > "$DIR/env"
        echo begin
        printf '10%%\r20%%\r\n'
        echo '[3/10] third'
        echo '{"stage": "load", "percent": 42.5}'
        echo 'result: {"rows": 41}'
        echo 'result: {"rows": 42}'
        printf 'a\033[31mb\033[0m\377'
    "#;
    let ran = worker(&server.root(""), folder.path(), &["--once", "--worker-id", "me"], script);
    assert_eq!(ran.ended().await.with(0), "");
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["result"]), (&json!("completed"), &json!({ "rows": 42 })));
    let expected = [
        message("begin", "info", "stdout"),
        json!({ "percent": 10 }),
        json!({ "percent": 20 }),
        json!({ "current": 3, "total": 10, "message": "third" }),
        json!({ "stage": "load", "percent": 42.5 }),
        message("ab\u{fffd}", "info", "stdout"),
    ];
    assert_eq!(entries(&task), expected);
    let stdin: Value = serde_json::from_str(&written(folder.path(), "stdin").await).expect("JSON");
    assert_eq!(stdin, json!({ "month": "2026-11", "n": u64::MAX }));
    let env = written(folder.path(), "env").await;
    let env: Vec<&str> = env.lines().collect();
    assert_eq!((env[0], env[1], env[4], env[5]), (&*id, "work", "1", "me"));
    assert_eq!(serde_json::from_str::<Value>(env[2]).expect("JSON"), stdin);
    assert_eq!(env[3], r#"{"by":"me"}"#);
    assert!(env[6].len() == 32 && env[7].starts_with("http://127.0.0.1:"), "{env:?}");
}

#[rstest]
#[case("echo out; echo err >&2; exit 7", json!({ "exitCode": 7 }), "exit status 7")]
#[case("kill -9 $$", json!({ "signal": "SIGKILL" }), "SIGKILL")]
#[tokio::test]
async fn a_program_that_ends_badly_fails_its_task(
    #[case] script: &str,
    #[case] expected: Value,
    #[case] said: &str,
) {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempdir().expect("a folder");
    let id = registered(&server, Value::Null).await;
    let ran = worker(&server.root(""), folder.path(), &["--once"], script).ended().await;
    assert!(ran.err.contains(said), "{}", ran.err);
    ran.with(1);
    let task = server.task(&id).await;
    let error = &task["error"];
    assert_eq!(task["status"], "failed");
    for (member, value) in expected.as_object().expect("members") {
        assert_eq!(&error[member], value, "{error}");
    }
    assert!(error["message"].as_str().expect("words").contains(said), "{error}");
    if script.starts_with("echo") {
        let mut tail: Vec<&str> =
            error["tail"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        tail.sort_unstable();
        assert_eq!(tail, ["err", "out"], "between the two streams there is no order");
        let mut entries = entries(&task);
        entries.sort_by_key(|entry| entry["message"].as_str().map(str::to_owned));
        let expected = [message("err", "error", "stderr"), message("out", "info", "stdout")];
        assert_eq!(entries, expected);
    }
}

#[tokio::test]
async fn a_worker_whose_program_is_not_there_gives_its_task_back_and_ends() {
    let server = Server::start(Mode::Embedded).await;
    let id = registered(&server, Value::Null).await;
    let ran = run(&server, &["work", "--type", "work", "--", "/does/not/exist"]).await;
    assert!(ran.err.contains("cannot start /does/not/exist"), "{}", ran.err);
    ran.with(1);
    assert_eq!(server.task(&id).await["status"], "pending");
}

#[rstest]
#[tokio::test]
async fn ten_thousand_fast_lines_arrive_once_and_in_order(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let server = Server::start(mode).await;
    let folder = tempdir().expect("a folder");
    let id = registered(&server, Value::Null).await;
    let script = "seq -f 'line %.0f' 10000";
    worker(&server.root(""), folder.path(), &["--once"], script).ended().await.with(0);
    let task = server.task(&id).await;
    assert!(seq_ids(&task).into_iter().eq(1..=10_000));
    let history = task["progressHistory"].as_array().expect("a history");
    for (number, entry) in (1..).zip(history) {
        assert_eq!(entry["message"], format!("line {number}"));
    }
}

#[tokio::test]
async fn params_that_are_too_long_for_the_environment_come_on_stdin() {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempdir().expect("a folder");
    let id = registered(&server, json!({ "text": "x".repeat(300_000) })).await;
    let script = r#"wc -c; echo "[${TASK_PARAMS-unset}]""#;
    worker(&server.root(""), folder.path(), &["--once"], script).ended().await.with(0);
    let entries = entries(&server.task(&id).await);
    assert_eq!(entries[0]["message"].as_str().map(str::trim), Some("300011"));
    assert_eq!(entries[1]["message"], "[unset]");
}

#[tokio::test]
async fn lines_that_the_service_refuses_are_named_and_the_others_kept() {
    let server = Server::start_with(Mode::Embedded, |mut config| {
        config.limits.entry_bytes = 2000;
        config
    })
    .await;
    let folder = tempdir().expect("a folder");
    let id = registered(&server, Value::Null).await;
    let script = r#"for n in 1 2 3 4 5; do echo $n; done; printf '%5000s\n' x; echo 6; echo "result: {\"a\":1}""#;
    worker(&server.root(""), folder.path(), &["--once"], script).ended().await.with(0);
    let said: Vec<String> = entries(&server.task(&id).await)
        .iter()
        .map(|entry| entry["message"].as_str().expect("a message").to_owned())
        .collect();
    assert_eq!((&said[..5], &*said[6]), (&["1", "2", "3", "4", "5"].map(str::to_owned)[..], "6"));
    assert!(said[5].contains("was refused by the service"), "{said:?}");
}

#[tokio::test]
async fn what_a_program_leaves_running_is_killed() {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempdir().expect("a folder");
    let id = registered(&server, Value::Null).await;
    let script = r#"sleep 1000 & echo $! > "$DIR/pid"; echo done"#;
    worker(&server.root(""), folder.path(), &["--once"], script).ended().await.with(0);
    gone(&written(folder.path(), "pid").await).await;
    let task = server.task(&id).await;
    assert_eq!((&task["status"], seq_ids(&task).len()), (&json!("completed"), 1));
}

#[tokio::test]
async fn what_escapes_from_a_program_does_not_hold_its_task_up() {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempdir().expect("a folder");
    let id = registered(&server, Value::Null).await;
    let script = r#"setsid sleep 1000 & echo $! > "$DIR/pid"; echo done"#;
    worker(&server.root(""), folder.path(), &["--once"], script).ended().await.with(0);
    assert_eq!(seq_ids(&server.task(&id).await), [1]);
    let pid = written(folder.path(), "pid").await;
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
}

#[tokio::test]
async fn as_many_programs_run_at_once_as_are_allowed() {
    let server = Server::start(Mode::Embedded).await;
    let folder = tempdir().expect("a folder");
    for _ in 0..5 {
        registered(&server, Value::Null).await;
    }
    let script = r#"touch "$DIR/$TASK_ID"; while [ ! -e "$DIR/go" ]; do sleep 0.02; done"#;
    let running = worker(&server.root(""), folder.path(), &["--concurrency", "3"], script);
    let files = || std::fs::read_dir(folder.path()).expect("a folder").count();
    eventually(|| async { (files() == 3).then_some(()) }).await;
    let counted = async |status: &str| {
        let page = server.get(&format!("/tasks?status={status}")).await.ok();
        page["items"].as_array().expect("items").len()
    };
    assert_eq!((counted("in_progress").await, counted("pending").await), (3, 2));
    std::fs::write(folder.path().join("go"), "").expect("a file");
    eventually(|| async { (counted("completed").await == 5).then_some(()) }).await;
    running.signal("TERM");
    running.ended().await.with(0);
}

#[tokio::test]
async fn a_worker_with_wrong_arguments_is_told_so() {
    let server = Server::start(Mode::Embedded).await;
    for wrong in [
        &["work", "--type", "work"][..],
        &["work", "--", "true"],
        &["work", "--type", "work", "--lease", "0", "--", "true"],
        &["work", "--type", "work", "--heartbeat", "1ms", "--", "true"],
        &["work", "--type", "work", "--concurrency", "0", "--", "true"],
    ] {
        run(&server, wrong).await.with(2);
    }
    let mut refused = command(&server.root(""), &["work", "--type", "work"]);
    refused.args(["--header", "no header", "--", "true"]);
    Running::start(refused).ended().await.with(2);
}
