-- A live log with several memories, each of which is lost by itself.
-- The same stands in migrations/postgres/0006_memories.sql, where each is explained; a test compares
-- the names.

ALTER TABLE tracker_generations ADD COLUMN places TEXT NOT NULL DEFAULT '';

CREATE TABLE tracker_losses (
    lost_at     INTEGER PRIMARY KEY,
    places      TEXT NOT NULL
) STRICT;

UPDATE tracker_generations SET places = '0-16383'
WHERE generation = (SELECT generation FROM tracker_generations ORDER BY seen_at DESC, generation LIMIT 1);
INSERT INTO tracker_losses (lost_at, places)
SELECT max(seen_at), '0-16383' FROM tracker_generations HAVING count(*) > 1;
