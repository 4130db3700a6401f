-- Registering and unregistering task types: who may, what is refused and with
-- which SQLSTATE, what makes a new version, and whose code a task may run.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_super SUPERUSER;
CREATE ROLE regress_gtf_admin;
CREATE ROLE regress_gtf_user;
CREATE ROLE regress_gtf_other;
CREATE ROLE regress_gtf_team;
GRANT CREATE ON SCHEMA public TO regress_gtf_user, regress_gtf_other;
-- run a command, say how it ended
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  detail text;
  hint text;
BEGIN
  EXECUTE command;
  RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(E'\n', SQLSTATE || ': ' || SQLERRM, nullif(detail, ''), nullif(hint, ''));
END $$;
-- submit tasks that will not start while this test runs
CREATE FUNCTION submit(task_type text, args jsonb DEFAULT '{"a": 1}') RETURNS text LANGUAGE sql AS
  $$ SELECT try(format('SELECT gtf_submit(%L, %L, delay => ''1 day'')', task_type, args)) $$;
CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE FUNCTION g(a int) RETURNS int LANGUAGE sql AS 'SELECT -a';
CREATE VIEW types AS
  SELECT task_type, kind, handler, hook, library, scope, timeout, abort,
         max_attempts AS max, retry_delay AS delay, priority AS prio, queue, submit_role AS role,
         description, retired_at IS NULL AS current
    FROM gtf.task_type_versions WHERE task_type <> 'sql';

-- Only administrators: superusers and, by default, the owner of the database.
SET ROLE regress_gtf_user;
SELECT gtf_register_task('plain', 'f(int)');
SELECT gtf_unregister_task('plain');
RESET ROLE;
SELECT current_database() AS db, d.datdba::regrole AS owner
  FROM pg_database d WHERE datname = current_database() \gset
ALTER DATABASE :"db" OWNER TO regress_gtf_admin;
SET ROLE regress_gtf_admin;
SELECT gtf_register_task('plain', 'f(int)');
-- but only superusers load libraries
SELECT try($$SELECT gtf_register_task('x', hook => 'lib.x', library => 'lib')$$);
SELECT try($$SELECT gtf_register_task('x', hook => 'lib.x')$$);
SELECT gtf_unregister_task('x');
-- and only with code that they may execute
RESET ROLE;
REVOKE EXECUTE ON FUNCTION g(int) FROM PUBLIC;
SET ROLE regress_gtf_admin;
SELECT try($$SELECT gtf_register_task('x', 'g(int)')$$);
RESET ROLE;

