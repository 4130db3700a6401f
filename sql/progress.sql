-- A running task reports its progress, others see it at once, while the
-- task's transaction is still open; the last report stays with the outcome.
CREATE EXTENSION gtf;

-- Reports one step after the other; after step i it waits for lock i.
CREATE FUNCTION walk(steps text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  ok boolean;
BEGIN
  FOR i IN 1 .. array_length(steps, 1) LOOP
    EXECUTE format('SELECT gtf_update_progress(%s)', steps[i]) INTO ok;
    ASSERT ok;
    PERFORM pg_advisory_xact_lock(i);
  END LOOP;
END $$;
SELECT gtf_register_task('walk', 'walk(text[])');

-- Holds the locks and shows each step from outside.
CREATE FUNCTION watch(steps text[])
RETURNS TABLE (step text, current bigint, total bigint, percent int, progress_text text, progress_bar text,
               eta text, properties jsonb) LANGUAGE plpgsql AS $$
DECLARE
  id uuid := current_setting('test.id');
  t gtf.task_info;
BEGIN
  FOR i IN 1 .. array_length(steps, 1) LOOP
    FOR n IN 1 .. 30000 LOOP
      EXIT WHEN EXISTS (SELECT FROM pg_locks l WHERE locktype = 'advisory' AND objid = i AND NOT granted);
      PERFORM pg_sleep(0.01);
    END LOOP;
    SELECT * INTO t FROM gtf_get_task(id);
    ASSERT t.status = 'in_progress';
    step := steps[i];
    current := t.progress_current;
    total := t.progress_total;
    percent := t.progress_percent;
    progress_text := t.progress_text;
    progress_bar := t.progress_bar;
    -- as a multiple of the time so far
    eta := round(extract(epoch FROM t.eta) / extract(epoch FROM t.duration), 1);
    properties := t.properties;
    RETURN NEXT;
    PERFORM pg_advisory_unlock(i);
  END LOOP;
END $$;

-- All formats; one replaces the other.
SELECT ARRAY['3, 100', '0, 10', '99, 100', '999, 1000', '10, 10', '5, 3', '3, 0',
             '9223372036854775806, 9223372036854775807', '1, 9223372036854775807',
             '0.5', '0.25', '0.29', '0', '0.999', '1.0', '0.0', '1e-300',
             '1', '42', '0', '43::bigint', '44::smallint', '45::smallint, ''"p"''', '3::smallint, 4::smallint',
             '1, 2'] AS steps \gset
SELECT count(pg_advisory_lock(i)) FROM generate_subscripts(:'steps'::text[], 1) i;
SELECT gtf_submit('walk', jsonb_build_object('steps', :'steps'::text[])) AS id \gset
SELECT set_config('test.id', :'id', false) = :'id' AS ok;
SELECT * FROM watch(:'steps');
-- kept with the outcome, but no time to go any more
CALL gtf_wait(:'id');
SELECT progress_current, progress_total, progress_percent, progress_text, progress_bar, eta, properties
  FROM gtf.task_info WHERE id = :'id';

-- Kept after a failure, too; a new attempt starts without.
CREATE FUNCTION fail() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF (gtf_context()).attempt = 2 THEN
    RETURN (SELECT concat_ws(' ', status, attempt, coalesce(progress_text, 'no progress'))
              FROM gtf.task_info WHERE id = gtf_task_id());
  END IF;
  PERFORM gtf_update_progress(7);
  RAISE 'failed';
END $$;
SELECT gtf_register_task('fail', 'fail()', retry_delay => '0.01 s');
SELECT gtf_submit('fail') AS id \gset
CALL gtf_wait(:'id');
SELECT status, attempt, progress_text FROM gtf_get_task(:'id');
SELECT gtf_submit('fail', max_attempts => 2) AS id \gset
CALL gtf_wait(:'id');
SELECT status, attempt, progress_text, result FROM gtf_get_task(:'id');

-- A task learns who it is.
CREATE FUNCTION who(x int) RETURNS jsonb LANGUAGE sql AS
  $$ SELECT to_jsonb(c) || jsonb_build_object('same', c.task_id = gtf_task_id()) FROM gtf_context() c $$;
SELECT gtf_register_task('who', 'who(int)');
SET gtf.app_user = 'joe';
SELECT gtf_submit('who', '{"x": 1}', task_name => 'me') AS id \gset
RESET gtf.app_user;
CALL gtf_wait(:'id');
SELECT result ->> 'task_id' = :'id' AS id, result ->> 'owner' = current_user AS owner,
       result - '{task_id, owner}'::text[] AS context
  FROM gtf_result(:'id');

-- What is wrong is refused, and leaves the last report as it was.
CREATE FUNCTION wrong() RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  call text;
  said jsonb := '[]';
BEGIN
  PERFORM gtf_update_progress(1, 4);
  FOREACH call IN ARRAY ARRAY['1.5', '-0.1', '''NaN''::float8', '''Infinity''::float8', '-1', '-1::bigint',
      '-1, 4', '1, -4', 'NULL::int', 'NULL::bigint', 'NULL::float8', 'NULL, 4', '1, NULL::bigint', 'NULL'] LOOP
    BEGIN
      EXECUTE format('SELECT gtf_update_progress(%s)', call);
      said := said || jsonb_build_array(call || ': ok');
    EXCEPTION WHEN OTHERS THEN
      said := said || jsonb_build_array(call || ': ' || SQLSTATE || ' ' || SQLERRM);
    END;
  END LOOP;
  RETURN said;
END $$;
SELECT gtf_register_task('wrong', 'wrong()');
SELECT gtf_submit('wrong') AS id \gset
CALL gtf_wait(:'id');
SELECT jsonb_array_elements_text(result) FROM gtf_result(:'id');
SELECT progress_text FROM gtf_get_task(:'id');

-- Outside a task.
SELECT gtf_task_id();
\set VERBOSITY sqlstate
SELECT gtf_context();
SELECT gtf_update_progress(1);
SELECT gtf_update_progress(1::bigint);
SELECT gtf_update_progress(0.5);
SELECT gtf_update_progress(1, 2);
SELECT gtf_update_progress(NULL);
\set VERBOSITY default
SELECT gtf_update_progress(1);

DROP EXTENSION gtf;
DROP FUNCTION walk, watch, fail, who, wrong;
