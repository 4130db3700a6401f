-- The reference queue: a light table, 24,000 jobs waiting.

SET client_min_messages = warning;
DROP TABLE IF EXISTS bench.ref;
CREATE TABLE bench.ref (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	priority int NOT NULL DEFAULT 0,
	run_at timestamptz NOT NULL DEFAULT now(),
	state int NOT NULL DEFAULT 0,
	task text NOT NULL,
	payload jsonb NOT NULL,
	ended_at timestamptz
);
CREATE INDEX ON bench.ref (priority, run_at, id) WHERE state = 0;
INSERT INTO bench.ref (task, payload) SELECT 'noop', '{"a":1}' FROM generate_series(1, 24000);
VACUUM ANALYZE bench.ref;
