-- The live log of the embedded mode: entries of active tasks, in the order in which they came, so that a commit writes to the
-- end of the file whatever tasks it is for. Where those of a task stand is known in memory. They are in a
-- file of their own so that appending does not wait for the writer of the tasks. Deleted at the end.
CREATE TABLE IF NOT EXISTS live_journal (
    place    INTEGER PRIMARY KEY,
    task_id  TEXT NOT NULL,
    seq_id   INTEGER NOT NULL,
    line     TEXT NOT NULL
) STRICT;

-- What tells this file from another: one that was taken away took entries with it.
CREATE TABLE IF NOT EXISTS live_generation (
    one         INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    generation  TEXT NOT NULL
) STRICT;
