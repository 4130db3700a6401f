-- The views for psql: what they show, and that they are not too wide.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_a_name_that_is_rather_long_for_a_role;
SELECT d, gtf._humane(d) FROM unnest('{0,1 ms,999.9 ms,1 s,59.99 s,60 s,3599 s,1 h,23:59:59,1 day,400 days 5 hours,-1 s,NULL}'::interval[]) d;
SELECT gtf._short('short', 5), gtf._short('longer', 5), gtf._short(E'two\n  lines', 20), gtf._short(NULL, 5) IS NULL AS none;

CREATE FUNCTION show(n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM gtf_update_progress(n, 1000000); PERFORM gtf_sleep('1000 s'); END$$;
CREATE FUNCTION boom() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION E'a message\nof more than one line, and long'; END$$;
SELECT gtf_register_task('show', 'show(int)', abort => 'poll'), gtf_register_task('boom', 'boom()');
SET ROLE regress_gtf_a_name_that_is_rather_long_for_a_role;
SELECT gtf_submit('boom', task_name => 'a name that is too long for a column') AS boom \gset
CALL gtf_wait(:'boom');
SELECT gtf_submit('show', '{"n": 456789}') AS running \gset
DO $$
BEGIN
  WHILE NOT EXISTS (SELECT FROM gtf.task_info WHERE progress_current IS NOT NULL) LOOP
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
SELECT gtf_submit('boom', delay => '2 days') AS later \gset
SELECT gtf_submit('boom', delay => '2 days', queue => 'a queue with a name that is long') AS queued \gset
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir /docs/monitoring/psqlrc
\i :file
\pset format unaligned
SELECT task, status, time IS NOT NULL AS time, what FROM gtf.show_tasks;
:queues
SELECT kind, role, state, task, time IS NOT NULL AS time, progress, up IS NOT NULL AS up FROM gtf.show_workers WHERE kind <> 'executor' OR role IS NOT NULL AND task IS NOT NULL;
\o /dev/null
:tasks
:workers
\o
\pset format aligned
-- as psql shows them
CREATE TEMP VIEW cells AS
  SELECT 'tasks' AS view, key, value FROM gtf.show_tasks s, jsonb_each_text(to_jsonb(s))
  UNION ALL SELECT 'workers', key, value FROM gtf.show_workers s, jsonb_each_text(to_jsonb(s))
  UNION ALL SELECT 'queues', key, value FROM gtf.show_queues s, jsonb_each_text(to_jsonb(s));
SELECT view, sum(width + 3) - 1 <= 120 AS narrow FROM (SELECT view, key, greatest(length(key), max(length(value))) AS width FROM cells GROUP BY 1, 2) c GROUP BY 1 ORDER BY 1;
DROP VIEW cells;
SELECT gtf_cancel(:'running');
CALL gtf_wait(:'running');
RESET ROLE;
DROP EXTENSION gtf CASCADE;
DROP FUNCTION boom, show;
DROP ROLE regress_gtf_a_name_that_is_rather_long_for_a_role;
