-- Cancelling: who may, what is told, what becomes of a task in each state and
-- of a body in each abort mode.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_alice;
CREATE ROLE regress_gtf_bob;
CREATE ROLE regress_gtf_admin;
SELECT current_database() AS db, d.datdba::regrole AS owner
  FROM pg_database d WHERE datname = current_database() \gset
ALTER DATABASE :"db" OWNER TO regress_gtf_admin;

CREATE TABLE effects (seq serial, what text);
GRANT ALL ON effects, effects_seq_seq TO PUBLIC;

-- wait until a task is in a state
CREATE FUNCTION await(task_id uuid, state text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 30000 LOOP
    EXIT WHEN gtf_status(task_id) = state;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN gtf_status(task_id);
END $$;
-- the error of a command
CREATE FUNCTION fails(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  message text;
  more text;
  hint text;
BEGIN
  EXECUTE command;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, more = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(E'\n', SQLSTATE, regexp_replace(message, '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>'),
                   nullif(more, ''), nullif(hint, ''));
END $$;
-- run a task, cancel it when its body waits, wait for its end
CREATE PROCEDURE run_and_cancel(task_type text, how text, INOUT id uuid DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
  id := gtf_submit(task_type, jsonb_strip_nulls(jsonb_build_object('how', how)));
  COMMIT;
  WHILE NOT EXISTS (SELECT FROM gtf.workers JOIN pg_stat_activity USING (pid)
                     WHERE task_id = id AND wait_event IN ('PgSleep', 'Extension')) LOOP
    PERFORM pg_sleep(0.005);
    COMMIT;
  END LOOP;
  PERFORM gtf_cancel(id), gtf_cancel(id);
  COMMIT;
  WHILE gtf_status(id) IN ('in_progress', 'aborting') LOOP
    PERFORM pg_sleep(0.005);
  END LOOP;
END $$;

-- Bodies: how they are told, and what they do then.
CREATE FUNCTION noop() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION boom() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'boom'; END$$;
CREATE FUNCTION hold(lock int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES ('hold');
  PERFORM pg_advisory_xact_lock_shared(lock);
  RETURN 'held';
END $$;
CREATE FUNCTION polls(how text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  stop boolean := false;
BEGIN
  INSERT INTO effects (what) VALUES (how);
  WHILE NOT stop LOOP
    CASE how
      WHEN 'gtf_sleep' THEN stop := NOT gtf_sleep('1 min');
      WHEN 'gtf_is_aborting' THEN stop := gtf_is_aborting(); PERFORM pg_sleep(0.001);
      WHEN 'gtf_update_progress' THEN stop := NOT gtf_update_progress(7, 10); PERFORM pg_sleep(0.001);
      WHEN 'gtf_check_abort' THEN PERFORM gtf_check_abort(), pg_sleep(0.001);
      WHEN 'another error' THEN
        IF gtf_is_aborting() THEN
          RAISE EXCEPTION 'no time to lose' USING ERRCODE = 'lock_not_available';
        END IF;
        PERFORM pg_sleep(0.001);
      WHEN 'gtf_context' THEN
        stop := (SELECT status = 'aborting' FROM gtf_context()); PERFORM pg_sleep(0.001);
    END CASE;
  END LOOP;
  RETURN 'stopped';
END $$;
CREATE FUNCTION sleeps(how text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES (how);
  BEGIN
    PERFORM pg_sleep(60);
  EXCEPTION WHEN query_canceled THEN
    IF how = 'does not catch it' THEN RAISE; END IF;
    IF how = 'raises' THEN RAISE EXCEPTION 'who wakes me'; END IF;
    -- this is not interrupted again
    PERFORM pg_sleep(0.5);
  END;
  RETURN 'caught';
END $$;
CREATE PROCEDURE proc() LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES ('committed');
  COMMIT;
  INSERT INTO effects (what) VALUES ('not committed');
  PERFORM pg_sleep(60);
END $$;
SELECT gtf_register_task('noop', 'noop()');
SELECT gtf_register_task('boom', 'boom()', retry_delay => '1 hour');
SELECT gtf_register_task('hold', 'hold(int)');
SELECT gtf_register_task('never', 'hold(int)', abort => 'never');
SELECT gtf_register_task('deaf', 'hold(int)', abort => 'poll');
SELECT gtf_register_task('polls', 'polls(text)', abort => 'poll', max_attempts => 3);
SELECT gtf_register_task('sleeps', 'sleeps(text)', abort => 'interrupt', max_attempts => 3);
SELECT gtf_register_task('proc', 'proc()', abort => 'interrupt');
SELECT $$ status, attempt, result, started_at IS NOT NULL AS started, ended_at IS NOT NULL AS ended,
          regexp_replace(worker, '\d+', '<pid>') AS worker, error_message, exception_type $$ AS facts \gset
SELECT $$ status, is_abortable, can_cancel, cancel_action, can_force $$ AS actions \gset

-- The contract.
SELECT p.oid::regprocedure AS function, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
  FROM pg_proc p WHERE proname IN ('gtf_cancel', 'gtf_revoke', 'gtf_is_aborting', 'gtf_check_abort', 'gtf_sleep')
 ORDER BY proname, p.oid::regprocedure::text;

-- Pending: it never starts.
SELECT gtf_submit('noop', delay => '1 hour') AS id \gset
SELECT :actions FROM gtf_get_task(:'id');
SELECT gtf_cancel(:'id'::uuid);
SELECT :facts FROM gtf_get_task(:'id');
SELECT wait_reason, duration, queue_time, updated_at = ended_at AS at_change FROM gtf_get_task(:'id');
SELECT :actions FROM gtf_get_task(:'id');
SELECT status, ready, success, error_message FROM gtf_result(:'id');
CALL gtf_wait(:'id');
SELECT count(*) FROM gtf.task_attempts WHERE task_id = :'id';
-- an id that is a literal, or text
SELECT gtf_submit('noop', delay => '1 hour') AS id \gset
SELECT gtf_cancel(:'id');
SELECT gtf_submit('noop', delay => '1 hour') AS id \gset
SELECT gtf_cancel(:'id'::text, force => true);
-- a task that waits for another attempt
SELECT gtf_submit('boom', max_attempts => 2) AS id \gset
DO $$
BEGIN
  WHILE NOT EXISTS (SELECT FROM gtf.task_info WHERE task_type = 'boom' AND wait_reason = 'retry') LOOP
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
SELECT gtf_cancel(:'id');
SELECT :facts FROM gtf_get_task(:'id');
SELECT attempt, error_message FROM gtf.task_attempts WHERE task_id = :'id';
SELECT count(*) FROM gtf.live;

-- In progress: what the body is told, and what it makes of it.  Whoever is
-- told and returns keeps its writes,
TRUNCATE effects;
CALL run_and_cancel('polls', 'gtf_sleep') \gset
SELECT :facts FROM gtf_get_task(:'id');
SELECT :actions FROM gtf_get_task(:'id');
CALL run_and_cancel('polls', 'gtf_is_aborting') \gset
SELECT :facts FROM gtf_get_task(:'id');
CALL run_and_cancel('polls', 'gtf_update_progress') \gset
SELECT :facts, progress_text FROM gtf_get_task(:'id');
CALL run_and_cancel('sleeps', 'catches it') \gset
SELECT :facts FROM gtf_get_task(:'id');
-- whoever raises does not, and is not tried again;
CALL run_and_cancel('polls', 'gtf_check_abort') \gset
SELECT :facts FROM gtf_get_task(:'id');
CALL run_and_cancel('polls', 'another error') \gset
SELECT :facts FROM gtf_get_task(:'id');
CALL run_and_cancel('sleeps', 'does not catch it') \gset
SELECT :facts FROM gtf_get_task(:'id');
CALL run_and_cancel('sleeps', 'raises') \gset
SELECT :facts FROM gtf_get_task(:'id');
-- what a procedure has committed stays;
CALL run_and_cancel('proc', NULL) \gset
SELECT :facts FROM gtf_get_task(:'id');
-- whoever finds out by himself was not told: too late.
CALL run_and_cancel('polls', 'gtf_context') \gset
SELECT :facts FROM gtf_get_task(:'id');
SELECT what FROM effects ORDER BY seq;
-- commands are interrupted
SELECT gtf_submit_sql('SELECT pg_sleep(60)') AS id \gset
SELECT await(:'id', 'in_progress');
SELECT :actions FROM gtf_get_task(:'id');
SELECT gtf_cancel(:'id');
CALL gtf_wait(:'id');
SELECT :facts FROM gtf_get_task(:'id');

-- In progress and not told in time: too late.
SELECT pg_advisory_lock(1);
SELECT gtf_submit('deaf', '{"lock": 1}') AS id \gset
SELECT await(:'id', 'in_progress');
SELECT :actions FROM gtf_get_task(:'id');
SELECT gtf_cancel(:'id');
SELECT :actions FROM gtf_get_task(:'id');
SELECT ended_at, duration > '0' AS duration FROM gtf_get_task(:'id');
CALL gtf_wait(:'id', '1 ms');
-- again: nothing new
SELECT gtf_cancel(:'id'), gtf_cancel(:'id', true), gtf_revoke(:'id');
SELECT pg_advisory_unlock(1);
CALL gtf_wait(:'id');
SELECT :facts FROM gtf_get_task(:'id');

-- In progress and not abortable: nothing changes, whoever asks.
SELECT pg_advisory_lock(1);
SELECT gtf_submit('hold', '{"lock": 1}') AS hold, gtf_submit('never', '{"lock": 1}') AS never \gset
SELECT await(:'hold', 'in_progress'), await(:'never', 'in_progress');
SELECT fails(format('SELECT gtf_cancel(%L)', :'hold'));
SELECT fails(format('SELECT gtf_cancel(%L, force => true)', :'hold'));
SELECT fails(format('SELECT gtf_cancel(%L)', :'never'));
SELECT fails(format('SELECT gtf_revoke(%L)', :'never'));
SELECT task_type, :actions, subscriber_count FROM gtf.task_info WHERE id IN (:'hold', :'never') ORDER BY 1;
SELECT count(*) FROM gtf.abort_requests;

-- Revoked: even so.  SIGINT cancels the statement, SIGTERM ends the executor.
SELECT worker FROM gtf_get_task(:'never') \gset
SELECT gtf_revoke(:'hold', terminate => true, signal => 'SIGINT');
SELECT gtf_revoke(:'never', terminate => true);
CALL gtf_wait_all(ARRAY[:'hold', :'never']::uuid[]);
SELECT task_type, :facts FROM gtf.task_info WHERE id IN (:'hold', :'never') ORDER BY 1;
SELECT set_config('test.worker', :'worker', false) <> '' AS known;
DO $$
BEGIN
  WHILE EXISTS (SELECT FROM pg_stat_activity WHERE 'executor ' || pid = current_setting('test.worker')) LOOP
    PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
  END LOOP;
END $$;
-- a body that is abortable is told first, and then made to
SELECT gtf_submit('deaf', '{"lock": 1}') AS id \gset
SELECT await(:'id', 'in_progress');
SELECT gtf_revoke(:'id');
SELECT gtf_revoke(:'id', true, 'SIGINT');
CALL gtf_wait(:'id');
SELECT pg_advisory_unlock(1);
-- a task that has not started
SELECT gtf_submit('noop', delay => '1 hour') AS id \gset
SELECT gtf_revoke(:'id', true);
SELECT :facts FROM gtf_get_task(:'id');

-- Where there is nothing to cancel.
SELECT fails(format('SELECT gtf_cancel(%L)', :'id'));
SELECT fails(format('SELECT gtf_cancel(%L, true)', :'id'));
SELECT fails(format('SELECT gtf_revoke(%L, true)', :'id'));
SELECT gtf_submit('noop') AS id \gset
CALL gtf_wait(:'id');
SELECT fails(format('SELECT gtf_cancel(%L)', :'id'));
SELECT gtf_submit('boom') AS id \gset
CALL gtf_wait(:'id');
SELECT fails(format('SELECT gtf_cancel(%L)', :'id'));
SELECT :facts FROM gtf_get_task(:'id');
SELECT fails($$SELECT gtf_cancel('01890000-0000-7000-8000-000000000000')$$);
SELECT fails($$SELECT gtf_revoke('01890000-0000-7000-8000-000000000000')$$);
SELECT fails($$SELECT gtf_cancel('not an id')$$);
SELECT fails($$SELECT gtf_revoke('01890000-0000-7000-8000-000000000000', true, 'SIGKILL')$$);
SELECT fails($$SELECT gtf_revoke('01890000-0000-7000-8000-000000000000', signal => 'sigint')$$);
SELECT gtf_cancel(NULL::uuid) IS NULL AS no_task, gtf_revoke(NULL) IS NULL AS nor_here;

-- Several at a time, each by itself.
SELECT gtf_submit('noop', task_name => 'first', delay => '1 hour') AS first, gtf_submit('noop', task_name => 'second', delay => '1 hour') AS second \gset
SELECT n, task_name, regexp_replace(outcome, '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>') AS outcome
  FROM gtf_cancel(ARRAY[:'second', :'id', '01890000-0000-7000-8000-000000000000', :'first', :'first']::uuid[]) WITH ORDINALITY AS c (task_id, outcome, n)
  LEFT JOIN gtf.task_info i ON i.id = c.task_id ORDER BY n;
SELECT count(*) FROM gtf_cancel('{}'::uuid[]);
SELECT count(*) FROM gtf_cancel(NULL::uuid[]);
SELECT gtf_submit('noop', delay => '1 hour') AS id \gset
SELECT fails(format('SELECT gtf_cancel(ARRAY[%L, NULL]::uuid[])', :'id'));
SELECT gtf_status(:'id');

-- It is part of the caller's transaction.
BEGIN;
SELECT gtf_cancel(:'id');
SELECT gtf_status(:'id');
\set VERBOSITY sqlstate
SELECT gtf_cancel(:'id');
\set VERBOSITY default
ROLLBACK;
SELECT :facts FROM gtf_get_task(:'id');
BEGIN;
SAVEPOINT s;
SELECT gtf_cancel(:'id');
ROLLBACK TO s;
SELECT gtf_status(:'id');
SELECT gtf_cancel(:'id');
SAVEPOINT s;
ROLLBACK TO s;
COMMIT;
SELECT gtf_status(:'id');
-- and retried in the same transaction, even the same statement
SELECT gtf_submit('boom') AS id \gset
CALL gtf_wait(:'id');
SELECT gtf_retry(:'id'), gtf_cancel(:'id');
SELECT :facts FROM gtf_get_task(:'id');
BEGIN;
SELECT gtf_retry(:'id');
SELECT gtf_cancel(:'id');
SELECT gtf_retry(:'id');
SELECT gtf_cancel(:'id');
COMMIT;
SELECT :facts FROM gtf_get_task(:'id');
SELECT count(*) FROM gtf.live;
-- where nothing can be written
BEGIN READ ONLY;
SELECT gtf_cancel(:'id');
ROLLBACK;

-- Whose task is it?
SET ROLE regress_gtf_alice;
SELECT gtf_submit('noop', delay => '1 hour') AS alice \gset
SET gtf.app_user = 'ann';
SELECT gtf_submit('noop', delay => '1 hour') AS ann \gset
SET gtf.app_user = 'another';
SELECT fails(format('SELECT gtf_cancel(%L)', :'ann'));
RESET gtf.app_user;
SELECT fails(format('SELECT gtf_cancel(%L)', :'ann'));
-- nobody but administrators forces, and sees what he does not see
SELECT fails(format('SELECT gtf_cancel(%L, force => true)', :'alice'));
SELECT fails(format('SELECT gtf_cancel(%L, force => true)', :'ann'));
SELECT fails(format('SELECT gtf_revoke(%L)', :'alice'));
SET ROLE regress_gtf_bob;
SELECT fails(format('SELECT gtf_cancel(%L)', :'alice'));
SELECT fails(format('SELECT gtf_cancel(%L, true)', :'alice'));
SELECT regexp_replace(outcome, '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>') AS outcome
  FROM gtf_cancel(ARRAY[:'alice', :'ann']::uuid[]);
SELECT fails(format('SELECT gtf_revoke(%L)', :'alice'));
-- its principal may, and administrators
SET ROLE regress_gtf_alice;
SELECT gtf_cancel(:'alice');
SET gtf.app_user = 'ann';
SELECT gtf_status(:'ann');
RESET gtf.app_user;
SET ROLE regress_gtf_admin;
SELECT gtf_cancel(:'ann');
SET ROLE regress_gtf_alice;
SELECT gtf_submit('noop', delay => '1 hour') AS alice, gtf_submit('noop', delay => '1 hour') AS alice2 \gset
SET ROLE regress_gtf_admin;
SELECT gtf_cancel(:'alice', force => true), gtf_revoke(:'alice2', true);
-- a task of a superuser: superusers only
RESET ROLE;
SELECT gtf_submit('noop', delay => '1 hour') AS mine \gset
SET ROLE regress_gtf_admin;
SELECT fails(format('SELECT gtf_cancel(%L)', :'mine'));
SELECT fails(format('SELECT gtf_cancel(%L, true)', :'mine'));
SELECT fails(format('SELECT gtf_revoke(%L, true)', :'mine'));
RESET ROLE;
SELECT gtf_cancel(:'mine');

-- A body may cancel: others, and itself, which comes too late.
CREATE FUNCTION cancels(id text) RETURNS text LANGUAGE sql AS 'SELECT gtf_cancel(coalesce(id::uuid, gtf_task_id()))';
SELECT gtf_register_task('cancels', 'cancels(text)', abort => 'poll');
SELECT gtf_submit('noop', delay => '1 hour') AS id \gset
CALL gtf_wait(gtf_submit('cancels', jsonb_build_object('id', :'id')));
SELECT gtf_status(:'id');
CALL gtf_wait(gtf_submit('cancels', '{"id": null}'));
-- even while it ends
CREATE FUNCTION cancel_self() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM gtf_cancel(gtf_task_id()); RETURN NULL; END';
CREATE TABLE deferred (n int);
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON deferred INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION cancel_self();
CREATE FUNCTION ends() RETURNS void LANGUAGE sql AS 'INSERT INTO deferred VALUES (1)';
SELECT gtf_register_task('ends', 'ends()', abort => 'poll');
CALL gtf_wait(gtf_submit('ends'), '5 min');

-- What a body calls, outside of one.
SELECT gtf_is_aborting(), gtf_check_abort(), gtf_sleep(NULL);
SELECT fails($$SELECT gtf_sleep('1 s')$$);
CREATE FUNCTION naps() RETURNS boolean LANGUAGE sql AS $$SELECT gtf_sleep('10 ms') AND gtf_sleep('-1 s') AND NOT gtf_is_aborting()$$;
SELECT gtf_register_task('naps', 'naps()');
SELECT gtf_submit('naps') AS id \gset
CALL gtf_wait(:'id');
SELECT result FROM gtf_get_task(:'id');

-- nothing is left over
DO $$
BEGIN
  WHILE EXISTS (SELECT FROM gtf.abort_requests) LOOP PERFORM pg_sleep(0.01); END LOOP;
END $$;
SELECT count(*) FROM gtf.live;
SELECT count(*) FROM gtf.task_info WHERE ended_at IS NULL;

ALTER DATABASE :"db" OWNER TO :"owner";
DROP EXTENSION gtf;
DROP PROCEDURE run_and_cancel, proc;
DROP FUNCTION await, fails, noop, boom, hold, polls, sleeps, cancels, ends, naps;
DROP TABLE effects, deferred;
DROP FUNCTION cancel_self;
DROP ROLE regress_gtf_alice, regress_gtf_bob, regress_gtf_admin;
