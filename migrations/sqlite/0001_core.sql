-- The durable truth of the core: tasks, their sealed histories, and endings not yet settled.
-- The same tables stand in migrations/postgres/0001_core.sql, where each is explained; a test
-- compares their columns. Instants are integers: microseconds since 1970-01-01T00:00:00Z.

CREATE TABLE tracker_tasks (
    id               TEXT NOT NULL PRIMARY KEY,
    task_type        TEXT NOT NULL,
    status           TEXT NOT NULL
        CHECK (status IN ('scheduled', 'blocked', 'pending', 'in_progress', 'retrying',
                          'completed', 'failed', 'timeout', 'cancelled')),
    metadata         TEXT,
    params           TEXT,
    result           TEXT,
    error            TEXT,
    timeout_seconds  INTEGER NOT NULL CHECK (timeout_seconds > 0),
    worker_id        TEXT,
    original_task_id TEXT,
    retry_of         TEXT UNIQUE,
    retry_count      INTEGER NOT NULL DEFAULT 0,
    attempt          INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    started_at       INTEGER,
    completed_at     INTEGER,
    timeout_at       INTEGER NOT NULL,
    CONSTRAINT ended_has_a_time CHECK (
        (completed_at IS NOT NULL) = (status IN ('completed', 'failed', 'timeout', 'cancelled'))),
    CONSTRAINT pending_has_no_worker CHECK (
        status <> 'pending' OR (worker_id IS NULL AND started_at IS NULL)),
    CONSTRAINT running_has_begun CHECK (status <> 'in_progress' OR started_at IS NOT NULL)
) STRICT;

CREATE INDEX tracker_tasks_claim ON tracker_tasks (task_type, created_at, id) WHERE status = 'pending';
CREATE INDEX tracker_tasks_deadline ON tracker_tasks (timeout_at) WHERE completed_at IS NULL;
CREATE INDEX tracker_tasks_newest ON tracker_tasks (created_at, id);
CREATE INDEX tracker_tasks_by_type ON tracker_tasks (task_type, created_at, id);
CREATE INDEX tracker_tasks_by_status ON tracker_tasks (status, created_at, id);
CREATE INDEX tracker_tasks_by_worker ON tracker_tasks (worker_id, created_at, id)
    WHERE worker_id IS NOT NULL;

CREATE TABLE tracker_entries (
    task_id    TEXT NOT NULL REFERENCES tracker_tasks (id) ON DELETE CASCADE,
    first_seq  INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL CHECK (last_seq >= first_seq),
    entries    TEXT NOT NULL,
    latest     TEXT NOT NULL,
    PRIMARY KEY (task_id, first_seq)
) STRICT;

CREATE TABLE tracker_unsettled (
    task_id  TEXT NOT NULL PRIMARY KEY REFERENCES tracker_tasks (id) ON DELETE CASCADE,
    since    INTEGER NOT NULL
) STRICT;
CREATE INDEX tracker_unsettled_since ON tracker_unsettled (since);
