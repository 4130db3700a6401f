-- Tasks in C: what a hook can do, and what it must not.
CREATE EXTENSION gtf;
CREATE TABLE effects (what text);
GRANT ALL ON effects TO PUBLIC;

-- Runs a task of a type and tells how it ended; no ids.
CREATE PROCEDURE run(type text, args jsonb DEFAULT '{}', INOUT status text DEFAULT NULL, INOUT result jsonb DEFAULT NULL,
  INOUT error text DEFAULT NULL, INOUT trace text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
  task uuid := gtf_submit(type, args);
BEGIN
  COMMIT;
  CALL gtf_wait(task, NULL, status);
  SELECT t.status, t.result, concat_ws(': ', t.exception_type, t.error_message), t.stack_trace
    INTO status, result, error, trace FROM gtf_get_task(task) t;
END $$;
CREATE FUNCTION hook(name text, library text DEFAULT 'gtf_failures') RETURNS void LANGUAGE sql AS
  $$SELECT gtf_register_task(name, hook => library || '.' || name, library => library)$$;

-- Useful work: progress and result; committing, payload.
CREATE TABLE numbers AS SELECT i FROM generate_series(1, 2500) i;
CREATE TABLE archived (LIKE numbers);
SELECT hook('digest', 'gtf_example'), hook('archive', 'gtf_example');
SELECT task_type, kind, hook, library, abort FROM gtf.task_types WHERE library IS NOT NULL ORDER BY 1;
CALL run('digest', '{"table": "numbers"}');
CALL run('archive', '{"from": "numbers", "to": "archived"}');
SELECT task_type, progress_text, payload FROM gtf.task_info ORDER BY id;
SELECT (SELECT count(*) FROM numbers) AS numbers, (SELECT count(*) FROM archived) AS archived;
-- the same rows in another order
CALL run('digest', '{"table": "archived"}');
CALL run('digest', '{"table": 1}');
CALL run('digest', '{"table": "nowhere"}');

-- What a task is told, and tells.
SELECT hook('facts'), hook('facts commits'), hook('no_result'), hook('submit'), hook('submit commits'), hook('submit_unknown'),
  hook('bad_progress'), hook('bad_fraction');
SET gtf.app_user = 'jane';
CREATE ROLE regress_gtf_c NOLOGIN;
SET ROLE regress_gtf_c;
SELECT gtf_submit('facts', '{"a": [1]}', task_key => 'k', task_name => 'n', timeout => '1 h') AS id \gset
CALL gtf_wait(:'id');
SELECT replace(result::text, :'id', 'itself') AS result FROM gtf_result(:'id');
SELECT gtf_submit('facts commits') AS id \gset
CALL gtf_wait(:'id');
SELECT replace(result::text, :'id', 'itself') AS result FROM gtf_result(:'id');
RESET ROLE;
RESET gtf.app_user;
CALL run('no_result');
CALL run('bad_progress');
CALL run('bad_fraction');
-- reports; the payload of the attempt before
SELECT gtf_register_task('progress', hook => 'gtf_failures.progress', library => 'gtf_failures', max_attempts => 2, retry_delay => '1 ms'),
  gtf_register_task('progress commits', hook => 'gtf_failures.progress commits', library => 'gtf_failures', max_attempts => 2, retry_delay => '1 ms');
CALL run('progress');
CALL run('progress commits');
SELECT task_type, progress_text, payload, attempt FROM gtf.task_info WHERE task_type LIKE 'progress%' ORDER BY id;
-- children
SELECT gtf_submit('submit') AS id \gset
CALL gtf_wait(:'id');
SELECT result -> 2 AS joined FROM gtf_result(:'id');
SELECT task_type, task_key, task_name, priority, args, max_attempts, run_at > now() AS later, root_id = parent_id AS root, cardinality(depends_on) AS depends
  FROM gtf.task_info WHERE parent_id = :'id' ORDER BY id;
SELECT count(gtf_cancel(id)) FROM gtf.task_info WHERE task_key = 'k' AND status = 'pending';
SELECT gtf_submit('submit commits') AS id \gset
CALL gtf_wait(:'id');
SELECT task_type, task_key, task_name, priority, args, max_attempts, run_at > now() AS later, root_id = parent_id AS root, cardinality(depends_on) AS depends
  FROM gtf.task_info WHERE parent_id = :'id' ORDER BY id;
SELECT count(gtf_cancel(id)) FROM gtf.task_info WHERE task_key = 'k' AND status = 'pending';
CALL run('submit_unknown');

-- Code that cannot be found: the task fails.
SELECT hook('no such hook');
CALL run('no such hook');
SELECT hook('digest', 'no_such_library');
CALL run('digest');
SELECT gtf_register_task('digest', hook => 'nobody.has_it');
CALL run('digest');
-- a library that the executor has loaded for another type does not count
SELECT gtf_register_task('digest', hook => 'gtf_example.digest');
CALL run('digest', '{"table": "archived"}');
-- one that both name does
SELECT gtf_register_task('digest', hook => 'gtf_example.digest', library => '$libdir/gtf_example');
CALL run('digest', '{"table": "archived"}');
SELECT hook('api', 'gtf_later'), hook('hook', 'gtf_later'), hook('run', 'gtf_other_abi'), hook('run', 'gtf_init_fails'),
  hook('two_modes'), hook('flags');
CALL run('api');
CALL run('hook');
CALL run('two_modes');
CALL run('flags');
CALL run('run');
SELECT hook('run', 'gtf_other_abi');
CALL run('run');

-- Errors, and whatever can be left behind.
CREATE PROCEDURE run_all(hooks text[]) LANGUAGE plpgsql AS $$
DECLARE
  name text;
  status text; result jsonb; error text; trace text;
BEGIN
  FOREACH name IN ARRAY hooks LOOP
    PERFORM hook(name);
    CALL run(name, '{}', status, result, error, trace);
    RAISE INFO '%: %, %; %', name, status, error, trace;
  END LOOP;
END $$;
CALL run_all('{fails,subtransaction,aborted,rollback_all,commit,snapshot,no_snapshot,spi,no_spi,user,guc,holdoff,lwlock,critical,parallel,in_try,error_context}');
CALL run_all('{fails commits,subtransaction commits,aborted commits,rollback_all commits,no_snapshot commits,spi commits,no_spi commits,user commits,guc commits,holdoff commits,lwlock commits,critical commits,parallel commits,in_try commits,error_context commits}');
TABLE effects;
-- what was committed stays
CALL run_all('{commit commits,end_transaction,next_transaction,next_transaction commits,snapshot commits,callback_leaves,callback_leaves commits,resource_owner}');
SELECT what FROM effects ORDER BY 1;
-- the same in a session, which goes on
TRUNCATE effects;
CREATE PROCEDURE run_here(hooks text[]) LANGUAGE plpgsql AS $$
DECLARE
  name text;
  i uuid; s text; r jsonb;
BEGIN
  FOREACH name IN ARRAY hooks LOOP
    CALL gtf_run(name, task_id => i, status => s, result => r);
    RAISE INFO '%: %', name, concat_ws(', ', s, (SELECT error_message FROM gtf_get_task(i)));
  END LOOP;
END $$;
\set hooks {fails,subtransaction,aborted,commit,end_transaction,snapshot,no_snapshot,spi,no_spi,user,guc,holdoff,lwlock,critical,parallel,in_try,error_context}
CALL run_here(:'hooks');
BEGIN;
INSERT INTO effects VALUES ('of the block');
CALL run_here(:'hooks');
COMMIT;
TABLE effects;
CALL gtf_run('rollback_all');
SELECT max(id::text) AS last FROM gtf.task_info \gset
\o /dev/null
SELECT format('CALL gtf_run(%L)', name || ' commits') FROM unnest('{fails,subtransaction,aborted,rollback_all,snapshot,no_snapshot,spi,no_spi,user,guc,holdoff,lwlock,critical,parallel,in_try,error_context}'::text[]) name \gexec
\o
SELECT task_type, status, error_message FROM gtf.task_info WHERE id > :'last' ORDER BY id;
SELECT count(*) FROM pg_cursors;
-- memory is freed
SELECT hook('memory'), hook('memory commits'), hook('leak');
CALL run('memory');
CALL run('memory commits');
CALL run('leak');

-- Who may do what.  A library is a superuser's matter.
CREATE ROLE regress_gtf_c_super SUPERUSER;
SET ROLE regress_gtf_c_super;
SELECT gtf_register_task('of role', hook => 'gtf_failures.no_result', library => 'gtf_failures', submit_role => 'regress_gtf_c');
RESET ROLE;
SET ROLE regress_gtf_c;
SELECT hook('facts');
CALL run('of role');
RESET ROLE;
ALTER ROLE regress_gtf_c_super NOSUPERUSER;
SELECT gtf_submit('of role');
SET ROLE regress_gtf_c;
SELECT gtf_submit('of role') IS NOT NULL AS submitted;
RESET ROLE;
SELECT hook('facts');

-- How tasks are stopped: the hook says it, the type may say otherwise.
CREATE TABLE modes (hook text, abort text, result text, status text);
CREATE PROCEDURE stop(hook text, mode text) LANGUAGE plpgsql AS $$
DECLARE
  id uuid;
  answer text;
  ended text;
BEGIN
  PERFORM gtf_register_task('stop', hook => 'gtf_failures.' || hook, library => 'gtf_failures', abort => mode);
  id := gtf_submit('stop');
  COMMIT;
  FOR n IN 1 .. 30000 LOOP
    EXIT WHEN (SELECT status = 'in_progress' FROM gtf_get_task(id));
    PERFORM pg_sleep(0.01);
  END LOOP;
  BEGIN
    answer := gtf_cancel(id);
  EXCEPTION WHEN OTHERS THEN
    answer := 'refused';
  END;
  COMMIT;
  IF answer = 'refused' THEN
    PERFORM gtf_revoke(id, true, 'SIGINT');
    COMMIT;
  END IF;
  CALL gtf_wait(id, NULL, ended);
  INSERT INTO modes VALUES (hook, mode, answer, ended);
END $$;
DO $$
DECLARE
  h text;
  m text;
BEGIN
  FOREACH h IN ARRAY '{wait_,poll,interrupt,never,wait_ commits}'::text[] LOOP
    FOREACH m IN ARRAY '{NULL,handler,poll,interrupt,never}'::text[] LOOP
      CALL stop(h, m);
    END LOOP;
  END LOOP;
END $$;
TABLE modes;

DROP OWNED BY regress_gtf_c, regress_gtf_c_super;
DROP TABLE effects, numbers, archived, modes;
DROP FUNCTION hook;
DROP PROCEDURE run, run_all, run_here, stop;
DROP EXTENSION gtf;
DROP ROLE regress_gtf_c, regress_gtf_c_super;
