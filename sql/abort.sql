-- How a task ends: the decision table of body, abort and handlers, row by row.
--
-- A case is a row of the table cases, and is run with several kinds of bodies.
-- All do the same: they register the handlers of their case, write a row, wait
-- until the test lets them go on, which is when the abort is requested, and end
-- as the case says.  Handlers write a row, too, so "effects" shows what is left
-- in the end, in the order it was written.
CREATE EXTENSION gtf;
CREATE TABLE cases (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  label text,          -- body | abort | handlers
  kinds text,          -- of the body
  mode text,           -- abort mode of the task type; commands have interrupt
  handlers text,       -- in the order they are registered
  request text,        -- while the body waits
  does text,           -- the body, after that
  status text, message text, exception text, effects text, -- expected
  attempts int DEFAULT 1);
CREATE TABLE effects (seq int GENERATED ALWAYS AS IDENTITY, task uuid DEFAULT gtf_task_id(), what text);
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (id int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);

-- What bodies and handlers are made of.  A handler's argument is what it does.
CREATE FUNCTION handle(arg jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effects (what) VALUES (arg ->> 0);
  IF arg ->> 0 LIKE '%fails%' THEN
    RAISE '%', arg ->> 0;
  ELSIF arg ->> 0 LIKE '%orphan%' THEN
    INSERT INTO children VALUES (2);
  END IF;
END $$;
CREATE FUNCTION prepare(c int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  h text;
BEGIN
  FOREACH h IN ARRAY string_to_array((SELECT handlers FROM cases WHERE id = c), ', ') LOOP
    IF h LIKE 'abort%' THEN
      PERFORM gtf_on_abort('handle(jsonb)', to_jsonb(h));
    ELSE
      PERFORM gtf_on_cleanup('handle(jsonb)', to_jsonb(h));
    END IF;
  END LOOP;
  INSERT INTO effects (what) VALUES ('body');
END $$;
CREATE FUNCTION hold(c int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(c) WHERE (gtf_context()).attempt = 1;
EXCEPTION WHEN query_canceled THEN
  IF (SELECT does FROM cases WHERE id = c) NOT LIKE '%catch%' THEN
    RAISE;
  END IF;
END $$;
CREATE FUNCTION conclude(c int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  step text;
BEGIN
  FOREACH step IN ARRAY string_to_array((SELECT does FROM cases WHERE id = c), ', ') LOOP
    CASE step
      WHEN 'poll' THEN PERFORM gtf_is_aborting();
      WHEN 'progress' THEN PERFORM gtf_update_progress(1);
      WHEN 'sleep' THEN PERFORM gtf_sleep('1 min');
      WHEN 'check' THEN PERFORM gtf_check_abort();
      WHEN 'raise' THEN RAISE 'oops';
      WHEN 'orphan' THEN INSERT INTO children VALUES (1);
      ELSE
    END CASE;
  END LOOP;
  RETURN 'done';
END $$;

-- The bodies.
CREATE FUNCTION body_sql(c int) RETURNS text LANGUAGE sql AS $$
  SELECT prepare(c);
  SELECT hold(c);
  SELECT conclude(c);
$$;
CREATE FUNCTION body_plpgsql(c int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM prepare(c);
  PERFORM hold(c);
  RETURN conclude(c);
END $$;
CREATE PROCEDURE body_procedure(c int) LANGUAGE plpgsql AS $$
BEGIN
  COMMIT;
  PERFORM prepare(c);
  PERFORM hold(c);
  PERFORM conclude(c);
END $$;
SELECT count(gtf_register_task(kind || ' ' || mode, f, abort => mode, retry_delay => '10 ms'))
  FROM (VALUES ('sql', 'body_sql(int)'::regprocedure), ('plpgsql', 'body_plpgsql(int)'),
               ('procedure', 'body_procedure(int)')) k (kind, f),
       unnest('{handler,poll,interrupt,never}'::text[]) mode;

-- Runs a case with some kinds of bodies at the same time.
CREATE TABLE results (id int, kind text, status text, message text, exception text, effects text);
CREATE PROCEDURE run_case(c int, kinds text[], patience interval DEFAULT '0.5 s') LANGUAGE plpgsql AS $$
DECLARE
  this cases := (SELECT x FROM cases x WHERE x.id = c);
  patience interval := CASE WHEN this.request LIKE 'timeout%' THEN run_case.patience ELSE '0' END;
  later interval := CASE WHEN this.request LIKE 'early%' THEN '1 h' END;
  expiry timestamptz;
  tasks uuid[];
  ended text;
BEGIN
  PERFORM pg_advisory_lock(c);
  COMMIT;
  IF this.request = 'hard timeout' THEN
    PERFORM gtf_set_timeout(kind || ' ' || this.mode, hard_timeout => run_case.patience) FROM unnest(kinds) kind;
  END IF;
  expiry := CASE WHEN this.request = 'early expiry' THEN clock_timestamp() + interval '3 s' END;
  SELECT array_agg(CASE kind
      WHEN 'do' THEN gtf_submit_sql(format('DO $b$ BEGIN PERFORM prepare(%1$s); PERFORM hold(%1$s); PERFORM conclude(%1$s); END $b$', c),
        max_attempts => this.attempts, timeout => patience, delay => later, expires_at => expiry)
      WHEN 'call' THEN gtf_submit_sql(format('CALL body_procedure(%s)', c), max_attempts => this.attempts, timeout => patience, delay => later, expires_at => expiry)
      WHEN 'select' THEN gtf_submit_sql(format('SELECT body_plpgsql(%s)', c), max_attempts => this.attempts, timeout => patience, delay => later, expires_at => expiry)
      ELSE gtf_submit(kind || ' ' || this.mode, jsonb_build_object('c', c), max_attempts => this.attempts, timeout => patience, delay => later, expires_at => expiry)
    END ORDER BY n) INTO tasks
    FROM unnest(kinds) WITH ORDINALITY k (kind, n);
  IF this.request = 'hard timeout' THEN
    PERFORM gtf_set_timeout(kind || ' ' || this.mode, hard_timeout => '0') FROM unnest(kinds) kind;
  END IF;
  COMMIT;

  -- until all bodies wait
  FOR n IN 1 .. 30000 LOOP
    EXIT WHEN later IS NOT NULL OR (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = c AND NOT granted)
      + (SELECT count(*) FROM gtf.task_info WHERE id = ANY (tasks) AND ended_at IS NOT NULL) = cardinality(tasks);
    PERFORM pg_sleep(0.01);
  END LOOP;
  -- if the time of one is over by now, once more with more of it
  IF this.request IN ('timeout', 'timeout, kill', 'hard timeout') AND EXISTS (SELECT FROM gtf.task_info WHERE id = ANY (tasks) AND (status <> 'in_progress' OR timeout_exceeded)) THEN
    PERFORM pg_advisory_unlock(c);
    FOR n IN 1 .. cardinality(tasks) LOOP
      CALL gtf_wait(tasks[n], NULL, ended);
    END LOOP;
    DELETE FROM effects WHERE task = ANY (tasks);
    COMMIT;
    CALL run_case(c, kinds, run_case.patience * 5);
    RETURN;
  END IF;
  IF this.request LIKE '%cancel%' THEN
    PERFORM gtf_cancel(id) FROM unnest(tasks) id;
    COMMIT;
  ELSIF this.request = 'revoke' THEN
    PERFORM gtf_revoke(id, true, 'SIGINT') FROM unnest(tasks) id;
    COMMIT;
  ELSIF this.request = 'revoke, terminate' THEN
    PERFORM gtf_revoke(id, true) FROM unnest(tasks) id;
    COMMIT;
    FOR n IN 1 .. 30000 LOOP
      EXIT WHEN NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = c AND NOT granted);
      PERFORM pg_sleep(0.01);
    END LOOP;
  ELSIF this.request = 'hard timeout' THEN
    FOR n IN 1 .. 30000 LOOP
      EXIT WHEN NOT EXISTS (SELECT FROM gtf.task_info WHERE id = ANY (tasks) AND status = 'in_progress');
      PERFORM pg_sleep(0.01);
    END LOOP;
  ELSIF this.request LIKE 'timeout%' THEN
    FOR n IN 1 .. 30000 LOOP
      EXIT WHEN NOT EXISTS (SELECT FROM gtf.task_info WHERE id = ANY (tasks) AND status = 'in_progress' AND (is_abortable OR NOT timeout_exceeded));
      PERFORM pg_sleep(0.01);
    END LOOP;
  END IF;
  IF this.request LIKE '%kill' THEN
    PERFORM pg_terminate_backend(pid) FROM gtf.workers WHERE task_id = ANY (tasks);
  END IF;
  PERFORM pg_advisory_unlock(c);
  COMMIT;
  FOR n IN 1 .. cardinality(tasks) LOOP
    CALL gtf_wait(tasks[n], '5 min', ended);
    INSERT INTO results
      SELECT c, kinds[n], t.status || CASE WHEN t.attempt > 1 THEN ', attempt ' || t.attempt ELSE '' END, t.error_message, t.exception_type,
             (SELECT string_agg(what, ', ' ORDER BY seq) FROM effects WHERE task = t.id)
        FROM gtf_get_task(tasks[n]) t;
  END LOOP;
END $$;

INSERT INTO cases (label, kinds, mode, handlers, request, does, status, message, exception, effects) VALUES
  ('returns | none | no handler', 'sql plpgsql procedure do call select', 'handler', '', '', '',
   'success', NULL, NULL, 'body'),
  ('returns | none | cleanup ok', 'sql plpgsql procedure do call select', 'handler', 'abort ok, cleanup 1, cleanup 2', '', 'poll',
   'success', NULL, NULL, 'body, cleanup 2, cleanup 1'),
  ('returns | none | cleanup fails', 'sql plpgsql procedure do call select', 'handler', 'cleanup ok, cleanup fails, abort ok', '', '',
   'failure', 'Cleanup handler failed: cleanup fails', 'raise_exception', 'body, cleanup ok'),
  ('returns | none | several fail', 'sql plpgsql procedure do call select', 'handler', 'cleanup fails 1, cleanup ok, cleanup fails 2', '', '',
   'failure', 'Handler(s) failed: cleanup fails 2; cleanup fails 1', 'MultipleHandlerFailures', 'body, cleanup ok'),
  ('returns | requested, not noticed | no handler', 'sql plpgsql procedure', 'poll', '', 'cancel', '',
   'success', NULL, NULL, 'body'),
  ('returns | requested, not noticed | cleanup ok', 'sql plpgsql procedure', 'poll', 'cleanup ok', 'cancel', '',
   'success', NULL, NULL, 'body, cleanup ok'),
  ('returns | timed out, not noticed | cleanup ok', 'sql plpgsql procedure', 'poll', 'cleanup ok', 'timeout', '',
   'success', NULL, NULL, 'body, cleanup ok'),
  ('returns | requested, not noticed | cleanup fails', 'sql plpgsql procedure', 'poll', 'cleanup fails', 'cancel', '',
   'failure', 'Cleanup handler failed: cleanup fails', 'raise_exception', 'body'),
  ('returns | noticed: polls | no handler', 'sql plpgsql procedure', 'poll', '', 'cancel', 'poll',
   'aborted', NULL, NULL, 'body'),
  ('returns | noticed: reports progress | no handler', 'sql plpgsql procedure', 'poll', '', 'cancel', 'progress',
   'aborted', NULL, NULL, 'body'),
  ('returns | noticed: sleeps | cleanup ok', 'sql plpgsql procedure', 'poll', 'cleanup ok', 'cancel', 'sleep',
   'aborted', NULL, NULL, 'body, cleanup ok'),
  ('returns | noticed: a handler ran | all ok', 'sql plpgsql procedure', 'handler', 'cleanup ok, abort 1, abort 2', 'cancel', '',
   'aborted', NULL, NULL, 'body, abort 2, abort 1, cleanup ok'),
  ('returns | noticed: times out | no handler', 'sql plpgsql procedure', 'poll', '', 'timeout', 'poll',
   'timed_out', 'Task timed out', NULL, 'body'),
  ('returns | noticed: times out | all ok', 'sql plpgsql procedure', 'handler', 'abort ok, cleanup ok', 'timeout', '',
   'timed_out', 'Task timed out', NULL, 'body, abort ok, cleanup ok'),
  ('returns | noticed: interrupt | all ok', 'sql plpgsql procedure do call select', 'interrupt', 'abort ok, cleanup ok', 'cancel', 'catch',
   'aborted', NULL, NULL, 'body, abort ok, cleanup ok'),
  ('returns | noticed: interrupt, times out | all ok', 'sql plpgsql procedure do call select', 'interrupt', 'abort ok, cleanup ok', 'timeout', 'catch',
   'timed_out', 'Task timed out', NULL, 'body, abort ok, cleanup ok'),
  ('returns | noticed | an abort handler fails', 'sql plpgsql procedure', 'handler', 'abort ok, abort fails, cleanup ok', 'cancel', '',
   'failure', 'Abort handler failed: abort fails', 'raise_exception', 'body, abort ok, cleanup ok'),
  ('returns | noticed: times out | an abort handler fails', 'sql plpgsql procedure', 'handler', 'abort fails, cleanup ok', 'timeout', '',
   'failure', 'Abort handler failed: abort fails', 'raise_exception', 'body, cleanup ok'),
  ('returns | noticed: interrupt | an abort handler fails', 'sql plpgsql procedure do call select', 'interrupt', 'abort fails, cleanup ok', 'cancel', 'catch',
   'failure', 'Abort handler failed: abort fails', 'raise_exception', 'body, cleanup ok'),
  ('returns | noticed | only a cleanup handler fails', 'sql plpgsql procedure', 'handler', 'abort ok, cleanup fails', 'cancel', '',
   'failure', 'Cleanup handler failed: cleanup fails', 'raise_exception', 'body, abort ok'),
  ('returns | noticed: interrupt | only a cleanup handler fails', 'do call select', 'interrupt', 'abort ok, cleanup fails', 'cancel', 'catch',
   'failure', 'Cleanup handler failed: cleanup fails', 'raise_exception', 'body, abort ok'),
  ('returns | noticed: times out | only a cleanup handler fails', 'sql plpgsql procedure', 'handler', 'abort ok, cleanup fails', 'timeout', '',
   'failure', 'Cleanup handler failed: cleanup fails', 'raise_exception', 'body, abort ok'),
  ('returns | noticed | both fail', 'sql plpgsql procedure', 'handler', 'cleanup fails, abort fails', 'cancel', '',
   'failure', 'Handler(s) failed: abort fails; cleanup fails', 'MultipleHandlerFailures', 'body'),
  ('returns | noticed | all fail, of both kinds', 'sql plpgsql procedure', 'handler', 'cleanup fails 1, abort fails 1, cleanup ok, abort fails 2, abort fails 3, cleanup fails 2', 'cancel', '',
   'failure', 'Handler(s) failed: abort fails 3; abort fails 2; abort fails 1; cleanup fails 2; cleanup fails 1', 'MultipleHandlerFailures', 'body, cleanup ok'),
  ('raises | none | no handler', 'sql plpgsql procedure do call select', 'handler', '', '', 'raise',
   'failure', 'oops', 'raise_exception', NULL),
  ('raises | none | ok', 'sql plpgsql procedure do call select', 'handler', 'abort ok, cleanup 1, cleanup 2', '', 'raise',
   'failure', 'oops', 'raise_exception', 'cleanup 2, cleanup 1'),
  ('raises | requested | no handler', 'sql plpgsql procedure', 'poll', '', 'cancel', 'raise',
   'aborted', 'oops', 'raise_exception', NULL),
  ('raises | requested | ok', 'sql plpgsql procedure', 'poll', 'abort 1, cleanup ok, abort 2', 'cancel', 'raise',
   'aborted', 'oops', 'raise_exception', 'abort 2, abort 1, cleanup ok'),
  ('raises | requested, and a handler ran | ok', 'sql plpgsql procedure', 'handler', 'abort 1, cleanup ok, abort 2', 'cancel', 'raise',
   'aborted', 'oops', 'raise_exception', 'abort 2, abort 1, cleanup ok'),
  ('raises | requested: checks | ok', 'sql plpgsql procedure', 'handler', 'abort ok, cleanup ok', 'cancel', 'check',
   'aborted', NULL, NULL, 'abort ok, cleanup ok'),
  ('raises | requested: interrupt | no handler', 'sql plpgsql procedure do call select', 'interrupt', '', 'cancel', '',
   'aborted', NULL, NULL, NULL),
  ('raises | requested: interrupt | ok', 'sql plpgsql procedure do call select', 'interrupt', 'abort ok, cleanup ok', 'cancel', '',
   'aborted', NULL, NULL, 'abort ok, cleanup ok'),
  ('raises | times out | no handler', 'sql plpgsql procedure', 'poll', '', 'timeout', 'raise',
   'timed_out', 'Task timed out', NULL, NULL),
  ('raises | times out | ok', 'sql plpgsql procedure', 'handler', 'abort ok, cleanup ok', 'timeout', 'raise',
   'timed_out', 'Task timed out', NULL, 'abort ok, cleanup ok'),
  ('raises | times out: interrupt | ok', 'sql plpgsql procedure do call select', 'interrupt', 'abort ok, cleanup ok', 'timeout', '',
   'timed_out', 'Task timed out', NULL, 'abort ok, cleanup ok'),
  ('raises | none | a cleanup handler fails', 'sql plpgsql procedure do call select', 'handler', 'abort ok, cleanup fails, cleanup ok', '', 'raise',
   'failure', 'oops | Cleanup handler failed: cleanup fails', 'raise_exception', 'cleanup ok'),
  ('raises | requested | a cleanup handler fails', 'sql plpgsql procedure', 'handler', 'abort ok, cleanup fails', 'cancel', 'raise',
   'failure', 'oops | Cleanup handler failed: cleanup fails', 'raise_exception', 'abort ok'),
  ('raises | requested | an abort handler fails', 'sql plpgsql procedure', 'handler', 'abort fails, cleanup ok', 'cancel', 'raise',
   'failure', 'oops | Abort handler failed: abort fails', 'raise_exception', 'cleanup ok'),
  ('raises | requested: interrupt | an abort handler fails', 'sql plpgsql procedure do call select', 'interrupt', 'abort fails, cleanup ok', 'cancel', '',
   'failure', 'canceling statement due to user request | Abort handler failed: abort fails', 'query_canceled', 'cleanup ok'),
  ('raises | requested | both fail', 'sql plpgsql procedure', 'poll', 'abort fails, cleanup fails', 'cancel', 'raise',
   'failure', 'oops | Handler(s) failed: abort fails; cleanup fails', 'MultipleHandlerFailures', NULL),
  ('raises: deferred constraint | none | no handler', 'sql plpgsql procedure do call select', 'handler', '', '', 'orphan',
   'failure', 'insert or update on table "children" violates foreign key constraint "children_id_fkey"', 'foreign_key_violation', NULL),
  ('raises: deferred constraint | none | ok', 'sql plpgsql procedure do call select', 'handler', 'abort ok, cleanup ok', '', 'orphan',
   'failure', 'insert or update on table "children" violates foreign key constraint "children_id_fkey"', 'foreign_key_violation', 'cleanup ok'),
  ('raises: deferred constraint | requested | ok', 'sql plpgsql procedure', 'handler', 'abort ok, cleanup ok', 'cancel', 'orphan',
   'aborted', 'insert or update on table "children" violates foreign key constraint "children_id_fkey"', 'foreign_key_violation', 'abort ok, cleanup ok'),
  ('returns | none | cleanup violates a deferred constraint', 'sql plpgsql procedure do call select', 'handler', 'cleanup ok, cleanup orphan', '', '',
   'failure', 'Cleanup handler failed: insert or update on table "children" violates foreign key constraint "children_id_fkey"', 'foreign_key_violation', 'body, cleanup ok'),
  ('raises | none | cleanup violates a deferred constraint', 'sql plpgsql procedure do call select', 'handler', 'cleanup ok, cleanup orphan', '', 'raise',
   'failure', 'oops | Cleanup handler failed: insert or update on table "children" violates foreign key constraint "children_id_fkey"', 'raise_exception', 'cleanup ok'),
  ('raises | times out | an abort handler fails', 'sql plpgsql procedure', 'handler', 'abort fails, cleanup ok', 'timeout', 'raise',
   'failure', 'oops | Abort handler failed: abort fails', 'raise_exception', 'cleanup ok'),
  ('raises | times out | a cleanup handler fails', 'sql plpgsql procedure', 'handler', 'abort ok, cleanup fails', 'timeout', 'raise',
   'failure', 'oops | Cleanup handler failed: cleanup fails', 'raise_exception', 'abort ok'),
  -- what is aborted whatever its mode is
  ('returns | noticed: revoked with SIGINT | all ok', 'sql plpgsql procedure do call select', 'never', 'abort ok, cleanup ok', 'revoke', 'catch',
   'aborted', NULL, NULL, 'body, abort ok, cleanup ok'),
  ('raises | revoked with SIGINT | ok', 'sql plpgsql procedure do call select', 'never', 'abort ok, cleanup ok', 'revoke', '',
   'aborted', NULL, NULL, 'abort ok, cleanup ok'),
  ('returns | noticed: hard timeout | all ok', 'sql plpgsql procedure', 'never', 'abort ok, cleanup ok', 'hard timeout', 'catch',
   'timed_out', 'Task timed out', NULL, 'body, abort ok, cleanup ok'),
  ('raises | hard timeout | ok', 'sql plpgsql procedure', 'handler', 'cleanup ok', 'hard timeout', '',
   'timed_out', 'Task timed out', NULL, 'cleanup ok'),
  -- what cannot be aborted
  ('returns | times out in mode never | ok', 'sql plpgsql procedure', 'never', 'abort ok, cleanup ok', 'timeout', 'poll',
   'success', NULL, NULL, 'body, cleanup ok'),
  ('returns | times out without a handler | ok', 'sql plpgsql procedure', 'handler', 'cleanup ok', 'timeout', 'poll',
   'success', NULL, NULL, 'body, cleanup ok'),
  -- it has not begun
  ('never started | cancelled | none run', 'sql plpgsql procedure do call select', 'handler', 'abort ok, cleanup ok', 'early cancel', '',
   'aborted', NULL, NULL, NULL),
  ('never started | expired | none run', 'sql plpgsql procedure do call select', 'handler', 'abort ok, cleanup ok', 'early expiry', '',
   'aborted', 'Task expired', NULL, NULL),
  -- the executor is gone
  ('executor lost | none | cleanup by another', 'procedure do call select', 'handler', 'cleanup ok, abort ok, cleanup fails', 'kill', '',
   'failure', 'executor lost', 'executor_lost', 'cleanup ok'),
  ('executor lost | requested | cleanup by another', 'sql plpgsql procedure', 'poll', 'cleanup 1, abort ok, cleanup 2', 'cancel, kill', '',
   'aborted', NULL, NULL, 'cleanup 2, cleanup 1'),
  ('executor lost | timed out | cleanup by another', 'sql plpgsql procedure', 'poll', 'cleanup 1, abort ok, cleanup 2', 'timeout, kill', '',
   'timed_out', 'Task timed out', NULL, 'cleanup 2, cleanup 1'),
  ('executor lost | revoked | cleanup by another', 'sql plpgsql procedure do call select', 'never', 'cleanup 1, abort ok, cleanup 2', 'revoke, terminate', '',
   'aborted', NULL, NULL, 'cleanup 2, cleanup 1');
-- attempts
INSERT INTO cases (label, kinds, mode, handlers, request, does, attempts, status, message, exception, effects) VALUES
  ('raises | none | ok, attempts remain', 'sql plpgsql procedure do call select', 'handler', 'cleanup ok', '', 'raise', 2,
   'failure, attempt 2', 'oops', 'raise_exception', 'cleanup ok, cleanup ok'),
  ('raises | none | a handler fails, attempts remain', 'sql plpgsql procedure do call select', 'handler', 'cleanup fails', '', 'raise', 2,
   'failure', 'oops | Cleanup handler failed: cleanup fails', 'raise_exception', NULL),
  ('returns | none | a handler fails, attempts remain', 'sql plpgsql procedure do call select', 'handler', 'cleanup fails', '', '', 2,
   'failure', 'Cleanup handler failed: cleanup fails', 'raise_exception', 'body'),
  ('raises | requested | ok, attempts remain', 'sql plpgsql procedure', 'handler', 'abort ok', 'cancel', 'raise', 2,
   'aborted', 'oops', 'raise_exception', 'abort ok'),
  ('executor lost | none | cleanup by another, runs again', 'sql plpgsql', 'handler', 'cleanup 1, cleanup 2', 'kill', '', 1,
   'success, attempt 2', NULL, NULL, 'cleanup 2, cleanup 1, body, cleanup 2, cleanup 1'),
  ('executor lost | none | cleanup by another, attempts remain', 'procedure do call select', 'handler', 'cleanup ok', 'kill', '', 2,
   'success, attempt 2', NULL, NULL, 'cleanup ok, body, cleanup ok');

-- test/modules/gtf_example runs all of it with tasks in C instead
\if :{?c_library}
SELECT count(gtf_register_task(kind || ' ' || mode, hook => :'c_library' || '.' || kind, library => :'c_library', abort => mode, retry_delay => '10 ms'))
  FROM unnest('{c,c_commits}'::text[]) kind, unnest('{handler,poll,interrupt,never}'::text[]) mode;
UPDATE cases SET kinds = concat_ws(' ', CASE WHEN kinds LIKE '%sql%' THEN 'c' END, CASE WHEN kinds LIKE '%procedure%' THEN 'c_commits' END);
DELETE FROM cases WHERE kinds = '';
\endif
-- not more at a time than there are executors; that some expire is known
SET client_min_messages = error;
DO $$
DECLARE
  c cases;
  kinds text[];
BEGIN
  FOR c IN SELECT * FROM cases ORDER BY id LOOP
    kinds := string_to_array(c.kinds, ' ');
    CALL run_case(c.id, kinds[1:3]);
    IF cardinality(kinds) > 3 THEN
      CALL run_case(c.id, kinds[4:]);
    END IF;
  END LOOP;
END $$;
RESET client_min_messages;

-- With which kinds of bodies a case ends as expected.
SELECT c.id, c.label, c.mode, c.handlers, c.status, string_agg(r.kind, ' ' ORDER BY position(r.kind IN c.kinds)) AS ok
  FROM cases c LEFT JOIN results r ON r.id = c.id AND
       (r.status, r.message, r.exception, r.effects) IS NOT DISTINCT FROM (c.status, c.message, c.exception, c.effects)
 GROUP BY c.id ORDER BY c.id;
-- And where it does not.
SELECT c.label, c.mode, c.handlers, c.request, c.does, r.*
  FROM results r JOIN cases c USING (id)
 WHERE (r.status, r.message, r.exception, r.effects) IS DISTINCT FROM (c.status, c.message, c.exception, c.effects)
 ORDER BY c.id;

-- The same when the session runs the task itself.  What is asked of it while
-- it runs is asked by a command that an executor runs: it holds the lock that
-- the body waits for.
INSERT INTO cases (label, kinds, mode, handlers, request, does, status, message, exception, effects) VALUES
  ('raises | revoked with SIGTERM, inline as SIGINT | ok', 'inline', 'never', 'abort ok, cleanup ok', 'revoke, terminate', '',
   'aborted', NULL, NULL, 'abort ok, cleanup ok'),
  ('returns | noticed: revoked with SIGTERM, inline as SIGINT | ok', 'inline', 'never', 'abort ok, cleanup ok', 'revoke, terminate', 'catch',
   'aborted', NULL, NULL, 'body, abort ok, cleanup ok');
CREATE PROCEDURE request(c int) LANGUAGE plpgsql AS $$
DECLARE
  this cases := (SELECT x FROM cases x WHERE x.id = c);
  task uuid;
BEGIN
  PERFORM pg_advisory_lock(c);
  COMMIT;
  -- until the body waits
  FOR n IN 1 .. 30000 LOOP
    EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = c AND NOT granted);
    -- or it has ended before that
    SELECT id INTO task FROM gtf.task_info WHERE execution_mode = 'sync' ORDER BY id DESC LIMIT 1;
    EXIT WHEN (SELECT ended_at FROM gtf_get_task(task)) > (SELECT created_at FROM gtf_get_task(gtf_task_id()));
    PERFORM pg_sleep(0.01);
  END LOOP;
  SELECT id INTO task FROM gtf.task_info WHERE execution_mode = 'sync' ORDER BY id DESC LIMIT 1;
  IF gtf_status(task) <> 'in_progress' THEN
    -- its time was over before
  ELSIF this.request = 'cancel' THEN
    PERFORM gtf_cancel(task);
  ELSIF this.request = 'revoke' THEN
    PERFORM gtf_revoke(task, true, 'SIGINT');
  ELSIF this.request = 'revoke, terminate' THEN
    PERFORM gtf_revoke(task, true);
  ELSIF this.request LIKE '%timeout' THEN
    FOR n IN 1 .. 30000 LOOP
      EXIT WHEN NOT EXISTS (SELECT FROM gtf_get_task(task) WHERE status = 'in_progress' AND (is_abortable OR NOT timeout_exceeded));
      PERFORM pg_sleep(0.01);
    END LOOP;
  END IF;
  COMMIT;
  -- its statement is cancelled, not let go
  IF this.request LIKE 'revoke%' OR this.request = 'hard timeout' OR (this.mode = 'interrupt' AND this.request <> '') THEN
    FOR n IN 1 .. 30000 LOOP
      EXIT WHEN NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = c AND NOT granted);
      PERFORM pg_sleep(0.01);
    END LOOP;
  END IF;
  PERFORM pg_advisory_unlock(c);
END $$;
CREATE TABLE asked (request uuid);
CREATE PROCEDURE before(c int, kind text, patience interval) LANGUAGE plpgsql AS $$
DECLARE
  this cases := (SELECT x FROM cases x WHERE x.id = c);
BEGIN
  IF this.request = 'hard timeout' THEN
    PERFORM gtf_set_timeout(kind || ' ' || this.mode, hard_timeout => patience);
  END IF;
  DELETE FROM asked;
  INSERT INTO asked SELECT gtf_submit_sql(format('CALL request(%s)', c));
  COMMIT;
  FOR n IN 1 .. 30000 LOOP
    EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = c AND granted);
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
CREATE PROCEDURE after(c int, run text) LANGUAGE plpgsql AS $$
DECLARE
  this cases := (SELECT x FROM cases x WHERE x.id = c);
  asking uuid := (SELECT request FROM asked);
  status text;
BEGIN
  IF this.request = 'hard timeout' THEN
    PERFORM gtf_set_timeout(run || ' ' || this.mode, hard_timeout => '0');
  END IF;
  CALL gtf_wait(asking, NULL, status);
  DELETE FROM results WHERE id = c AND kind = 'inline ' || run;
  INSERT INTO results
    SELECT c, 'inline ' || run, t.status, t.error_message, t.exception_type,
           (SELECT string_agg(what, ', ' ORDER BY seq) FROM effects WHERE task = t.id)
      FROM (SELECT * FROM gtf.task_info WHERE execution_mode = 'sync' ORDER BY id DESC LIMIT 1) t;
END $$;
CREATE VIEW inline_cases AS
  SELECT c.*, kind,
         EXISTS (SELECT FROM results r WHERE r.id = c.id AND r.kind = 'inline ' || k.kind AND
                 (r.status, r.message, r.exception, r.effects) IS NOT DISTINCT FROM (c.status, c.message, c.exception, c.effects)) AS ok
    FROM cases c, unnest('{plpgsql,procedure,do,c,c_commits}'::text[]) k (kind)
   WHERE c.attempts = 1 AND (c.kinds = 'inline' AND kind IN ('plpgsql', 'procedure') OR
                             c.request IN ('', 'cancel', 'revoke', 'timeout', 'hard timeout') AND kind = ANY (string_to_array(c.kinds, ' ')));
CREATE FUNCTION inline_calls(patience interval, again boolean) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT s FROM inline_cases c,
    LATERAL (VALUES
      (1, format('CALL before(%s, %L, %L)', id, kind, patience)),
      (2, CASE kind
          WHEN 'do' THEN format('CALL gtf_run(''sql'', jsonb_build_object(''command'', %L), timeout => %L)',
            format('DO $b$ BEGIN PERFORM prepare(%1$s); PERFORM hold(%1$s); PERFORM conclude(%1$s); END $b$', id),
            CASE WHEN request = 'timeout' THEN patience ELSE '0' END)
          ELSE format('CALL gtf_run(%L, %L, timeout => %L)', kind || ' ' || mode, jsonb_build_object('c', id),
            CASE WHEN request = 'timeout' THEN patience ELSE '0' END)
        END),
      (3, format('CALL after(%s, %L)', id, kind))) v (n, s)
   WHERE NOT again OR (NOT ok AND request LIKE '%timeout')
   ORDER BY id, kind, n
$$;
SET client_min_messages = error; -- handlers that fail say so
\o /dev/null
\set echoed :ECHO
\set ECHO none
SELECT inline_calls('0.3 s', false) \gexec
-- if the time was over too early: once more with more of it
SELECT inline_calls('3 s', true) \gexec
SELECT inline_calls('20 s', true) \gexec
\o
\set ECHO :echoed
RESET client_min_messages;
SELECT id, label, mode, status, string_agg(kind, ' ' ORDER BY position(kind IN kinds), kind) FILTER (WHERE ok) AS ok
  FROM inline_cases GROUP BY id, label, mode, status ORDER BY id;
SELECT c.label, c.mode, c.handlers, c.request, c.does, r.*
  FROM results r JOIN inline_cases c ON c.id = r.id AND r.kind = 'inline ' || c.kind
 WHERE NOT c.ok
 ORDER BY c.id;
-- Nothing is left in the session.
SELECT gtf_task_id(), gtf_is_aborting(), (SELECT count(*) FROM gtf.live) AS live, (SELECT count(*) FROM gtf.abort_requests) AS requests,
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks;

DROP VIEW inline_cases;
DROP TABLE cases, effects, children, parents, results, asked;
DROP FUNCTION handle, prepare, hold, conclude, body_sql, body_plpgsql, inline_calls;
DROP PROCEDURE body_procedure, run_case, request, before, after;
DROP EXTENSION gtf;
