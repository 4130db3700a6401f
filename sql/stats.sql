-- Figures and events of tasks, and who may read them.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_alice;
CREATE ROLE regress_gtf_bob;
CREATE FUNCTION add(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a + b';
CREATE FUNCTION boom(a int) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'boom %', a USING DETAIL = 'a secret'; END$$;
CREATE FUNCTION slow() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(1000)';
CREATE FUNCTION hold(a int) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(1000 * a)';
SELECT gtf_register_task('add', 'add(int,int)'), gtf_register_task('boom', 'boom(int)', retry_delay => '0.01 s', max_attempts => 2),
       gtf_register_task('slow', 'slow()', timeout => '0.1 s', abort => 'interrupt'), gtf_register_task('hold', 'hold(int)', abort => 'interrupt');
CREATE FUNCTION await(task_id uuid, state text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 30000 LOOP
    EXIT WHEN gtf_status(task_id) = state;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN gtf_status(task_id);
END $$;
-- what the counters say, as a difference
CREATE TEMP TABLE before AS SELECT name, labels, value FROM gtf.stats;
SELECT now() AS since \gset

SET ROLE regress_gtf_alice;
SELECT gtf_submit('add', '{"a": 1}', queue => 'sums') AS added \gset
CALL gtf_wait(:'added');
SELECT gtf_submit('boom', '{"a": 1}') AS failed \gset
CALL gtf_wait(:'failed');
SELECT gtf_submit('slow') AS slow \gset
CALL gtf_wait(:'slow');
SELECT gtf_submit('add', '{"a": 2}', delay => '1 hour') AS later \gset
SELECT gtf_submit('add', '{"a": 3}', delay => '1 hour') AS cancelled \gset
SELECT gtf_cancel(:'cancelled');
SELECT gtf_submit('add', '{"a": 4}', run_at => now() + interval '1 hour', expires_at => clock_timestamp() + interval '0.1 s') AS expired \gset
CALL gtf_wait(:'expired');
SELECT gtf_submit('hold', '{"a": 1}') AS stopped \gset
SELECT await(:'stopped', 'in_progress');
SELECT gtf_cancel(:'stopped');
CALL gtf_wait(:'stopped');
SELECT gtf_submit('hold', '{"a": 1}') AS running \gset
SELECT await(:'running', 'in_progress');
RESET ROLE;
SELECT gtf_submit('add', '{"a": 5}') AS others \gset
CALL gtf_wait(:'others');

-- Figures by type, of everybody, for everybody.
SET ROLE regress_gtf_bob;
SELECT task_type, total, pending, in_progress AS running, success, failure, aborted, timed_out, success_rate AS rate,
       runtime_min <= runtime_avg AND runtime_avg <= runtime_max AND runtime_p50 <= runtime_p95 AND runtime_p95 <= runtime_p99 AND runtime_p99 <= runtime_max AS runtimes,
       queue_time_avg >= '0' AS queued
  FROM gtf_task_stats(:'since');
SELECT runtime_min >= '0.1 s' AND runtime_min = runtime_p99 AS timed_out FROM gtf_task_stats() WHERE task_type = 'slow';
SELECT count(*) AS never FROM gtf_task_stats('-infinity', '2000-01-01');
SELECT count(*) AS not_yet FROM gtf_task_stats(now() + interval '1 day', 'infinity');
SELECT sum(total) AS ever FROM gtf_task_stats('-infinity', 'infinity');
SELECT count(*) AS without_bounds FROM gtf_task_stats(NULL, NULL);
RESET ROLE;

-- Counters; adopting tasks is not submitting them.
SELECT gtf_adopt();
SELECT s.name, s.value - b.value AS more FROM gtf.stats s JOIN before b USING (name, labels)
 WHERE name LIKE 'tasks%' OR name LIKE 'attempts%' OR name = 'runtime_seconds_count' ORDER BY 1;
SELECT s.labels->>'le' AS le, s.labels->>'database' = current_database() AS here, s.value - b.value >= lag(s.value - b.value, 1, 0) OVER () AS cumulative,
       CASE s.labels->>'le' WHEN '0.1' THEN s.value - b.value < 9 WHEN '3600' THEN s.value - b.value = 6 WHEN '+Inf' THEN s.value - b.value = 6 END AS count
  FROM gtf.stats s JOIN before b USING (name, labels) WHERE name = 'runtime_seconds_bucket'
 ORDER BY (s.labels->>'le')::float8;
SELECT s.value - b.value BETWEEN 0.1 AND 600 AS sum FROM gtf.stats s JOIN before b USING (name, labels) WHERE name = 'runtime_seconds_sum';

-- Events: none while they are off.
SELECT count(*) FROM gtf.task_events;
ALTER SYSTEM SET gtf.event_log = on;
SELECT pg_reload_conf();
-- sessions read it between two statements
\set ECHO none
\o /dev/null
SELECT $$SELECT pg_sleep(CASE WHEN current_setting('gtf.event_log') = 'on' THEN 0 ELSE 0.05 END)$$ FROM generate_series(1, 1000) \gexec
\o
\set ECHO all
\c -
SET ROLE regress_gtf_alice;
CREATE TEMP TABLE names (task_id uuid, task text);
INSERT INTO names VALUES (:'added', 'added'), (:'failed', 'failed'), (:'slow', 'slow'), (:'later', 'later'), (:'cancelled', 'cancelled'),
  (:'expired', 'expired'), (:'stopped', 'stopped'), (:'running', 'running'), (:'others', 'others');
SELECT task, string_agg(type, ' ' ORDER BY seq) AS events, bool_and((worker IS NULL) = (type = 'sent' OR task IN ('cancelled', 'expired'))) AS worker
  FROM gtf.task_events JOIN names USING (task_id) GROUP BY task ORDER BY min(seq);
SELECT bool_and(at >= before) AS in_time, count(DISTINCT (seq, task_id)) = count(*) AS distinct
  FROM (SELECT *, lag(at, 1, at) OVER (ORDER BY seq) AS before FROM gtf.task_events) e;
-- with the fields of Celery's
SELECT type, string_agg(DISTINCT key, ' ' ORDER BY key) AS fields FROM gtf.task_events, jsonb_object_keys(data) key GROUP BY 1 ORDER BY 1;
SELECT type, data - '{uuid,timestamp,hostname,pid,runtime}'::text[] AS data, data->>'uuid' = task_id::text AS uuid, (data->>'timestamp')::numeric = extract(epoch FROM at) AS timestamp,
       data->>'hostname' IS NOT DISTINCT FROM worker AS hostname
  FROM gtf.task_events WHERE task_id IN (:'added', :'failed') ORDER BY seq;
SELECT task, data->'terminated' AS terminated, data->'expired' AS expired FROM gtf.task_events JOIN names USING (task_id) WHERE type = 'revoked' ORDER BY seq;
SELECT data->>'exception' AS exception FROM gtf.task_events WHERE task_id = :'slow' AND type = 'failed';
-- of tasks that one sees
SET ROLE regress_gtf_bob;
SELECT count(*) FROM gtf.task_events;
RESET ROLE;
SELECT count(*) FROM gtf.task_events WHERE task_id = :'others';
SELECT data->>'traceback' LIKE '%a secret%' AS traceback FROM gtf.task_events WHERE task_id = :'failed' AND type = 'failed';
ALTER SYSTEM RESET gtf.event_log;
SELECT pg_reload_conf();

DROP TABLE names;
SELECT gtf_cancel(:'running');
CALL gtf_wait(:'running');
DROP EXTENSION gtf CASCADE;
DROP FUNCTION add, boom, slow, hold, await;
DROP ROLE regress_gtf_alice, regress_gtf_bob;
