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

/// Rows of sealed history from five lists: Postgres takes them in one statement. SQLite has no lists but in
/// JSON, in which the entries would be escaped once more, and no round trip to save.
pub(super) const INSERT_ROWS: &str =
    "INSERT INTO tracker_entries (task_id, first_seq, last_seq, entries, latest)
     SELECT task_id, first_seq::bigint, last_seq::bigint, entries, latest
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
         AS sealed (task_id, first_seq, last_seq, entries, latest)";

/// Membership in the list bound to `$1`: an array on Postgres, which SQLite has not; there the list
/// is bound as a JSON array.
pub(super) fn in_first_parameter(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => " = ANY($1)",
        Kind::Sqlite => " IN (SELECT value FROM json_each($1))",
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

/// SQLite counts no rows before it chooses an index, so where two would do it is told which; Postgres knows.
pub(super) fn by_index(kind: Kind, hint: &'static str) -> &'static str {
    match kind {
        Kind::Postgres => "",
        Kind::Sqlite => hint,
    }
}

/// How a claim looks for its task.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look {
    /// Straight at the oldest.
    Direct,
    /// At so many of each type.
    Offers(u32),
}

/// How often a claim looks before it believes that nothing is pending. Beside other claims Postgres may find
/// nothing although a task is pending: every one it saw was being taken. So it looks again, at more.
pub(super) fn looks(kind: Kind, types: usize) -> &'static [Look] {
    match (kind, types) {
        (Kind::Postgres, 1) => &[Look::Direct, Look::Direct],
        (Kind::Postgres, _) => &[Look::Offers(8), Look::Offers(256)],
        (Kind::Sqlite, _) => &[Look::Direct],
    }
}

/// A sub-select of the id of the oldest pending task of the types in `$1`, which no other claim takes.
///
/// `task_type = ANY($1) ORDER BY created_at` would lose the index order and sort every pending task.
/// Instead each type offers its oldest by the partial index, and the oldest of all is taken.
///
/// On Postgres each of several types offers `$8` tasks and the first that is not locked by another claim is
/// taken: `LATERAL` with a lock inside is always a nested loop, which visits the offers in their order
/// and stops at the first it gets. Sorting outside would lock every offer. One type needs no offers: its range
/// of the index is walked until a row is free. SQLite has one writer, so its oldest is free.
pub(super) fn oldest_pending(kind: Kind, look: Look) -> &'static str {
    match (kind, look) {
        (Kind::Postgres, Look::Direct) => {
            "SELECT id FROM tracker_tasks
             WHERE status = 'pending' AND task_type = ($1::text[])[1]
             ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED"
        }
        (Kind::Postgres, Look::Offers(_)) => {
            "SELECT taken.id
             FROM (SELECT offer.id
                   FROM unnest($1::text[]) AS wanted (task_type)
                   CROSS JOIN LATERAL (
                       SELECT id, created_at FROM tracker_tasks
                       WHERE status = 'pending' AND task_type = wanted.task_type
                       ORDER BY created_at, id LIMIT $8) AS offer
                   ORDER BY offer.created_at, offer.id) AS offered
             CROSS JOIN LATERAL (
                 SELECT id FROM tracker_tasks
                 WHERE id = offered.id AND status = 'pending'
                 FOR UPDATE SKIP LOCKED) AS taken
             LIMIT 1"
        }
        (Kind::Sqlite, _) => {
            "SELECT oldest.id
             FROM json_each($1) AS wanted
             JOIN tracker_tasks AS oldest ON oldest.id = (
                 SELECT id FROM tracker_tasks
                 WHERE status = 'pending' AND task_type = wanted.value
                 ORDER BY created_at, id LIMIT 1)
             ORDER BY oldest.created_at, oldest.id LIMIT 1"
        }
    }
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

/// Notes in `table` that names were seen, and something of each, the columns `name` and `of_it`: two lists of the same
/// length, `$1` and `$2`, and an instant.
pub(super) fn note_seen(kind: Kind, table: &str, name: &str, of_it: &str) -> String {
    let pairs = match kind {
        Kind::Postgres => {
            "SELECT name, of_it, $3 FROM unnest($1::text[], $2::text[]) AS noted (name, of_it)"
        }
        // `WHERE TRUE` tells the `ON` of the conflict from one of a join.
        Kind::Sqlite => {
            "SELECT name.value, of_it.value, $3
             FROM json_each($1) AS name JOIN json_each($2) AS of_it ON of_it.key = name.key
             WHERE TRUE"
        }
    };
    format!(
        "INSERT INTO {table} ({name}, {of_it}, seen_at) {pairs}
         ON CONFLICT ({name}) DO UPDATE SET {of_it} = excluded.{of_it}, seen_at = excluded.seen_at"
    )
}

/// The tasks of a batch as rows. `$1` is a JSON array of `[id, type, metadata, params, timeout, place, attempts,
/// stall]`, for SQLite has no arrays to unnest; `$2` is the instant of the first.
pub(super) fn batch(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "SELECT value ->> 0 AS id, value ->> 1 AS task_type, value ->> 2 AS metadata,
                 value ->> 3 AS params, (value ->> 4)::bigint AS timeout_seconds,
                 $2 + (value ->> 5)::bigint * interval '1 microsecond' AS created_at,
                 $2 + (value ->> 5)::bigint * interval '1 microsecond'
                    + (value ->> 4)::bigint * interval '1 second' AS timeout_at,
                 (value ->> 6)::bigint AS max_attempts, (value ->> 7)::bigint AS stall_seconds
             FROM json_array_elements($1::json)"
        }
        Kind::Sqlite => {
            "SELECT value ->> 0 AS id, value ->> 1 AS task_type, value ->> 2 AS metadata,
                 value ->> 3 AS params, value ->> 4 AS timeout_seconds,
                 $2 + (value ->> 5) AS created_at,
                 $2 + (value ->> 5) + (value ->> 4) * 1000000 AS timeout_at,
                 value ->> 6 AS max_attempts, value ->> 7 AS stall_seconds
             FROM json_each($1)"
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

/// Receipts as rows. `$1` is a JSON array of `[hash, fingerprint, answer, microseconds before $2]`, `$2` the instant when the
/// last of them is over.
pub(super) fn receipts(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "SELECT value ->> 0 AS key_hash, value ->> 1 AS fingerprint, value ->> 2 AS answer,
                 $2 - (value ->> 3)::bigint * interval '1 microsecond' AS expires_at
             FROM json_array_elements($1::json)"
        }
        Kind::Sqlite => {
            "SELECT value ->> 0 AS key_hash, value ->> 1 AS fingerprint, value ->> 2 AS answer,
                 $2 - (value ->> 3) AS expires_at
             FROM json_each($1)"
        }
    }
}
