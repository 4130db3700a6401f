-- Timeouts: where they are set, and what becomes of a body whose time is over.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_user;
CREATE TABLE effects (seq serial, what text);
-- called when a body has come to where its time shall be over
CREATE SEQUENCE there;

-- the error of a command
CREATE FUNCTION fails(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE command;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  RETURN concat_ws(' ', SQLSTATE, SQLERRM);
END $$;
CREATE FUNCTION noop() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION shown() RETURNS text LANGUAGE sql AS 'SELECT timeout::text FROM gtf_context()';
CREATE FUNCTION hold(lock int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES ('hold');
  PERFORM pg_advisory_xact_lock_shared(lock);
  RETURN 'held';
END $$;
-- a body that runs on until it is told, and returns
CREATE FUNCTION polls() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES ('polls');
  WHILE gtf_sleep('1 min') LOOP
  END LOOP;
  RETURN 'told';
END $$;
-- or raises
CREATE FUNCTION checks(message text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES ('checks');
  LOOP
    IF message IS NOT NULL AND gtf_is_aborting() THEN
      RAISE EXCEPTION '%', message;
    END IF;
    PERFORM gtf_check_abort(), pg_sleep(0.001);
  END LOOP;
END $$;
CREATE FUNCTION sleeps() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES ('sleeps');
  PERFORM pg_sleep(60);
END $$;
CREATE FUNCTION catches() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES ('catches');
  BEGIN
    PERFORM nextval('there'), pg_sleep(60);
  EXCEPTION WHEN query_canceled THEN
    -- this is not interrupted again
    PERFORM pg_sleep(0.4);
  END;
  RETURN 'caught';
END $$;
CREATE PROCEDURE proc() LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES ('committed');
  COMMIT;
  INSERT INTO effects (what) VALUES ('not committed');
  PERFORM nextval('there'), pg_sleep(60);
END $$;
-- run a task until its time is over, with more time if it was not there
CREATE PROCEDURE run_there(task_type text, hard boolean, INOUT id uuid DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
  patience interval;
  last int := (SELECT coalesce(max(seq), 0) FROM effects);
  ended text;
BEGIN
  FOREACH patience IN ARRAY '{0.3 s,3 s,30 s}'::interval[] LOOP
    DELETE FROM effects WHERE seq > last;
    PERFORM setval('there', 1, false);
    IF hard THEN
      PERFORM gtf_set_timeout(task_type, hard_timeout => patience);
    END IF;
    id := gtf_submit(task_type, timeout => CASE WHEN NOT hard THEN patience END);
    COMMIT;
    CALL gtf_wait(id, NULL, ended);
    EXIT WHEN (SELECT is_called FROM there);
  END LOOP;
END $$;

-- The contract.
SELECT pg_get_function_arguments(oid) AS arguments, pg_get_function_result(oid) AS result
  FROM pg_proc WHERE proname = 'gtf_set_timeout';

-- A type has timeouts, or none.  NULL leaves one as it is, zero removes it.
SELECT gtf_register_task('noop', 'noop()', timeout => '1 min');
SELECT timeout, hard_timeout FROM gtf.task_types WHERE task_type = 'noop';
SELECT gtf_set_timeout('noop', hard_timeout => '2 min');
SELECT timeout, hard_timeout FROM gtf.task_types WHERE task_type = 'noop';
SELECT gtf_set_timeout('noop', '30 s');
SELECT timeout, hard_timeout FROM gtf.task_types WHERE task_type = 'noop';
SELECT gtf_set_timeout('noop');
SELECT gtf_set_timeout('noop', '0', NULL);
SELECT timeout, hard_timeout FROM gtf.task_types WHERE task_type = 'noop';
-- another registration says nothing of the hard one
SELECT gtf_register_task('noop', 'noop()', timeout => '1 day');
SELECT timeout, hard_timeout FROM gtf.task_types WHERE task_type = 'noop';
SELECT gtf_set_timeout('noop', '0', '0');
SELECT timeout, hard_timeout FROM gtf.task_types WHERE task_type = 'noop';
SELECT fails($$SELECT gtf_set_timeout('noop', '-1 s')$$);
SELECT fails($$SELECT gtf_set_timeout('noop', NULL, '-1 s')$$);
SELECT fails($$SELECT gtf_set_timeout('another', '1 s')$$);
SELECT fails($$SELECT gtf_set_timeout(NULL, '1 s')$$);
SELECT fails($$SELECT gtf_set_timeout('sql', '1 s')$$);
SELECT fails($$SELECT gtf_register_task('noop', 'noop()', timeout => '-1 s')$$);
SET ROLE regress_gtf_user;
SELECT fails($$SELECT gtf_set_timeout('noop', '1 s')$$);
RESET ROLE;

-- A call has its own, or none, or that of the type; the task keeps it.
SELECT gtf_register_task('shown', 'shown()', timeout => '1 min');
CREATE FUNCTION shown(id uuid) RETURNS TABLE (timeout interval, property jsonb, seen jsonb) LANGUAGE sql AS
  $$SELECT timeout, properties -> 'timeout', result FROM gtf_get_task(id)$$;
SELECT gtf_submit('shown') AS type, gtf_submit('shown', timeout => '2.5 s') AS own, gtf_submit('shown', timeout => '0') AS none,
       gtf_submit('shown', delay => '0.2 s') AS later \gset
SELECT gtf_set_timeout('shown', '5 min');
SELECT gtf_submit('shown') AS new \gset
CALL gtf_wait_all(ARRAY[:'type', :'own', :'none', :'later', :'new']::uuid[]);
SELECT * FROM shown(:'type');
SELECT * FROM shown(:'own');
SELECT * FROM shown(:'none');
SELECT * FROM shown(:'later');
SELECT * FROM shown(:'new');
SELECT * FROM shown(gtf_submit_sql('SELECT 1', timeout => '1 h'));
SELECT fails($$SELECT gtf_submit('shown', timeout => '-1 s')$$);
SELECT fails($$SELECT gtf_submit_sql('SELECT 1', timeout => '-1 s')$$);

-- Time is over.
SELECT $$ status, attempt, result, started_at IS NOT NULL AS started, duration >= timeout AS over, timeout_exceeded,
          regexp_replace(worker, '\d+', '<pid>') AS worker, error_message, exception_type, stack_trace $$ AS facts \gset
SELECT gtf_register_task('polls', 'polls()', abort => 'poll', max_attempts => 3),
       gtf_register_task('checks', 'checks(text)', abort => 'poll', max_attempts => 3, timeout => '0.1 s'),
       gtf_register_task('sleeps', 'sleeps()', abort => 'interrupt', max_attempts => 3, timeout => '0.1 s'),
       gtf_register_task('catches', 'catches()', abort => 'interrupt'),
       gtf_register_task('proc', 'proc()', abort => 'interrupt'),
       gtf_register_task('deaf', 'hold(int)', abort => 'poll', timeout => '0.1 s'),
       gtf_register_task('hold', 'hold(int)', timeout => '0.1 s'),
       gtf_register_task('never', 'hold(int)', timeout => '0.1 s', abort => 'never');
TRUNCATE effects;
-- it is told and returns: its writes are kept
SELECT gtf_submit('polls', timeout => '0.1 s') AS id \gset
CALL gtf_wait(:'id');
SELECT :facts FROM gtf_get_task(:'id');
SELECT status, ready, success, error_message, exception_type FROM gtf_result(:'id');
-- it raises: they are not, and it is not tried again
SELECT gtf_submit('checks') AS id \gset
CALL gtf_wait(:'id');
SELECT :facts FROM gtf_get_task(:'id');
SELECT attempt, error_message, exception_type FROM gtf.task_attempts WHERE task_id = :'id';
SELECT gtf_submit('checks', '{"message": "too late"}') AS id \gset
CALL gtf_wait(:'id');
SELECT :facts FROM gtf_get_task(:'id');
-- its statement is cancelled
SELECT gtf_submit('sleeps') AS id \gset
CALL gtf_wait(:'id');
SELECT :facts FROM gtf_get_task(:'id');
CALL run_there('catches', false) \gset
SELECT :facts FROM gtf_get_task(:'id');
CALL run_there('proc', false) \gset
SELECT :facts FROM gtf_get_task(:'id');
SELECT gtf_submit_sql('SELECT pg_sleep(60)', timeout => '0.1 s') AS id \gset
CALL gtf_wait(:'id');
SELECT :facts FROM gtf_get_task(:'id');
SELECT what FROM effects ORDER BY what;

-- It does not listen, or cannot be aborted at all.
CREATE PROCEDURE await_timeout(id uuid) LANGUAGE plpgsql AS $$
BEGIN
  WHILE NOT EXISTS (SELECT FROM gtf_get_task(id) WHERE status = 'aborting' OR (timeout_exceeded AND NOT is_abortable) OR (timeout IS NULL AND status = 'in_progress')) LOOP
    PERFORM pg_sleep(0.005);
  END LOOP;
END $$;
SELECT pg_advisory_lock(1);
SELECT gtf_submit('deaf', '{"lock": 1}') AS deaf, gtf_submit('hold', '{"lock": 1}') AS hold, gtf_submit('never', '{"lock": 1}') AS never,
       gtf_submit('deaf', '{"lock": 1}', timeout => '0') AS unlimited \gset
CALL await_timeout(:'deaf');
CALL await_timeout(:'hold');
CALL await_timeout(:'never');
CALL await_timeout(:'unlimited');
SELECT task_type, timeout, status, is_abortable, timeout_exceeded, can_cancel, error_message
  FROM gtf.task_info WHERE id IN (:'deaf', :'hold', :'never', :'unlimited') ORDER BY 1, 2;
-- a cancel comes second
SELECT gtf_cancel(:'deaf');
SELECT fails(format('SELECT gtf_cancel(%L)', :'hold')) ~ 'cannot be aborted' AS refused;
SELECT gtf_status(:'unlimited');
SELECT pg_advisory_unlock(1);
CALL gtf_wait_all(ARRAY[:'deaf', :'hold', :'never', :'unlimited']::uuid[]);
SELECT task_type, :facts FROM gtf.task_info WHERE id IN (:'deaf', :'hold', :'never', :'unlimited') ORDER BY 1, timeout;

-- A hard timeout cancels the statement whatever the mode is.
SELECT gtf_register_task('hard', 'hold(int)', abort => 'never', max_attempts => 3),
       gtf_register_task('both', 'hold(int)', timeout => '0.1 s'),
       gtf_register_task('proc_hard', 'proc()', abort => 'never');
SELECT gtf_set_timeout('hard', hard_timeout => '0.1 s'), gtf_set_timeout('both', hard_timeout => '0.3 s');
TRUNCATE effects;
SELECT pg_advisory_lock(1);
SELECT gtf_submit('hard', '{"lock": 1}') AS hard, gtf_submit('both', '{"lock": 1}') AS both \gset
CALL gtf_wait_all(ARRAY[:'hard', :'both']::uuid[]);
CALL run_there('proc_hard', true) \gset
SELECT task_type, :facts FROM gtf.task_info WHERE id IN (:'hard', :'both', :'id') ORDER BY 1;
SELECT pg_advisory_unlock(1);
SELECT what FROM effects ORDER BY what;
-- one that was asked to stop before: that remains the cause
CREATE FUNCTION starts_and_sleeps() RETURNS void LANGUAGE plpgsql AS
  $$BEGIN PERFORM gtf_update_progress(1), pg_sleep(60); END$$;
SELECT gtf_register_task('cancelled', 'starts_and_sleeps()', abort => 'poll');
CREATE PROCEDURE run_cancelled(INOUT id uuid DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
  patience interval;
  ended text;
BEGIN
  -- more time, if it was over before the cancel
  FOREACH patience IN ARRAY '{0.5 s,5 s,50 s}'::interval[] LOOP
    PERFORM gtf_set_timeout('cancelled', hard_timeout => patience);
    id := gtf_submit('cancelled');
    COMMIT;
    WHILE NOT EXISTS (SELECT FROM gtf_get_task(id) t WHERE progress_current = 1 OR t.ended_at IS NOT NULL) LOOP
      PERFORM pg_sleep(0.005);
    END LOOP;
    PERFORM gtf_cancel(ARRAY[id]);
    COMMIT;
    CALL gtf_wait(id, NULL, ended);
    EXIT WHEN ended = 'aborted';
  END LOOP;
END $$;
CALL run_cancelled() \gset
SELECT status, error_message, exception_type FROM gtf_get_task(:'id');

-- Run again by hand: with a new time.
SELECT gtf_submit('hold', '{"lock": 1}') AS id \gset
CALL gtf_wait(:'id');
SELECT gtf_register_task('once', 'checks(text)', abort => 'poll', timeout => '0.1 s');
SELECT gtf_submit('once') AS id \gset
CALL gtf_wait(:'id');
SELECT gtf_retry(:'id');
CALL gtf_wait(:'id');
SELECT :facts FROM gtf_get_task(:'id');
SELECT attempt, error_message, exception_type FROM gtf.task_attempts WHERE task_id = :'id' ORDER BY 1;

-- A hard timeout interrupts again what goes on, but not an abort handler that
-- runs meanwhile.
CREATE FUNCTION slow_abort() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep(2.5);
  PERFORM gtf_update_payload('"cleared up"');
END $$;
CREATE FUNCTION catches_once() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('slow_abort()'), nextval('there');
  BEGIN
    PERFORM pg_sleep(600);
  EXCEPTION WHEN query_canceled THEN
    NULL;
  END;
  PERFORM gtf_is_aborting();
  RETURN 'went on';
END $$;
SELECT gtf_register_task('catches_once', 'catches_once()', abort => 'poll');
CALL run_there('catches_once', true) \gset
CALL gtf_wait(:'id');
SELECT status, payload, error_message, exception_type FROM gtf_get_task(:'id');

-- nothing is left over
DO $$
BEGIN
  WHILE EXISTS (SELECT FROM gtf.abort_requests) LOOP PERFORM pg_sleep(0.01); END LOOP;
END $$;
SELECT count(*) FROM gtf.live;
SELECT count(*) FROM gtf.task_info WHERE ended_at IS NULL;

DROP EXTENSION gtf;
DROP PROCEDURE proc, await_timeout, run_there, run_cancelled;
DROP FUNCTION slow_abort, catches_once, fails, noop, shown(), shown(uuid), hold, polls, checks, sleeps, catches, starts_and_sleeps;
DROP TABLE effects;
DROP SEQUENCE there;
DROP ROLE regress_gtf_user;
