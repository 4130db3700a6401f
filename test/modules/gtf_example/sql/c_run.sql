-- Tasks in C that the session runs itself: what they leave behind is not for
-- the session.
CREATE EXTENSION gtf;
CREATE TABLE effects (what text);
CREATE TABLE hooks AS
  SELECT n, name FROM unnest('{fails,subtransaction,aborted,commit,snapshot,no_snapshot,spi,no_spi,user,guc,holdoff,lwlock,critical,parallel,in_try,error_context,resource_owner,callback_leaves,no_result,memory,rollback_all,end_transaction,next_transaction}'::text[])
    WITH ORDINALITY h (name, n);
INSERT INTO hooks
  SELECT n + 100, name || ' commits' FROM hooks WHERE name NOT IN ('resource_owner', 'end_transaction');
SELECT count(gtf_register_task(name, hook => 'gtf_failures.' || name, library => 'gtf_failures')) FROM hooks;
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only

-- as a statement of its own; ids are not to be seen
SET client_min_messages = error;
\o /dev/null
SELECT format('CALL gtf_run(%L)', name) FROM hooks WHERE n < 100 ORDER BY n
\gexec
SELECT format('CALL gtf_run(%L)', name) FROM hooks WHERE n > 100 ORDER BY n
\gexec
\o
-- the dispatcher ends those whose session could not
DO $$
BEGIN
  FOR n IN 1 .. 30000 LOOP
    EXIT WHEN NOT EXISTS (SELECT FROM gtf.task_info WHERE ended_at IS NULL);
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
SELECT task_type, status, error_message, stack_trace FROM gtf.task_info ORDER BY id;
SELECT what FROM effects ORDER BY 1;
SHOW work_mem;
SELECT current_user = session_user;

-- in a transaction block
DELETE FROM effects;
SELECT count(*) AS before FROM gtf.task_info \gset
\o /dev/null
SELECT s FROM hooks, LATERAL (VALUES
    (1, 'BEGIN'), (2, format('CALL gtf_run(%L)', name)), (3, 'SELECT count(*) FROM pg_class WHERE relname = ''effects'''), (4, 'COMMIT')) v (i, s)
  WHERE n < 100 AND name <> 'rollback_all' ORDER BY n, i
\gexec
\o
SELECT task_type, status, error_message, stack_trace FROM gtf.task_info ORDER BY id OFFSET :before;
SELECT what FROM effects ORDER BY 1;
\o /dev/null
BEGIN;
CALL gtf_run('commit commits');
COMMIT;
-- the transaction of the caller is gone
BEGIN;
CALL gtf_run('rollback_all');
COMMIT;
\o
SELECT 'the session goes on';

\pset format aligned
\pset tuples_only
DROP TABLE effects, hooks;
DROP EXTENSION gtf;
