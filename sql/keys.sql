-- task_key: a submit that finds an active task under the same key joins it.
CREATE EXTENSION gtf;
CREATE FUNCTION keyed(n int DEFAULT 0) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	IF n < 0 THEN RAISE EXCEPTION 'negative'; END IF;
	RETURN n;
END $$;
SELECT gtf_register_task('keyed', 'keyed(int)');
SELECT gtf_register_task('other', 'keyed(int)');
SELECT gtf_register_task('for_all', 'keyed(int)', scope => 'system');

-- tasks that wait
SELECT gtf_submit('keyed', '{"n": 1}', 'a', delay => '1 h', task_name => 'first') AS a \gset
SELECT gtf_submit('keyed', '{"n": 2}', 'a', task_name => 'second') = :'a' AS joined;
SELECT task_key, task_name, display_name, args, status FROM gtf.task_info;
-- another key, type or principal; no key
SELECT gtf_submit('keyed', '{}', 'A', delay => '1 h') <> :'a' AS other_key,
	gtf_submit('other', '{}', 'a', delay => '1 h') <> :'a' AS other_type,
	gtf_submit('keyed', '{}', delay => '1 h') <> :'a' AS no_key,
	gtf_submit_sql('SELECT 1', 'a', delay => '1 h') <> :'a' AS command,
	gtf_submit('keyed', '{}', 'a', delay => '1 h', scope => 'system') <> :'a' AS other_scope;
SET gtf.app_user = 'someone';
SELECT gtf_submit('keyed', '{}', 'a', delay => '1 h') <> :'a' AS other_user,
	gtf_submit('keyed', '{}', 'a', scope => 'system') = (SELECT id FROM gtf.task_info WHERE scope = 'system') AS same_for_all;
RESET gtf.app_user;
CREATE ROLE regress_gtf_keys;
SET ROLE regress_gtf_keys;
SELECT gtf_submit('keyed', '{}', 'a', delay => '1 h') <> :'a' AS other_role;
SELECT count(*) FROM gtf.task_info;
RESET ROLE;
SELECT gtf_submit_sql('SELECT 2', 'a') = gtf_submit_sql('SELECT 3', 'a') AS command_joined;

-- in one transaction, and undone
BEGIN;
SELECT gtf_submit('keyed', '{}', 'b', delay => '1 h') AS b \gset
SELECT gtf_submit('keyed', '{}', 'b') = :'b' AS joined;
SAVEPOINT s;
SELECT gtf_submit('keyed', '{}', 'c', delay => '1 h') AS c \gset
ROLLBACK TO s;
SELECT gtf_submit('keyed', '{}', 'c', delay => '1 h') <> :'c' AS again;
SELECT gtf_cancel(:'b');
SELECT gtf_submit('keyed', '{}', 'b', delay => '1 h') <> :'b' AS free_in_this_transaction;
ROLLBACK;
SELECT gtf_submit('keyed', '{}', 'b') <> :'b' AS undone;

-- many
SELECT n, first_value(n) OVER (PARTITION BY id ORDER BY n) AS same_as
FROM gtf_submit_many('keyed', array_fill('{}'::jsonb, ARRAY[7]), ARRAY['x', 'y', NULL, 'x', NULL, 'y', 'a'], delay => '1 h')
	WITH ORDINALITY AS _(id, n) ORDER BY n;
SELECT count(*) FROM gtf_submit_many('keyed', array_fill('{}'::jsonb, ARRAY[2]), ARRAY['x', 'a'], delay => '1 h') AS id
	WHERE id IN (SELECT id FROM gtf.task_info WHERE task_key IN ('x', 'a'));

-- the end of a task frees its key
SELECT gtf_submit('keyed', '{"n": 7}', 'e') AS e \gset
CALL gtf_wait(:'e');
SELECT gtf_submit('keyed', '{"n": -1}', 'e') AS failing \gset
SELECT :'e' <> :'failing' AS again;
CALL gtf_wait(:'failing');
-- gtf_retry() takes it back, unless another task has it
SELECT gtf_retry(:'failing');
CALL gtf_wait(:'failing');
SELECT gtf_submit('keyed', '{"n": 8}', 'e', delay => '1 h') AS taker \gset
\set VERBOSITY sqlstate
SELECT gtf_retry(:'failing');
\set VERBOSITY default
DO $$
DECLARE
	failing uuid := (SELECT id FROM gtf.task_info WHERE status = 'failure');
	detail text;
BEGIN
	PERFORM gtf_retry(failing);
EXCEPTION WHEN unique_violation THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE NOTICE '%: %', SQLERRM,
		replace(detail, (SELECT id::text FROM gtf.task_info WHERE task_key = 'e' AND status = 'pending'), 'the other one');
END $$;
SELECT gtf_cancel(:'taker');
SELECT gtf_retry(:'failing');
CALL gtf_wait(:'failing');

-- an expired one, a cancelled one
SELECT gtf_submit('keyed', '{}', 'f', delay => '1 h', expires_at => clock_timestamp() + interval '50 ms') AS f \gset
CALL gtf_wait(:'f');
SELECT gtf_submit('keyed', '{}', 'f', delay => '1 h') <> :'f' AS free;

-- errors
SELECT gtf_submit('keyed', '{}', '');
SELECT gtf_submit_many('keyed', array_fill('{}'::jsonb, ARRAY[2]), ARRAY['x']);
SELECT gtf_submit_many('keyed', array_fill('{}'::jsonb, ARRAY[1]), ARRAY['']);
SELECT gtf_submit('keyed', '{"m": 1}', 'a');
SET ROLE regress_gtf_keys;
SELECT gtf_submit('keyed', '{}', 'a', scope => 'system');
SELECT gtf_submit('for_all', '{}', 'a');
SELECT * FROM gtf.keys;
RESET ROLE;

-- keys that are hashed together do not meet
SELECT gtf_submit('keyed', '{}', 'k', delay => '1 h') <> gtf_submit('key', '{}', 'edk', delay => '1 h')
FROM (SELECT gtf_register_task('key', 'keyed(int)')) AS _;
-- a long one
SELECT gtf_submit('keyed', '{}', repeat('k', 100000), delay => '1 h') = gtf_submit('keyed', '{}', repeat('k', 100000)) AS joined,
	gtf_submit('keyed', '{}', repeat('k', 100001), delay => '1 h') = gtf_submit('keyed', '{}', repeat('k', 100000)) AS other;

-- a removed task takes its key along
DO $$ BEGIN PERFORM outcome FROM gtf_cancel(ARRAY(SELECT id FROM gtf.task_info WHERE ended_at IS NULL AND status = 'pending')); END $$;
DO $$ BEGIN WHILE EXISTS (SELECT FROM gtf.task_info WHERE ended_at IS NULL) LOOP COMMIT; PERFORM pg_sleep(0.01); END LOOP; END $$;
SELECT count(*) > 5 AS some FROM gtf.keys;
DO $$ DECLARE n bigint; BEGIN CALL gtf_prune('0', NULL, n); END $$;
SELECT count(*) FROM gtf.keys;
DROP EXTENSION gtf;
DROP FUNCTION keyed;
DROP ROLE regress_gtf_keys;
