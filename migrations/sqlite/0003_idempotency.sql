-- What was answered to requests that came with an `Idempotency-Key`.
-- The same table stands in migrations/postgres/0003_idempotency.sql, where it is explained; a test
-- compares their columns. Instants are integers: microseconds since 1970-01-01T00:00:00Z.

CREATE TABLE tracker_idempotency (
    scope        TEXT NOT NULL,
    key_hash     TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    answer       TEXT,
    expires_at   INTEGER NOT NULL,
    PRIMARY KEY (scope, key_hash)
) STRICT;
CREATE INDEX tracker_idempotency_expires ON tracker_idempotency (expires_at);
