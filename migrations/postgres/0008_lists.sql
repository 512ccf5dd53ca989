-- What further lists are walked along.
-- The same stands in migrations/sqlite/0008_lists.sql; a test compares the names.

-- What has ended, in the order of the ends, with what is counted and measured of it; 0007 makes it as well.
CREATE INDEX IF NOT EXISTS tracker_tasks_ended ON tracker_tasks (completed_at, id, status, started_at)
    WHERE completed_at IS NOT NULL;
-- The retries of a task, in their order. Most tasks are none.
CREATE INDEX tracker_tasks_retries ON tracker_tasks (original_task_id, created_at, id)
    WHERE original_task_id IS NOT NULL;
