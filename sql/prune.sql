-- gtf_prune() removes tasks that ended long ago, and nothing else.
CREATE EXTENSION gtf;
\set VERBOSITY sqlstate
CREATE FUNCTION prune_body(n int, fails boolean DEFAULT false) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	IF fails THEN RAISE EXCEPTION 'failed'; END IF;
	RETURN n;
END $$;
SELECT gtf_register_task('pruned', 'prune_body(int,boolean)', retry_delay => '10 ms');

CREATE TABLE prune_ids (name text PRIMARY KEY, id uuid);
INSERT INTO prune_ids VALUES
	('success', gtf_submit('pruned', '{"n": 1}')),
	('failure', gtf_submit('pruned', '{"n": 2, "fails": true}', max_attempts => 2)),
	('cancelled', gtf_submit('pruned', '{"n": 3}', delay => '1 day')),
	('young', gtf_submit('pruned', '{"n": 4}')),
	('pending', gtf_submit('pruned', '{"n": 5}', delay => '1 day'));
SELECT gtf_cancel(id) FROM prune_ids WHERE name = 'cancelled';
DO $$ DECLARE
	ids uuid[] := ARRAY(SELECT id FROM prune_ids WHERE name <> 'pending');
	s text[];
BEGIN
	CALL gtf_wait_all(ids, NULL, s);
END $$;

CREATE VIEW prune_left AS
	SELECT p.name, t.status, (SELECT count(*) FROM gtf.outcomes o WHERE o.task_id = p.id) AS outcomes
	FROM prune_ids p LEFT JOIN gtf.task_info t USING (id);
SELECT * FROM prune_left ORDER BY name;

-- nothing is old enough
CALL gtf_prune();
CALL gtf_prune('1 hour');

-- as if they had ended long ago, in this order
UPDATE gtf.outcomes SET ended_at = ended_at - interval '101 days'
	WHERE task_id = (SELECT id FROM prune_ids WHERE name = 'failure');
UPDATE gtf.outcomes SET ended_at = ended_at - interval '100 days'
	WHERE task_id IN (SELECT id FROM prune_ids WHERE name IN ('success', 'cancelled'));
CALL gtf_prune('102 days');
CALL gtf_prune(max_rows => 0);
-- those that ended first first
CALL gtf_prune(max_rows => 1);
SELECT * FROM prune_left ORDER BY name;
CALL gtf_prune();
SELECT * FROM prune_left ORDER BY name;
-- nothing is left behind in any table
SELECT (SELECT count(*) FROM gtf.tasks) AS tasks, (SELECT count(*) FROM gtf.outcomes) AS outcomes,
	(SELECT count(*) FROM gtf.live) AS live;

-- more than a batch
DO $$ DECLARE
	ids uuid[] := ARRAY(SELECT gtf_submit_many('pruned', ARRAY(SELECT jsonb_build_object('n', i) FROM generate_series(1, 1234) i)));
	s text[];
BEGIN
	CALL gtf_wait_all(ids, NULL, s);
END $$;
CALL gtf_prune('0', 1100);
CALL gtf_prune('0', NULL);
SELECT * FROM prune_left ORDER BY name;
-- more than a pass finds, in both orders; those that ended first go first
SET maintenance_work_mem = '1MB';
INSERT INTO gtf.outcomes (task_id, attempt, started_at, ended_at, status, worker)
	SELECT id, 1, now(), now() - interval '2 days' + CASE WHEN n % 2 = 0 THEN 3600 + n ELSE -3600 - n END * interval '1 s', 's', 1
	FROM (SELECT id, row_number() OVER () AS n FROM gtf_submit_many('pruned',
		ARRAY(SELECT jsonb_build_object('n', i) FROM generate_series(1, 70000) i), delay => '1 day') AS id) t;
CALL gtf_prune('2 days');
SELECT count(*), min(ended_at) > now() - interval '2 days' AS young FROM gtf.outcomes WHERE ended_at < now() - interval '1 hour';
CALL gtf_prune('0', 34000);
CALL gtf_prune('0');
RESET maintenance_work_mem;

-- a retried task has not ended, its earlier attempts have
SELECT gtf_submit('pruned', '{"n": 6, "fails": true}') AS id \gset
CALL gtf_wait(:'id');
UPDATE gtf.outcomes SET ended_at = ended_at - interval '100 days' WHERE task_id = :'id';
ALTER DATABASE :DBNAME SET gtf.enabled = off;
SELECT gtf_retry(:'id');
CALL gtf_prune();
ALTER DATABASE :DBNAME RESET gtf.enabled;
SELECT status IN ('pending', 'in_progress', 'failure') AS is_there FROM gtf_get_task(:'id');
CALL gtf_wait(:'id');
SELECT attempt, status FROM gtf_get_task(:'id');

-- errors
CALL gtf_prune(NULL);
CALL gtf_prune('-1 day');
CALL gtf_prune('1 day', -1);
\set VERBOSITY default
BEGIN;
CALL gtf_prune();
ROLLBACK;
DO $$ DECLARE n bigint; BEGIN
	CALL gtf_prune('10 days', NULL, n);
EXCEPTION WHEN invalid_transaction_termination THEN
	RAISE NOTICE '%', SQLSTATE;
END $$;
CREATE ROLE regress_gtf_prune;
SET ROLE regress_gtf_prune;
CALL gtf_prune();
RESET ROLE;
DROP ROLE regress_gtf_prune;
-- in a procedure, and as an administrator who does not own the tables
DO $$ DECLARE n bigint; BEGIN CALL gtf_prune('0', NULL, n); RAISE NOTICE 'pruned %', n; END $$;

SELECT gtf_cancel(id) FROM prune_ids WHERE name = 'pending';
DROP VIEW prune_left;
DROP EXTENSION gtf;
DROP TABLE prune_ids;
DROP FUNCTION prune_body;
