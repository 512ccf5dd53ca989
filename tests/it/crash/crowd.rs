//! Ten thousand readers of a real process: they come back when it was killed, and cost little while nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::json;
use task_tracker::files;
use tokio::task::JoinSet;

use super::process::{Process, answer, figure, memory};
use super::tap::{Tap, Told};
use crate::harness::{Ground, Mode, PATIENCE, eventually};

/// Entries before the kill, and after it.
const ENTRIES: (u64, u64) = (20, 5);
/// For all of them, on a busy machine.
const ALL: Duration = Duration::from_mins(5);

/// One crowd at a time: two have more files than many systems allow a process.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Files for `count` readers and everything else, here and in the processes that are started from here.
fn need_files(count: usize) {
    let most = files::raise_limit().unwrap_or(u64::MAX);
    let needed = count as u64 + 2_000;
    assert!(most >= needed, "{most} files may be open, {needed} are needed: ulimit -Hn");
}

/// The path of a task that runs.
async fn started(process: &Process) -> String {
    let task = process.post("/tasks", &json!({ "taskType": "watched" })).await;
    let id = task["taskId"].as_str().expect("an id").to_owned();
    process.post(&format!("/tasks/{id}/start"), &json!({})).await;
    id
}

async fn append(process: &Process, id: &str, count: u64) {
    for n in 0..count {
        let body = json!({ "progress": { "n": n } });
        process.post(&format!("/tasks/{id}/progress"), &body).await;
    }
}

/// Reads with everybody until `enough`, and on until the stream or the server is over; counts those who have come so far. They come all at
/// once, which is worse than they would: each was told when to come back, and one that came later might find nobody to share with.
fn all_read(
    process: &Process,
    id: &str,
    readers: Vec<Told>,
    enough: fn(&Told) -> bool,
) -> (JoinSet<(Told, bool)>, Arc<AtomicUsize>) {
    let (address, satisfied) = (process.address(), Arc::<AtomicUsize>::default());
    let mut reading = JoinSet::new();
    for (number, mut told) in readers.into_iter().enumerate() {
        let (id, satisfied) = (id.to_owned(), Arc::clone(&satisfied));
        reading.spawn(async move {
            let mut tap = Tap::open(address, number, &id, &mut told).await;
            if tap.read(&mut told, enough).await {
                satisfied.fetch_add(1, Ordering::Relaxed);
            }
            // Until the end of the stream, or of the server.
            tap.read(&mut told, |_| false).await;
            (told, tap.is_over())
        });
    }
    (reading, satisfied)
}

async fn all_of(reading: JoinSet<(Told, bool)>) -> Vec<(Told, bool)> {
    tokio::time::timeout(ALL, reading.join_all()).await.expect("readers that are done in time")
}

