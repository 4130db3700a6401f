-- Abort and cleanup handlers: what can be one, when they run, as whom, and what
-- they may do.  How the task ends is in abort.sql.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_owner;
CREATE ROLE regress_gtf_other;
GRANT CREATE, USAGE ON SCHEMA public TO regress_gtf_owner, regress_gtf_other;
CREATE TABLE log (seq int GENERATED ALWAYS AS IDENTITY, what text, who text DEFAULT current_user);
GRANT ALL ON log TO PUBLIC;
CREATE TABLE counters (id int PRIMARY KEY, n int);
INSERT INTO counters SELECT i, 0 FROM generate_series(1, 3) i;
GRANT ALL ON counters TO PUBLIC;

CREATE FUNCTION note(arg jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO log (what) VALUES (arg ->> 0) $$;
CREATE FUNCTION count(arg jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO log (what) VALUES ('handler');
  UPDATE counters SET n = n + 100 WHERE id = 1;
END $$;
-- Held by the test, so that something can happen meanwhile.
CREATE FUNCTION hold() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN true; END $$;
-- Has the handler run?
CREATE FUNCTION look(where_ text) RETURNS void LANGUAGE sql AS
  $$ INSERT INTO log (what) SELECT where_ || ': ' || CASE WHEN EXISTS (SELECT FROM log WHERE what = 'handler') THEN 'has run' ELSE 'not yet' END $$;

-- Runs a body that calls hold(), aborts it there, and shows how it ended.
CREATE PROCEDURE run(body text, INOUT outcome text DEFAULT NULL, request text DEFAULT 'cancel', owner text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
  task uuid;
  ended text;
BEGIN
  DELETE FROM log;
  UPDATE counters SET n = 0;
  PERFORM pg_advisory_lock(1);
  IF owner IS NOT NULL THEN
    EXECUTE format('SET LOCAL ROLE %I', owner);
  END IF;
  task := gtf_submit(body);
  COMMIT;
  FOR n IN 1 .. 30000 LOOP
    EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted)
      OR gtf_status(task) NOT IN ('pending', 'in_progress');
    PERFORM pg_sleep(0.01);
  END LOOP;
  BEGIN
    PERFORM gtf_cancel(task) WHERE request = 'cancel';
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
  END;
  COMMIT;
  PERFORM pg_advisory_unlock(1);
  CALL gtf_wait(task, '5 min', ended);
  SELECT concat_ws(', ', status, result::text, error_message) INTO outcome FROM gtf_get_task(task);
END $$;

-- Outside a task.
\set VERBOSITY sqlstate
SELECT gtf_on_abort('note(jsonb)');
SELECT gtf_on_cleanup('note(jsonb)');
\set VERBOSITY default

-- What cannot be a handler.
CREATE PROCEDURE h_procedure() LANGUAGE sql AS '';
CREATE FUNCTION h_set() RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION h_int(int) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION h_two(jsonb, int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION h_variadic(VARIADIC jsonb[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION h_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION h_strict(jsonb) RETURNS void LANGUAGE sql STRICT AS '';
CREATE FUNCTION h_private() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION h_none() RETURNS text LANGUAGE sql AS $$ SELECT 'ignored' $$;
CREATE AGGREGATE h_aggregate(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb);
REVOKE EXECUTE ON FUNCTION h_private() FROM PUBLIC;
CREATE FUNCTION refused() RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  call text;
  said jsonb := '[]';
BEGIN
  CREATE FUNCTION pg_temp.h_temp() RETURNS void LANGUAGE sql AS '';
  FOREACH call IN ARRAY ARRAY['''h_procedure()''', '''h_set()''', '''h_int(int)''', '''h_two(jsonb, int)''', '''h_variadic(jsonb[])''',
      '''h_trigger()''', '''h_aggregate(jsonb)''', '''plpgsql_call_handler()''', '''pg_temp.h_temp()''', 'NULL', '4711', '''h_private()''',
      '''h_none()'', ''{}''', '''h_strict(jsonb)''',
      '''note(jsonb)'', to_jsonb(repeat(''x'', 8191))', '''note(jsonb)'', to_jsonb(repeat(''x'', 8190))',
      '''h_none()''', '''txid_current()''', '''h_strict(jsonb)'', ''null'''] LOOP
    BEGIN
      EXECUTE format('SELECT gtf_on_abort(%s)', call);
      said := said || to_jsonb(left(call, 40) || ': ok');
    EXCEPTION WHEN OTHERS THEN
      said := said || to_jsonb(left(call, 40) || ': ' || SQLSTATE || ' ' || regexp_replace(SQLERRM, 'pg_temp_\d+', 'pg_temp'));
    END;
  END LOOP;
  RETURN said;
END $$;
SELECT gtf_register_task('refused', 'refused()');
SET ROLE regress_gtf_owner;
SELECT gtf_submit('refused') AS id \gset
RESET ROLE;
CALL gtf_wait(:'id');
SELECT jsonb_array_elements_text(result) FROM gtf_result(:'id');

-- 64 of both kinds together, LIFO, arguments.
CREATE FUNCTION many(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. n LOOP
    IF i % 2 = 0 THEN
      PERFORM gtf_on_cleanup('note(jsonb)', to_jsonb('c' || i));
    ELSE
      PERFORM gtf_on_abort('note(jsonb)', to_jsonb(repeat('a', 4000 * (i % 3)) || i));
    END IF;
  END LOOP;
  PERFORM hold();
END $$;
CREATE FUNCTION b_many64() RETURNS void LANGUAGE sql AS 'SELECT many(64)';
CREATE FUNCTION b_many65() RETURNS void LANGUAGE sql AS 'SELECT many(65)';
SELECT gtf_register_task('b_many64', 'b_many64()'), gtf_register_task('b_many65', 'b_many65()');
CALL run('b_many64');
SELECT string_agg(replace(what, 'a', ''), ' ' ORDER BY seq), max(length(what)) FROM log;
CALL run('b_many65');
SELECT string_agg(what, ' ' ORDER BY seq) FROM log;

-- Abortable from the first abort handler on, at once; never in mode never.
CREATE FUNCTION b_abortable() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  before boolean := (SELECT is_abortable FROM gtf.task_info WHERE id = gtf_task_id());
BEGIN
  PERFORM gtf_on_cleanup('h_none()');
  PERFORM gtf_on_abort('h_none()');
  RETURN before || ' ' || (SELECT is_abortable FROM gtf.task_info WHERE id = gtf_task_id());
END $$;
SELECT count(gtf_register_task('abortable ' || mode, 'b_abortable()', abort => mode)) FROM unnest('{handler,poll,interrupt,never}'::text[]) mode;
SELECT count(*) FROM (SELECT gtf_submit('abortable ' || mode) FROM unnest('{handler,poll,interrupt,never}'::text[]) mode) x;
SELECT array_agg(id) AS ids FROM gtf.task_info \gset
CALL gtf_wait_all(:'ids');
SELECT task_type, status, result FROM gtf.task_info WHERE task_type LIKE 'abortable%' ORDER BY id;

-- One registered after the request runs at once; so does the first one after
-- the timeout.
CREATE FUNCTION b_late() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold();
  PERFORM gtf_on_abort('note(jsonb)', '"handler"');
  PERFORM look('late');
  PERFORM gtf_on_cleanup('note(jsonb)', '"cleanup"');
END $$;
SELECT gtf_register_task('late', 'b_late()', abort => 'poll');
CALL run('late');
SELECT what FROM log ORDER BY seq;
CREATE FUNCTION b_timeout() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  exceeded boolean := false;
BEGIN
  WHILE NOT exceeded LOOP
    PERFORM pg_sleep(0.01);
    -- as the dispatcher knows it, not the clock
    exceeded := (gtf._current_state(gtf_task_id())).timeout_exceeded;
  END LOOP;
  PERFORM gtf_on_cleanup('note(jsonb)', to_jsonb('cleanup ' || gtf_status(gtf_task_id())));
  PERFORM gtf_on_abort('note(jsonb)', '"handler"');
  PERFORM look('after timeout, ' || (gtf_context()).status);
END $$;
SELECT gtf_register_task('timeout', 'b_timeout()', timeout => '0.1 s');
SELECT gtf_register_task('timeout never', 'b_timeout()', timeout => '0.1 s', abort => 'never');
CALL run('timeout', request => '');
SELECT what FROM log ORDER BY seq;
CALL run('timeout never', request => '');
SELECT what FROM log ORDER BY seq;

-- Where they run: at the end of each statement that the body itself runs, not
-- in functions that it calls; there, at calls of gtf's functions.
CREATE FUNCTION nested(call boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold();
  PERFORM look('nested');
  IF call THEN
    PERFORM gtf_is_aborting();
    PERFORM look('nested, polled');
  END IF;
END $$;
CREATE FUNCTION b_nested() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  PERFORM nested(false);
  PERFORM look('after');
END $$;
CREATE FUNCTION b_polled() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  PERFORM nested(true);
  PERFORM look('after');
END $$;
CREATE FUNCTION b_sql() RETURNS void LANGUAGE sql AS $$
  SELECT gtf_on_abort('count(jsonb)');
  SELECT nested(false);
  SELECT look('after');
$$;
-- in the loop over a cursor, which stays open
CREATE FUNCTION b_cursor() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  r record;
  rows int := 0;
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  FOR r IN SELECT * FROM counters ORDER BY id LOOP
    PERFORM hold();
    PERFORM look('row ' || r.id);
    rows := rows + 1;
  END LOOP;
  RETURN rows;
END $$;
-- expressions are no statements, functions called there belong to the body
CREATE FUNCTION b_expression() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  x boolean;
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  x := hold();
  x := look('assigned') IS NULL;
END $$;
-- an exception block
CREATE FUNCTION b_block() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  BEGIN
    PERFORM hold();
    PERFORM look('block');
  EXCEPTION WHEN division_by_zero THEN
  END;
END $$;
-- rolled back after they have run: they run again
CREATE FUNCTION b_undone() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  BEGIN
    PERFORM gtf_on_cleanup('note(jsonb)', '"registered in a block that is rolled back"');
    PERFORM hold();
    PERFORM look('block');
    PERFORM 1 / 0;
  EXCEPTION WHEN division_by_zero THEN
    PERFORM look('rolled back');
  END;
END $$;
-- dynamic commands, utility commands, RETURN QUERY and DO
CREATE FUNCTION b_execute() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  EXECUTE 'SELECT hold()';
  PERFORM look('EXECUTE');
END $$;
CREATE FUNCTION b_utility() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  CREATE TEMP TABLE t AS SELECT nested(true) IS NULL AS x;
  PERFORM look('CREATE TABLE AS');
END $$;
CREATE FUNCTION b_do() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  DO $do$ BEGIN PERFORM hold(); PERFORM look('in DO'); END $do$;
END $$;
CREATE PROCEDURE p_inner() LANGUAGE plpgsql AS $$
BEGIN
  COMMIT;
  PERFORM hold();
  PERFORM look('inner procedure');
  COMMIT;
END $$;
CREATE PROCEDURE b_procedure() LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  COMMIT;
  CALL p_inner();
  PERFORM look('after CALL');
  ROLLBACK;
END $$;
SELECT count(gtf_register_task(name, (name || '()')::regprocedure))
  FROM unnest('{b_nested,b_polled,b_sql,b_cursor,b_expression,b_block,b_undone,b_execute,b_utility,b_do,b_procedure}'::text[]) name;
CREATE TABLE seen (body text, outcome text, said text, n int);
CREATE PROCEDURE run_all(bodies text[], owner text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
  body text;
  outcome text;
BEGIN
  TRUNCATE seen;
  FOREACH body IN ARRAY bodies LOOP
    CALL run(body, outcome, 'cancel', owner);
    INSERT INTO seen SELECT body, outcome, string_agg(what || CASE WHEN who <> coalesce(owner, current_user) THEN ' (' || replace(who, session_user, 'superuser') || ')' ELSE '' END, ', ' ORDER BY seq),
      (SELECT n FROM counters WHERE id = 1) FROM log;
  END LOOP;
END $$;
CALL run_all('{b_nested,b_polled,b_sql,b_cursor,b_expression,b_block,b_undone,b_execute,b_utility,b_do,b_procedure}');
SELECT * FROM seen;

-- Not while a command is at work that would be upset: the handler changes the
-- row that the command changes (or is about to).
CREATE FUNCTION b_update() RETURNS void LANGUAGE sql AS $$
  SELECT gtf_on_abort('count(jsonb)');
  UPDATE counters SET n = n + 1 WHERE id = 1 AND CASE WHEN hold() THEN gtf_is_aborting() END;
  SELECT look('UPDATE');
$$;
CREATE FUNCTION b_nested_update() RETURNS void LANGUAGE sql AS $$
  SELECT gtf_on_abort('count(jsonb)');
  UPDATE counters SET n = n + 1 WHERE id = 1 AND nested(true)::text = '';
  SELECT look('UPDATE');
$$;
CREATE FUNCTION b_with() RETURNS void LANGUAGE sql AS $$
  SELECT gtf_on_abort('count(jsonb)');
  WITH u AS (UPDATE counters SET n = n + 1 WHERE id = 1 AND CASE WHEN hold() THEN gtf_is_aborting() END RETURNING 1) SELECT count(*) FROM u;
  SELECT look('WITH');
$$;
CREATE FUNCTION b_for_update() RETURNS void LANGUAGE sql AS $$
  SELECT gtf_on_abort('count(jsonb)');
  SELECT count(*) FROM (SELECT FROM counters WHERE id = 1 AND CASE WHEN hold() THEN gtf_is_aborting() END FOR UPDATE) x;
  SELECT look('FOR UPDATE');
$$;
CREATE FUNCTION b_upsert() RETURNS void LANGUAGE sql AS $$
  SELECT gtf_on_abort('count(jsonb)');
  INSERT INTO counters SELECT 1 WHERE CASE WHEN hold() THEN gtf_is_aborting() END ON CONFLICT (id) DO UPDATE SET n = counters.n + 1;
  SELECT look('ON CONFLICT');
$$;
CREATE FUNCTION b_merge() RETURNS void LANGUAGE sql AS $$
  SELECT gtf_on_abort('count(jsonb)');
  MERGE INTO counters c USING (SELECT 1 AS id WHERE CASE WHEN hold() THEN gtf_is_aborting() END) s ON c.id = s.id WHEN MATCHED THEN UPDATE SET n = n + 1;
  SELECT look('MERGE');
$$;
-- a plain INSERT does not mind
CREATE FUNCTION b_insert() RETURNS void LANGUAGE sql AS $$
  SELECT gtf_on_abort('count(jsonb)');
  INSERT INTO log (what) SELECT 'INSERT: ' || (SELECT count(*) FROM log) || look('in INSERT')::text FROM (SELECT CASE WHEN hold() THEN gtf_is_aborting() END OFFSET 0) x;
  SELECT look('INSERT');
$$;
-- and the row that the next statement changes
CREATE FUNCTION b_next() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  PERFORM hold();
  UPDATE counters SET n = n + 1 WHERE id = 1;
END $$;
SELECT count(gtf_register_task(name, (name || '()')::regprocedure))
  FROM unnest('{b_update,b_nested_update,b_with,b_for_update,b_upsert,b_merge,b_insert,b_next}'::text[]) name;
CALL run_all('{b_update,b_nested_update,b_with,b_for_update,b_upsert,b_merge,b_insert,b_next}');
SELECT * FROM seen;

-- Not in a parallel plan.
CREATE TABLE big AS SELECT i FROM generate_series(1, 10000) i;
ANALYZE big;
CREATE FUNCTION hold_restricted() RETURNS boolean LANGUAGE plpgsql PARALLEL RESTRICTED AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN true; END $$;
CREATE FUNCTION b_parallel() RETURNS text LANGUAGE plpgsql
SET parallel_setup_cost = 0 SET parallel_tuple_cost = 0 SET min_parallel_table_scan_size = 0 AS $$
DECLARE
  plan json;
  said text;
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  EXECUTE 'EXPLAIN (FORMAT json) SELECT hold_restricted() AND gtf_update_progress(count(*)) FROM big WHERE i > 0' INTO plan;
  SELECT hold_restricted() AND NOT gtf_update_progress(count(*)) INTO said FROM big WHERE i > 0;
  PERFORM look('parallel plan');
  RETURN said || (plan::text LIKE '%Gather%')::text;
END $$;
SELECT gtf_register_task('b_parallel', 'b_parallel()');
CALL run_all('{b_parallel}');
SELECT * FROM seen;

-- Not in triggers, nor under another identity.  Handlers run as the owner.
CREATE TABLE watched (id int PRIMARY KEY, x int);
CREATE TABLE cascaded (id int REFERENCES watched ON DELETE CASCADE DEFERRABLE);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nested(true);
  RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER watch BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TRIGGER watch BEFORE DELETE ON cascaded FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TABLE deferred (id int);
CREATE CONSTRAINT TRIGGER watch AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch();
GRANT ALL ON watched, cascaded, deferred TO PUBLIC;
ALTER TABLE cascaded OWNER TO regress_gtf_other;
-- since version 17, maintenance commands have a search_path of their own
CREATE FUNCTION indexed(int) RETURNS int LANGUAGE plpgsql IMMUTABLE SET search_path = public AS $$ BEGIN PERFORM nested(true); RETURN $1; END $$;
CREATE FUNCTION definer() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM nested(true); END $$;
ALTER FUNCTION definer() OWNER TO regress_gtf_other;
CREATE FUNCTION b_trigger() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  INSERT INTO watched VALUES (1);
  PERFORM look('INSERT');
END $$;
CREATE FUNCTION b_cascade() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO cascaded SELECT id FROM watched;
  PERFORM gtf_on_abort('count(jsonb)');
  DELETE FROM watched;
  PERFORM look('DELETE');
END $$;
CREATE PROCEDURE b_deferred() LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  INSERT INTO deferred VALUES (1);
  COMMIT;
  PERFORM look('COMMIT');
END $$;
CREATE FUNCTION b_index() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  CREATE TEMP TABLE t AS SELECT 1 AS i;
  CREATE INDEX ON t (indexed(i));
  PERFORM look('CREATE INDEX');
END $$;
CREATE FUNCTION b_definer() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  PERFORM definer();
  PERFORM look('after');
END $$;
-- a body with SECURITY DEFINER polls, or never notices
CREATE FUNCTION b_secure() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  PERFORM hold();
  PERFORM look('SECURITY DEFINER');
END $$;
CREATE FUNCTION b_secure_polls() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  PERFORM gtf_on_abort('count(jsonb)');
  PERFORM hold();
  PERFORM gtf_is_aborting();
  PERFORM look('SECURITY DEFINER, polled');
END $$;
SELECT count(gtf_register_task(name, (name || '()')::regprocedure))
  FROM unnest('{b_trigger,b_cascade,b_deferred,b_index,b_definer,b_secure,b_secure_polls}'::text[]) name;
CALL run_all('{b_trigger,b_cascade,b_deferred,b_index,b_definer,b_secure,b_secure_polls}', 'regress_gtf_owner');
SELECT * FROM seen;

-- Nobody else can give the owner something to run.
CREATE FUNCTION plant() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  PERFORM gtf_on_cleanup('note(jsonb)', '"planted"');
  RETURN 'planted';
EXCEPTION WHEN insufficient_privilege THEN
  RETURN SQLERRM;
END $$;
ALTER FUNCTION plant() OWNER TO regress_gtf_other;
CREATE FUNCTION indexed_plant(int) RETURNS int LANGUAGE plpgsql IMMUTABLE SET search_path = public AS $$
BEGIN
  PERFORM gtf_on_cleanup('note(jsonb)', '"planted"');
  RETURN $1;
EXCEPTION WHEN insufficient_privilege THEN
  PERFORM note(to_jsonb(SQLERRM));
  RETURN $1;
END $$;
CREATE FUNCTION b_plant() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  CREATE TEMP TABLE t AS SELECT 1 AS i;
  CREATE INDEX ON t (indexed_plant(i));
  RETURN plant();
END $$;
CREATE FUNCTION b_set_role() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  SET ROLE regress_gtf_other;
  PERFORM gtf_on_cleanup('note(jsonb)', '"planted"');
  RETURN 'planted';
END $$;
-- a superuser runs only code of superusers
CREATE FUNCTION h_foreign() RETURNS void LANGUAGE sql AS '';
ALTER FUNCTION h_foreign() OWNER TO regress_gtf_other;
CREATE FUNCTION b_foreign() RETURNS void LANGUAGE sql AS $$ SELECT gtf_on_cleanup('h_foreign()') $$;
GRANT regress_gtf_other TO regress_gtf_owner;
SELECT count(gtf_register_task(name, (name || '()')::regprocedure))
  FROM unnest('{b_plant,b_set_role,b_foreign}'::text[]) name;
CALL run_all('{b_plant,b_set_role,b_foreign}', 'regress_gtf_owner');
SELECT * FROM seen;
CALL run_all('{b_foreign}');
SELECT * FROM seen;

-- What handlers may do.
CREATE FUNCTION h_busy() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  said text := gtf_is_aborting() || ' ' || (gtf_context()).status || ' ' || gtf_sleep('0.01 s') || ' ' || gtf_update_progress(1, 2) || ' ' || (gtf_task_id() IS NOT NULL);
BEGIN
  PERFORM gtf_check_abort();
  PERFORM gtf_on_abort('note(jsonb)', '"registered by a handler"');
  PERFORM gtf_on_cleanup('note(jsonb)', '"cleanup registered by a handler"');
  PERFORM gtf_submit('b_child');
  PERFORM set_config('search_path', 'pg_catalog', false);
  SET ROLE regress_gtf_other;
  INSERT INTO public.log (what) VALUES ('busy: ' || said);
END $$;
CREATE FUNCTION h_cleanup() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_abort('note(jsonb)', '"abort handler registered by a cleanup handler"');
  PERFORM gtf_on_cleanup('note(jsonb)', '"registered by a cleanup handler"');
  INSERT INTO log (what) VALUES ('cleanup ' || gtf_sleep('0.01 s') || ' ' || (gtf_context()).status);
END $$;
CREATE FUNCTION b_busy() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_cleanup('h_cleanup()');
  PERFORM gtf_on_abort('h_busy()');
  PERFORM hold();
  RETURN current_user || ' ' || current_setting('search_path') || ' ' || (gtf_context()).status;
END $$;
CREATE FUNCTION b_busy_ok() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_cleanup('h_cleanup()');
  RETURN 'ok';
END $$;
CREATE FUNCTION b_child() RETURNS void LANGUAGE sql AS '';
SELECT count(gtf_register_task(name, (name || '()')::regprocedure)) FROM unnest('{b_busy,b_busy_ok,b_child}'::text[]) name;
CALL run_all('{b_busy,b_busy_ok}', 'regress_gtf_owner');
SELECT body, outcome, unnest(string_to_array(said, ', ')) FROM seen;
SELECT t.progress_text, p.task_type AS child FROM gtf.task_info t JOIN gtf.task_info p ON p.parent_id = t.id WHERE t.task_type = 'b_busy';

-- A body whose plan still has a function that was dropped: one failure.
CREATE FUNCTION b_dropped() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM gtf_on_cleanup('h_dropped()'); END $$;
SELECT gtf_register_task('b_dropped', 'b_dropped()');
CREATE FUNCTION h_dropped() RETURNS void LANGUAGE sql AS $$ SELECT note('"dropped and created again"') $$;
-- in one and the same executor
ALTER SYSTEM SET gtf.max_executors = 1;
SELECT pg_reload_conf();
DO $$
BEGIN
  WHILE (SELECT count(*) FROM gtf.workers WHERE kind = 'executor') > 1 LOOP
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
CALL run('b_dropped', request => '');
DROP FUNCTION h_dropped();
CREATE FUNCTION h_dropped() RETURNS void LANGUAGE sql AS $$ SELECT note('"dropped and created again"') $$;
CALL run_all('{b_dropped}');
SELECT regexp_replace(outcome, '\d+', 'N') AS outcome FROM seen;
CALL run('b_dropped', request => '');
ALTER SYSTEM RESET gtf.max_executors;
SELECT pg_reload_conf();

-- A handler that is gone, or belongs to somebody else, or may not be run any more.
CREATE FUNCTION h_gone() RETURNS void LANGUAGE sql AS $$ SELECT note('"gone"') $$;
ALTER FUNCTION h_gone() OWNER TO regress_gtf_owner;
CREATE FUNCTION b_gone(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_cleanup('note(jsonb)', '"the others run"');
  EXECUTE $x$ SELECT gtf_on_cleanup('h_gone()') $x$;
  EXECUTE what;
  IF what LIKE '%CASCADE' THEN
    RAISE 'raised';
  END IF;
END $$;
SELECT gtf_register_task('gone', 'b_gone(text)');
CREATE TABLE ways (n int, way text);
INSERT INTO ways VALUES (1, 'DROP FUNCTION h_gone()'), (2, 'ALTER FUNCTION h_gone() RENAME TO h_renamed'), (3, 'ALTER FUNCTION h_gone() OWNER TO regress_gtf_other'),
  (4, 'REVOKE EXECUTE ON FUNCTION h_gone() FROM PUBLIC, regress_gtf_owner'), (5, 'CREATE OR REPLACE FUNCTION h_gone() RETURNS void LANGUAGE sql AS $x$ SELECT note(''"replaced"'') $x$'),
  (6, 'DROP FUNCTION h_gone() CASCADE');
CREATE PROCEDURE run_ways() LANGUAGE plpgsql AS $$
DECLARE
  w ways;
  task uuid;
  ended text;
BEGIN
  TRUNCATE seen;
  FOR w IN SELECT * FROM ways ORDER BY n LOOP
    DELETE FROM log;
    DROP FUNCTION IF EXISTS h_gone(), h_renamed();
    EXECUTE 'CREATE FUNCTION h_gone() RETURNS void LANGUAGE sql AS $x$ SELECT note(''"gone"'') $x$';
    ALTER FUNCTION h_gone() OWNER TO regress_gtf_owner;
    SET LOCAL ROLE regress_gtf_owner;
    task := gtf_submit('gone', jsonb_build_object('what', w.way));
    RESET ROLE;
    COMMIT;
    CALL gtf_wait(task, '5 min', ended);
    INSERT INTO seen SELECT split_part(w.way, ' ', 1), concat_ws(', ', status, error_message, exception_type),
      (SELECT string_agg(what, ', ' ORDER BY seq) FROM log) FROM gtf_get_task(task);
    COMMIT;
  END LOOP;
END $$;
SET client_min_messages = warning;
CALL run_ways();
RESET client_min_messages;
SELECT body, regexp_replace(outcome, '\m\d{4,}\M', 'N') AS outcome, said FROM seen;

-- A task that waits for another one lets its handler run: here it cancels
-- what is waited for.
CREATE FUNCTION b_sleeper() RETURNS void LANGUAGE sql AS $$ SELECT gtf_sleep('1 min') $$;
CREATE FUNCTION h_cancel(arg jsonb) RETURNS text LANGUAGE sql AS $$ SELECT gtf_cancel(arg ->> 0) $$;
CREATE PROCEDURE b_waiter() LANGUAGE plpgsql AS $$
DECLARE
  child uuid := gtf_submit('sleeper');
  ended text;
BEGIN
  PERFORM gtf_on_abort('h_cancel(jsonb)', to_jsonb(child));
  COMMIT;
  CALL gtf_wait(child, NULL, ended);
  PERFORM note(to_jsonb('child ' || ended));
END $$;
SELECT gtf_register_task('sleeper', 'b_sleeper()', abort => 'poll'), gtf_register_task('waiter', 'b_waiter()');
TRUNCATE log;
SELECT gtf_submit('waiter') AS id \gset
DO $$
BEGIN
  WHILE NOT EXISTS (SELECT FROM gtf.workers WHERE state = 'waiting') LOOP
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
SELECT gtf_cancel(:'id');
CALL gtf_wait(:'id', '5 min');
SELECT what FROM log;

-- A cleanup handler removes what a procedure has left behind half done.
CREATE TABLE parts (part int);
CREATE FUNCTION h_parts() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  n int;
BEGIN
  DELETE FROM parts;
  GET DIAGNOSTICS n = ROW_COUNT;
  PERFORM note(to_jsonb(n || ' parts removed'));
END $$;
CREATE PROCEDURE b_parts() LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_cleanup('h_parts()');
  INSERT INTO parts VALUES (1), (2);
  COMMIT;
  INSERT INTO parts VALUES (3);
  RAISE 'no more parts';
END $$;
SELECT gtf_register_task('parts', 'b_parts()');
TRUNCATE log;
CALL gtf_wait(gtf_submit('parts'));
SELECT what, (SELECT count(*) FROM parts) AS left FROM log;

-- The row says what went wrong, and where.
CREATE FUNCTION h_fails(arg jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE '%', arg ->> 0 USING DETAIL = 'detail of ' || (arg ->> 0), HINT = 'hint', ERRCODE = 'check_violation';
END $$;
CREATE FUNCTION b_fails() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_on_cleanup('h_fails(jsonb)', '"first"');
  PERFORM gtf_on_cleanup('h_fails(jsonb)', '"second"');
  RAISE 'body' USING DETAIL = 'detail of body', ERRCODE = 'unique_violation';
END $$;
SELECT gtf_register_task('fails', 'b_fails()');
SELECT gtf_submit('fails') AS id \gset
CALL gtf_wait(:'id');
SELECT error_message, exception_type, stack_trace FROM gtf_get_task(:'id') \gx

\set VERBOSITY terse
SET client_min_messages = warning;
DROP EXTENSION gtf CASCADE;
DROP OWNED BY regress_gtf_owner, regress_gtf_other;
DROP TABLE log, counters, parts, seen, ways, big, watched, deferred;
DROP FUNCTION note, count(jsonb), hold, look, refused, many, nested, watch, indexed, indexed_plant, hold_restricted,
  h_set, h_int, h_two, h_variadic, h_trigger, h_strict, h_private, h_none, h_busy, h_cleanup, h_cancel, h_fails, h_dropped, h_parts,
  b_many64, b_many65, b_abortable, b_late, b_timeout, b_nested, b_polled, b_sql, b_cursor, b_expression, b_block, b_undone, b_execute,
  b_utility, b_do, b_update, b_nested_update, b_with, b_for_update, b_upsert, b_merge, b_insert, b_next, b_parallel, b_trigger, b_cascade,
  b_index, b_definer, b_secure, b_secure_polls, b_plant, b_set_role, b_foreign, b_busy, b_busy_ok, b_child, b_gone, b_dropped, b_sleeper, b_fails;
DROP AGGREGATE h_aggregate(jsonb);
DROP PROCEDURE run, run_all, run_ways, h_procedure, p_inner, b_procedure, b_deferred, b_waiter, b_parts;
REVOKE ALL ON SCHEMA public FROM regress_gtf_owner, regress_gtf_other;
DROP ROLE regress_gtf_owner, regress_gtf_other;
