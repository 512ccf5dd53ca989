-- Leases, attempts that are lost, stalls, and cancellation.
-- The same columns stand in migrations/sqlite/0002_leases.sql; a test compares them.

-- Of the present attempt; the token also of the last one of a task that has ended, to tell who comes too late.
ALTER TABLE tracker_tasks ADD COLUMN lease_token text COLLATE "C" CHECK (lease_token IS NULL OR status <> 'pending');
-- How long the worker may be silent; NULL: as long as the deadline allows.
ALTER TABLE tracker_tasks ADD COLUMN lease_seconds bigint CHECK (lease_seconds > 0);
-- When it runs out, unless progress has renewed it since: the sweep looks.
ALTER TABLE tracker_tasks ADD COLUMN lease_expires_at timestamptz;
-- When the worker was last heard but for progress.
ALTER TABLE tracker_tasks ADD COLUMN heard_at timestamptz;
-- Attempts whose lease may run out before the task fails, and those whose did.
ALTER TABLE tracker_tasks ADD COLUMN max_attempts bigint NOT NULL DEFAULT 3 CHECK (max_attempts > 0);
ALTER TABLE tracker_tasks ADD COLUMN lost_attempts bigint NOT NULL DEFAULT 0;
-- How long it may run without progress before it is flagged, when to look again, and the flag.
ALTER TABLE tracker_tasks ADD COLUMN stall_seconds bigint CHECK (stall_seconds > 0);
ALTER TABLE tracker_tasks ADD COLUMN stall_check_at timestamptz;
ALTER TABLE tracker_tasks ADD COLUMN stalled_at timestamptz;
-- That somebody wants it to end, why, and when its worker is cut off.
ALTER TABLE tracker_tasks ADD COLUMN cancel_requested_at timestamptz;
ALTER TABLE tracker_tasks ADD COLUMN cancel_reason text;
ALTER TABLE tracker_tasks ADD COLUMN cancel_deadline timestamptz;

-- What the sweeps look for is the beginning of an index that holds nothing else.
CREATE INDEX tracker_tasks_leases ON tracker_tasks (lease_expires_at)
    WHERE status = 'in_progress' AND lease_expires_at IS NOT NULL;
CREATE INDEX tracker_tasks_stalls ON tracker_tasks (stall_check_at)
    WHERE status = 'in_progress' AND stall_check_at IS NOT NULL;
CREATE INDEX tracker_tasks_cancels ON tracker_tasks (cancel_deadline)
    WHERE status = 'in_progress' AND cancel_deadline IS NOT NULL;
