-- A live log with several memories, each of which is lost by itself.
-- The same stands in migrations/sqlite/0006_memories.sql; a test compares the names.

-- What the generation was found to hold last, as text: 0-5460,7000. A log in one piece holds every place.
ALTER TABLE tracker_generations ADD COLUMN places text NOT NULL DEFAULT '';

-- When what was in a place was lost last, for every place that ever was.
CREATE TABLE tracker_losses (
    lost_at     timestamptz PRIMARY KEY,
    places      text NOT NULL
);

-- So far there was one memory: the newest of its generations holds everything, and the others began with a loss.
UPDATE tracker_generations SET places = '0-16383'
WHERE generation = (SELECT generation FROM tracker_generations ORDER BY seen_at DESC, generation LIMIT 1);
INSERT INTO tracker_losses (lost_at, places)
SELECT max(seen_at), '0-16383' FROM tracker_generations HAVING count(*) > 1;
