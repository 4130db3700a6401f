-- What somebody can try who wants to see or touch the tasks of others.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_alice;
CREATE ROLE regress_gtf_eve;
CREATE ROLE regress_gtf_team;
CREATE ROLE regress_gtf_admin;
GRANT regress_gtf_team TO regress_gtf_alice, regress_gtf_eve;
SELECT current_database() AS db, d.datdba::regrole AS owner
  FROM pg_database d WHERE datname = current_database() \gset
ALTER DATABASE :"db" OWNER TO regress_gtf_admin;

CREATE FUNCTION work(secret text DEFAULT '') RETURNS text LANGUAGE sql AS 'SELECT ''result of '' || secret';
CREATE FUNCTION closed() RETURNS void LANGUAGE sql AS '';
REVOKE EXECUTE ON FUNCTION closed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION closed() TO regress_gtf_alice;
CREATE FUNCTION large(n int DEFAULT 1, args jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS 'SELECT jsonb_agg(1e131071) FROM generate_series(1, n)';
SELECT gtf_register_task('large', 'large(int,jsonb)');
SELECT gtf_register_task('work', 'work(text)'), gtf_register_task('shared', 'work(text)', scope => 'shared'),
  gtf_register_task('closed', 'closed()', scope => 'shared'), gtf_register_task('team', 'work(text)', scope => 'shared', submit_role => 'regress_gtf_admin');
-- the error of a command, for the caller
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

SET ROLE regress_gtf_alice;
SELECT gtf_submit('work', '{"secret": "private"}', 'a', delay => '1 h') AS private \gset
SELECT gtf_submit('shared', '{"secret": "shared"}', 'a', delay => '1 h') AS shared \gset
SELECT gtf_submit('shared', '{"secret": "ended"}', 'e') AS ended \gset
SELECT gtf_submit('closed', '{}', 'a', delay => '1 h') AS closed \gset
CALL gtf_wait(:'ended');
RESET ROLE;
SELECT gtf_submit('work', '{"secret": "system"}', 'a', scope => 'system', delay => '1 h') AS system \gset
SELECT ARRAY[:'private', :'shared', :'ended', :'closed', :'system'] AS targets \gset
SELECT set_config('regress.home', home::text, false) AS home FROM gtf.tasks LIMIT 1 \gset

-- ---------------------------------------------------------------------------
-- Every function, with the ids of others and with one that nobody has
-- ---------------------------------------------------------------------------
CREATE FUNCTION answers(id uuid) RETURNS TABLE (call text, answer text) LANGUAGE sql AS $$
  SELECT call, fails(format(call, id)) FROM unnest(ARRAY['SELECT gtf_cancel(%L::uuid)', 'SELECT gtf_cancel(%L::uuid, true)', 'SELECT gtf_cancel(%L::text)',
    'SELECT gtf_submit(''work'', depends_on => ARRAY[%L]::uuid[])',
    'SELECT gtf_retry(%L)', 'SELECT gtf_revoke(%L)', 'SELECT gtf_revoke(%L, true)']) AS call
  UNION ALL SELECT 'many', replace(outcome, id::text, '<id>') FROM gtf_cancel(ARRAY[id])
  UNION ALL SELECT 'status', gtf_status(id)
  UNION ALL SELECT 'result', status FROM gtf_result(id)
  UNION ALL SELECT 'task', status FROM gtf_get_task(id)
  UNION ALL SELECT 'subscribers', role::text FROM gtf_subscribers(id)
  UNION ALL SELECT 'view', status FROM gtf.task_info i WHERE i.id = $1
  UNION ALL SELECT 'attempts', error_message FROM gtf.task_attempts WHERE task_id = id
  UNION ALL SELECT 'subscribers', role::text FROM gtf.task_subscribers_info WHERE task_id = id
  UNION ALL SELECT 'list', status FROM gtf_iter_tasks() i WHERE i.id = $1
  UNION ALL SELECT 'matches', gtf_task_matches(id, 'alice')::text
  UNION ALL SELECT kind, r FROM unnest(ARRAY['owner', 'subscriber', 'task_type']) AS kind, gtf_related(kind) r
  UNION ALL SELECT 'state', CASE WHEN NOT s IS NULL THEN 'known' END FROM gtf._current_state(id) s
  UNION ALL SELECT 'count', gtf._subscriber_count(id, 's')::text
  UNION ALL SELECT 'visible', gtf._visible(id, current_setting('regress.home')::int, 's', 'regress_gtf_alice'::regrole, '')::text
  UNION ALL SELECT 'subscribed', gtf._is_subscribed(id, 's', 'regress_gtf_alice'::regrole, '')::text $$;
SET ROLE regress_gtf_eve;
SELECT * FROM answers('01900000-0000-7000-8000-000000000000');
-- they all look like that one
SELECT count(*) FROM unnest(:'targets'::uuid[]) AS t, answers(t) EXCEPT ALL SELECT 5 * count(*) FROM answers('01900000-0000-7000-8000-000000000000');
SELECT t, answers FROM unnest(:'targets'::uuid[]) AS t, answers(t)
 WHERE (call, coalesce(answer, 'null')) NOT IN (SELECT call, coalesce(answer, 'null') FROM answers('01900000-0000-7000-8000-000000000000'));
SELECT fails($$SELECT gtf_cancel('not an id')$$);
\set VERBOSITY sqlstate
CALL gtf_wait('01900000-0000-7000-8000-000000000000');
CALL gtf_wait(:'private');
CALL gtf_wait(:'ended');
CALL gtf_wait_any(:'targets');
CALL gtf_wait_all(:'targets');
\set VERBOSITY default

-- ---------------------------------------------------------------------------
-- Functions that tell what they are given, before the view has looked
-- ---------------------------------------------------------------------------
RESET ROLE;
CREATE SCHEMA eve AUTHORIZATION regress_gtf_eve;
SET ROLE regress_gtf_eve;
CREATE FUNCTION eve.leaks(v anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
  RAISE NOTICE 'leaked: %', v;
  RETURN true;
END $$;
CREATE FUNCTION eve.leaks(a uuid, b uuid) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
  RAISE NOTICE 'leaked: %', a;
  RETURN true;
END $$;
CREATE OPERATOR eve.~~~ (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = eve.leaks);
SELECT id FROM gtf.task_info WHERE eve.leaks(args::text) AND eve.leaks(id) AND 1 / length(task_key) = 1;
SELECT task_id FROM gtf.task_subscribers_info WHERE eve.leaks(role::text) OR task_id OPERATOR(eve.~~~) task_id;
SELECT task_id FROM gtf.task_attempts WHERE eve.leaks(task_id);
SELECT count(*) FROM gtf.task_info i JOIN gtf.task_subscribers_info s ON s.task_id OPERATOR(eve.~~~) i.id;
-- (nor by an error that names a value)
SELECT id FROM gtf.task_info WHERE (args ->> 'secret')::int = 1;

-- ---------------------------------------------------------------------------
-- Functions, operators and tables in the way of the ones that are meant
-- ---------------------------------------------------------------------------
CREATE FUNCTION eve.yes(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'eve is called as %', current_user; RETURN true; END$$;
CREATE OPERATOR eve.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = eve.yes);
CREATE FUNCTION eve.yes("char", "char") RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'eve is called as %', current_user; RETURN true; END$$;
CREATE OPERATOR eve.= (LEFTARG = "char", RIGHTARG = "char", FUNCTION = eve.yes);
CREATE OPERATOR eve.<> (LEFTARG = "char", RIGHTARG = "char", FUNCTION = eve.yes);
CREATE FUNCTION eve.yes(bytea, bytea) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'eve is called as %', current_user; RETURN true; END$$;
CREATE OPERATOR eve.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = eve.yes);
CREATE FUNCTION eve.yes(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'eve is called as %', current_user; RETURN true; END$$;
CREATE OPERATOR eve.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = eve.yes);
CREATE FUNCTION eve.gtf_status(uuid) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'eve is called as %', current_user; RETURN ''; END$$;
CREATE FUNCTION eve.repeat(text, int) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'eve is called as %', current_user; RETURN ''; END$$;
CREATE FUNCTION eve.statement_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'eve is called as %', current_user; RETURN 'epoch'; END$$;
CREATE TEMP TABLE task_subscribers (task_id uuid, role oid, app_user text, subscribed_at timestamptz);
CREATE TEMP TABLE tasks (id uuid);
CREATE TABLE eve.keys (dedup_key bytea, task_id uuid);
CREATE DOMAIN eve.uuid AS text;
GRANT USAGE ON SCHEMA eve TO PUBLIC;
SET search_path = eve, pg_temp, pg_catalog, public;
SELECT count(*) FROM gtf.task_info;
SELECT count(*) FROM gtf.task_subscribers_info;
SELECT count(*) FROM gtf.task_attempts;
SELECT count(*) FROM public.gtf_get_task(:'shared'), public.gtf_subscribers(:'shared');
SELECT fails(format('SELECT public.gtf_cancel(%L::pg_catalog.uuid)', :'shared'));
SELECT count(*) FROM public.gtf_iter_tasks(search => 'name:shared'), public.gtf_related('owner');
-- what alice does under eve's search_path she does herself
RESET ROLE;
SET ROLE regress_gtf_alice;
SELECT public.gtf_submit('shared', '{"secret": "shared"}', 'a') OPERATOR(pg_catalog.=) :'shared' AS joined;
SELECT public.gtf_submit('shared', '{"secret": "new"}', 'new', delay => '1 h') AS new \gset
SELECT public.gtf_cancel(:'new'), public.gtf_retry(:'new'), public.gtf_cancel(:'new');
SELECT role, app_user FROM public.gtf_subscribers(:'shared');
SELECT count(*), sum(subscriber_count) FROM gtf.task_info;
SELECT count(*) FROM public.gtf_iter_tasks(search => 'name:shared');
SELECT public.gtf_related(kind) FROM pg_catalog.unnest(ARRAY['owner', 'subscriber', 'task_type']) AS kind;
RESET search_path;
RESET ROLE;
DROP TABLE pg_temp.task_subscribers, pg_temp.tasks;

-- ---------------------------------------------------------------------------
-- The tables themselves
-- ---------------------------------------------------------------------------
CREATE FUNCTION touches(relation text) RETURNS TABLE (command text, answer text) LANGUAGE sql AS $$
  SELECT format(c, relation), left(fails(format(c, relation)), 5) FROM unnest(ARRAY['SELECT * FROM %s', 'INSERT INTO %s SELECT', 'INSERT INTO %s DEFAULT VALUES',
    'DELETE FROM %s', 'TRUNCATE %s', 'LOCK %s', 'COPY %s TO ''/dev/null''', 'CREATE INDEX ON %s (xmin)', 'ALTER TABLE %s DISABLE TRIGGER ALL',
    'CREATE RULE r AS ON DELETE TO %s DO INSTEAD NOTHING', 'GRANT ALL ON %s TO PUBLIC', 'DROP TABLE %s', 'ANALYZE %1$s; SELECT 1 / (SELECT count(*) FROM pg_stats WHERE schemaname = ''gtf'')']) c $$;
SET client_min_messages = error;
SET ROLE regress_gtf_eve;
SELECT answer, count(*), count(DISTINCT command) AS commands FROM unnest(ARRAY['gtf.tasks', 'gtf.task_subscribers', 'gtf.keys', 'gtf.outcomes', 'gtf.live', 'gtf.abort_requests',
  'gtf.task_type_versions', 'gtf.state', 'gtf.roles', 'gtf.dependents', 'gtf.flow', 'gtf.counters', 'gtf.clean']) AS r, touches(r) GROUP BY 1 ORDER BY 1;
-- administrators read them
SET ROLE regress_gtf_admin;
SELECT * FROM touches('gtf.task_subscribers');
RESET client_min_messages;
-- nobody writes through the views
SET ROLE regress_gtf_eve;
SELECT fails('INSERT INTO gtf.task_subscribers_info VALUES (NULL)');
SELECT fails('DELETE FROM gtf.task_subscribers_info');
SELECT fails('UPDATE gtf.task_info SET status = ''success''');
SELECT fails(format('ALTER VIEW gtf.task_info SET (security_barrier = false)'));

-- ---------------------------------------------------------------------------
-- Identities
-- ---------------------------------------------------------------------------
-- who may not submit the type cannot join it
SELECT fails($$SELECT gtf_submit('closed', '{}', 'a')$$);
SELECT fails($$SELECT gtf_submit('team', '{}', 'a')$$);
SELECT fails($$SELECT gtf_submit('work', '{}', 'a', scope => 'system')$$);
-- a role that both are members of is a principal of its own, and no administrator by name
SET ROLE regress_gtf_team;
SELECT count(*) FROM gtf.task_info;
SELECT fails($$SELECT set_config('gtf.admin_role', 'regress_gtf_team', false)$$);
SELECT gtf_submit('shared', '{}', 'of the team', delay => '1 h') AS team \gset
SET ROLE regress_gtf_eve;
SELECT gtf_status(:'team');
-- the application user is a label inside of a role
SET gtf.app_user = 'regress_gtf_alice';
SELECT count(*) FROM gtf.task_info;
SET ROLE regress_gtf_team;
SELECT count(*) FROM gtf.task_info;
RESET gtf.app_user;
SELECT count(*) FROM gtf.task_info;
SELECT gtf_cancel(:'team');
-- a function that runs as alice is alice, if she lets others call it
RESET ROLE;
CREATE FUNCTION join_as_alice(k text) RETURNS uuid LANGUAGE sql SECURITY DEFINER AS $$SELECT gtf_submit('shared', '{}', k, delay => '1 h')$$;
ALTER FUNCTION join_as_alice OWNER TO regress_gtf_alice;
CREATE FUNCTION cancel_as_alice(id uuid) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$SELECT gtf_cancel(id)$$;
ALTER FUNCTION cancel_as_alice OWNER TO regress_gtf_alice;
SET ROLE regress_gtf_eve;
SELECT gtf_submit('shared', '{}', 'definer', delay => '1 h') AS definer \gset
SELECT join_as_alice('definer') = :'definer' AS joined;
SELECT role FROM gtf_subscribers(:'definer') ORDER BY role::text;
SELECT cancel_as_alice(:'definer');
SELECT role FROM gtf_subscribers(:'definer');
SELECT fails(format('SELECT cancel_as_alice(%L)', :'definer'));
SELECT join_as_alice('of alice') AS of_alice \gset
SELECT gtf_status(:'of_alice'), fails(format('SELECT gtf_cancel(%L)', :'of_alice'));
-- code that eve makes alice run sees what alice sees, and returns what it is allowed to
RESET ROLE;
CREATE VIEW eve.all_tasks AS SELECT * FROM gtf.task_info;
ALTER VIEW eve.all_tasks OWNER TO regress_gtf_alice;
GRANT SELECT ON eve.all_tasks TO regress_gtf_eve;
SET ROLE regress_gtf_eve;
SELECT count(*) FILTER (WHERE owner = 'regress_gtf_alice'::regrole) AS of_alice, count(*) AS all FROM eve.all_tasks;
-- a task of eve that reads what it can sees hers only
SELECT gtf_submit_sql('CREATE TABLE eve.seen AS SELECT owner, count(*) AS n FROM gtf.task_info GROUP BY 1') AS sql \gset
CALL gtf_wait(:'sql');
SELECT * FROM eve.seen;

-- what has been guessed of a key says nothing: it is joined openly, or it is another one
SELECT gtf_submit('work', '{}', 'a', delay => '1 h') <> :'private' AS another;
SELECT count(*) FROM gtf.task_info WHERE id = ANY (:'targets');
SELECT gtf_submit('shared', '{}', 'a') = :'shared' AS joined;
SELECT args FROM gtf.task_info WHERE id = :'shared';
RESET ROLE;
SELECT role FROM gtf_subscribers(:'shared') ORDER BY role::text;

-- ---------------------------------------------------------------------------
-- Getting in the way of others
-- ---------------------------------------------------------------------------
-- a task that starts before its time, which never comes, has waited like others: figures and lists stay readable
SET ROLE regress_gtf_eve;
SELECT gtf_submit('work', run_at => 'infinity') AS never \gset
SELECT gtf_cancel(:'never'), gtf_retry(:'never');
CALL gtf_wait(:'never');
RESET ROLE;
SELECT queue_time >= '0' AND queue_time < '1 day' AS waited FROM gtf.task_info WHERE id = :'never';
SELECT count(*) FROM gtf_iter_tasks(search => 'id:' || :'never');
SELECT queue_time_avg >= '0' AND queue_time_avg < '1 day' AS waited FROM gtf_task_stats() WHERE task_type = 'work';
-- what a restore does is not for everybody
SET ROLE regress_gtf_eve;
SELECT fails('SELECT gtf._restored()');
CREATE TABLE eve.inserted ();
SELECT fails('CREATE TRIGGER t AFTER INSERT ON eve.inserted EXECUTE FUNCTION gtf._restored()');
RESET ROLE;
SELECT fails('SELECT gtf._restored()');

-- ---------------------------------------------------------------------------
-- Rows that nobody can read: they would be in the lists of administrators
-- ---------------------------------------------------------------------------
SET ROLE regress_gtf_eve;
-- small, but gigabytes as text
SELECT fails($$SELECT gtf_submit('large', (SELECT jsonb_build_object('args', jsonb_agg(1e131071)) FROM generate_series(1, 1000)))$$);
SELECT fails($$SELECT gtf_submit_many('large', ARRAY[(SELECT jsonb_build_object('args', jsonb_agg(1e131071)) FROM generate_series(1, 1000))])$$);
SELECT fails($$SELECT gtf_submit('work', task_name => repeat('x', 1024 * 1024 + 1))$$);
SELECT fails($$SELECT gtf_submit('work', task_key => repeat('x', 1024 * 1024 + 1))$$);
SELECT fails($$SELECT gtf_submit('work') FROM set_config('gtf.app_user', repeat('x', 1024 * 1024 + 1), true)$$);
SELECT gtf_submit('large', '{"n": 1000}') AS large \gset
CALL gtf_wait(:'large');
CALL gtf_run('large', '{"n": 1000}') \gset run_
SELECT :'run_status' AS status;
-- neither in an error
SELECT gtf_submit_sql($$DO 'BEGIN RAISE ''x%'', repeat(''x'', 200000) USING DETAIL = repeat(''y'', 200000), HINT = repeat(''z'', 200000); END'$$) AS long \gset
CALL gtf_wait(:'long');
RESET ROLE;
SELECT length(error_message), right(error_message, 5), octet_length(stack_trace) < 500000 AS cut FROM gtf.task_info WHERE id = :'long';
SELECT error_message, exception_type FROM gtf.task_info WHERE id = :'large';
SELECT count(*) = count(properties) AS whole FROM gtf_iter_tasks();
SELECT count(*) FROM gtf_iter_tasks(search => 'nowhere');

-- ---------------------------------------------------------------------------
-- Privileges on all tables, as pg_write_all_data has: those of everybody would follow
-- ---------------------------------------------------------------------------
GRANT pg_write_all_data TO regress_gtf_eve;
SET ROLE regress_gtf_eve;
SELECT left(fails(c), 5), c FROM unnest(ARRAY['gtf.tasks', 'gtf.task_subscribers', 'gtf.keys', 'gtf.outcomes', 'gtf.live', 'gtf.abort_requests',
  'gtf.task_type_versions', 'gtf.state', 'gtf.roles', 'gtf.dependents', 'gtf.flow', 'gtf.counters', 'gtf.clean']) AS r,
  format('INSERT INTO %s DEFAULT VALUES', r) AS c WHERE fails(c) NOT LIKE '42501%' OR fails('DELETE FROM ' || r) NOT LIKE '42501%';
SELECT fails('INSERT INTO gtf.tasks DEFAULT VALUES');
SELECT fails('UPDATE gtf.tasks SET owner = 10');
SELECT fails('DELETE FROM gtf.roles');
SELECT fails('SELECT gtf._guard()');
-- what eve does by gtf's functions goes on
SELECT gtf_cancel(gtf_submit('shared', '{}', 'all data', delay => '1 h'));
RESET ROLE;
-- privileges that were granted by name are the same; who restores is a superuser
GRANT ALL ON gtf.tasks TO regress_gtf_alice;
SET ROLE regress_gtf_alice;
SELECT fails('UPDATE gtf.tasks SET owner = 10');
SELECT fails('TRUNCATE gtf.tasks');
RESET ROLE;
SELECT fails('SELECT gtf._guard()');

ALTER DATABASE :"db" OWNER TO :"owner";
SET client_min_messages = error;
DROP SCHEMA eve CASCADE;
RESET client_min_messages;
DROP EXTENSION gtf;
DROP FUNCTION join_as_alice, cancel_as_alice, touches, answers, fails, work, closed, large;
DROP ROLE regress_gtf_alice, regress_gtf_eve, regress_gtf_team, regress_gtf_admin;
