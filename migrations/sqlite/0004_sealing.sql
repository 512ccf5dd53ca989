-- Sealing while a task runs, and what is gone for good.
-- The same stands in migrations/postgres/0004_sealing.sql, where each is explained; a test compares
-- the names.

ALTER TABLE tracker_entries ADD COLUMN lost_at INTEGER;
ALTER TABLE tracker_entries ADD COLUMN lost_in TEXT;

CREATE TABLE tracker_generations (
    generation  TEXT NOT NULL PRIMARY KEY,
    seen_at     INTEGER NOT NULL
) STRICT;
