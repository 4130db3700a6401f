-- The keys of args become the named parameters of the handler, converted as by
-- jsonb_to_record(); what does not fit is refused at submit with 22023.
CREATE EXTENSION gtf;
CREATE SCHEMA a;
SET search_path = a, public;
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
CREATE FUNCTION try(task_type text, args jsonb) RETURNS text LANGUAGE sql AS
  $$ SELECT try(format('SELECT gtf_submit(%L, %L, delay => ''1 day'')', task_type, args)) $$;
CREATE TABLE runs (n int GENERATED ALWAYS AS IDENTITY, task_type text, args jsonb, id uuid);
CREATE FUNCTION run(task_type text, VARIADIC args jsonb[]) RETURNS void LANGUAGE sql AS
  $$ INSERT INTO runs (task_type, args, id) SELECT task_type, a, gtf_submit(task_type, a) FROM unnest(args) AS a $$;
-- how they ended, in the order they were submitted
\set wait 'SELECT array_agg(id) AS ids FROM runs \\gset \\\\ CALL gtf_wait_all(:''ids'', ''1 min'') \\g /dev/null \\\\ SELECT args, status, result, error_message FROM runs, gtf_result(id) AS r ORDER BY n; TRUNCATE runs;'

CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (x int, y text);
CREATE TYPE nest AS (p pair, ps pair[], m mood);
CREATE DOMAIN posint AS int CHECK (VALUE > 0);
CREATE DOMAIN required AS text NOT NULL;
CREATE DOMAIN object AS jsonb CHECK (jsonb_typeof(VALUE) = 'object');
CREATE DOMAIN few AS int[] CHECK (cardinality(VALUE) < 4);
CREATE DOMAIN right_pair AS pair CHECK ((VALUE).x > 0);
CREATE FUNCTION kinds(i2 smallint DEFAULT NULL, i4 int DEFAULT NULL, i8 bigint DEFAULT NULL,
  f4 real DEFAULT NULL, f8 float8 DEFAULT NULL, n numeric DEFAULT NULL, b bool DEFAULT NULL,
  t text DEFAULT NULL, v varchar DEFAULT NULL, c bpchar DEFAULT NULL, na name DEFAULT NULL, ch "char" DEFAULT NULL,
  j json DEFAULT NULL, jb jsonb DEFAULT NULL, u uuid DEFAULT NULL, d date DEFAULT NULL,
  ts timestamp DEFAULT NULL, tz timestamptz DEFAULT NULL, iv interval DEFAULT NULL, by bytea DEFAULT NULL,
  ip inet DEFAULT NULL, r int4range DEFAULT NULL, mr nummultirange DEFAULT NULL, cl regclass DEFAULT NULL, m mood DEFAULT NULL,
  p posint DEFAULT NULL, rq required DEFAULT 'none', o object DEFAULT NULL, ia int[] DEFAULT NULL,
  ta text[] DEFAULT NULL, ja jsonb[] DEFAULT NULL, fw few DEFAULT NULL, pr pair DEFAULT NULL, rp right_pair DEFAULT NULL,
  pa pair[] DEFAULT NULL, ne nest DEFAULT NULL, pp posint[] DEFAULT NULL)
RETURNS jsonb STABLE LANGUAGE sql AS $$
  SELECT jsonb_strip_nulls(to_jsonb(x)) - CASE WHEN rq = 'none' THEN 'rq' ELSE '' END
    FROM (SELECT i2, i4, i8, f4, f8, n, b, t, v, c, na, ch, j, jb, u, d, ts, tz, iv, by, ip, r, mr, cl, m,
                 p, rq, o, ia, ta, ja, fw, pr, rp, pa, ne, pp) AS x $$;
SELECT gtf_register_task('kinds', 'kinds'::regproc::oid);

