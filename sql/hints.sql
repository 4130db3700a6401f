-- What goes wrong says what to do about it.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_hints;
CREATE FUNCTION hints_add(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql RETURN a + b;
CREATE FUNCTION hints_hold() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock_shared(8)';
SELECT gtf_register_task('add', 'hints_add(int, int)'), gtf_register_task('hold', 'hints_hold()');

-- arguments: what the parameters are
SELECT gtf_submit('add');
SELECT gtf_submit('add', '{"B": 1}');

-- the code has moved, or is of somebody else
ALTER FUNCTION hints_add RENAME TO hints_plus;
SELECT gtf_submit('add', '{"a": 1}');
SELECT gtf_register_task('add', 'hints_plus(int, int)');
ALTER FUNCTION hints_plus OWNER TO regress_gtf_hints;
SELECT gtf_submit('add', '{"a": 1}');
SELECT gtf_register_task('add', 'hints_plus(int, int)');
SELECT gtf_submit('add', '{"a": 1}');
ALTER FUNCTION hints_plus OWNER TO CURRENT_USER;
SELECT gtf_register_task('add', 'hints_plus(int, int)');

-- a hook that nobody has said where to find
SELECT gtf_register_task('hook', hook => 'nobody.has_it');
CALL gtf_wait(gtf_submit('hook'));
SELECT error_message, exception_type, stack_trace FROM gtf.task_info WHERE task_type = 'hook';

-- outside a task
SELECT gtf_update_progress(1);
SELECT gtf_update_payload('1');
SELECT gtf_context();
SELECT gtf_sleep('1 s');
SELECT gtf_dependency_results();
SELECT gtf_on_abort('hints_hold()');
SELECT gtf_on_cleanup('hints_hold()');

-- options that cannot both be meant
SELECT gtf_submit('add', '{"a": 1}', scope => 'common');
SELECT gtf_submit('add', '{"a": 1}', delay => '1 h', expires_at => clock_timestamp() + interval '0.1 s') AS id \gset
CALL gtf_wait(:'id');
SELECT gtf_submit('add', '{"a": 1}', run_at => now() - interval '1 h', expires_at => now() + interval '1 h') AS id \gset
CALL gtf_wait(:'id');
SELECT count(*) FROM gtf_submit_many('add', '{"{\"a\": 1}", "{\"a\": 2}"}',
    run_at => 'infinity', expires_at => now() + interval '1 h');

-- an empty name is none
SELECT gtf_submit('add', '{"a": 1}', task_name => '') AS id \gset
SELECT task_name, display_name FROM gtf_get_task(:'id');
CALL gtf_run('add', '{"a": 1}', task_key => 'key', task_name => '') \gset
SELECT task_name, display_name FROM gtf_get_task(:'task_id');

-- a syntax error is in the command
SELECT gtf_submit_sql('SELECT 1 +');
SELECT 'before' AS place, gtf_submit_sql('ANALYSE hints; SELCT 2');
CALL gtf_run('sql', '{"command": "SELCT 1"}');

-- several ids, whose type must be said
SELECT gtf_cancel('{}');
SELECT gtf_cancel('{}'::uuid[]);
SELECT gtf_cancel('{0198c2d4-9a4e-7c11-b2aa-0d8a5f6f3a10,0198c2d4-9a4e-7c11-b2aa-0d8a5f6f3a11}');
SELECT gtf_cancel('{"0198c2d4-9a4e-7c11-b2aa-0d8a5f6f3a10"}'::text);
SELECT gtf_cancel('{0198c2d4-9a4e-7c11-b2aa-0d8a5f6f3a10}');

-- it cannot be stopped like that
SELECT pg_advisory_lock(8);
SELECT gtf_submit('hold') AS id \gset
DO $$
BEGIN
  FOR i IN 1 .. 30000 LOOP
    EXIT WHEN EXISTS (SELECT FROM gtf.task_info WHERE task_type = 'hold' AND status = 'in_progress');
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
\set VERBOSITY terse
DO $$
DECLARE
  hint text;
BEGIN
  PERFORM gtf_cancel(id) FROM gtf.task_info WHERE task_type = 'hold';
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  RAISE NOTICE '%', hint;
END $$;
\set VERBOSITY default
SELECT gtf_revoke(:'id', terminate => true);
CALL gtf_wait(:'id');
SELECT pg_advisory_unlock(8);

-- transactions of others' making
BEGIN;
CALL gtf_wait(:'id');
ROLLBACK;
BEGIN;
CALL gtf_run('sql', '{"command": "SELECT 1"}');
ROLLBACK;

-- NULLs
SELECT gtf_related(NULL);
SELECT count(*) FROM gtf_iter_tasks(status => '{failure,NULL}');

DROP EXTENSION gtf;
DROP FUNCTION hints_plus, hints_hold;
DROP ROLE regress_gtf_hints;
