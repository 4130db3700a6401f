-- CALL gtf_run: a task that its session runs itself.
CREATE EXTENSION gtf;
CREATE ROLE run_alice;
CREATE ROLE run_bob;
GRANT ALL ON SCHEMA public TO run_alice;
CREATE TABLE notes (seq int GENERATED ALWAYS AS IDENTITY, task uuid DEFAULT gtf_task_id(), what text);
GRANT ALL ON notes TO PUBLIC;
CREATE FUNCTION note(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO notes (what) VALUES (what) $$;
CREATE FUNCTION note_it(arg jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO notes (what) VALUES (arg ->> 0) $$;
-- What has happened since it was asked last.
CREATE TABLE seen (id uuid);
CREATE FUNCTION happened() RETURNS TABLE (task_type text, status text, mode text, worker text, attempt int, result jsonb, error text, notes text)
LANGUAGE sql AS $$
  WITH n AS (DELETE FROM notes RETURNING *), new AS (
    INSERT INTO seen SELECT id FROM gtf.task_info i WHERE NOT EXISTS (SELECT FROM seen s WHERE s.id = i.id) RETURNING id)
  SELECT i.task_type, i.status, i.execution_mode, CASE WHEN i.worker = 'backend ' || pg_backend_pid() THEN 'me' ELSE regexp_replace(i.worker, '\d+', 'N') END,
         i.attempt, i.result, i.error_message, (SELECT string_agg(n.what, ', ' ORDER BY n.seq) FROM n WHERE n.task IS NOT DISTINCT FROM new.id)
    FROM (SELECT id FROM new UNION ALL SELECT NULL WHERE EXISTS (SELECT FROM n WHERE n.task IS NULL)) new LEFT JOIN gtf.task_info i ON i.id = new.id
   ORDER BY new.id
$$;

CREATE FUNCTION add(a int, b int DEFAULT 1) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  PERFORM note('add'), gtf_update_progress(1, 2, '"half"');
  RETURN a + b;
END $$;
CREATE FUNCTION fail(message text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM note('fail'), gtf_on_cleanup('note_it(jsonb)', '"cleaned up"');
  RAISE '%', message USING DETAIL = 'Some detail.';
END $$;
CREATE PROCEDURE steps(n int, INOUT done int DEFAULT 0) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. n LOOP
    PERFORM note('step ' || i);
    COMMIT;
    done := i;
  END LOOP;
  PERFORM note('undone');
  ROLLBACK;
END $$;
CREATE PROCEDURE fail_late() LANGUAGE plpgsql AS $$
DECLARE
  r record;
  c CURSOR FOR SELECT generate_series(1, 3) i;
BEGIN
  PERFORM gtf_on_cleanup('note_it(jsonb)', '"cleaned up"');
  FOR r IN c LOOP
    PERFORM note('step ' || r.i);
    COMMIT;
    PERFORM note('undone');
    PERFORM 1 / (2 - r.i);
  END LOOP;
END $$;
SELECT gtf_register_task('add', 'add(int, int)', description => 'a function');
SELECT gtf_register_task('fail', 'fail(text)');
SELECT gtf_register_task('steps', 'steps(int, int)');
SELECT gtf_register_task('fail_late', 'fail_late()');

-- Outside a transaction block.
CALL gtf_run('add', '{"a": 1}') \gset
SELECT :'status' AS status, :'result' AS result, :'task_id' = (SELECT id::text FROM gtf.task_info) AS is_its_id;
SELECT * FROM happened();
CALL gtf_run('add', '{"a": 1, "b": 2}', task_key => 'k', task_name => 'named', timeout => '1 min') \gset
SELECT task_key, task_name, display_name, timeout, scope, owner = current_user::regrole AS mine, max_attempts, progress_text, payload, properties
  FROM gtf_get_task(:'task_id');
SELECT id, status, ready, success, result FROM gtf_result(:'task_id') r, LATERAL (SELECT r.task_id = :'task_id' AS id) x;
CALL gtf_run('fail', '{"message": "oops"}') \gset
SELECT error_message, exception_type, stack_trace FROM gtf_get_task(:'task_id');
SELECT attempt, error_message, worker = 'backend ' || pg_backend_pid() AS by_me FROM gtf.task_attempts;
CALL gtf_run('steps', '{"n": 2}') \gset
CALL gtf_run('fail_late') \gset
SELECT * FROM happened();
SELECT count(*) FROM pg_cursors WHERE name = 'c';
-- commands, as if they were typed
CALL gtf_run('sql', '{"command": "VACUUM notes"}') \gset
CALL gtf_run('sql', '{"command": "INSERT INTO notes (what) SELECT ''command'' FROM generate_series(1, 2)"}') \gset
CALL gtf_run('sql', '{"command": "SELECT nothing"}') \gset
CALL gtf_run('sql', '{"command": "CALL steps(1)"}') \gset
CALL gtf_run('sql', '{"command": "CALL gtf_run(''add'', ''{\"a\": 5}'')"}') \gset
SELECT * FROM happened();
CALL gtf_run('sql', '{"command": "SELECT 1; SELECT 2"}');
CALL gtf_run('sql', '{"command": "COMMIT"}');
CALL gtf_run('sql', '{"cmd": "SELECT 1"}');
CALL gtf_run('sql', '"SELECT 1"');

-- Inside one: part of it.
BEGIN;
CALL gtf_run('add', '{"a": 10}') \gset
CALL gtf_run('fail', '{"message": "in a block"}') \gset
SELECT gtf_status(:'task_id');
SAVEPOINT s;
CALL gtf_run('add', '{"a": 20}') \gset
ROLLBACK TO s;
CALL gtf_run('add', '{"a": 30}') \gset
COMMIT;
SELECT * FROM happened();
BEGIN;
CALL gtf_run('add', '{"a": 40}') \gset
ROLLBACK;
SELECT * FROM happened();
BEGIN;
CALL gtf_run('steps', '{"n": 1}');
ROLLBACK;
\set VERBOSITY sqlstate
BEGIN;
CALL gtf_run('sql', '{"command": "SELECT 1"}');
ROLLBACK;
\set VERBOSITY terse
-- functions and exception blocks, too; in DO a procedure may commit, but not call one in our name
DO $$
DECLARE
  i uuid; s text; r jsonb;
BEGIN
  CALL gtf_run('add', '{"a": 50}', task_id => i, status => s, result => r);
  RAISE NOTICE '% %, %', s, r, gtf_status(i);
  BEGIN
    CALL gtf_run('add', '{"a": 60}', task_id => i, status => s, result => r);
    RAISE NOTICE '% %', s, r;
    RAISE 'undone';
  EXCEPTION WHEN raise_exception THEN
    RAISE NOTICE 'caught, and the task is %', gtf_status(i);
  END;
  CALL gtf_run('steps', '{"n": 1}', task_id => i, status => s, result => r);
END $$;
\set VERBOSITY default
SELECT * FROM happened();
CREATE FUNCTION calls(a int) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  i uuid; s text; r jsonb;
BEGIN
  CALL gtf_run('add', jsonb_build_object('a', a), task_id => i, status => s, result => r);
  RETURN r;
END $$;
SELECT calls(i) FROM generate_series(1, 3) i;
SELECT * FROM happened();
-- a constraint that is deferred is checked at the end of the body, or of the block
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (id int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION orphan() RETURNS void LANGUAGE sql AS $$ INSERT INTO children VALUES (1) $$;
SELECT gtf_register_task('orphan', 'orphan()');
CALL gtf_run('orphan') \gset
SELECT * FROM happened();
BEGIN;
CALL gtf_run('orphan') \gset
SELECT :'status';
INSERT INTO parents VALUES (1);
COMMIT;
SELECT * FROM happened();
-- timeouts and handlers in a block: the dispatcher sees the slot
CREATE FUNCTION wait_long(how text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF how = 'handler' THEN
    PERFORM gtf_on_abort('note_it(jsonb)', '"aborted"');
  END IF;
  PERFORM gtf_on_cleanup('note_it(jsonb)', '"cleaned up"'), note('body');
  IF how = 'interrupt' THEN
    PERFORM pg_sleep(300);
  END IF;
  RETURN gtf_sleep('5 min');
END $$;
SELECT gtf_register_task('wait ' || mode, 'wait_long(text)', abort => mode) FROM unnest('{handler,poll,interrupt}'::text[]) mode;
BEGIN;
CALL gtf_run('wait handler', '{"how": "handler"}', timeout => '2 s') \gset
CALL gtf_run('wait poll', '{"how": "poll"}', timeout => '0.3 s') \gset
SELECT gtf_set_timeout('wait interrupt', hard_timeout => '2 s');
CALL gtf_run('wait interrupt', '{"how": "interrupt"}') \gset
SELECT 'the transaction goes on';
COMMIT;
SELECT * FROM happened();

-- The caller's own cancel aborts the task, and is his own afterwards.
\set VERBOSITY terse
SET statement_timeout = '2 s';
CALL gtf_run('wait handler', '{"how": "handler"}');
BEGIN;
CALL gtf_run('wait handler', '{"how": "handler"}');
COMMIT;
RESET statement_timeout;
\set VERBOSITY default
SELECT task_type, status, error, notes FROM happened();
SET lock_timeout = '0.2 s';
-- which a lock timeout is not
CREATE FUNCTION lock_it() RETURNS void LANGUAGE sql AS $$ SELECT FROM pg_advisory_xact_lock(4711) $$;
SELECT gtf_register_task('lock_it', 'lock_it()');
CREATE PROCEDURE hold_it() LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_lock(4711);
  COMMIT;
  WHILE NOT EXISTS (SELECT FROM gtf.task_info WHERE task_type = 'lock_it' AND ended_at IS NOT NULL) LOOP
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
SELECT gtf_submit_sql('CALL hold_it()') AS holder \gset
DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;
CALL gtf_run('lock_it') \gset
RESET lock_timeout;
CALL gtf_wait(:'holder');
SELECT task_type, status, error FROM happened() WHERE task_type = 'lock_it';

-- Tasks inside of tasks.
CREATE FUNCTION nested(depth int, fails int DEFAULT -1) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  me uuid := gtf_task_id();
  i uuid; s text; r jsonb;
BEGIN
  PERFORM gtf_on_cleanup('note_it(jsonb)', to_jsonb('cleaned up ' || depth)), gtf_update_progress(depth);
  IF depth > 0 THEN
    CALL gtf_run('nested', jsonb_build_object('depth', depth - 1, 'fails', fails), task_id => i, status => s, result => r);
    PERFORM note(s);
  END IF;
  IF depth = fails THEN
    RAISE 'failed';
  END IF;
  -- what is mine is mine again
  RETURN jsonb_build_object('same', me = gtf_task_id(), 'depth', (gtf_context()).args -> 'depth', 'inner', r);
END $$;
SELECT gtf_register_task('nested', 'nested(int, int)');
CALL gtf_run('nested', '{"depth": 2}') \gset
SELECT jsonb_pretty(:'result');
SELECT * FROM happened();
CALL gtf_run('nested', '{"depth": 2, "fails": 0}') \gset
CALL gtf_run('nested', '{"depth": 2, "fails": 1}') \gset
SELECT status, result, error, notes FROM happened();
SELECT gtf_submit('nested', '{"depth": 1}') AS task_id \gset
CALL gtf_wait(:'task_id', '1 min');
SELECT i.execution_mode, i.worker ~ '^executor' AS by_executor, i.worker ~ '^backend' AS by_backend, i.parent_id = p.id AS child, i.root_id = p.id AS same_root, i.progress_text
  FROM gtf.task_info i, gtf_get_task(:'task_id') p WHERE i.id >= p.id ORDER BY i.id;
SELECT count(*) AS executor_and_inner FROM happened();
CALL gtf_run('nested', '{"depth": 20}') \gset
SELECT status, error, count(*) FROM happened() GROUP BY 1, 2 ORDER BY 3;
SELECT gtf_task_id();
SELECT gtf_context();

-- Keys: an active task is joined.
CREATE FUNCTION add_slowly(a int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  PERFORM note('slow');
  -- until somebody has joined
  WHILE a = 7 AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CALL gtf_run(''add_slowly''%' AND wait_event = 'Extension') LOOP
    PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
  END LOOP;
  RETURN a;
END $$;
SELECT gtf_register_task('add_slowly', 'add_slowly(int)');
SELECT gtf_submit('add_slowly', '{"a": 7}', task_key => 'slow') AS submitted \gset
CALL gtf_run('add_slowly', '{"a": 8}', task_key => 'slow') \gset
SELECT :'task_id' = :'submitted' AS joined, :'status' AS status, :'result' AS result;
CALL gtf_run('add_slowly', '{"a": 9}', task_key => 'slow') \gset
SELECT :'task_id' = :'submitted' AS joined, :'status' AS status, :'result' AS result;
SELECT task_type, status, mode, notes FROM happened();
SELECT gtf_submit('add_slowly', '{"a": 7}', task_key => 'later', delay => '1 h') AS submitted \gset
\set VERBOSITY sqlstate
BEGIN;
CALL gtf_run('add_slowly', '{"a": 8}', task_key => 'later');
ROLLBACK;
-- one's own task is not waited for
CREATE FUNCTION myself() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  i uuid; s text; r jsonb;
BEGIN
  CALL gtf_run('myself', task_key => 'me', task_id => i, status => s, result => r);
END $$;
SELECT gtf_register_task('myself', 'myself()');
CALL gtf_run('myself', task_key => 'me') \gset
CALL gtf_run('sql', '{"command": "CALL gtf_run(''sql'', ''{\"command\": \"SELECT 1\"}'', task_key => ''me'')"}', task_key => 'me') \gset
SELECT gtf_submit('myself', task_key => 'me') AS task_id \gset
CALL gtf_wait(:'task_id', '1 min');
SELECT task_type, mode, regexp_replace(error, '".*"', '"..."') FROM happened();
-- scopes, as submits
CALL gtf_run('add', '{"a": 1}', scope => 'shared');
CALL gtf_run('add', '{"a": 1}', task_key => 's', scope => 'shared') \gset
SELECT scope, is_subscribed FROM gtf_get_task(:'task_id');

-- Arguments and rights, as submits.
\set VERBOSITY default
CALL gtf_run('nothing');
CALL gtf_run(NULL);
CALL gtf_run('add', '{"x": 1}');
CALL gtf_run('add', '{"a": "one"}');
CALL gtf_run('add');
CALL gtf_run('add', '{"a": 1}', task_key => '');
CALL gtf_run('add', '{"a": 1}', timeout => '-1 s');
CALL gtf_run('add', '{"a": 1}', timeout => '178000000 years');
CALL gtf_run('add', '{"a": 1}', scope => 'public');
BEGIN READ ONLY;
CALL gtf_run('add', '{"a": 1}');
ROLLBACK;
SELECT gtf_register_task('bobs', 'add(int, int)', submit_role => 'run_bob');
SET ROLE run_alice;
SET gtf.app_user = 'carol';
CALL gtf_run('bobs', '{"a": 1}');
CALL gtf_run('add', '{"a": 1}', scope => 'system');
-- as who calls it
CREATE FUNCTION whoami() RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_array(current_user, session_user = current_user, gtf_task_id() IS NOT NULL, app_user, current_setting('work_mem')) FROM gtf_context() $$;
RESET ROLE;
SELECT gtf_register_task('whoami', 'whoami()');
SET ROLE run_alice;
SET work_mem = '7MB';
CALL gtf_run('whoami') \gset
SELECT :'result', owner, app_user FROM gtf_get_task(:'task_id');
BEGIN;
CALL gtf_run('whoami') \gset
COMMIT;
SELECT :'result', owner, app_user FROM gtf_get_task(:'task_id');
RESET ROLE;
-- what a body SETs is undone; a procedure is not another user afterwards
CREATE FUNCTION sets(fails boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('gtf.app_user', 'dave', false), set_config('work_mem', '9MB', false), set_config('role', 'run_bob', false);
  IF fails THEN
    RAISE 'failed';
  END IF;
END $$;
CREATE PROCEDURE sets_too(fails boolean) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM sets(false);
  COMMIT;
  PERFORM sets(fails);
END $$;
SELECT gtf_register_task('sets', 'sets(boolean)');
SELECT gtf_register_task('sets_too', 'sets_too(boolean)');
SET work_mem = '6MB';
CREATE VIEW session AS SELECT current_user = session_user AS me, current_setting('gtf.app_user') AS app_user, current_setting('work_mem') AS work_mem;
CALL gtf_run('sets', '{"fails": false}') \gset
SELECT * FROM session;
CALL gtf_run('sets', '{"fails": true}') \gset
SELECT * FROM session;
BEGIN;
CALL gtf_run('sets', '{"fails": false}') \gset
CALL gtf_run('sets', '{"fails": true}') \gset
COMMIT;
SELECT * FROM session;
CALL gtf_run('sets_too', '{"fails": true}') \gset
SELECT * FROM session;
CALL gtf_run('sets_too', '{"fails": false}') \gset
SELECT * FROM session;
SELECT task_type, status, error FROM happened();
RESET gtf.app_user;
RESET work_mem;
-- a handler runs as the body: in a function of another role as that
CREATE FUNCTION definer() RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  i uuid; s text; r jsonb;
BEGIN
  CALL gtf_run('whoami', task_id => i, status => s, result => r);
  RETURN r;
END $$;
ALTER FUNCTION definer() OWNER TO run_alice;
SELECT definer();

-- Not while gtf is disabled.
SET gtf.enabled = off;
CALL gtf_run('add', '{"a": 1}');
RESET gtf.enabled;

-- It can be run again, then by an executor; removed; and nothing is left.
CALL gtf_run('fail', '{"message": "again"}') \gset
SELECT gtf_retry(:'task_id');
CALL gtf_wait(:'task_id', '1 min');
SELECT status, attempt, execution_mode, worker ~ '^executor' AS by_executor FROM gtf_get_task(:'task_id');
SELECT attempt, worker ~ '^executor' AS by_executor FROM gtf.task_attempts WHERE task_id = :'task_id' ORDER BY 1;
SELECT gtf_cancel(:'submitted');
SELECT count(*) FROM gtf.live;
SELECT count(*) FROM gtf.workers WHERE kind = 'backend';
SELECT name, setting FROM pg_settings WHERE source = 'session' AND name IN ('role', 'session_authorization', 'gtf.app_user', 'work_mem');

DROP TABLE notes, seen, children, parents;
DROP VIEW session;
DROP FUNCTION note, note_it, happened, add, fail, calls, orphan, wait_long, lock_it, nested, add_slowly, myself, whoami, sets, definer;
DROP PROCEDURE steps, fail_late, hold_it, sets_too;
DROP OWNED BY run_alice;
DROP EXTENSION gtf;
DROP ROLE run_alice, run_bob;
