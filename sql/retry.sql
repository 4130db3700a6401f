-- max_attempts runs a failed task again by itself, gtf_retry() by hand.
CREATE EXTENSION gtf;
CREATE SEQUENCE retry_calls;
CREATE TABLE retry_effects (attempt int);
CREATE FUNCTION retry_flaky(succeed_at int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	a int := (SELECT attempt FROM gtf_context());
BEGIN
	PERFORM nextval('retry_calls');
	INSERT INTO retry_effects VALUES (a);
	IF a < succeed_at THEN
		RAISE EXCEPTION 'attempt % is too early', a;
	END IF;
	RETURN a;
END $$;
SELECT gtf_register_task('flaky', 'retry_flaky(int)', retry_delay => '10 ms');

-- by itself
CALL gtf_wait(gtf_submit('flaky', '{"succeed_at": 3}', max_attempts => 3));
SELECT status, attempt, max_attempts, result, error_message FROM gtf.task_info;
SELECT attempt, error_message, exception_type, started_at IS NOT NULL AS started, worker IS NOT NULL AS has_worker
FROM gtf.task_attempts ORDER BY attempt;
-- what failed attempts did is not there
SELECT * FROM retry_effects;
SELECT last_value FROM retry_calls;

-- not often enough, then by hand
SELECT gtf_submit('flaky', '{"succeed_at": 4}', max_attempts => 2) AS id \gset
CALL gtf_wait(:'id');
SELECT status, attempt, error_message, exception_type FROM gtf_get_task(:'id');
SELECT gtf_retry(:'id');
CALL gtf_wait(:'id');
SELECT status, attempt, error_message FROM gtf_get_task(:'id');
-- taken back
BEGIN;
SELECT gtf_retry(:'id');
SELECT status, attempt, error_message, wait_reason FROM gtf_get_task(:'id');
ROLLBACK;
SELECT status, attempt, error_message FROM gtf_get_task(:'id');
SELECT gtf_retry(:'id');
CALL gtf_wait(:'id');
SELECT status, attempt, result, error_message FROM gtf_get_task(:'id');
SELECT attempt, error_message FROM gtf.task_attempts WHERE task_id = :'id' ORDER BY attempt;

-- only what has ended without success
\set VERBOSITY sqlstate
SELECT gtf_retry(:'id');
SELECT gtf_submit('flaky', '{"succeed_at": 1}', delay => '1 h') AS id \gset
SELECT gtf_retry(:'id');
SELECT gtf_retry('01890000-0000-7000-8000-000000000000');
\set VERBOSITY default

-- an expired task can be retried, too
SELECT gtf_submit('flaky', '{"succeed_at": 2}', delay => '1 h', expires_at => clock_timestamp() + interval '1 s') AS id \gset
CALL gtf_wait(:'id');
SELECT gtf_retry(:'id');
CALL gtf_wait(:'id');
SELECT status, attempt, result FROM gtf_get_task(:'id');

-- no delay at all
SELECT gtf_register_task('eager_flaky', 'retry_flaky(int)', retry_delay => '0', max_attempts => 5);
SELECT gtf_submit('eager_flaky', '{"succeed_at": 5}') AS id \gset
CALL gtf_wait(:'id');
SELECT status, attempt, result FROM gtf_get_task(:'id');

-- the delay grows, is random, and has a limit
SELECT gtf_register_task('slow_flaky', 'retry_flaky(int)', retry_delay => '1 d', max_attempts => 2);
SELECT gtf_submit('slow_flaky', '{"succeed_at": 2}') AS id \gset
DO $$
DECLARE n int := 0;
BEGIN
	WHILE NOT EXISTS (SELECT FROM gtf.task_info WHERE task_type = 'slow_flaky' AND wait_reason = 'retry' AND worker IS NULL) AND n < 30000 LOOP
		PERFORM pg_sleep(0.01);
		n := n + 1;
	END LOOP;
END $$;
SELECT status, attempt, wait_reason FROM gtf_get_task(:'id');
SELECT since - now() BETWEEN interval '4 min' AND interval '10 min' AS capped FROM gtf.live WHERE task_id = :'id';

DROP EXTENSION gtf;
DROP TABLE retry_effects;
DROP FUNCTION retry_flaky;
DROP SEQUENCE retry_calls;
