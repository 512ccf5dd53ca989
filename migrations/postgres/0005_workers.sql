-- Who polls for work: what `GET /workers` lists, and `why` a task waits.
-- The same tables stand in migrations/sqlite/0005_workers.sql; a test compares their columns.

-- One row a worker, written in bulk every few seconds, not by each claim.
CREATE TABLE tracker_workers (
    worker_id  text COLLATE "C" PRIMARY KEY,
    -- A JSON array.
    task_types text NOT NULL,
    seen_at    timestamptz NOT NULL
);
CREATE INDEX tracker_workers_seen ON tracker_workers (seen_at);

-- One row a type that was ever polled lately: when, and by whom.
CREATE TABLE tracker_polled_types (
    task_type  text COLLATE "C" PRIMARY KEY,
    worker_id  text COLLATE "C" NOT NULL,
    seen_at    timestamptz NOT NULL
);
CREATE INDEX tracker_polled_types_seen ON tracker_polled_types (seen_at);

-- What a worker holds: without the tasks it ever had.
CREATE INDEX tracker_tasks_held ON tracker_tasks (worker_id, created_at, id)
    WHERE status = 'in_progress';