-- Scalars: JSON values of the type's own kind, and everything as text.
SELECT run('kinds',
  '{"i2": 1, "i4": -2, "i8": 9223372036854775807, "f4": 1.5, "f8": -1.25, "n": 12.50}',
  '{"i2": "1", "i4": " 2 ", "i8": "3", "f4": "Infinity", "f8": "1e3", "n": "NaN"}',
  '{"i4": 2147483647, "n": 100000000000000000000000000000.000001, "i8": -9223372036854775808}',
  '{"b": true}', '{"b": "off"}', '{"b": 1}',
  '{"t": "text", "v": "varchar", "c": "bpchar ", "na": "name", "ch": "c"}',
  '{"t": 1.10, "v": false, "c": {"a": [1, null, "x"]}, "na": 1}',
  '{"t": "", "v": "\" \\ \n"}',
  '{"j": "s", "jb": "s"}', '{"j": 1.0, "jb": 1.0}', '{"j": [1, {"a": null}], "jb": [1, {"a": null}]}',
  '{"u": "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "d": "2024-02-29", "ts": "2024-02-29 12:34:56.789"}',
  '{"tz": "2024-02-29 12:00:00+02", "iv": "1 day 02:00", "by": "\\x00ff", "ip": "10.0.0.0/8"}',
  '{"r": "[1,3]", "mr": "{[1,2),[4,5)}", "cl": "pg_class", "m": "sad"}');
:wait
-- Domains, arrays and composite types.
SELECT run('kinds',
  '{"p": 1, "rq": "given", "o": {"a": 1}}',
  '{"ia": [1, null, "3"], "ta": ["a", null, 1, true, {"x": [1]}], "ja": ["a", 1, {"x": 1}]}',
  '{"ia": [[1, 2], [3, 4]], "ta": [], "fw": [1, 2, 3], "pp": [1, 2]}',
  '{"ia": "{1,NULL}", "pr": "(1,one)", "m": "ok"}',
  '{"pr": {"x": 1, "y": "one"}, "rp": {"x": 1}, "pa": [{"x": 1}, null, {"y": 2, "z": 3}]}',
  '{"ne": {"p": {"x": 1}, "ps": [{"y": "a"}, {"y": "b"}], "m": "ok"}}');
:wait
-- JSON null is SQL NULL, also where there is a default.
CREATE FUNCTION nulls(a int, b text DEFAULT 'b', c int[] DEFAULT '{}', d posint DEFAULT 1, e jsonb DEFAULT '{}', f pair DEFAULT NULL)
RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', a IS NULL, b IS NULL, c IS NULL, d IS NULL, e IS NULL) $$;
SELECT gtf_register_task('nulls', 'nulls'::regproc::oid);
SELECT run('nulls', '{"a": null}', '{"a": null, "b": null, "c": null, "d": null, "e": null, "f": null}');
:wait

-- What does not convert.
SELECT args, try('kinds', args) AS outcome FROM unnest(ARRAY[
  '{"i2": 40000}', '{"i4": 2147483648}', '{"i4": 1.5}', '{"i4": "x"}', '{"i4": true}', '{"i4": ""}', '{"i4": [1]}',
  '{"i8": 9223372036854775808}', '{"f4": 1e39}', '{"n": "1,5"}', '{"b": 2}', '{"b": "maybe"}',
  '{"u": "not a uuid"}', '{"d": "2023-02-29"}', '{"iv": "soon"}', '{"r": "[2,1]"}', '{"cl": "no_such"}', '{"m": "happy"}',
  '{"p": 0}', '{"p": "x"}', '{"rq": null}', '{"o": []}', '{"o": "{}"}',
  '{"ia": 1}', '{"ia": {"a": 1}}', '{"ia": [1, "x"]}', '{"ia": [[1], [2, 3]]}', '{"ia": "1,2"}', '{"fw": [1, 2, 3, 4]}', '{"pp": [1, 0]}',
  '{"pr": 1}', '{"pr": [1, "one"]}', '{"pr": {"x": "one"}}', '{"rp": {"x": -1}}', '{"rp": {}}', '{"pa": [{"x": {}}]}',
  '{"ne": {"ps": [{"x": 1}, {"x": "two"}]}}', '{"ne": {"m": "happy"}}',
  '{"i4": 1, "n": 2, "d": "x", "u": "x"}']::jsonb[]) AS args;

