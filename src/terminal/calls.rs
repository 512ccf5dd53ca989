//! `register`, `claim`, `cancel`, `retry`: one call each, for scripts.

use std::fs;
use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::end::{End, Ended, Failure};
use super::show;
use super::watch;
use crate::cli::terminal::{CancelArgs, ClaimArgs, RegisterArgs, RetryArgs};
use crate::client::call::new_key;
use crate::client::{Call, Client, Error, Patience};
use crate::domain::{JsonObject, TaskId, TaskType, WorkerId};

/// One claim waits for so long at most: what is on the way cuts what is silent for longer.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(25);

/// What is sent is what was given, to the digit: JSON of the caller's goes as text.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Registration<'a> {
    task_id: Option<&'a TaskId>,
    task_type: &'a TaskType,
    params: Option<JsonObject>,
    metadata: Option<JsonObject>,
    timeout_seconds: Option<u64>,
    max_attempts: Option<u32>,
    stall_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    task_id: TaskId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    task_id: TaskId,
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Retried {
    new_task_id: TaskId,
}

/// Registers a task.
pub(super) async fn register(args: &RegisterArgs) -> Ended {
    if args.params.as_deref() == Some("-") && args.metadata.as_deref() == Some("-") {
        return Err(Failure::Usage(
            "--params and --metadata cannot both be read from stdin".into(),
        ));
    }
    let given =
        |name, text: &Option<String>| text.as_deref().map(|text| object(name, text)).transpose();
    let body = Registration {
        task_id: args.id.as_ref(),
        task_type: &args.task_type,
        params: given("--params", &args.params)?,
        metadata: given("--metadata", &args.metadata)?,
        timeout_seconds: args.timeout,
        max_attempts: args.max_attempts,
        stall_seconds: args.stall,
    };
    let body = serde_json::to_string(&body).map_err(|error| Failure::Other(error.to_string()))?;
    let (client, patience) = super::connect(&args.connect)?;
    // A key also where none is given: an answer that is lost is asked for again.
    let key = args.idempotency_key.clone().unwrap_or_else(new_key);
    let answer = client.call(&Call::post("/tasks", body).key(key), patience, |_, _| {}).await?;
    let Registered { task_id } = client.read(&answer)?;
    show::line(if args.json { &answer } else { task_id.as_str() })?;
    if args.watch { watch::one(&args.connect, task_id, args.json).await } else { Ok(End::Done) }
}

/// A JSON object from the command line, a file, or stdin.
fn object(name: &str, text: &str) -> Result<JsonObject, Failure> {
    let text = match text.strip_prefix('@') {
        _ if text == "-" => {
            let mut read = String::new();
            std::io::stdin().read_to_string(&mut read)?;
            read
        }
        Some(file) => fs::read_to_string(file)
            .map_err(|error| Failure::Usage(format!("{name}: cannot read {file}: {error}")))?,
        None => text.to_owned(),
    };
    let wrong = |why: String| Failure::Usage(format!("{name} {why}"));
    let raw: Box<RawValue> =
        serde_json::from_str(&text).map_err(|error| wrong(format!("is no JSON: {error}")))?;
    JsonObject::from_raw(&raw).map_err(|error| wrong(error.to_string()))
}

/// Claims a task.
pub(super) async fn claim(args: &ClaimArgs) -> Ended {
    let (client, patience) = super::connect(&args.connect)?;
    let worker = args.worker.clone().map_or_else(this_worker, Ok)?;
    let until = Instant::now() + args.wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = left.min(LONGEST_WAIT);
        let asked = Instant::now();
        let body = json!({
            "taskTypes": args.types, "workerId": worker, "leaseSeconds": args.lease,
            "waitSeconds": wait.as_secs_f64(),
        });
        let call = Call::post("/tasks/claim", body.to_string()).waiting(wait);
        let answer = client.call(&call, patience, |_, _| {}).await?;
        if !matches!(client.read(&answer)?, Value::Null) {
            show::line(&answer)?;
            return Ok(End::Done);
        }
        if until <= Instant::now() || wait.is_zero() {
            return Ok(End::Nothing);
        }
        rest_if_early(asked, wait).await;
    }
}

/// A node that closes, or something on the way, says at once that there is nothing: it is not asked again at once.
pub(super) async fn rest_if_early(asked: Instant, wait: Duration) {
    if asked.elapsed() < wait / 2 {
        tokio::time::sleep(Duration::from_millis(200 + fastrand::u64(0..300))).await;
    }
}

/// Who we are unless somebody says otherwise: the host and the process.
pub(super) fn this_worker() -> Result<WorkerId, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(|c| !c.is_control()).take(100).collect();
    let name = format!("{host}-{}", std::process::id());
    name.parse().map_err(|error| Failure::Other(format!("{name}: {error}")))
}

/// Cancels tasks.
pub(super) async fn cancel(args: &CancelArgs) -> Ended {
    let (client, patience) = super::connect(&args.connect)?;
    let force = args.force.then_some(true);
    let body = json!({ "reason": args.reason, "graceSeconds": args.grace, "force": force });
    let calls =
        args.ids.iter().map(|id| Call::post(format!("/tasks/{id}/cancel"), body.to_string()));
    let said = |answer: &str| {
        let Changed { task_id, status } = client.read(answer)?;
        // One in progress ends when its worker has.
        let status = if status == "cancelled" { &status } else { "asked to end" };
        Ok(format!("{task_id}  {status}"))
    };
    each(&client, patience, calls, args.json, said).await
}

/// Tries tasks once more.
pub(super) async fn retry(args: &RetryArgs) -> Ended {
    let (client, patience) = super::connect(&args.connect)?;
    let calls =
        args.ids.iter().map(|id| Call::post(format!("/tasks/{id}/retry"), "").key(new_key()));
    let said = |answer: &str| {
        let Retried { new_task_id } = client.read(answer)?;
        Ok(new_task_id.to_string())
    };
    each(&client, patience, calls, args.json, said).await
}

/// Makes each call and says what came of it. What is refused keeps none of the others from being made.
async fn each(
    client: &Client,
    patience: Patience,
    calls: impl Iterator<Item = Call>,
    json: bool,
    said: impl Fn(&str) -> Result<String, Error>,
) -> Ended {
    let mut end = End::Done;
    for call in calls {
        match client.call(&call, patience, |_, _| {}).await {
            Ok(answer) if json => show::line(&answer)?,
            Ok(answer) => show::line(&said(&answer)?)?,
            Err(refused @ Error::Refused(_)) => {
                show::note(&refused.to_string());
                end = End::Failed;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(end)
}
