-- What the overview and the events look for, and which nodes there are.
-- The same stands in migrations/sqlite/0007_overview.sql; a test compares the names.

-- What has ended, in the order of the ends. With the status and the beginning, so that a window of it is counted and measured
-- without a look at the tasks.
CREATE INDEX IF NOT EXISTS tracker_tasks_ended ON tracker_tasks (completed_at, id, status, started_at)
    WHERE completed_at IS NOT NULL;
-- What went wrong lately is the end of this index, however much went well since.
CREATE INDEX IF NOT EXISTS tracker_tasks_failures ON tracker_tasks (completed_at, id)
    WHERE status IN ('failed', 'timeout');
-- What waits again after a worker had it, in the order in which it came back.
CREATE INDEX IF NOT EXISTS tracker_tasks_returned ON tracker_tasks (updated_at, id)
    WHERE status = 'pending' AND attempt > 0;

-- One row a node that runs, which it renews every few seconds; one that is shut down takes it along.
CREATE TABLE tracker_nodes (
    -- Made at its start.
    node_id         text COLLATE "C" PRIMARY KEY,
    version         text NOT NULL,
    mode            text NOT NULL,
    host            text NOT NULL,
    started_at      timestamptz NOT NULL,
    seen_at         timestamptz NOT NULL,
    open_streams    bigint NOT NULL,
    waiting_workers bigint NOT NULL
);
