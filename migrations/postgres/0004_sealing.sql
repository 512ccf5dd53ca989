-- Sealing while a task runs, and what is gone for good.
-- The same stands in migrations/sqlite/0004_sealing.sql; a test compares the names.

-- A row with these is a hole: its numbers were given, or may have been, and the live log lost its memory before
-- they were sealed. Rows of one task follow each other without a gap, holes among them.
ALTER TABLE tracker_entries ADD COLUMN lost_at timestamptz;
-- The generation of the live log that was found without them: of several nodes that notice a loss one notes it.
ALTER TABLE tracker_entries ADD COLUMN lost_in text;

-- Generations of the live log's memory. Every one but the first began with a loss.
CREATE TABLE tracker_generations (
    generation  text COLLATE "C" PRIMARY KEY,
    seen_at     timestamptz NOT NULL
);
