//! What Postgres and SQLite say differently. Everything else is one text for both.

use crate::database::Kind;

/// Locks the rows a `SELECT` finds until the transaction ends. SQLite's transaction holds the
/// only writer already.
pub(super) fn for_update(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => " FOR UPDATE",
        Kind::Sqlite => "",
    }
}

/// The same, passing over rows another transaction has locked: nodes that sweep at once share the work.
pub(super) fn for_update_skip_locked(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => " FOR UPDATE SKIP LOCKED",
        Kind::Sqlite => "",
    }
}

/// Locks rows that are to get more history, but passes over those that somebody else has: nobody waits, so
/// nobody waits in a circle. It lets those be who only refer to the rows.
pub(super) fn for_extension_skip_locked(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => " FOR NO KEY UPDATE SKIP LOCKED",
        Kind::Sqlite => "",
    }
}

/// The newest 24 rows of the sealed history of each task in `$1`, oldest first: enough to find small
/// neighbours in. A list of tasks is joined to a few rows of each, which Postgres does with `LATERAL` alone
/// without reading every row, and SQLite without it.
pub(super) fn tails(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "SELECT wanted.id AS task_id, tail.first_seq, tail.last_seq, tail.bytes, tail.lost_in
             FROM unnest($1::text[]) AS wanted (id)
             CROSS JOIN LATERAL (
                 SELECT first_seq, last_seq, octet_length(entries)::bigint AS bytes, lost_in
                 FROM tracker_entries WHERE task_id = wanted.id
                 ORDER BY first_seq DESC LIMIT 24) AS tail
             ORDER BY tail.first_seq"
        }
        Kind::Sqlite => {
            "SELECT tail.task_id, tail.first_seq, tail.last_seq, octet_length(tail.entries) AS bytes,
                 tail.lost_in
             FROM json_each($1) AS wanted
             JOIN tracker_entries AS tail ON tail.task_id = wanted.value
                 AND tail.first_seq >= coalesce(
                     (SELECT first_seq FROM tracker_entries WHERE task_id = wanted.value
                      ORDER BY first_seq DESC LIMIT 1 OFFSET 23), 0)
             ORDER BY tail.first_seq"
        }
    }
}

/// Has those who note what became of the live log's memories wait for each other; whoever reads meanwhile does not.
/// SQLite's transaction is the only one that writes.
pub(super) fn lock_generations(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Postgres => Some("LOCK TABLE tracker_generations IN SHARE ROW EXCLUSIVE MODE"),
        Kind::Sqlite => None,
    }
}

/// Membership in the list bound to `$1`: an array on Postgres, which SQLite has not; there the list
/// is bound as a JSON array.
pub(super) fn in_first_parameter(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => " = ANY($1)",
        Kind::Sqlite => " IN (SELECT value FROM json_each($1))",
    }
}

/// A condition that always holds, by which a statement that is a transaction of its own is committed without waiting for the
/// disk: for what a crash may take back. SQLite waits for no disk at a commit, as it is run.
pub(super) fn and_committed_lazily(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => " AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'",
        Kind::Sqlite => "",
    }
}

/// The instant `column` seconds after `instant`: an interval on Postgres, microseconds on SQLite. NULL where the
/// column is.
pub(super) fn after_seconds(kind: Kind, instant: &str, column: &str) -> String {
    match kind {
        Kind::Postgres => format!("{instant} + {column} * interval '1 second'"),
        Kind::Sqlite => format!("{instant} + {column} * 1000000"),
    }
}

