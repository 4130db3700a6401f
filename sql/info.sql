-- What the views and the reading functions show of a task in each state, and
-- to whom: to its principal and to administrators, nothing at all to others.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_alice;
CREATE ROLE regress_gtf_bob;
CREATE ROLE regress_gtf_admin;
SELECT current_database() AS db, d.datdba::regrole AS owner
  FROM pg_database d WHERE datname = current_database() \gset
ALTER DATABASE :"db" OWNER TO regress_gtf_admin;

CREATE FUNCTION add(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a + b';
CREATE FUNCTION hold(lock int) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(lock)';
CREATE FUNCTION boom() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'boom' USING DETAIL = 'a secret', HINT = 'do not do this', ERRCODE = 'unique_violation';
END $$;
CREATE PROCEDURE proc() LANGUAGE sql AS 'SELECT 1';
SELECT gtf_register_task('add', 'add(int, int)', priority => 2, description => 'a sum');
SELECT gtf_register_task('hold', 'hold(int)');
SELECT gtf_register_task('boom', 'boom()', retry_delay => '1 hour');
SELECT gtf_register_task('proc', 'proc()', max_attempts => 3, queue => 'nightly');
-- wait until a task is in a state
CREATE FUNCTION await(task_id uuid, state text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 30000 LOOP
    EXIT WHEN gtf_status(task_id) = state;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN gtf_status(task_id);
END $$;

-- The contract: columns, types, order.
SELECT attnum AS n, attname AS column, atttypid::regtype AS type
  FROM pg_attribute WHERE attrelid = 'gtf.task_info'::regclass AND attnum > 0 ORDER BY attnum;
SELECT c.relname AS view, string_agg(attname || ' ' || atttypid::regtype, ', ' ORDER BY attnum) AS columns
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0
 WHERE relnamespace = 'gtf'::regnamespace AND relkind = 'v' AND relname <> 'task_info'
 GROUP BY 1 ORDER BY 1;

-- What psql's \d+ and \df+ tell.
SELECT a.attrelid::regclass AS view, a.attname AS column_without_comment
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0
 WHERE relnamespace = 'gtf'::regnamespace AND relkind = 'v' AND col_description(c.oid, attnum) IS NULL;
SELECT p.oid::regprocedure AS function_without_comment
  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
       JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE extname = 'gtf' AND proname LIKE 'gtf\_%' AND obj_description(p.oid, 'pg_proc') IS NULL;

-- Task types.
SELECT task_type, kind, handler, scope, timeout, hard_timeout, abort, max_attempts, retry_delay,
       priority, queue, submit_role, description, registered_by = current_user::regrole AS mine
  FROM gtf.task_types WHERE task_type <> 'sql' ORDER BY 1;
SELECT task_type, kind, handler, abort, submit_role, registered_by::oid FROM gtf.task_types WHERE task_type = 'sql';

-- What is the same in each run.
SELECT $$ status, attempt, wait_reason, result, started_at IS NOT NULL AS started, ended_at IS NOT NULL AS ended,
          duration >= '0' AS duration, queue_time >= '0' AS queue_time, updated_at > created_at AS updated,
          updated_at = coalesce(ended_at, started_at) AS at_change,
          regexp_replace(worker, '\d+', '<pid>') AS worker, error_message, exception_type $$ AS facts \gset

-- Pending: options of the call, else of the type; the key or the type gives
-- the name.
SET ROLE regress_gtf_alice;
SELECT gtf_submit('add', '{"a": 1}', delay => '1 hour') AS later \gset
SELECT gtf_submit('add', '{"a": 1}', task_name => 'a name', delay => '1 hour',
                  priority => -1, queue => 'q', max_attempts => 2) AS named \gset
SELECT task_type, task_name, display_name, scope, owner, app_user, args, priority, queue, max_attempts, timeout,
       run_at BETWEEN created_at + '59 min' AND created_at + '61 min' AS delayed, execution_mode, properties
  FROM gtf.task_info ORDER BY id;
SELECT :facts FROM gtf.task_info WHERE id = :'later' \gx
SELECT subscriber_count, is_subscribed, is_abortable, timeout_exceeded, can_cancel, cancel_action, can_force, depends_on
  FROM gtf.task_info WHERE id = :'later';

-- In progress: the body waits for the lock of this session.
SELECT pg_advisory_lock(1);
SELECT gtf_submit('hold', '{"lock": 1}') AS running \gset
SELECT await(:'running', 'in_progress');
SELECT :facts FROM gtf.task_info WHERE id = :'running' \gx
SELECT status FROM gtf_get_task(:'running');
SELECT status, ready, success, result FROM gtf_result(:'running');
SELECT role, kind, state, task_id = :'running' AS this, attempt, processed, failed, started_at < clock_timestamp() AS at
  FROM gtf.workers WHERE kind = 'executor' AND role = current_user::regrole AND state <> 'idle';
SELECT kind, state, role FROM gtf.workers WHERE kind <> 'executor' ORDER BY 1;
SELECT queue, ready, scheduled, in_progress, oldest_ready_age, paused, max_running, rate FROM gtf.queues ORDER BY 1;
-- time goes on within a transaction
BEGIN;
SELECT duration AS before FROM gtf.task_info WHERE id = :'running' \gset
SELECT pg_sleep(0.01);
SELECT duration > :'before' AS later FROM gtf.task_info WHERE id = :'running';
COMMIT;
-- and an old snapshot does not hide what has happened since
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT status FROM gtf.task_info WHERE id = :'running';
SELECT pg_advisory_unlock(1);
SELECT await(:'running', 'success');
SELECT status, ended_at IS NOT NULL AS ended FROM gtf.task_info WHERE id = :'running';
COMMIT;
SELECT :facts FROM gtf.task_info WHERE id = :'running' \gx

-- Success, failure, and an attempt that failed and another one to come.
SELECT gtf_submit('add', '{"a": 1}') AS added \gset
CALL gtf_wait(:'added');
SELECT gtf_submit('boom') AS failed \gset
CALL gtf_wait(:'failed');
SELECT gtf_submit('boom', max_attempts => 2) AS again \gset
DO $$
BEGIN
  FOR i IN 1 .. 30000 LOOP
    EXIT WHEN EXISTS (SELECT FROM gtf.task_info WHERE wait_reason = 'retry');
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
SELECT :facts FROM gtf.task_info WHERE id = :'added' \gx
SELECT :facts FROM gtf.task_info WHERE id = :'failed' \gx
SELECT :facts FROM gtf.task_info WHERE id = :'again' \gx
SELECT properties FROM gtf.task_info WHERE id IN (:'added', :'failed') ORDER BY id;
SELECT task_id = :'failed' AS failed, task_id = :'again' AS again, attempt, started_at IS NOT NULL AS started,
       ended_at >= started_at AS ended, error_message, exception_type, stack_trace,
       regexp_replace(worker, '\d+', '<pid>') AS worker
  FROM gtf.task_attempts ORDER BY task_id, attempt;
SELECT status, ready, success, result, error_message, exception_type, stack_trace FROM gtf_result(:'added')
UNION ALL
SELECT status, ready, success, result, error_message, exception_type, stack_trace FROM gtf_result(:'failed')
UNION ALL
SELECT status, ready, success, result, error_message, exception_type, stack_trace FROM gtf_result(:'again');
-- newest first
SELECT array_agg(id) = array_agg(id ORDER BY id DESC) AS newest_first FROM gtf.task_info;
RESET ROLE;
SELECT name, labels = jsonb_build_object('database', current_database()) AS labels, CASE WHEN name LIKE 'tasks%' THEN value > 0 END AS some
  FROM gtf.stats WHERE name NOT LIKE '%bucket' ORDER BY 1;

-- Who sees what.
SET gtf.app_user = 'joe';
SET ROLE regress_gtf_alice;
SELECT gtf_submit('add', '{"a": 1}', task_name => 'joe''s', delay => '1 hour') AS joes \gset
RESET gtf.app_user;
RESET ROLE;
SELECT gtf_submit('add', '{"a": 1}', task_name => 'super''s', delay => '1 hour') AS supers \gset
SELECT home FROM gtf.tasks LIMIT 1 \gset
-- made by hand what cannot be submitted yet
INSERT INTO gtf.tasks (id, created_at, owner, type_version, priority, home, run_at, timeout, scope, app_user, task_name, args)
  SELECT '01900000-0000-7000-8000-000000000001', now(), 'regress_gtf_alice'::regrole, 1, 0, home, now() + '1 hour', '90 s',
         'y', '', 'system', '{}'
    FROM gtf.tasks WHERE id = :'later';
SELECT scope, timeout, properties, queue FROM gtf.task_info WHERE task_name = 'system';
CREATE VIEW seen AS
SELECT current_user AS who, current_setting('gtf.app_user') AS app_user,
       string_agg(CASE id WHEN :'running' THEN 'running' WHEN :'failed' THEN 'failed' ELSE task_name END
                  || CASE WHEN is_subscribed THEN ' (own)' ELSE '' END, ', ' ORDER BY id) AS sees
  FROM gtf.task_info WHERE id IN (:'running', :'failed') OR task_name IS NOT NULL;
GRANT SELECT ON seen TO PUBLIC;
SELECT sees FROM seen;
SET ROLE regress_gtf_admin;
SELECT * FROM seen;
SELECT stack_trace, properties ->> 'stack_trace' = stack_trace AS same FROM gtf.task_info WHERE id = :'failed';
SELECT stack_trace FROM gtf.task_attempts WHERE task_id = :'failed';
SELECT stack_trace FROM gtf_result(:'failed');
SET ROLE regress_gtf_alice;
SELECT * FROM seen;
SET gtf.app_user = 'joe';
SELECT * FROM seen;
RESET gtf.app_user;
-- bob gets nothing, however he asks
SET ROLE regress_gtf_bob;
SELECT * FROM seen;
SELECT count(*) FROM gtf.task_attempts;
SELECT gtf_status(:'running'), gtf_status(:'supers'), gtf_status('01900000-0000-7000-8000-000000000002');
SELECT count(*) FROM gtf_get_task(:'running');
SELECT count(*) FROM gtf_result(:'running');
SELECT s IS NULL AS nothing FROM gtf._current_state(:'running') s;
SELECT gtf._visible(:'running', :home, 'p', 'regress_gtf_alice'::regrole, '') AS of_alice, gtf._visible(:'running', :home, 'p', 'regress_gtf_bob'::regrole, '') AS of_bob,
       gtf._visible(:'running', :home, 'p', 'regress_gtf_bob'::regrole, 'x') AS of_x, gtf._visible(:'running', :home, 'y', 'regress_gtf_bob'::regrole, '') AS system,
       gtf._visible(:'running', :home, 's', 'regress_gtf_bob'::regrole, '') AS shared, gtf._subscriber_count(:'running', 's') AS subscribers;
SELECT * FROM gtf._running();
SELECT * FROM gtf.tasks;
SELECT * FROM gtf.outcomes;
-- a function of his in a condition is not called for rows that he cannot see
CREATE FUNCTION pg_temp.spy(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
  RAISE NOTICE 'saw %', $1;
  RETURN true;
END $$;
SELECT count(*) FROM gtf.task_info WHERE pg_temp.spy(task_name);
SELECT count(*) FROM gtf.task_attempts WHERE pg_temp.spy(error_message);
-- counts are for everybody, ids only of what one sees
SELECT queue, ready, scheduled, in_progress FROM gtf.queues ORDER BY 1;
SELECT DISTINCT role, kind, task_id FROM gtf.workers WHERE kind = 'executor' AND role = 'regress_gtf_alice'::regrole;
DROP FUNCTION pg_temp.spy;
RESET ROLE;

-- A dropped owner leaves a number behind.
CREATE ROLE regress_gtf_gone;
SET ROLE regress_gtf_gone;
SELECT gtf_submit('add', '{"a": 1}', delay => '1 hour') AS orphan \gset
RESET ROLE;
DROP ROLE regress_gtf_gone;
SELECT owner::text ~ '^\d+$' AS number, status FROM gtf.task_info WHERE id = :'orphan';

-- Lists of newest tasks and single tasks come from the primary keys.
INSERT INTO gtf.tasks (id, created_at, owner, type_version, priority, home, scope, app_user, queue, args)
  SELECT ('01800000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, now(), 10, 1, 0, 0, 'p', '', 'default', '{}'
    FROM generate_series(1, 20000) i;
INSERT INTO gtf.outcomes (task_id, started_at, ended_at, attempt, status)
  SELECT id, now(), now(), 1, 's' FROM gtf.tasks WHERE id < '01900000-0000-7000-8000-000000000000';
ANALYZE gtf.tasks;
ANALYZE gtf.outcomes;
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
    CONTINUE WHEN line !~ ' on (tasks|outcomes) |Index Cond: \(\(?(task_)?id |Sort';
    RETURN NEXT regexp_replace(line, '^[ >-]+', '');
  END LOOP;
END $$;
SELECT plan('SELECT * FROM gtf.task_info ORDER BY id DESC LIMIT 50');
SELECT plan('SELECT * FROM gtf.task_info WHERE id < ''01800000-0000-7000-8000-000000010000'' ORDER BY id DESC LIMIT 50');
SELECT plan('SELECT * FROM gtf.task_info WHERE id = ''01800000-0000-7000-8000-000000010000''');
SELECT plan('SELECT * FROM gtf.task_attempts WHERE task_id = ''01800000-0000-7000-8000-000000010000''');
SET ROLE regress_gtf_bob;
SELECT plan('SELECT * FROM gtf.task_info ORDER BY id DESC LIMIT 50');
RESET ROLE;

-- Everybody may read the views and call the functions; these are the others.
SELECT p.oid::regprocedure AS not_for_public
  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'gtf'
 WHERE NOT has_function_privilege('regress_gtf_bob', p.oid, 'EXECUTE')
 ORDER BY proname;
SELECT c.oid::regclass AS relation, has_table_privilege('regress_gtf_bob', c.oid, 'SELECT') AS bob,
       has_table_privilege('regress_gtf_admin', c.oid, 'SELECT') AS admin
  FROM pg_class c WHERE relnamespace = 'gtf'::regnamespace AND relkind IN ('r', 'v') ORDER BY relkind, 1;
-- every object says what it is for
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
  FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'gtf'
  LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
   AND obj_description(d.objid, d.classid::regclass::name) IS NULL
   AND NOT (d.classid = 'pg_type'::regclass AND EXISTS (
     SELECT FROM pg_type t LEFT JOIN pg_class r ON r.oid = t.typrelid
      WHERE t.oid = d.objid AND (t.typelem <> 0 OR r.relkind <> 'c')))
   AND c.relkind IS DISTINCT FROM 'S';
-- what a dump carries besides the extension itself
SELECT c.oid::regclass AS dumped, e.extcondition[i] AS condition
  FROM pg_extension e, unnest(e.extconfig) WITH ORDINALITY u (oid, i) JOIN pg_class c USING (oid)
 WHERE e.extname = 'gtf' ORDER BY 1;

DROP VIEW seen;
DROP EXTENSION gtf;
ALTER DATABASE :"db" OWNER TO :"owner";
DROP FUNCTION add, hold, boom, await, plan;
DROP PROCEDURE proc;
DROP ROLE regress_gtf_alice, regress_gtf_bob, regress_gtf_admin;
