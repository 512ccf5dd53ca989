-- What was answered to requests that came with an `Idempotency-Key`: whoever sends one again within
-- its time is answered the same. A row is written in the transaction of what it stands for, so a crash leaves both or none.
-- The same table stands in migrations/sqlite/0003_idempotency.sql; a test compares their columns.

CREATE TABLE tracker_idempotency (
    -- The use case, and the task where it is about one: `register`, `complete tz4a98xxat96iws9zmbrgj3a`.
    scope        text COLLATE "C" NOT NULL,
    -- Of the client's key, whatever its length.
    key_hash     text COLLATE "C" NOT NULL,
    -- Of the request: the same key with another request is refused.
    fingerprint  text COLLATE "C" NOT NULL,
    -- Status, location and body as JSON; of an append its receipt. NULL while the transaction is under way, so nobody else ever sees that.
    answer       text,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (scope, key_hash)
);
-- What is over is the beginning of this index.
CREATE INDEX tracker_idempotency_expires ON tracker_idempotency (expires_at);
