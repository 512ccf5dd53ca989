-- Who polls for work: what `GET /workers` lists, and `why` a task waits.
-- The same tables stand in migrations/postgres/0005_workers.sql, where each is explained; a test compares their
-- columns.

CREATE TABLE tracker_workers (
    worker_id  TEXT NOT NULL PRIMARY KEY,
    task_types TEXT NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX tracker_workers_seen ON tracker_workers (seen_at);

CREATE TABLE tracker_polled_types (
    task_type  TEXT NOT NULL PRIMARY KEY,
    worker_id  TEXT NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX tracker_polled_types_seen ON tracker_polled_types (seen_at);

CREATE INDEX tracker_tasks_held ON tracker_tasks (worker_id, created_at, id)
    WHERE status = 'in_progress';