-- Keys that are no parameters, parameters without a value.
CREATE FUNCTION two("first one" int, second text DEFAULT 'dflt') RETURNS text LANGUAGE sql AS $$ SELECT $1 || $2 $$;
CREATE FUNCTION noargs() RETURNS text LANGUAGE sql AS $$ SELECT 'nothing' $$;
SELECT gtf_register_task('two', 'two(int,text)'), gtf_register_task('noargs', 'noargs()');
SELECT task_type, args, try(task_type, args) AS outcome FROM (VALUES
  ('two', '{}'::jsonb), ('two', '{"second": "x"}'), ('two', '{"first one": 1, "third": 2}'),
  ('two', '{"first": 1}'), ('two', '{"First one": 1}'), ('two', '{"first one": 1, "": 2}'),
  ('two', '[1]'), ('two', '"first one"'), ('two', 'null'), ('two', '1'), ('two', '[]'),
  ('noargs', '{"a": 1}'), ('noargs', '[]')) AS v(task_type, args);
SELECT run('two', '{"first one": 1}', '{"second": "b", "first one": 2}'), run('noargs', '{}');
:wait

-- Defaults are evaluated when the task runs, as its owner.
CREATE SEQUENCE s;
CREATE FUNCTION defaults(a text DEFAULT session_user, b bigint DEFAULT nextval('a.s'), c text DEFAULT lower('X') || 'y',
  d uuid DEFAULT gtf_task_id()) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_build_object('a', a = session_user, 'b', b, 'c', c, 'd', d = gtf_task_id()) $$;
SELECT gtf_register_task('defaults', 'defaults(text,bigint,text,uuid)');
SELECT run('defaults', '{"b": 7}');
:wait
SELECT run('defaults', '{"c": "c"}');
:wait
SELECT last_value, is_called FROM s;

