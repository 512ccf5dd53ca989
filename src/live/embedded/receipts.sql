-- Receipts of appends with a key to active tasks: written with the entries, moved to the tracker's database at the end.
CREATE TABLE IF NOT EXISTS live_receipts (
    task_id   TEXT NOT NULL,
    key_hash  TEXT NOT NULL,
    receipt   TEXT NOT NULL,
    given_at  INTEGER NOT NULL,
    PRIMARY KEY (task_id, key_hash),
    -- What is over is the beginning of this.
    UNIQUE (task_id, given_at, key_hash)
) STRICT;
