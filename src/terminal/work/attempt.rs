//! One task: its program from the start to the report of how it ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Worker;
use super::line::Source;
use super::link::{Body, Link, Refusal, Word};
use super::output::{Kept, Output};
use super::program::Program;
use super::report::report;
use crate::client::wire::Claimed;

/// For the last words of a program whose task is given back, and for giving it back: the worker is told to go.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    Failed(String),
    Cancelled,
    /// Another worker may have it.
    Lost,
    GivenBack,
    /// The program cannot be run here.
    NotStarted(String),
}

/// How a program ended.
struct Fate {
    status: io::Result<ExitStatus>,
    /// It was asked to end because its task was cancelled.
    was_cancelled: bool,
}

/// Runs the program for a task, and reports. `give_back` ends it and leaves the task to others.
pub(super) async fn attempt(
    worker: &Worker,
    task: Claimed,
    give_back: CancellationToken,
) -> Outcome {
    let caller = (worker.id.clone(), task.lease_token.clone());
    let notes = Arc::clone(&worker.notes);
    let lease = worker.args.lease;
    let link = Arc::new(Link::new(worker.client.clone(), task.id.clone(), caller, lease, notes));
    let started = Program::start(&worker.args.command, &task, &worker.id, worker.client.base());
    let (program, stdout, stderr) = match started {
        Ok(started) => started,
        Err(error) => {
            release(&link).await;
            return Outcome::NotStarted(error.to_string());
        }
    };
    // A third of the lease at most: two may be lost on the way.
    let every = worker.args.heartbeat.min(Duration::from_secs(lease) / 3);
    let heart = Arc::clone(&link);
    let _heart = AbortOnDropHandle::new(tokio::spawn(async move { heart.beat(every).await }));
    run(worker, &link, program, (stdout, stderr), &give_back).await
}

async fn run(
    worker: &Worker,
    link: &Arc<Link>,
    mut program: Program,
    (stdout, stderr): (ChildStdout, ChildStderr),
    give_back: &CancellationToken,
) -> Outcome {
    let (output, entries) = Output::new();
    let is_over = CancellationToken::new();
    let reporter = AbortOnDropHandle::new(tokio::spawn(report(Arc::clone(link), entries)));
    let read_out = output.clone().read(stdout, Source::Stdout, is_over.clone());
    let read_err = output.clone().read(stderr, Source::Stderr, is_over.clone());
    let readers = AbortOnDropHandle::new(tokio::spawn(futures::future::join(read_out, read_err)));
    let fate = supervise(&mut program, link, give_back, worker.args.grace).await;
    is_over.cancel();
    // Everything it said goes before its end.
    let said = async {
        let _ = readers.await;
        let kept = output.kept();
        drop(output);
        let _ = reporter.await;
        kept
    };
    let kept = tokio::select! {
        biased;
        () = lost(link) => return Outcome::Lost,
        kept = said => kept,
        () = passed(give_back) => Kept::default(),
    };
    if give_back.is_cancelled() && is_killed(&fate) {
        release(link).await;
        return Outcome::GivenBack;
    }
    tokio::select! {
        biased;
        outcome = end(link, fate, kept) => outcome,
        // The server is away, and we are told to go: the lease runs out.
        () = passed(give_back) => Outcome::GivenBack,
    }
}

/// Waits for the end of the program, and brings it about where the service or the worker wants it.
async fn supervise(
    program: &mut Program,
    link: &Link,
    give_back: &CancellationToken,
    grace: Duration,
) -> Fate {
    let mut word = link.word();
    let mut kill_at = None;
    let (mut was_cancelled, mut is_given_back) = (false, false);
    loop {
        let patience = async {
            match kill_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = program.ended() => return Fate { status, was_cancelled },
            // The link holds the sender.
            Ok(()) = word.changed() => match *word.borrow_and_update() {
                Word::Go => {}
                Word::Cancel => {
                    was_cancelled = true;
                    program.terminate();
                    kill_at = Some(Instant::now() + grace);
                }
                Word::Lost => program.kill(),
            },
            () = patience => {
                program.kill();
                kill_at = None;
            }
            () = give_back.cancelled(), if !is_given_back => {
                is_given_back = true;
                program.kill();
            }
        }
    }
}

/// Reports how it ended, until somebody has heard it.
async fn end(link: &Link, Fate { status, was_cancelled }: Fate, kept: Kept) -> Outcome {
    if was_cancelled {
        return match link.say("cancel", Body::default()).await {
            Ok(()) => Outcome::Cancelled,
            Err(_) if link.is_cancelled().await => Outcome::Cancelled,
            Err(_) => Outcome::Lost,
        };
    }
    let Some(mut error) = error(&status) else {
        let result = Body { result: kept.result.as_ref(), ..Body::default() };
        return match link.say("complete", result).await {
            Ok(()) => Outcome::Completed,
            Err(Refusal::Lost) => Outcome::Lost,
            // A task that is completed without the result it should have would be a lie.
            Err(Refusal::Wrong(refused)) => {
                let message = format!("the result was refused: {refused}");
                fail(link, json!({ "message": message })).await
            }
        };
    };
    error["tail"] = kept.tail.into_iter().collect();
    fail(link, error).await
}

async fn fail(link: &Link, error: Value) -> Outcome {
    let message = error["message"].as_str().unwrap_or_default().to_owned();
    match link.say("fail", Body { error: Some(error), ..Body::default() }).await {
        Ok(()) => Outcome::Failed(message),
        Err(Refusal::Lost) => Outcome::Lost,
        Err(Refusal::Wrong(refused)) => {
            link.notes().say(&format!("{}: {refused}", link.task()));
            Outcome::Failed(message)
        }
    }
}

/// What is wrong with an end; `None` where nothing is.
fn error(status: &io::Result<ExitStatus>) -> Option<Value> {
    let status = match status {
        Ok(status) if status.success() => return None,
        Ok(status) => status,
        Err(error) => {
            return Some(json!({ "message": format!("its end is not known: {error}") }));
        }
    };
    Some(match (status.code(), status.signal()) {
        (Some(code), _) => {
            json!({ "message": format!("the program ended with exit status {code}"), "exitCode": code })
        }
        (None, Some(signal)) => {
            let name = signal_name(signal);
            json!({ "message": format!("the program was ended by {name}"), "signal": name })
        }
        (None, None) => json!({ "message": status.to_string() }),
    })
}

fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        number => return format!("signal {number}"),
    };
    name.to_owned()
}

/// Whether a program was ended by somebody, and did not end by itself in the same moment.
fn is_killed(fate: &Fate) -> bool {
    !matches!(&fate.status, Ok(status) if status.code().is_some())
}

/// Gives a task back, as long as the worker can wait for it.
async fn release(link: &Link) {
    let _ = timeout(LAST_WORDS, link.say("release", Body::default())).await;
}

async fn lost(link: &Link) {
    // The link holds the sender.
    let _ = link.word().wait_for(|word| *word == Word::Lost).await;
}

async fn passed(give_back: &CancellationToken) {
    give_back.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}
