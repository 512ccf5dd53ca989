//! What is particular to the file of the embedded log, in which entries stand in the order in which they came.

use std::sync::Arc;

use task_tracker::config::Mode as ConfigMode;
use task_tracker::database::{Database, Statement};
use task_tracker::domain::TaskId;
use task_tracker::live::Haste;

use super::{Backend, LIMITS, Log, kept, object};
use crate::harness::{Ground, Mode};

/// The file of a log, from beside it.
async fn file(ground: &Ground) -> Database {
    let ConfigMode::Embedded { data_dir } = ground.config().mode else {
        panic!("a log in Redis");
    };
    std::fs::create_dir_all(&data_dir).expect("a folder");
    Database::sqlite(&data_dir.join("live.db"), 1).await.expect("a file")
}

async fn say(file: &Database, sql: &'static str) {
    Statement::new(sql).execute(file.writer()).await.expect("a statement");
}

async fn count(file: &Database, sql: &'static str) -> i64 {
    #[derive(sqlx::FromRow)]
    struct CountRow {
        count: i64,
    }
    let rows: Vec<CountRow> = Statement::new(sql).fetch_all(file.reader()).await.expect("a count");
    rows[0].count
}

async fn numbers(log: &Log, task: &TaskId) -> Vec<u64> {
    log.entries(task).await.iter().map(|entry| entry.seq_id).collect()
}

#[tokio::test]
async fn entries_of_an_earlier_version_are_taken_over() {
    let ground = Arc::new(Ground::new(Mode::Embedded).await);
    let (one, other) = (TaskId::new(), TaskId::new());
    let earlier = file(&ground).await;
    say(
        &earlier,
        "CREATE TABLE live_entries (task_id TEXT NOT NULL, seq_id INTEGER NOT NULL, line TEXT NOT NULL,
             PRIMARY KEY (task_id, seq_id)) STRICT, WITHOUT ROWID",
    )
    .await;
    for seq_id in [3_u64, 1, 2, 4] {
        let line = format!(
            r#"{{"seqId":{seq_id},"timestamp":"2026-11-21T12:00:00.000Z","progress":{{"n":1}}}}"#
        );
        let task = if seq_id == 4 { &other } else { &one };
        Statement::new("INSERT INTO live_entries (task_id, seq_id, line) VALUES ($1, $2, $3)")
            .bind(task)
            .bind(seq_id)
            .bind(line)
            .execute(earlier.writer())
            .await
            .expect("an entry");
    }
    earlier.close().await;
    let log = Log::open_on(Backend::Embedded, Arc::clone(&ground)).await;
    assert_eq!(numbers(&log, &one).await, [1, 2, 3]);
    assert_eq!(log.live.last_seq_ids(&[one.clone(), other]).await.unwrap(), [3, 4]);
    assert_eq!(log.open_for(&one, 1, None).await, 4, "counting goes on");
    let beside = file(&ground).await;
    let left = "SELECT count(*) AS count FROM sqlite_master WHERE name = 'live_entries'";
    assert_eq!(count(&beside, left).await, 0);
}

#[tokio::test]
async fn what_a_write_left_that_failed_is_counted() {
    let log = Log::open(Backend::Embedded).await;
    let task = log.opened().await;
    let beside = file(&log.ground).await;
    // What came before it in the same statement stays.
    say(
        &beside,
        "CREATE TRIGGER breaks BEFORE INSERT ON live_journal WHEN new.line LIKE '%breaks%'
         BEGIN SELECT RAISE(FAIL, 'broken'); END",
    )
    .await;
    let entries = [object("is kept"), object("is kept"), object("breaks")];
    let caller = task_tracker::domain::Caller::default();
    let append = task_tracker::live::Append {
        entries: &entries,
        caller: &caller,
        now: log.clock.now(),
        verified: None,
        key: None,
        limits: LIMITS,
    };
    log.live.append(&task, append).await.expect_err("not all of it was kept");
    assert_eq!(kept(log.try_append(&task, &[object("the next")]).await), 4);
    assert_eq!(numbers(&log, &task).await, [1, 2, 3, 4]);
    assert_eq!(numbers(&log.again().await, &task).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_page_that_left_the_file_while_it_was_read_is_no_end_of_the_log() {
    let log = Log::open(Backend::Embedded).await;
    let task = log.opened().await;
    log.append(&task, 7).await;
    let beside = file(&log.ground).await;
    // As between a look into the index and the reading of the file.
    say(&beside, "DELETE FROM live_journal WHERE seq_id <= 6").await;
    for (after, limit, entries, behind) in
        [(0, 3, vec![], 3), (3, 3, vec![], 6), (3, 9, vec![], 6), (6, 9, vec![7, 8], 0)]
    {
        let page = log.live.read(&task, after, limit).await.expect("a page");
        let numbers: Vec<u64> = page.entries.iter().map(|entry| entry.seq_id).collect();
        assert_eq!((numbers, page.behind, page.last_seq_id), (entries, behind, 8), "{after}");
    }
}

#[tokio::test]
async fn what_could_not_leave_the_file_leaves_it_with_the_next() {
    let log = Log::open(Backend::Embedded).await;
    let task = log.opened().await;
    log.append(&task, 9).await;
    let beside = file(&log.ground).await;
    say(
        &beside,
        "CREATE TRIGGER stays BEFORE DELETE ON live_journal
         BEGIN SELECT RAISE(ABORT, 'stays'); END",
    )
    .await;
    log.live.trim(&[(task.clone(), 5)], Haste::Aside).await.expect_err("nothing can be deleted");
    assert_eq!(log.live.read(&task, 5, 100).await.unwrap().entries.len(), 5);
    let all = "SELECT count(*) AS count FROM live_journal";
    assert_eq!(count(&beside, all).await, 10);
    // Whoever opens the file meanwhile finds what is sealed once more, and it leaves as before.
    assert_eq!(numbers(&log.again().await, &task).await.len(), 10);
    say(&beside, "DROP TRIGGER stays").await;
    log.live.trim(&[(task.clone(), 7)], Haste::AtOnce).await.expect("a trimmed log");
    assert_eq!((numbers(&log, &task).await, count(&beside, all).await), (vec![8, 9, 10], 3));
}
