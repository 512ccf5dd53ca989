//! What the statements cost whose cost must not grow with the table: none scans a million tasks.

use std::time::{Duration, Instant};

use rstest::rstest;
use task_tracker::clock::Clock;
use task_tracker::database::Kind;
use task_tracker::domain::Timestamp;
use task_tracker::storage::Stretch;

use super::storage::Store;

/// Tasks that are written by one statement: together a million.
const BATCH: u64 = 50_000;

/// A million tasks, half of them ended, of 200 types and 1000 workers, over 40 days. Indexes are made after
/// the rows, which takes half the time; their text is the schema's own.
async fn fill(store: &Store) {
    let kind = store.database.kind();
    let schema = match kind {
        Kind::Postgres => [
            include_str!("../../../migrations/postgres/0001_core.sql"),
            include_str!("../../../migrations/postgres/0007_overview.sql"),
        ],
        Kind::Sqlite => [
            include_str!("../../../migrations/sqlite/0001_core.sql"),
            include_str!("../../../migrations/sqlite/0007_overview.sql"),
        ],
    };
    let indexes: Vec<&str> = schema
        .into_iter()
        .flat_map(|migration| migration.split(';'))
        .filter_map(|statement| {
            let starts = ["CREATE INDEX tracker_tasks", "CREATE INDEX IF NOT EXISTS tracker_tasks"];
            starts.iter().find_map(|start| statement.find(start)).map(|at| &statement[at..])
        })
        .collect();
    assert!(indexes.len() > 3, "{indexes:?}");
    for index in &indexes {
        let mut words = index.split_whitespace();
        let name = words.find(|word| word.starts_with("tracker_tasks_")).expect("a name");
        store.run(format!("DROP INDEX {name}")).await.expect(name);
    }
    if kind == Kind::Postgres {
        // One caller at a time is given the same connection: an index of a million rows takes longer than a request may.
        store.run("SET statement_timeout = 0").await.expect("patience");
    }
    if kind == Kind::Sqlite {
        // The writer is one connection: it keeps what it is told.
        store.run("PRAGMA cache_size = -262144").await.expect("memory");
        store.run("PRAGMA temp_store = memory").await.expect("memory");
    }
    for begin in (1..=1_000_000).step_by(BATCH.try_into().expect("a small number")) {
        let written = store.run(batch(kind, begin, begin + BATCH - 1)).await;
        assert_eq!(written.expect("a part of a million tasks"), BATCH);
    }
    for index in indexes {
        store.run(index).await.expect(index);
    }
    // Histories for the lists to look into.
    let sealed = "INSERT INTO tracker_entries (task_id, first_seq, last_seq, entries, latest)
                  SELECT id, 1, 1, '[]', '{}' FROM tracker_tasks WHERE id < 'task-1050000'";
    store.run(sealed).await.expect("histories");
    // Answers, a twentieth of which are over.
    for begin in (1..=100_000).step_by(BATCH.try_into().expect("a small number")) {
        let answers = answers(kind, begin, begin + BATCH - 1);
        assert_eq!(store.run(answers).await.expect("answers"), BATCH);
    }
    // As Postgres does by itself after so many rows. By name: without one, it would look at the tables of every other test, too.
    let look = match kind {
        Kind::Postgres => "VACUUM ANALYZE",
        Kind::Sqlite => "ANALYZE",
    };
    for table in ["tracker_tasks", "tracker_entries", "tracker_idempotency"] {
        store.run(&format!("{look} {table}")).await.expect("statistics");
    }
}

/// Writes tasks `begin` to `end`. Types, statuses and workers are mixed, so that they do not follow each
/// other in the table: of ten tasks five have ended, four wait and one runs.
fn batch(kind: Kind, begin: u64, end: u64) -> String {
    let (numbers, instant, day, year) = match kind {
        Kind::Postgres => (
            format!("generate_series({begin}::bigint, {end}) AS n"),
            "timestamptz '2026-01-01 00:00:00+00' + n * interval '3.5 seconds'",
            "interval '1 day'",
            "interval '365 days'",
        ),
        Kind::Sqlite => (
            format!(
                "(WITH RECURSIVE counted (n) AS (
                     SELECT {begin} UNION ALL SELECT n + 1 FROM counted WHERE n < {end})
                  SELECT n FROM counted)"
            ),
            "1767225600000000 + n * 3500000",
            "86400000000",
            "31536000000000",
        ),
    };
    format!(
        "INSERT INTO tracker_tasks (id, task_type, status, timeout_seconds, worker_id, attempt,
             created_at, updated_at, started_at, completed_at, timeout_at)
         SELECT 'task-' || (1000000 + n), 'type-' || (n * 7919 % 200),
             CASE n % 10 WHEN 0 THEN 'completed' WHEN 1 THEN 'completed' WHEN 2 THEN 'completed'
                 WHEN 3 THEN 'failed' WHEN 4 THEN 'timeout' WHEN 5 THEN 'in_progress' ELSE 'pending' END,
             86400, CASE WHEN n % 10 < 6 THEN 'worker-' || (n * 104729 % 1000) END,
             CASE WHEN n % 10 < 6 THEN 1 ELSE 0 END,
             {instant}, {instant}, CASE WHEN n % 10 < 6 THEN {instant} END,
             CASE WHEN n % 10 < 5 THEN {instant} END,
             {instant} + CASE WHEN n % 1000 = 7 THEN {day} ELSE {year} END
         FROM {numbers}"
    )
}

