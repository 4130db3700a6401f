-- The payload of a running task: what a body sets, others see at once; it
-- stays for the next attempt and with the outcome.
-- not under valgrind: megabytes of payload take it many minutes there
CREATE EXTENSION gtf;

-- The current state of the task that calls, as others see it.
CREATE FUNCTION seen() RETURNS text LANGUAGE sql AS
  $$ SELECT concat_ws(' | ', progress_text, 'payload ' || payload::text) FROM gtf.task_info WHERE id = gtf_task_id() $$;

-- Each call alone, after '0, 0' with the payload 0.
CREATE FUNCTION calls(calls text[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
  said text[] = '{}';
  call text;
BEGIN
  FOREACH call IN ARRAY calls LOOP
    BEGIN
      PERFORM gtf_update_progress(0, 0, '0');
      EXECUTE format('DO $do$
        DECLARE s smallint = 3; i int = 7; b bigint = 8; n numeric = 0.5; d float8 = 0.25; t text = ''{"t": 1}''; j jsonb = ''{"j": 1}'';
        BEGIN PERFORM %s; END $do$', call);
      said := said || format('%s: %s', call, seen());
    EXCEPTION WHEN OTHERS THEN
      said := said || format('%s: %s %s', call, SQLSTATE, SQLERRM);
    END;
  END LOOP;
  RETURN said;
END $$;
SELECT gtf_register_task('calls', 'calls(text[])');

SELECT gtf_submit('calls', jsonb_build_object('calls', ARRAY[
  -- a count
  'gtf_update_progress(1)', 'gtf_update_progress(i)', 'gtf_update_progress(b)', 'gtf_update_progress(current => 1)',
  'gtf_update_progress(7, ''{"a": 1}'')', 'gtf_update_progress(i, ''{"a": 1}'')', 'gtf_update_progress(b, ''{"a": 1}'')',
  'gtf_update_progress(7, ''{"a": 1}''::jsonb)', 'gtf_update_progress(i, j)', 'gtf_update_progress(b, j)',
  'gtf_update_progress(b, t)', 'gtf_update_progress(b, payload => ''[1, 2]'')', 'gtf_update_progress(7, payload => j)',
  'gtf_update_progress(7, ''7'')', 'gtf_update_progress(b, ''7'')',
  'gtf_update_progress(i, NULL)', 'gtf_update_progress(b, NULL)', 'gtf_update_progress(b, NULL::jsonb)',
  -- of a total
  'gtf_update_progress(3, 100)', 'gtf_update_progress(i, 100)', 'gtf_update_progress(i, b)', 'gtf_update_progress(b, b)',
  'gtf_update_progress(b, i)', 'gtf_update_progress(b, 100)', 'gtf_update_progress(3, total => 100)', 'gtf_update_progress(s, s)',
  'gtf_update_progress(3, 100, ''{"x": 1}'')', 'gtf_update_progress(b, b, ''{"x": 1}'')', 'gtf_update_progress(i, i, j)',
  'gtf_update_progress(3, 100, payload => ''{"x": 1}'')', 'gtf_update_progress(3, 100, NULL)',
  -- a fraction
  'gtf_update_progress(0.5)', 'gtf_update_progress(n)', 'gtf_update_progress(d)', 'gtf_update_progress(fraction => 1)',
  'gtf_update_progress(0.5, ''{"a": 1}'')', 'gtf_update_progress(d, ''{"a": 1}'')', 'gtf_update_progress(n, j)', 'gtf_update_progress(d, NULL)',
  -- the payload alone
  'gtf_update_payload(''{"only": true}'')', 'gtf_update_payload(j)', 'gtf_update_payload(NULL)', 'gtf_update_payload(''null'')',
  'gtf_update_payload(''"text"'')', 'gtf_update_payload(''-1.50'')', 'gtf_update_payload(''false'')', 'gtf_update_payload(''[]'')', 'gtf_update_payload(''{}'')',
  -- wrong: nothing changes
  'gtf_update_progress(7, ''{'')', 'gtf_update_progress(b, ''{'')', 'gtf_update_payload(''{'')',
  'gtf_update_progress(-1, j)', 'gtf_update_progress(1.5, j)', 'gtf_update_progress(NULL, j)', 'gtf_update_progress(NULL::int, j)',
  'gtf_update_progress(1, NULL, j)'])) AS id \gset
CALL gtf_wait(:'id');
SELECT jsonb_array_elements_text(result) AS said FROM gtf_result(:'id');

-- After an error of the body nothing is taken back, as with progress.
CREATE FUNCTION taken() RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_update_progress(1, 2, '"first"');
  BEGIN
    PERFORM gtf_update_progress(2, 2, '"second"');
    RAISE 'undo';
  EXCEPTION WHEN raise_exception THEN
  END;
  RETURN jsonb_build_object('seen', seen(), 'context', (gtf_context()).payload);
END $$;
SELECT gtf_register_task('taken', 'taken()');
SELECT gtf_submit('taken') AS id \gset
CALL gtf_wait(:'id');
SELECT status, result, progress_text, payload FROM gtf_get_task(:'id');

-- Sizes: 1 MB of text, whatever it takes in memory.
CREATE FUNCTION sizes() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
  said text[] = '{}';
  p jsonb;
  n int = 0;
BEGIN
  FOREACH p IN ARRAY ARRAY[
      to_jsonb(repeat('x', 1024 * 1024 - 2)),
      to_jsonb(repeat('x', 1024 * 1024 - 1)),
      jsonb_build_object('a', repeat('x', 1024 * 1024 - 9)),
      jsonb_build_object('a', repeat('x', 1024 * 1024 - 8)),
      -- one character is one byte of JSON, two or six
      to_jsonb(repeat('"', 512 * 1024 - 1)),
      to_jsonb(repeat('"', 512 * 1024)),
      to_jsonb(repeat(chr(1), 174762)),
      to_jsonb(repeat(chr(1), 174763)),
      -- three bytes each, twelve in memory; and one of many digits
      (SELECT jsonb_agg(0) FROM generate_series(1, 349525)),
      (SELECT jsonb_agg(0) FROM generate_series(1, 349526)),
      '[1e131071, 1e131071, 1e131071, 1e131071, 1e131071, 1e131071, 1e131071]',
      '[1e131071, 1e131071, 1e131071, 1e131071, 1e131071, 1e131071, 1e131071, 1e131071]'] LOOP
    n := n + 1;
    BEGIN
      PERFORM gtf_update_progress(n, p);
      said := said || format('%s bytes: ok', octet_length(p::text));
    EXCEPTION WHEN program_limit_exceeded THEN
      said := said || format('%s bytes: %s', octet_length(p::text), SQLERRM);
    END;
    ASSERT n = 1 OR (gtf_context()).payload IS NOT NULL;
    IF said[n] LIKE '%ok' THEN
      ASSERT (gtf_context()).payload = p;
      ASSERT (SELECT payload = p AND progress_current = n FROM gtf.task_info WHERE id = gtf_task_id());
    ELSE
      ASSERT (gtf_context()).payload <> p;
      ASSERT (SELECT payload <> p AND progress_current = n - 1 FROM gtf.task_info WHERE id = gtf_task_id());
    END IF;
  END LOOP;
  RETURN said;
END $$;
SELECT gtf_register_task('sizes', 'sizes()');
SELECT gtf_submit('sizes') AS id \gset
CALL gtf_wait(:'id');
SELECT jsonb_array_elements_text(result) AS said FROM gtf_result(:'id');
SELECT octet_length(payload::text) FROM gtf_get_task(:'id');

-- 1 MB is stored with an outcome, too.
CREATE FUNCTION large(n int) RETURNS bool LANGUAGE plpgsql AS $$
DECLARE
  used bigint;
BEGIN
  FOR i IN 1 .. n LOOP
    PERFORM gtf_update_payload(jsonb_build_object('i', i % 10, 'x', repeat(chr(65 + i % 26), 1024 * 1024 - 17)));
    used := greatest(used, (SELECT value FROM gtf.stats WHERE name = 'payload_memory_used'));
  END LOOP;
  -- at no time more than one is left
  RETURN used < 1100000;
END $$;
SELECT gtf_register_task('large', 'large(int)');
SELECT gtf_submit('large', '{"n": 100}') AS id \gset
CALL gtf_wait(:'id');
SELECT result, octet_length(payload::text), payload -> 'i' AS i, left(payload ->> 'x', 3) AS x FROM gtf_get_task(:'id');

-- Given back when the task has ended; the waiter may be told a moment before.
CREATE FUNCTION in_use_at_most(bytes bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 10000 LOOP
    IF (SELECT value FROM gtf.stats WHERE name = 'payload_memory_used') <= bytes THEN RETURN true; END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN false;
END $$;
SELECT in_use_at_most(0);

-- A failed attempt keeps it, and the next one starts with it, but without
-- progress.
CREATE FUNCTION again(until int, replace bool) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  n int = (gtf_context()).attempt;
  before jsonb = jsonb_build_object('context', (gtf_context()).payload, 'seen', seen());
BEGIN
  IF n = 1 OR replace THEN
    PERFORM gtf_update_progress(n, 10, to_jsonb('set in ' || n));
  END IF;
  IF n < until THEN
    RAISE 'attempt % failed', n;
  END IF;
  RETURN before || jsonb_build_object('after', seen());
END $$;
SELECT gtf_register_task('again', 'again(int,bool)', retry_delay => '0.01 s', max_attempts => 3);
SELECT gtf_submit('again', '{"until": 9, "replace": false}') AS failing \gset
SELECT gtf_submit('again', '{"until": 3, "replace": false}') AS kept \gset
SELECT gtf_submit('again', '{"until": 3, "replace": true}') AS replaced \gset
CALL gtf_wait_all(ARRAY[:'failing', :'kept', :'replaced']::uuid[]);
SELECT status, attempt, progress_text, payload, result FROM gtf.task_info WHERE task_type = 'again' ORDER BY id;
SELECT attempt, status, progress_current, payload FROM gtf.outcomes WHERE task_id = :'failing' ORDER BY 1;

-- A cancel of the next attempt keeps it.
SELECT gtf_register_task('later', 'again(int,bool)', retry_delay => '1 hour', max_attempts => 3);
SELECT gtf_submit('later', '{"until": 9, "replace": false}') AS id \gset
DO $$ BEGIN FOR i IN 1 .. 10000 LOOP
  EXIT WHEN EXISTS (SELECT FROM gtf.task_info WHERE task_type = 'later' AND wait_reason = 'retry');
  PERFORM pg_sleep(0.01); END LOOP; END $$;
SELECT status, attempt, progress_text, payload FROM gtf_get_task(:'id');
SELECT gtf_cancel(:'id');
SELECT status, attempt, progress_text, payload FROM gtf_get_task(:'id');

-- gtf_retry() keeps it, while the task waits and runs.
SELECT pg_advisory_lock(1) IS NULL AS locked;
CREATE FUNCTION held(value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF (gtf_context()).attempt = 1 THEN
    PERFORM gtf_update_payload(to_jsonb(value));
    RAISE 'failed';
  END IF;
  PERFORM pg_advisory_xact_lock_shared(1);
END $$;
SELECT gtf_register_task('held', 'held(text)');
SELECT gtf_submit('held', '{"value": "mine"}') AS id \gset
CALL gtf_wait(:'id');
SELECT status, payload FROM gtf_get_task(:'id');
SELECT gtf_retry(:'id');
SELECT status <> 'failure' AS retried, payload FROM gtf_get_task(:'id');
DO $$ BEGIN FOR i IN 1 .. 10000 LOOP
  EXIT WHEN EXISTS (SELECT FROM pg_locks l WHERE locktype = 'advisory' AND objid = 1 AND NOT granted);
  PERFORM pg_sleep(0.01); END LOOP; END $$;
SELECT status, attempt, payload FROM gtf_get_task(:'id');
SELECT pg_advisory_unlock(1);
CALL gtf_wait(:'id');
SELECT status, attempt, payload FROM gtf_get_task(:'id');

-- No room: an error of the body, and nothing is lost.  Three tasks of 4 MB
-- each fit into 16 MB, a fourth 4 MB do not.
CREATE FUNCTION full_up(me int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  zeros jsonb = (SELECT jsonb_agg(0) FROM generate_series(1, 349525));
  ones jsonb = (SELECT jsonb_agg(1) FROM generate_series(1, 349525));
  said text = 'no error';
BEGIN
  PERFORM gtf_update_progress(me, zeros);
  PERFORM pg_advisory_xact_lock_shared(me);
  BEGIN
    PERFORM gtf_update_progress(9, ones);
  EXCEPTION WHEN OTHERS THEN
    said := format('%s %s', SQLSTATE, SQLERRM);
  END;
  PERFORM pg_advisory_xact_lock_shared(me + 10);
  RETURN format('%s, progress %s, payload kept %s', said,
    (SELECT progress_text FROM gtf.task_info WHERE id = gtf_task_id()), (gtf_context()).payload = zeros);
END $$;
SELECT gtf_register_task('full_up', 'full_up(int)');
SHOW gtf.payload_memory;
SELECT count(pg_advisory_lock(n)) FROM unnest(ARRAY[1, 2, 3, 11, 12, 13]) n;
SELECT count(gtf_submit('full_up', jsonb_build_object('me', n))) FROM generate_series(1, 3) n;
CREATE PROCEDURE until_waiting(n int, lock int) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 10000 LOOP
    EXIT WHEN (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid >= lock) = n;
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
CALL until_waiting(3, 1);
SELECT value / 1024 / 1024 BETWEEN 12 AND 13 AS "12 MB" FROM gtf.stats WHERE name = 'payload_memory_used';
SELECT pg_advisory_unlock(1);
CALL until_waiting(1, 11);
-- the first one goes, and leaves room for the second
SELECT pg_advisory_unlock(11);
SELECT id AS first FROM gtf.task_info WHERE task_type = 'full_up' ORDER BY id LIMIT 1 \gset
CALL gtf_wait(:'first');
SELECT result FROM gtf_result(:'first');
SELECT in_use_at_most(9000000);
SELECT pg_advisory_unlock(2);
CALL until_waiting(1, 12);
SELECT pg_advisory_unlock(12);
SELECT id AS second FROM gtf.task_info WHERE task_type = 'full_up' ORDER BY id OFFSET 1 LIMIT 1 \gset
CALL gtf_wait(:'second');
SELECT result FROM gtf_result(:'second');
SELECT pg_advisory_unlock_all();
SELECT id AS third FROM gtf.task_info WHERE task_type = 'full_up' ORDER BY id OFFSET 2 \gset
CALL gtf_wait(:'third');
SELECT in_use_at_most(0);

-- Somebody else's is not seen.
CREATE ROLE regress_gtf_other;
SET ROLE regress_gtf_other;
SELECT count(*) FROM gtf.task_info WHERE payload IS NOT NULL;
RESET ROLE;

-- Outside a task.
\set VERBOSITY sqlstate
SELECT gtf_update_payload('1');
SELECT gtf_update_payload(NULL);
SELECT gtf_update_progress(1, '1');
\set VERBOSITY default
SELECT gtf_update_payload('1');

DROP ROLE regress_gtf_other;
DROP EXTENSION gtf;
DROP FUNCTION seen, calls, taken, sizes, large, in_use_at_most, again, held, full_up;
DROP PROCEDURE until_waiting;