/// Whether `column` is like a pattern, in which `\` escapes: the case of A to Z is none, that of other letters is one. So SQLite
/// says LIKE. Postgres says ILIKE, which folds by the collation: by "C" the same letters, and many times as fast as by another;
/// there `\` escapes by itself, and where it is named the pattern is made anew for each row.
pub(super) fn is_like(kind: Kind, column: &str) -> String {
    match kind {
        Kind::Postgres => format!(r#"{column} COLLATE "C" ILIKE ?"#),
        Kind::Sqlite => format!(r"{column} LIKE ? ESCAPE '\'"),
    }
}

/// SQLite counts no rows before it chooses an index, so where two would do it is told which; Postgres knows.
pub(super) fn by_index(kind: Kind, hint: &'static str) -> &'static str {
    match kind {
        Kind::Postgres => "",
        Kind::Sqlite => hint,
    }
}

/// The oldest pending tasks: of each `task_type` of the table `wanted` as `many` as are asked for.
///
/// `task_type = ANY(…) ORDER BY created_at` would lose the index order and sort every pending task. Instead
/// each type offers its oldest by the partial index. Nothing is locked, for what is offered to several is taken by one.
pub(super) fn oldest_pending_of_each(wanted: &str) -> String {
    let oldest = oldest_pending("wanted.task_type", "wanted.many");
    format!("SELECT offer.* FROM {wanted} CROSS JOIN LATERAL ({oldest}) AS offer")
}

/// The oldest pending tasks of one type, as many as are asked for.
fn oldest_pending(task_type: &str, many: &str) -> String {
    format!(
        "SELECT id, task_type, created_at FROM tracker_tasks
         WHERE status = 'pending' AND task_type = {task_type}
         ORDER BY created_at, id LIMIT {many}"
    )
}

/// The same of `count` types, one in `$1` and how many of it in `$2`, and so on. SQLite has no `LATERAL`, and no limit that
/// comes from a row.
pub(super) fn oldest_pending_of(count: usize) -> String {
    let of_one = |at: usize| {
        let (task_type, many) = (format!("${}", 2 * at + 1), format!("${}", 2 * at + 2));
        format!("SELECT * FROM ({})", oldest_pending(&task_type, &many))
    };
    (0..count).map(of_one).collect::<Vec<_>>().join(" UNION ALL ")
}

/// The status of a task that is looked up by its key, said so that no index has it. Either database may else begin with all that
/// wait, or run: SQLite never counts its rows, and before Postgres has, every index looks as cheap as the key, and that plan is kept.
pub(super) fn status_of_found(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "status || ''",
        Kind::Sqlite => "+status",
    }
}

/// What stands before and behind the `SET` of a claim, whose tasks are in the column `task` of the table `given`: a
/// task that another node has taken, or is taking, is passed over. SQLite has one writer, so that nobody is just taking
/// any.
pub(super) fn if_still_pending(kind: Kind, given: &str) -> (String, String) {
    let status = status_of_found(kind);
    match kind {
        Kind::Postgres => (
            format!(
                "WITH free AS MATERIALIZED (
                     SELECT id AS free_id FROM {given}
                     JOIN tracker_tasks ON id = given.task WHERE {status} = 'pending'
                     FOR UPDATE OF tracker_tasks SKIP LOCKED) "
            ),
            format!("FROM {given} JOIN free ON free_id = given.task WHERE id = free_id"),
        ),
        Kind::Sqlite => {
            (String::new(), format!("FROM {given} WHERE id = given.task AND {status} = 'pending'"))
        }
    }
}

/// The same on Postgres, where each row of `given` takes of the tasks `of_type` that no other node is taking the one in
/// its `place`, of which the oldest is 1. No more is locked than is taken.
pub(super) fn oldest_free(given: &str) -> (String, String) {
    let oldest = oldest_pending("wanted.of_type", "wanted.many");
    (
        format!(
            "WITH free AS MATERIALIZED (
                 SELECT oldest.id AS free_id, wanted.of_type AS free_type,
                     row_number() OVER (PARTITION BY wanted.of_type
                                        ORDER BY oldest.created_at, oldest.id) AS free_place
                 FROM (SELECT of_type, count(*) AS many FROM {given} GROUP BY of_type) AS wanted
                 CROSS JOIN LATERAL ({oldest} FOR UPDATE SKIP LOCKED) AS oldest) "
        ),
        format!(
            "FROM {given}
             JOIN free ON free_type = given.of_type AND free_place = given.place
             WHERE id = free_id"
        ),
    )
}

/// Which types of those in `$1` have a pending task.
pub(super) fn pending_types(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "SELECT wanted.task_type AS name FROM unnest($1::text[]) AS wanted (task_type)
             WHERE EXISTS (SELECT 1 FROM tracker_tasks
                           WHERE status = 'pending' AND task_type = wanted.task_type)"
        }
        Kind::Sqlite => {
            "SELECT wanted.value AS name FROM json_each($1) AS wanted
             WHERE EXISTS (SELECT 1 FROM tracker_tasks
                           WHERE status = 'pending' AND task_type = wanted.value)"
        }
    }
}

/// Deletes at most `$2` answers whose time was over by `$1`. By the place of the rows: Postgres might read the whole table to
/// find a thousand keys again. Nodes that do it at once share the work.
pub(super) fn forget_answers(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "DELETE FROM tracker_idempotency WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM tracker_idempotency WHERE expires_at <= $1
                 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
        }
        Kind::Sqlite => {
            "DELETE FROM tracker_idempotency WHERE rowid IN (
                 SELECT rowid FROM tracker_idempotency WHERE expires_at <= $1
                 ORDER BY expires_at LIMIT $2)"
        }
    }
}

/// In which step the instant of `column` is, from 0: steps of `$3` seconds that begin with `$1`.
pub(super) fn step_of(kind: Kind, column: &str) -> String {
    match kind {
        Kind::Postgres => {
            format!("CAST(floor(date_part('epoch', {column} - $1) / $3) AS bigint)")
        }
        Kind::Sqlite => format!("({column} - $1) / ($3 * 1000000)"),
    }
}

/// The microseconds between the instants of two columns, as an integer.
pub(super) fn micros_between(kind: Kind, from: &str, to: &str) -> String {
    match kind {
        Kind::Postgres => format!("CAST(date_part('epoch', {to} - {from}) * 1000000 AS bigint)"),
        Kind::Sqlite => format!("({to} - {from})"),
    }
}