-- One parameter of type jsonb gets all of args, whatever it is called.
CREATE FUNCTION whole(args jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT args';
CREATE FUNCTION whole_domain(args object) RETURNS jsonb LANGUAGE sql AS 'SELECT args';
SELECT gtf_register_task('whole', 'whole(jsonb)'), gtf_register_task('whole_domain', 'whole_domain(object)');
SELECT run('whole', '{"args": 1}', '[1, 2]', '"text"', 'null', '{}'), run('whole_domain', '{"args": {"x": 1}}');
:wait
SELECT try('whole_domain', '{"x": 1}');

-- What becomes the result.
CREATE FUNCTION r_void() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION r_null() RETURNS text LANGUAGE sql AS 'SELECT NULL';
CREATE FUNCTION r_text() RETURNS text LANGUAGE sql AS $$ SELECT '{"a": 1}' $$;
CREATE FUNCTION r_json() RETURNS json LANGUAGE sql AS $$ SELECT json '{"a":  1}' $$;
CREATE FUNCTION r_jsonb() RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb '{"a": 1}' $$;
CREATE FUNCTION r_domain() RETURNS object LANGUAGE sql AS $$ SELECT a.object '{"a": 1}' $$;
CREATE FUNCTION r_numeric() RETURNS numeric IMMUTABLE LANGUAGE sql AS $$ SELECT 1.10 $$;
CREATE FUNCTION r_array() RETURNS pair[] LANGUAGE sql AS $$ SELECT ARRAY[ROW(1, 'a'), NULL]::a.pair[] $$;
CREATE FUNCTION r_pair() RETURNS pair LANGUAGE sql AS $$ SELECT 1, 'a' $$;
CREATE FUNCTION r_one(OUT x int) LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION r_two(OUT x int, OUT "Y z" text) LANGUAGE plpgsql AS $$ BEGIN x := 1; END $$;
CREATE FUNCTION r_three(INOUT a int, OUT b timestamptz) LANGUAGE sql AS $$ SELECT a, 'epoch'::timestamptz $$;
SELECT gtf_register_task(proname, oid) FROM pg_proc WHERE proname ~ '^r_' AND pronamespace = 'a'::regnamespace;
SELECT count(run(proname::text, CASE proname WHEN 'r_three' THEN jsonb '{"a": 3}' ELSE '{}' END))
  FROM (SELECT * FROM pg_proc WHERE proname ~ '^r_' AND pronamespace = 'a'::regnamespace ORDER BY proname COLLATE "C") AS p;
UPDATE runs SET args = to_jsonb(task_type);
:wait

-- Procedures.
CREATE TABLE calls (n int GENERATED ALWAYS AS IDENTITY, a int, b text, c int);
CREATE PROCEDURE p_inout(a int, INOUT b text DEFAULT 'b', INOUT c int DEFAULT 3) LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO a.calls (a, b, c) VALUES (a, b, c); COMMIT; b := b || '!'; c := c + 1; END $$;
CREATE PROCEDURE p_out(OUT o text, a int) LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO a.calls (a, b) VALUES (a, o); o := 'out'; END $$;
CREATE PROCEDURE p_whole(INOUT args jsonb) LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO a.calls (b) VALUES (args); args := '1'; END $$;
SELECT gtf_register_task(proname, oid) FROM pg_proc WHERE proname ~ '^p_' AND pronamespace = 'a'::regnamespace;
SELECT run('p_inout', '{"a": 1}');
:wait
SELECT run('p_inout', '{"a": 2, "c": 5}');
:wait
SELECT run('p_out', '{"a": 3}');
:wait
SELECT run('p_whole', '{"a": 3}');
:wait
SELECT * FROM calls ORDER BY n;
SELECT try('p_out', '{"a": 1, "o": "x"}');
SELECT try('p_inout', '{"b": "x"}');

-- The body sees collations as in a call that is typed in.
CREATE FUNCTION collate_me(x text, y text DEFAULT 'a' COLLATE "C") RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN RETURN upper(x) || (x < y) || pg_collation_for(x); END $$;
SELECT gtf_register_task('collate_me', 'collate_me(text,text)');
SELECT run('collate_me', '{"x": "a"}', '{"x": "a", "y": "b"}');
:wait

-- Errors that are not about the value stay what they are.
CREATE FUNCTION raise(code text) RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'message of %', code USING ERRCODE = code, DETAIL = 'detail', HINT = 'hint'; END $$;
CREATE DOMAIN raiser AS text CHECK (raise(VALUE));
CREATE FUNCTION takes_raiser(code raiser) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT gtf_register_task('raiser', 'takes_raiser(raiser)');
SELECT code, try('raiser', jsonb_build_object('code', code)) AS outcome
  FROM unnest(ARRAY['22P02', 'P0001', '42501', '40001', '40P01', '53200', '55P03', '57P01', '58030', 'XX000']) AS code;
CREATE FUNCTION sleep(float8) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep($1); RETURN true; END $$;
CREATE DOMAIN sleeper AS float8 CHECK (sleep(VALUE));
CREATE FUNCTION takes_sleeper(s sleeper) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT gtf_register_task('sleeper', 'takes_sleeper(sleeper)');
SET statement_timeout = '1 s';
\set VERBOSITY sqlstate
SELECT gtf_submit('sleeper', '{"s": 600}');
\set VERBOSITY default
RESET statement_timeout;

-- Conversions run as the caller.
CREATE ROLE regress_gtf_caller;
GRANT USAGE ON SCHEMA a TO regress_gtf_caller;
CREATE DOMAIN caller AS text CHECK (VALUE = current_user);
CREATE FUNCTION takes_caller(who caller) RETURNS text LANGUAGE sql AS 'SELECT who || '' '' || current_user';
SELECT gtf_register_task('caller', 'takes_caller(caller)');
GRANT ALL ON runs TO regress_gtf_caller;
SET ROLE regress_gtf_caller;
SELECT run('caller', '{"who": "regress_gtf_caller"}');
RESET ROLE;
:wait
SELECT try('caller', '{"who": "regress_gtf_caller"}');

SET client_min_messages = warning;
DROP SCHEMA a CASCADE;
DROP EXTENSION gtf;
DROP ROLE regress_gtf_caller;