/// Writes the answers to requests `begin` to `end`.
fn answers(kind: Kind, begin: u64, end: u64) -> String {
    let (numbers, expires) = match kind {
        Kind::Postgres => (
            format!("generate_series({begin}::bigint, {end}) AS n"),
            "now() + (n - 5000) * interval '1 second'",
        ),
        Kind::Sqlite => (
            format!(
                "(WITH RECURSIVE counted (n) AS (
                     SELECT {begin} UNION ALL SELECT n + 1 FROM counted WHERE n < {end})
                  SELECT n FROM counted)"
            ),
            "unixepoch() * 1000000 + (n - 5000) * 1000000",
        ),
    };
    format!(
        "INSERT INTO tracker_idempotency (scope, key_hash, fingerprint, answer, expires_at)
         SELECT 'register', 'key-' || n, 'request-' || n, '{{\"status\":201}}', {expires}
         FROM {numbers}"
    )
}

/// What is wrong with a plan.
fn faults(kind: Kind, name: &str, plan: &str) -> Vec<String> {
    let (scan, sort) = match kind {
        Kind::Postgres => ("Seq Scan on tracker_", "Sort"),
        Kind::Sqlite => ("SCAN tracker_", "USE TEMP B-TREE"),
    };
    let mut faults = Vec::new();
    for line in plan.lines() {
        // A scan along an index that is cut off by its limit is how a list begins.
        // What an overview counts of tasks that wait and run is an index of theirs, whole.
        let is_counted = name.starts_with("overview") && line.contains("USING COVERING INDEX");
        if line.contains(scan) && !line.contains("USING INDEX") && !is_counted {
            faults.push(format!("{name} reads the whole table: {line}"));
        }
        // What a claim sorts are the oldest of each type it asks for, not tasks at large; what workers hold
        // is sorted by worker, what an overview groups are counts; where a list has several ways, the first of each are put in order.
        let may_sort = ["claim", "held", "overview", "list by statuses", "list of a chain"];
        if line.contains(sort) && !may_sort.iter().any(|may| name.starts_with(may)) {
            faults.push(format!("{name} sorts: {line}"));
        }
    }
    if name == "what has moved" {
        for index in ["newest", "ended", "by_status", "returned"] {
            if !plan.contains(&format!("tracker_tasks_{index}")) {
                faults.push(format!("{name} does not look into {index}"));
            }
        }
        return faults;
    }
    let by_key = match kind {
        Kind::Postgres => "tracker_tasks_pkey",
        Kind::Sqlite => "sqlite_autoindex_tracker_tasks_1",
    };
    let index = match name {
        "claim of one type" | "claim of two types" | "overview: what waits and runs" => {
            "tracker_tasks_claim"
        }
        "claim of what is free" => by_key,
        "claim of what is given" | "ends of many" | "sealing of many" | "the ended among many" => {
            // And in no other: not with all that wait, or run, or have ended.
            let others = plan.replace(by_key, "");
            if ["using tracker_tasks_", "INDEX tracker_tasks_"].iter().any(|by| others.contains(by))
            {
                faults.push(format!("{name} does not only go by the key"));
            }
            by_key
        }
        "notes of ends" => match kind {
            Kind::Postgres => "tracker_entries_pkey",
            Kind::Sqlite => "sqlite_autoindex_tracker_entries_1",
        },
        "sweep" => "tracker_tasks_deadline",
        "forgotten answers" => "tracker_idempotency_expires",
        "sweep of leases" => "tracker_tasks_leases",
        "sweep of stalls" => "tracker_tasks_stalls",
        "sweep of the cancelled" => "tracker_tasks_cancels",
        "held by workers" | "overview: workers" => "tracker_tasks_held",
        "list" | "list, the oldest first" | "list, searched" | "overview: registered by step" => {
            "tracker_tasks_newest"
        }
        "what runs" => "tracker_tasks_by_status",
        "list of a chain" => "tracker_tasks_retries",
        name if name.starts_with("list of the ended") => "tracker_tasks_ended",
        name if name.starts_with("list by type") => "tracker_tasks_by_type",
        name if name.starts_with("list by status") => "tracker_tasks_by_status",
        name if name.starts_with("list by worker") => "tracker_tasks_by_worker",
        "what of a type has moved" => "tracker_tasks_returned",
        "overview: what ended" | "overview: ended by step" => "tracker_tasks_ended",
        "overview: failures" => "tracker_tasks_failures",
        name => panic!("{name}: which index is it to begin in?"),
    };
    if !plan.contains(index) {
        faults.push(format!("{name} does not begin in {index}"));
    }
    faults
}

