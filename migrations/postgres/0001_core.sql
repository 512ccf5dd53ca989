-- The durable truth of the core: tasks, their sealed histories, and endings not yet settled.
-- The same tables stand in migrations/sqlite/0001_core.sql; a test compares their columns.

-- One slim row a task. What clients own is text: `jsonb` would rewrite its numbers and key order,
-- and nothing here looks inside. Statuses are text with a CHECK, so that both databases say the same;
-- words that the lifecycle does not use yet are in it already, for SQLite can never change a CHECK.
CREATE TABLE tracker_tasks (
    id               text COLLATE "C" PRIMARY KEY,
    task_type        text COLLATE "C" NOT NULL,
    status           text COLLATE "C" NOT NULL
        CHECK (status IN ('scheduled', 'blocked', 'pending', 'in_progress', 'retrying',
                          'completed', 'failed', 'timeout', 'cancelled')),
    metadata         text,
    params           text,
    result           text,
    error            text,
    timeout_seconds  bigint NOT NULL CHECK (timeout_seconds > 0),
    worker_id        text COLLATE "C",
    original_task_id text COLLATE "C",
    -- The task this one retries. Unique: of several retries at once one makes the child.
    retry_of         text COLLATE "C" UNIQUE,
    retry_count      bigint NOT NULL DEFAULT 0,
    -- How many workers have begun it; fences the live log.
    attempt          bigint NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    started_at       timestamptz,
    completed_at     timestamptz,
    timeout_at       timestamptz NOT NULL,
    -- A task has ended exactly if it says when.
    CONSTRAINT ended_has_a_time CHECK (
        (completed_at IS NOT NULL) = (status IN ('completed', 'failed', 'timeout', 'cancelled'))),
    CONSTRAINT pending_has_no_worker CHECK (
        status <> 'pending' OR (worker_id IS NULL AND started_at IS NULL)),
    CONSTRAINT running_has_begun CHECK (status <> 'in_progress' OR started_at IS NOT NULL)
);

-- The claim: the oldest pending task of a type is the first entry of a range.
CREATE INDEX tracker_tasks_claim ON tracker_tasks (task_type, created_at, id) WHERE status = 'pending';
-- The sweep: what is overdue is the beginning of this index, however many tasks have ended.
CREATE INDEX tracker_tasks_deadline ON tracker_tasks (timeout_at) WHERE completed_at IS NULL;
-- The lists, newest first, by keyset.
CREATE INDEX tracker_tasks_newest ON tracker_tasks (created_at, id);
CREATE INDEX tracker_tasks_by_type ON tracker_tasks (task_type, created_at, id);
CREATE INDEX tracker_tasks_by_status ON tracker_tasks (status, created_at, id);
CREATE INDEX tracker_tasks_by_worker ON tracker_tasks (worker_id, created_at, id)
    WHERE worker_id IS NOT NULL;

-- Sealed history: rows of many entries, each an array in which every entry's JSON is as it came.
-- Rows of one task follow each other without a gap; nothing updates them.
CREATE TABLE tracker_entries (
    task_id    text COLLATE "C" NOT NULL REFERENCES tracker_tasks (id) ON DELETE CASCADE,
    first_seq  bigint NOT NULL,
    last_seq   bigint NOT NULL CHECK (last_seq >= first_seq),
    entries    text NOT NULL,
    -- The last of `entries` by itself, so that a list needs no array.
    latest     text NOT NULL,
    PRIMARY KEY (task_id, first_seq)
);

-- Tasks whose end is committed and whose live log may still exist: written with the end, deleted
-- when the log is gone. What a crashed node leaves here another settles.
CREATE TABLE tracker_unsettled (
    task_id  text COLLATE "C" PRIMARY KEY REFERENCES tracker_tasks (id) ON DELETE CASCADE,
    since    timestamptz NOT NULL
);
CREATE INDEX tracker_unsettled_since ON tracker_unsettled (since);
