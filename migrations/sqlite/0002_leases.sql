-- Leases, attempts that are lost, stalls, and cancellation.
-- The same columns stand in migrations/postgres/0002_leases.sql, where each is explained; a test compares them.

ALTER TABLE tracker_tasks ADD COLUMN lease_token TEXT CHECK (lease_token IS NULL OR status <> 'pending');
ALTER TABLE tracker_tasks ADD COLUMN lease_seconds INTEGER CHECK (lease_seconds > 0);
ALTER TABLE tracker_tasks ADD COLUMN lease_expires_at INTEGER;
ALTER TABLE tracker_tasks ADD COLUMN heard_at INTEGER;
ALTER TABLE tracker_tasks ADD COLUMN max_attempts INTEGER NOT NULL DEFAULT 3 CHECK (max_attempts > 0);
ALTER TABLE tracker_tasks ADD COLUMN lost_attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tracker_tasks ADD COLUMN stall_seconds INTEGER CHECK (stall_seconds > 0);
ALTER TABLE tracker_tasks ADD COLUMN stall_check_at INTEGER;
ALTER TABLE tracker_tasks ADD COLUMN stalled_at INTEGER;
ALTER TABLE tracker_tasks ADD COLUMN cancel_requested_at INTEGER;
ALTER TABLE tracker_tasks ADD COLUMN cancel_reason TEXT;
ALTER TABLE tracker_tasks ADD COLUMN cancel_deadline INTEGER;

CREATE INDEX tracker_tasks_leases ON tracker_tasks (lease_expires_at)
    WHERE status = 'in_progress' AND lease_expires_at IS NOT NULL;
CREATE INDEX tracker_tasks_stalls ON tracker_tasks (stall_check_at)
    WHERE status = 'in_progress' AND stall_check_at IS NOT NULL;
CREATE INDEX tracker_tasks_cancels ON tracker_tasks (cancel_deadline)
    WHERE status = 'in_progress' AND cancel_deadline IS NOT NULL;
