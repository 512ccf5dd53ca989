-- What the overview and the events look for, and which nodes there are.
-- The same stands in migrations/postgres/0007_overview.sql, where each is explained; a test compares
-- the names.

CREATE INDEX IF NOT EXISTS tracker_tasks_ended ON tracker_tasks (completed_at, id, status, started_at)
    WHERE completed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS tracker_tasks_failures ON tracker_tasks (completed_at, id)
    WHERE status IN ('failed', 'timeout');
CREATE INDEX IF NOT EXISTS tracker_tasks_returned ON tracker_tasks (updated_at, id)
    WHERE status = 'pending' AND attempt > 0;

CREATE TABLE tracker_nodes (
    node_id         TEXT NOT NULL PRIMARY KEY,
    version         TEXT NOT NULL,
    mode            TEXT NOT NULL,
    host            TEXT NOT NULL,
    started_at      INTEGER NOT NULL,
    seen_at         INTEGER NOT NULL,
    open_streams    INTEGER NOT NULL,
    waiting_workers INTEGER NOT NULL
) STRICT;