async fn until_all(satisfied: &AtomicUsize, readers: usize) {
    let all = async {
        while satisfied.load(Ordering::Relaxed) < readers {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(ALL, all).await;
    assert!(in_time.is_ok(), "{} of {readers}", satisfied.load(Ordering::Relaxed));
}

/// Works as others do beside the crowd until everybody of it is served. Says how many calls were answered, and how many were
/// not, or not in time, for want of a processor.
async fn work_beside(process: &Process, satisfied: &AtomicUsize, readers: usize) -> (usize, usize) {
    let (mut answers, mut misses, begun) = (0, 0, Instant::now());
    let client = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
    loop {
        let register = client.post(process.api("/tasks")).json(&json!({ "taskType": "other" }));
        let claim = json!({ "taskTypes": ["other"], "workerId": "w" });
        let claim = client.post(process.api("/tasks/claim")).json(&claim);
        for request in [register, claim, client.get(process.api("/tasks?status=in_progress"))] {
            match answer(request).await {
                Some(_) => answers += 1,
                None => misses += 1,
            }
        }
        if satisfied.load(Ordering::Relaxed) == readers || begun.elapsed() > ALL {
            return (answers, misses);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_readers_of_a_killed_server_come_back_and_are_served(
    #[values(Mode::Embedded, Mode::Node)] mode: Mode,
) {
    let readers = 10_000;
    let _alone = TURN.lock().await;
    need_files(readers);
    let ground = Ground::new(mode).await;
    let process = Process::start(&ground).await;
    let id = started(&process).await;
    append(&process, &id, ENTRIES.0).await;
    let new = (0..readers).map(|_| Told::default()).collect();
    let (reading, satisfied) = all_read(&process, &id, new, |told| told.last == ENTRIES.0);
    until_all(&satisfied, readers).await;
    process.kill();
    let told = all_of(reading).await;
    assert!(told.iter().all(|(_, is_over)| !is_over), "they were cut off");
    let retries: Vec<u64> = told.iter().map(|(told, _)| told.retries[0]).collect();
    are_spread(&retries);

    let process = Process::start(&ground).await;
    let told = told.into_iter().map(|(told, _)| told).collect();
    // They know all there is, so what says that a reader is back is the comment that opens its stream.
    let (reading, satisfied) = all_read(&process, &id, told, |told| told.retries.len() == 2);
    let (answers, misses) = work_beside(&process, &satisfied, readers).await;
    until_all(&satisfied, readers).await;
    assert!(answers >= 3 && misses <= answers, "{answers} answers to others, {misses} misses");
    assert_eq!(figure(&process, "streams_open ").await, readers);
    append(&process, &id, ENTRIES.1).await;
    process.post(&format!("/tasks/{id}/complete"), &json!({})).await;
    let mut refusals = 0;
    for (told, is_over) in all_of(reading).await {
        assert!(told.has_ended && is_over, "{told:?}");
        assert_eq!(told.last, ENTRIES.0 + ENTRIES.1);
        refusals += told.refusals;
    }
    let asked = figure(&process, "stream_reads_asked_total").await;
    let done = figure(&process, "stream_reads_done_total").await;
    let each = memory(&process, "VmHWM") / readers as u64;
    println!(
        "{asked} reads asked for, {done} done; {refusals} refusals; {answers} answers to others; {each} KiB a stream"
    );
    assert!(asked >= 2 * readers, "each asks whether the task has ended, and for what it missed");
    assert!(done <= readers / 5, "{done} reads for {readers} readers");
    assert!(refusals <= readers / 4, "{refusals} refusals");
    assert!(each < 64, "{each} KiB at most for each");
    let none_open = async || (figure(&process, "streams_open ").await == 0).then_some(());
    eventually(none_open).await;
}

/// Readers that do as they are told do not come back together: those of a small crowd within three seconds, more the larger
/// it is when they ask.
#[track_caller]
fn are_spread(retries: &[u64]) {
    let mut by_second = std::collections::BTreeMap::<u64, usize>::new();
    for retry in retries {
        *by_second.entry(retry / 1000).or_default() += 1;
    }
    let most = by_second.values().max().copied().unwrap_or(0);
    assert!(most <= retries.len() * 2 / 5, "in one second {most} of {}", retries.len());
    assert!(retries.iter().all(|retry| (1000..15_000).contains(retry)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_on_which_nothing_happens_costs_little() {
    const STREAMS: usize = 3_000;
    const PER_TASK: usize = 10;
    let _alone = TURN.lock().await;
    need_files(STREAMS);
    let ground = Ground::new(Mode::Embedded).await;
    let process = Process::start(&ground).await;
    let mut tasks = Vec::new();
    for _ in 0..STREAMS / PER_TASK {
        tasks.push(started(&process).await);
    }
    let open = async |number: usize| {
        let (id, mut told) = (&tasks[number / PER_TASK], Told::default());
        let mut tap = Tap::open(process.address(), number, id, &mut told).await;
        assert!(tap.read(&mut told, |told| told.retries.len() == 1).await, "it is open");
        (tap, told)
    };
    // What the process takes once, and what a burst of requests leaves behind, is none of theirs.
    let mut streams = Vec::new();
    for number in 0..STREAMS / 10 {
        streams.push(open(number).await);
    }
    let before = memory(&process, "VmRSS");
    for number in STREAMS / 10..STREAMS {
        streams.push(open(number).await);
    }
    let grown = memory(&process, "VmRSS").saturating_sub(before);
    let each = grown * 1024 / (STREAMS - STREAMS / 10) as u64;
    println!("{each} bytes a stream");
    for id in &tasks {
        append(&process, id, 1).await;
    }
    for (tap, told) in &mut streams {
        let arrived = tokio::time::timeout(PATIENCE, tap.read(told, |told| told.last == 1)).await;
        assert_eq!(arrived, Ok(true), "an entry reaches every one of them");
    }
    // It is under five KiB, built without optimisation; over fifty, optimised, where a stream stays with hyper, and over
    // twenty where one of hyper's buffers is kept.
    let bound = 16 << 10;
    assert!(each < bound, "{each} bytes for each of {STREAMS} streams");
}
