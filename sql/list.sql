-- gtf_iter_tasks: filters, orders, pages; gtf_related; what they read.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_alice;
CREATE ROLE regress_gtf_bob;
CREATE ROLE regress_gtf_admin;
SELECT current_database() AS db, d.datdba::regrole AS owner
  FROM pg_database d WHERE datname = current_database() \gset
ALTER DATABASE :"db" OWNER TO regress_gtf_admin;

CREATE FUNCTION add(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a + b';
CREATE FUNCTION boom(a int) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'boom %', a; END$$;
CREATE FUNCTION hold(a int) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(a)';
SELECT gtf_register_task('add', 'add(int,int)'), gtf_register_task('Boom', 'boom(int)', retry_delay => '1 hour'), gtf_register_task('hold', 'hold(int)');
-- tasks in a known order, each with what it is for
CREATE TABLE tasks (n int GENERATED ALWAYS AS IDENTITY, id uuid, what text);
GRANT ALL ON tasks TO PUBLIC;
CREATE PROCEDURE run(task_type text, a int, what text, delay interval DEFAULT NULL, attempts int DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
  task uuid;
BEGIN
  task := gtf_submit(task_type, jsonb_build_object('a', a), task_name => what, delay => delay, max_attempts => attempts);
  INSERT INTO tasks (id, what) VALUES (task, what);
  COMMIT;
  FOR i IN 1 .. 30000 LOOP
    EXIT WHEN delay IS NOT NULL OR gtf_status(task) = CASE WHEN task_type = 'hold' THEN 'in_progress' WHEN attempts > 1 THEN 'pending' END
      AND (attempts IS NULL OR (SELECT attempt > 0 FROM gtf_get_task(task)));
    EXIT WHEN gtf_status(task) IN ('success', 'failure');
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
SELECT pg_advisory_lock(1);
CALL run('add', 1, 'bob 1');
SET ROLE regress_gtf_alice;
CALL run('add', 1, 'first');
CALL run('Boom', 2, 'failed');
CALL run('add', 3, 'later', '1 hour');
CALL run('Boom', 4, 'again', NULL, 2);
CALL run('add', 5, 'second');
CALL run('hold', 1, 'running');
SET ROLE regress_gtf_bob;
CALL run('add', 6, 'bob 2');
CALL run('Boom', 7, 'bob 3');
RESET ROLE;
-- what a page has
CREATE FUNCTION names(VARIADIC ids uuid[]) RETURNS text LANGUAGE sql AS
  $$SELECT string_agg(what, ', ' ORDER BY i.n) FROM unnest(ids) WITH ORDINALITY i(id, n) JOIN tasks USING (id)$$;

SET ROLE regress_gtf_alice;
-- Filters.
SELECT names(VARIADIC array_agg(id)) AS "all" FROM gtf_iter_tasks();
SELECT names(VARIADIC array_agg(id)) AS add FROM gtf_iter_tasks(task_type => 'add');
SELECT names(VARIADIC array_agg(id)) AS none FROM gtf_iter_tasks(task_type => 'boom');
SELECT s AS status, (SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(status => s::text[])) AS tasks
  FROM unnest('{"{success}","{failure}","{pending}","{in_progress}","{aborting}","{failure,pending}","{in_progress,success}","{}","{RETRY}","{STARTED}","{received}","{REJECTED}","{Failure,RETRY}"}'::text[]) s;
SELECT names(VARIADIC array_agg(id)) AS failed_boom FROM gtf_iter_tasks(task_type => 'Boom', status => '{failure}');
SELECT count(*) > 0 AS worker, bool_and(worker = w) AS only FROM (SELECT worker AS w FROM gtf.task_info WHERE task_name = 'running') r, gtf_iter_tasks(worker => w);
SELECT count(*) FROM gtf_iter_tasks(worker => 'executor');
SELECT names(VARIADIC array_agg(id)) AS searched FROM gtf_iter_tasks(search => 'name:add kwargs:a=1 OR kwargs:a=4 state:retry');
SELECT names(VARIADIC array_agg(id)) AS searched FROM gtf_iter_tasks(search => 'name:boom', status => '{pending}');
-- bounds belong to it; what has not started is not between any two times
SELECT names(VARIADIC array_agg(i.id)) AS received FROM gtf.task_info a, gtf.task_info b, gtf_iter_tasks(received_start => a.created_at, received_end => b.created_at) i
 WHERE a.task_name = 'failed' AND b.task_name = 'again';
SELECT names(VARIADIC array_agg(i.id)) AS received_upwards FROM gtf.task_info a, gtf.task_info b, gtf_iter_tasks(received_start => a.created_at, received_end => b.created_at, sort_by => 'created') i
 WHERE a.task_name = 'failed' AND b.task_name = 'again';
SELECT names(VARIADIC array_agg(i.id)) AS started FROM gtf.task_info a, gtf.task_info b, gtf_iter_tasks(started_start => a.started_at, started_end => b.started_at) i
 WHERE a.task_name = 'failed' AND b.task_name = 'running';
SELECT count(*) AS ever FROM gtf_iter_tasks(received_start => '-infinity', received_end => 'infinity');
SELECT count(*) AS never FROM gtf_iter_tasks(received_start => 'infinity');
SELECT count(*) AS started FROM gtf_iter_tasks(started_start => '-infinity');

-- Orders: what is missing comes first upwards and last downwards.
SELECT k AS sort_by, (SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(sort_by => k)) AS tasks
  FROM unnest('{created,-created,received,-received,name,-name,state,-state,started,-started,ended,-ended}'::text[]) k;
SELECT bool_and(duration >= before) AS runtime, array_agg(duration IS NULL ORDER BY n) FILTER (WHERE n <= 2) AS first
  FROM (SELECT duration, lag(duration) OVER (ORDER BY n) AS before, n FROM gtf_iter_tasks(sort_by => 'runtime', status => '{success,failure,pending}') WITH ORDINALITY i
          (id, task_type, task_key, task_name, scope, status, owner, app_user, args, payload, result, priority, queue, run_at, expires_at, attempt, max_attempts, timeout, parent_id, root_id, created_at, started_at, ended_at, updated_at, display_name, progress_current, progress_total, progress_percent, eta, progress_text, progress_bar, duration, queue_time, wait_reason, subscriber_count, is_subscribed, is_abortable, timeout_exceeded, execution_mode, worker, error_message, exception_type, stack_trace, can_cancel, cancel_action, can_force, depends_on, properties, n)) d;
SELECT bool_and(worker >= before) AS worker FROM (SELECT worker, lag(worker) OVER () AS before FROM gtf_iter_tasks(sort_by => 'worker')) w;

-- Pages.
SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(2);
SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(2, 1);
SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(2, 1, sort_by => 'name');
SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(NULL, 4);
SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(row_offset => 4, sort_by => '-name');
SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(NULL, NULL, NULL, NULL, NULL, NULL);
SELECT count(*) AS none FROM gtf_iter_tasks(0);
SELECT count(*) AS beyond FROM gtf_iter_tasks(10, 100);
SELECT names(VARIADIC array_agg(i.id)) AS after FROM gtf.task_info t, gtf_iter_tasks(2, after => t.id) i WHERE t.task_name = 'second';
SELECT names(VARIADIC array_agg(i.id)) AS after FROM gtf.task_info t, gtf_iter_tasks(2, after => t.id, sort_by => 'created') i WHERE t.task_name = 'second';
SELECT names(VARIADIC array_agg(i.id)) AS after FROM gtf.task_info t, gtf_iter_tasks(2, after => t.id, status => '{success,pending}', search => 'name:add') i WHERE t.task_name = 'second';
-- page by page: all of them, each once
RESET ROLE;
CREATE FUNCTION pages(size int, sort_by text) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
  seen uuid[] = '{}';
  page uuid[];
BEGIN
  LOOP
    SELECT array_agg(id) INTO page FROM gtf_iter_tasks(size, after => seen[cardinality(seen)], sort_by => pages.sort_by);
    EXIT WHEN page IS NULL;
    seen := seen || page;
  END LOOP;
  RETURN seen;
END $$;
SET ROLE regress_gtf_alice;
SELECT size, pages(size, '-created') = (SELECT array_agg(id) FROM gtf.task_info) AS down, pages(size, 'created') = (SELECT array_agg(id ORDER BY id) FROM gtf.task_info) AS up
  FROM unnest('{1,2,4,100}'::int[]) size;

-- Refused.
SELECT FROM gtf_iter_tasks(-1);
SELECT FROM gtf_iter_tasks(row_offset => -1);
SELECT FROM gtf_iter_tasks(sort_by => 'priority');
SELECT FROM gtf_iter_tasks(sort_by => '--name');
SELECT FROM gtf_iter_tasks(sort_by => '');
SELECT FROM gtf_iter_tasks(status => '{done}');
SELECT FROM gtf_iter_tasks(0, status => '{NULL}');
SELECT FROM gtf_iter_tasks(0, search => 'ab');
SELECT FROM gtf_iter_tasks(sort_by => 'received', after => '00000000-0000-7000-8000-000000000000');

-- Shared tasks belong to the lists of who has joined them.
RESET ROLE;
SELECT gtf_register_task('together', 'add(int,int)', scope => 'shared');
SET ROLE regress_gtf_alice;
SELECT gtf_submit('together', '{"a": 1}', task_key => 'k', delay => '1 hour') AS shared \gset
INSERT INTO tasks (id, what) VALUES (:'shared', 'shared');
SELECT names(VARIADIC array_agg(id)) AS before FROM gtf_iter_tasks(1);
SET ROLE regress_gtf_bob;
SELECT names(VARIADIC array_agg(id)) AS before FROM gtf_iter_tasks();
SET gtf.app_user = 'joe';
SELECT gtf_submit('together', '{"a": 1}', task_key => 'k') = :'shared' AS joined;
SELECT names(VARIADIC array_agg(id)) AS after, (SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(sort_by => 'name', status => '{pending}')) AS pending FROM gtf_iter_tasks();
SELECT gtf_related('owner');
SELECT gtf_related('subscriber');
RESET gtf.app_user;
SELECT gtf_related('subscriber');

-- Everybody sees what gtf.task_info shows him, whatever the filter is.
RESET ROLE;
CREATE FUNCTION lists_agree() RETURNS boolean LANGUAGE sql AS $$
  SELECT bool_and(l.ids IS NOT DISTINCT FROM (SELECT array_agg(id ORDER BY id) FROM gtf.task_info WHERE (l.types IS NULL OR task_type = l.types) AND (l.states IS NULL OR status = ANY (l.states))))
  FROM (SELECT types, states::text[], (SELECT array_agg(i.id ORDER BY i.id) FROM gtf_iter_tasks(task_type => types, status => states::text[], sort_by => s) i) AS ids
          FROM unnest('{add,Boom,hold,together,NULL}'::text[]) types,
               unnest('{"{success}","{failure}","{pending}","{in_progress}","{pending,failure}",NULL}'::text[]) states,
               unnest('{created,-created,-name}'::text[]) s) l
$$;
SET ROLE regress_gtf_alice;
SELECT lists_agree(), (SELECT count(*) FROM gtf_iter_tasks()), (SELECT array_agg(o) FROM gtf_related('owner') o) AS owners;
SELECT gtf_related('task_type');
SET ROLE regress_gtf_bob;
SET gtf.app_user = 'joe';
SELECT lists_agree(), (SELECT count(*) FROM gtf_iter_tasks());
RESET gtf.app_user;
SELECT lists_agree(), (SELECT count(*) FROM gtf_iter_tasks()), (SELECT array_agg(o) FROM gtf_related('owner') o) AS owners;
SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks(search => 'first OR fail');
SELECT gtf_related('task_type');
SET gtf.app_user = 'nobody';
SELECT lists_agree(), (SELECT count(*) FROM gtf_iter_tasks()), (SELECT array_agg(o) FROM gtf_related('owner') o) AS owners;
RESET gtf.app_user;
SET ROLE regress_gtf_admin;
SELECT lists_agree(), (SELECT names(VARIADIC array_agg(id)) FROM gtf_iter_tasks()) AS admin;
SELECT gtf_related('owner');
RESET ROLE;
SELECT lists_agree(), (SELECT count(*) FROM gtf_iter_tasks());
SELECT gtf_related('subscriber', 'regress_gtf_');
SELECT gtf_related('owner', 'GTF_A', 1);
SELECT gtf_related('task_type', 'o');
SELECT gtf_related('task_type', row_limit => 2);
SELECT gtf_related('queue');
SELECT gtf_related('owner', row_limit => -1);
SELECT pg_advisory_unlock(1);

-- What they read: 10,000 tasks of one role, some of them failed, and ten of
-- another.  A list that went through all of them would read 10,000 rows with
-- several pages each.
CREATE FUNCTION blocks(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  plan json;
BEGIN
  -- once for the catalogs
  FOR i IN 1 .. 2 LOOP
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT json) ' || query INTO plan;
  END LOOP;
  RETURN CASE WHEN (plan->0->'Plan'->>'Shared Hit Blocks')::int + (plan->0->'Plan'->>'Shared Read Blocks')::int < 2500
    THEN 'few' ELSE 'many' END;
END $$;
SET ROLE regress_gtf_alice;
SELECT count(*) FROM (SELECT gtf_submit_many('hold', array_agg('{"a": 2}'::jsonb), delay => '1 day') FROM generate_series(1, 10)) t;
RESET ROLE;
SELECT count(*) FROM (SELECT gtf_submit_many('add', array_agg('{"a": 1}'::jsonb), delay => '1 day') FROM generate_series(1, 10000)) t;
SET ROLE regress_gtf_bob;
SELECT count(*) FROM (SELECT gtf_submit_many('hold', array_agg('{"a": 2}'::jsonb), delay => '1 day') FROM generate_series(1, 10)) t;
RESET ROLE;
INSERT INTO gtf.outcomes (task_id, attempt, started_at, ended_at, status, worker)
  SELECT id, 1, created_at, created_at, CASE WHEN row_number() OVER (ORDER BY id) % 200 = 0 THEN 'f' ELSE 's' END::"char", 1
    FROM gtf.tasks t WHERE NOT EXISTS (SELECT FROM gtf.outcomes WHERE task_id = t.id) AND owner = current_user::regrole;
VACUUM ANALYZE gtf.tasks, gtf.outcomes;
-- (which pending tasks there are is known from the visibility map, unless some
-- transaction was in the way of the VACUUM)
SELECT what, CASE WHEN what LIKE 'pending%' AND (SELECT relallvisible * 2 < relpages FROM pg_class WHERE oid = 'gtf.outcomes'::regclass) THEN 'few'
               ELSE blocks('SELECT FROM gtf_iter_tasks(50' || args || ')') END AS blocks FROM (VALUES
  ('for comparison', $$, search => 'zzz'$$),
  ('newest', ''), ('oldest', $$, sort_by => 'created'$$), ('of a type', $$, task_type => 'add'$$), ('of a rare type', $$, task_type => 'hold'$$),
  ('failed', $$, status => '{failure}'$$), ('running', $$, status => '{STARTED}'$$),
  ('pending', $$, status => '{pending}'$$), ('pending, oldest', $$, status => '{pending}', sort_by => 'created'$$),
  ('failed of a rare type', $$, status => '{failure}', task_type => 'hold'$$),
  ('failed, by runtime', $$, status => '{failure}', sort_by => '-runtime'$$), ('of a rare type, by name', $$, task_type => 'hold', sort_by => 'name'$$),
  ('a page in the middle', $$, after => (SELECT id FROM gtf.tasks ORDER BY id OFFSET 5000 LIMIT 1)$$),
  ('the last hours', $$, received_start => now() - interval '1 hour'$$), ('later', $$, received_start => now() + interval '1 hour'$$)) v(what, args);
-- of a role that has few, it reads these
SET ROLE regress_gtf_alice;
SELECT blocks('SELECT FROM gtf_iter_tasks(50)') AS mine, blocks($$SELECT FROM gtf_iter_tasks(search => 'zzz')$$) AS searched, blocks($$SELECT FROM gtf_iter_tasks(sort_by => '-runtime')$$) AS sorted,
       blocks($$SELECT FROM gtf_related('owner')$$) AS owners, blocks($$SELECT FROM gtf_related('task_type')$$) AS types;
RESET ROLE;
SELECT blocks($$SELECT FROM gtf_related('owner')$$) AS owners, blocks($$SELECT FROM gtf_related('task_type')$$) AS types;

ALTER DATABASE :"db" OWNER TO :owner;
DROP EXTENSION gtf CASCADE;
DROP FUNCTION add, boom, hold, names, pages, lists_agree, blocks;
DROP PROCEDURE run;
DROP TABLE tasks;
DROP ROLE regress_gtf_alice, regress_gtf_bob, regress_gtf_admin;