#[rstest]
#[tokio::test]
async fn no_statement_reads_a_whole_table_of_a_million_tasks(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    fill(&store).await;
    let plans = store.storage.plans(Clock::system().now()).await.expect("plans");
    let mut faults_of_all = Vec::new();
    for (name, plan) in &plans {
        println!("== {kind:?}: {name}\n{plan}\n");
        faults_of_all.extend(faults(kind, name, plan));
    }
    look_over(&store).await;
    // A server that lives on need not keep a million rows.
    store
        .run("DROP TABLE tracker_entries, tracker_unsettled, tracker_tasks, tracker_idempotency")
        .await
        .ok();
    assert!(plans.len() >= 7);
    assert!(faults_of_all.is_empty(), "{}", faults_of_all.join("\n"));
}

/// Says how long each part of an overview takes of a week in which 172,800 tasks were registered and half of them ended: what a
/// node that was just started does once.
async fn look_over(store: &Store) {
    let to: Timestamp = "2026-02-10T00:00:00Z".parse().expect("an instant");
    let week = Stretch { from: to.minus(Duration::from_hours(7 * 24)), to, step_seconds: 10_800 };
    let (storage, beginning) = (&store.storage, to.minus(Duration::from_hours(2400)));
    let began = Instant::now();
    let lap = |what: &str| println!("{what} after {:?}", began.elapsed());
    let active = storage.active().await.expect("queues");
    lap("what waits and runs");
    assert_eq!((active.pending, active.in_progress), (400_000, 100_000));
    assert_eq!(active.queues.len(), 50);
    let ever = to.plus(Duration::from_hours(2400));
    let ended = storage.count_ended(beginning, ever, 1_000_000).await.expect("counts");
    lap("what ended");
    assert_eq!(ended.counts.iter().map(|(_, tasks)| tasks).sum::<u64>(), 500_000);
    let registered = storage.registered_by_step(week).await.expect("steps");
    lap("a week of registrations");
    assert_eq!(registered.iter().map(|(_, tasks)| tasks).sum::<u64>(), 172_800);
    let ended = storage.ended_by_step(week).await.expect("steps");
    lap("a week of ends");
    assert_eq!(ended.iter().map(|ended| ended.tasks).sum::<u64>(), 86_400);
    assert_eq!(storage.newest_failures(10).await.expect("failures").len(), 10);
    lap("failures");
}

/// SQLite never learns how large a table is unless somebody asks it to look, which nobody does here; Postgres counts a minute after there
/// is something, and keeps the plans it made before until then.
#[rstest]
#[tokio::test]
async fn statements_begin_in_the_same_indexes_before_anything_was_counted(
    #[values(Kind::Postgres, Kind::Sqlite)] kind: Kind,
) {
    let store = Store::open(kind).await;
    let plans = store.storage.plans(Clock::system().now()).await.expect("plans");
    for (name, plan) in &plans {
        println!("== {kind:?}: {name}\n{plan}\n");
    }
    // Postgres takes another index of what runs for as good: what is looked at now and then may read it for a minute.
    let may_differ = |name: &str| {
        kind == Kind::Postgres && ["held by workers", "what has moved"].contains(&name)
    };
    let faults: Vec<String> = plans
        .iter()
        .filter(|(name, _)| !may_differ(name))
        .flat_map(|(name, plan)| faults(kind, name, plan))
        .collect();
    assert!(plans.len() >= 7);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
