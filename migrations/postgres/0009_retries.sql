-- The child of a task is looked for among retries alone, of which there are few: a constraint on the column has an entry for every
-- task that is none, written anew with each change of it.
CREATE UNIQUE INDEX tracker_tasks_retry_of ON tracker_tasks (retry_of) WHERE retry_of IS NOT NULL;
ALTER TABLE tracker_tasks DROP CONSTRAINT tracker_tasks_retry_of_key;
