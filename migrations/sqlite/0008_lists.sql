-- What further lists are walked along.
-- The same stands in migrations/postgres/0008_lists.sql, where each is explained; a test compares
-- the names.

CREATE INDEX IF NOT EXISTS tracker_tasks_ended ON tracker_tasks (completed_at, id, status, started_at)
    WHERE completed_at IS NOT NULL;
CREATE INDEX tracker_tasks_retries ON tracker_tasks (original_task_id, created_at, id)
    WHERE original_task_id IS NOT NULL;
