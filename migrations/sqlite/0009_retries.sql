-- On Postgres the constraint on `retry_of` is an index of retries alone from here on. SQLite writes no index whose columns have not
-- changed, and can drop no constraint.
SELECT 1;