-- The defaults; NULL stands for them, too.
SELECT * FROM types;
SELECT gtf_register_task('plain', 'f(int)', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT count(*) AS versions FROM types WHERE task_type = 'plain';
-- everything else
SELECT gtf_register_task('full', 'f(int)', scope => 'shared', timeout => '5 min', abort => 'poll',
  max_attempts => 3, retry_delay => '0', priority => -7, queue => 'slow', submit_role => 'regress_gtf_team',
  description => 'all of it');
SELECT gtf_register_task('hooked', hook => 'lib.x', library => 'lib', scope => 'system', abort => 'interrupt');
SELECT gtf_register_task('loaded', hook => 'lib.x', abort => 'never', timeout => '0');
SELECT * FROM types WHERE task_type NOT IN ('plain', 'x') ORDER BY task_type;

-- The same again makes no version, each change makes one.
CREATE FUNCTION again(handler regprocedure DEFAULT 'f(int)', scope text DEFAULT 'shared',
  timeout interval DEFAULT '5 min', abort text DEFAULT 'poll', max_attempts int DEFAULT 3,
  retry_delay interval DEFAULT '0', priority int DEFAULT -7, queue text DEFAULT 'slow',
  submit_role text DEFAULT 'regress_gtf_team', description text DEFAULT 'all of it')
RETURNS bigint LANGUAGE sql AS $$
  SELECT gtf_register_task('full', handler, NULL, NULL, scope, timeout, abort, max_attempts,
                           retry_delay, priority, queue, submit_role, description);
  SELECT count(*) FROM types WHERE task_type = 'full';
$$;
SELECT again();
SELECT again(handler => 'g(int)');
SELECT again();
SELECT again(scope => 'private');
SELECT again(timeout => '1 day');
SELECT again(timeout => '24 h');
SELECT again(timeout => NULL);
SELECT again(timeout => '0');
SELECT again(abort => 'handler');
SELECT again(max_attempts => 4);
SELECT again(retry_delay => '1 ms');
SELECT again(priority => 0);
SELECT again(queue => 'fast');
SELECT again(submit_role => 'public');
SELECT again(description => NULL);
SELECT again(description => NULL);
SELECT count(*) AS current FROM types WHERE task_type = 'full' AND current;
-- code of another owner is a change
ALTER FUNCTION f(int) OWNER TO regress_gtf_other;
SELECT again(description => NULL);
ALTER FUNCTION f(int) OWNER TO CURRENT_USER;

-- Bad values.
SELECT arguments, try(format('SELECT gtf_register_task(%s)', arguments)) AS outcome
  FROM unnest(ARRAY[
    $$NULL, 'f(int)'$$,
    $$'', 'f(int)'$$,
    $$repeat('x', 129), 'f(int)'$$,
    $$repeat('x', 128), 'f(int)'$$,
    $$'sql', 'f(int)'$$,
    $$'x'$$,
    $$'x', 'f(int)', 'lib.x'$$,
    $$'x', 'f(int)', library => 'lib'$$,
    $$'x', library => 'lib'$$,
    $$'x', hook => ''$$,
    $$'x', hook => 'lib.x', library => ''$$,
    $$'x', '-'$$,
    $$'x', 4000000000::oid::regprocedure$$,
    $$'x', 'nowhere(int)'$$,
    $$'x', 'f(int)', scope => 'Private'$$,
    $$'x', 'f(int)', timeout => '-1 s'$$,
    $$'x', 'f(int)', abort => ''$$,
    $$'x', 'f(int)', max_attempts => 0$$,
    $$'x', 'f(int)', retry_delay => '-1 us'$$,
    $$'x', 'f(int)', queue => ''$$,
    $$'x', 'f(int)', queue => repeat('q', 129)$$,
    $$'x', 'f(int)', queue => repeat('q', 128), priority => -2147483648$$,
    $$'x', 'f(int)', submit_role => 'regress_gtf_nobody'$$,
    $$'x', 'f(int)', submit_role => ''$$]) AS arguments;

-- What can be a handler: ordinary functions and procedures with one parameter
-- of type jsonb, or with names for all input parameters.
CREATE TYPE pair AS (x int, y text);
CREATE DOMAIN object AS jsonb CHECK (jsonb_typeof(VALUE) = 'object');
CREATE SCHEMA h;
SET search_path = h, public;
CREATE FUNCTION ok1() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION ok2(jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION ok3(a int, b text[], c pair, d object DEFAULT '{}') RETURNS pair LANGUAGE sql AS 'SELECT c';
CREATE FUNCTION ok4(a int, OUT b int, OUT c int) LANGUAGE sql AS 'SELECT 1, 2';
CREATE FUNCTION ok5(INOUT jsonb) LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION ok6("A b" int, OUT int) LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE ok7() LANGUAGE sql AS '';
CREATE PROCEDURE ok8(a int, INOUT b text) LANGUAGE sql AS 'SELECT b';
CREATE PROCEDURE ok9(OUT b text, a pair[]) LANGUAGE sql AS $$ SELECT '' $$;
CREATE FUNCTION bad1(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION bad2(a int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION bad3(object) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION bad4(a int) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION bad5(a int) RETURNS TABLE (x int) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION bad6(VARIADIC a int[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION bad7(a anyelement) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION bad8(a anycompatiblearray) RETURNS anycompatible LANGUAGE sql AS 'SELECT a[1]';
CREATE FUNCTION bad9(a int) RETURNS record LANGUAGE sql AS 'SELECT 1, 2';
CREATE FUNCTION bad10() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION bad11() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION bad12(a record) RETURNS int LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE bad13(int) LANGUAGE sql AS '';
CREATE AGGREGATE bad14(int) (SFUNC = int4pl, STYPE = int);
CREATE FUNCTION pg_temp.bad15() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT proname AS handler, prokind AS kind,
       regexp_replace(try(format('SELECT gtf_register_task(%L, %s)', proname, oid)), 'pg_temp_\d+', 'pg_temp', 'g') AS outcome
  FROM pg_proc
 WHERE pronamespace = 'h'::regnamespace OR proname IN ('bad15', 'row_number', 'textin', 'textout', 'pg_sleep', 'count')
 ORDER BY split_part(translate(proname, '0123456789', ''), '_', 1), length(proname), proname, oid;
SELECT task_type, kind, handler FROM types WHERE handler LIKE 'h.%' AND current ORDER BY task_type;
RESET search_path;

-- Unregistering.
SELECT try($$SELECT gtf_unregister_task('unknown')$$);
SELECT try($$SELECT gtf_unregister_task('sql')$$);
SELECT gtf_unregister_task(NULL);
SELECT submit('ok2');
SELECT try($$SELECT gtf_unregister_task('ok2')$$);
SELECT gtf_unregister_task('ok3');
SELECT submit('ok3');
SELECT try($$SELECT gtf_unregister_task('ok3')$$);
SELECT gtf_register_task('ok3', 'f(int)');
SELECT submit('ok3');

-- What a transaction registers, it can use at once, and nobody after a rollback.
BEGIN;
SELECT gtf_register_task('tx', 'f(int)');
SELECT submit('tx');
SAVEPOINT s;
SELECT gtf_register_task('tx', 'h.ok2(jsonb)'), submit('tx', '{"b": 1}');
SELECT submit('tx', '{"b": 1}');
ROLLBACK TO s;
SELECT submit('tx'), submit('tx', '{"b": 1}');
ROLLBACK;
SELECT submit('tx');

-- Who may submit.
CREATE FUNCTION h.secret(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
REVOKE EXECUTE ON FUNCTION h.secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION h.secret TO regress_gtf_user;
SELECT gtf_register_task('secret', 'h.secret(int)');
SELECT gtf_register_task('team', 'f(int)', submit_role => 'regress_gtf_team');
SET ROLE regress_gtf_user;	-- who may not look into schema h
SELECT submit('secret'), submit('team');
SET ROLE regress_gtf_other;
SELECT submit('secret');
RESET ROLE;
SELECT submit('team');
GRANT regress_gtf_team TO regress_gtf_user;
REVOKE EXECUTE ON FUNCTION h.secret FROM regress_gtf_user;
SET ROLE regress_gtf_user;
SELECT submit('secret');
SELECT submit('team');
RESET ROLE;
DROP ROLE regress_gtf_team;
SET ROLE regress_gtf_user;
SELECT submit('team');
RESET ROLE;

-- A type belongs to code of a name and an owner.
SET ROLE regress_gtf_user;
CREATE FUNCTION mine(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
RESET ROLE;
SELECT gtf_register_task('mine', 'mine(int)');
SET ROLE regress_gtf_other;
SELECT submit('mine');
-- not what somebody else creates in its place
RESET ROLE;
DROP FUNCTION mine(int);
SET ROLE regress_gtf_other;
SELECT submit('mine');
CREATE FUNCTION mine(a int) RETURNS int LANGUAGE sql AS 'SELECT -a';
SELECT submit('mine');
DROP FUNCTION mine(int);
-- but what the same role does
SET ROLE regress_gtf_user;
CREATE FUNCTION mine(a int, b int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT a';
SELECT submit('mine');
DROP FUNCTION mine(int, int);
CREATE FUNCTION mine(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
SELECT submit('mine');
CREATE OR REPLACE FUNCTION mine(a int DEFAULT 3) RETURNS int LANGUAGE sql AS 'SELECT a';
SELECT submit('mine', '{}');
DROP FUNCTION mine(int);
CREATE FUNCTION mine(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
SELECT submit('mine');
DROP FUNCTION mine(int);
CREATE PROCEDURE mine(a int) LANGUAGE sql AS '';
SELECT submit('mine');
DROP PROCEDURE mine(int);
CREATE FUNCTION mine(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
SELECT submit('mine');
ALTER FUNCTION mine(int) RENAME TO yours;
SELECT submit('mine');
ALTER FUNCTION yours(int) RENAME TO mine;
SELECT submit('mine');
RESET ROLE;
ALTER FUNCTION mine(int) OWNER TO regress_gtf_other;
SELECT submit('mine');
ALTER FUNCTION mine(int) OWNER TO regress_gtf_user;
-- a superuser does not run code of others
SELECT submit('mine');
ALTER FUNCTION mine(int) OWNER TO regress_gtf_super;
SELECT submit('mine');
SELECT gtf_register_task('mine', 'mine(int)');
SELECT submit('mine');
-- a schema or type of another name makes another function
ALTER FUNCTION mine(int) SET SCHEMA h;
SELECT submit('mine');
CREATE SCHEMA "Odd ""(name";
CREATE TYPE h."t(y" AS ENUM ('v');
CREATE FUNCTION "Odd ""(name"."f""(x"("a b" h."t(y") RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT gtf_register_task('odd', oid) FROM pg_proc WHERE proname = 'f"(x';
SELECT submit('odd', '{"a b": "v"}');
ALTER SCHEMA "Odd ""(name" RENAME TO even;
SELECT submit('odd', '{"a b": "v"}');
ALTER SCHEMA even RENAME TO "Odd ""(name";
SELECT submit('odd', '{"a b": "v"}');
ALTER TYPE h."t(y" RENAME TO ty;
SELECT submit('odd', '{"a b": "v"}');
ALTER TYPE h.ty RENAME TO "t(y";
SELECT submit('odd', '{"a b": "v"}');
SELECT submit('odd', '{"a b": "w"}');
-- hooks
SELECT submit('hooked');

-- A body may replace the type that it runs under, and goes on.
CREATE PROCEDURE h.self(a int) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..3 LOOP
    PERFORM gtf_register_task('self', 'h.self(int)', priority => i, max_attempts => a);
    PERFORM gtf_submit('self', '{"a": 1}', delay => '1 day');
    COMMIT;
  END LOOP;
  RAISE EXCEPTION 'attempt % of "%"', (gtf_context()).attempt, (gtf_context()).task_type;
END $$;
CREATE FUNCTION h.self_too(a int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_register_task('self too', 'h.self_too(int)', max_attempts => 2, retry_delay => '1 ms');
  PERFORM gtf_submit('self too', '{"a": 1}', delay => '1 day');
  RAISE EXCEPTION 'attempt % of "%"', (gtf_context()).attempt, (gtf_context()).task_type;
END $$;
SELECT gtf_register_task('self', 'h.self(int)'),
       gtf_register_task('self too', 'h.self_too(int)', max_attempts => 3, retry_delay => '1 ms');
SELECT gtf_submit('self', '{"a": 1}') AS self, gtf_submit('self too', '{"a": 1}') AS too \gset
CALL gtf_wait(:'self', '1 min');
CALL gtf_wait(:'too', '1 min');
SELECT status, error_message FROM gtf_result(:'self');
SELECT status, error_message FROM gtf_result(:'too');
SELECT task_type, count(*) FROM types WHERE task_type LIKE 'self%' GROUP BY task_type ORDER BY task_type;

-- not in a transaction that cannot write
BEGIN READ ONLY;
SELECT gtf_register_task('plain', 'f(int)');
ROLLBACK;

ALTER DATABASE :"db" OWNER TO :owner;
DROP VIEW types;
DROP EXTENSION gtf;
SET client_min_messages = warning;
DROP SCHEMA h, "Odd ""(name" CASCADE;
DROP OWNED BY regress_gtf_user, regress_gtf_other, regress_gtf_admin, regress_gtf_super;
DROP FUNCTION f, g, try, submit, again;
DROP TYPE pair;
DROP DOMAIN object;
DROP ROLE regress_gtf_user, regress_gtf_other, regress_gtf_admin, regress_gtf_super;
