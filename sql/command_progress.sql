-- Ad-hoc commands show the progress that the server reports of them, to
-- whoever sees the task.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_owner;
CREATE ROLE regress_gtf_other;
GRANT CREATE, USAGE ON SCHEMA public TO regress_gtf_owner;
GRANT pg_read_server_files, pg_execute_server_program TO regress_gtf_owner;

-- one row on each of 50 pages
CREATE TABLE t (n int, filler text) WITH (fillfactor = 10, autovacuum_enabled = off);
ALTER TABLE t ALTER filler SET STORAGE PLAIN, OWNER TO regress_gtf_owner;
INSERT INTO t SELECT n, repeat('x', 7000) FROM generate_series(1, 50) n;

-- Waits at a row for lock 1.
CREATE FUNCTION halt_at(n int, at int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF n = at THEN
    PERFORM pg_advisory_lock_shared(1);
    PERFORM pg_advisory_unlock_shared(1);
  END IF;
  RETURN n;
END $$;

CREATE PROCEDURE until_held() LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 10000 LOOP
    EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted);
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;

CREATE FUNCTION shown(task_id uuid) RETURNS TABLE (
  status text, current bigint, total bigint, percent int, progress_text text, progress_bar text, eta interval)
LANGUAGE sql AS $$
  SELECT status, progress_current, progress_total, progress_percent, progress_text, progress_bar, eta
    FROM gtf.task_info WHERE id = shown.task_id
$$;

-- As seen by the owner while the command is held, then afterwards.
SET ROLE regress_gtf_owner;
SELECT count(pg_advisory_lock(1));
SELECT gtf_submit_sql('CREATE INDEX i ON t (halt_at(n, 26))') AS id \gset
CALL until_held();
SELECT * FROM shown(:'id');
SELECT properties - 'is_abortable' AS properties FROM gtf_get_task(:'id');
-- nobody else's
SET ROLE regress_gtf_other;
SELECT * FROM shown(:'id');
SET ROLE regress_gtf_owner;
SELECT pg_advisory_unlock(1);
CALL gtf_wait(:'id');
SELECT * FROM shown(:'id');

-- CREATE INDEX CONCURRENTLY: builds, waits for transactions, and so on.
CREATE PROCEDURE until_progress(task_id uuid, pattern text) LANGUAGE plpgsql AS $$
BEGIN
  FOR n IN 1 .. 10000 LOOP
    EXIT WHEN (SELECT i.progress_text LIKE pattern FROM gtf.task_info i WHERE i.id = task_id);
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
SELECT pg_advisory_lock(1) IS NULL AS locked;
SELECT gtf_submit_sql('CREATE INDEX CONCURRENTLY j ON t (halt_at(n, 11))') AS id \gset
CALL until_held();
SELECT * FROM shown(:'id');
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
SELECT pg_advisory_unlock(1);
CALL until_progress(:'id', '% of 1 %');
SELECT * FROM shown(:'id');
COMMIT;
CALL gtf_wait(:'id');
DROP INDEX j;

-- ANALYZE: the sample is complete when the expression is looked at.
SELECT pg_advisory_lock(1) IS NULL AS locked;
SELECT gtf_submit_sql('ANALYZE t') AS id \gset
CALL until_held();
SELECT * FROM shown(:'id');
SELECT pg_advisory_unlock(1);
CALL gtf_wait(:'id');

-- VACUUM FULL: all rows are written when the index is built.
SELECT pg_advisory_lock(1) IS NULL AS locked;
SELECT gtf_submit_sql('VACUUM FULL t') AS id \gset
CALL until_held();
SELECT * FROM shown(:'id');
SELECT pg_advisory_unlock(1);
CALL gtf_wait(:'id');
DROP INDEX i;

-- VACUUM: waits for a page that a cursor is at.
CREATE TABLE v (LIKE t INCLUDING STORAGE) WITH (autovacuum_enabled = off);
INSERT INTO v SELECT n, repeat('x', 7000) FROM generate_series(1, 50) n;
CREATE PROCEDURE vacuum() LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock_shared(1);
  SELECT gtf_submit_sql('VACUUM (FREEZE) v', task_name => 'vacuum');
$$;
SELECT pg_advisory_lock(1) IS NULL AS locked;
SELECT gtf_submit_sql('CALL vacuum()') IS NULL AS unknown;
BEGIN;
DECLARE c CURSOR FOR SELECT n FROM v;
MOVE 31 IN c;
SELECT pg_advisory_unlock(1);
DO $$ BEGIN FOR n IN 1 .. 10000 LOOP
  EXIT WHEN EXISTS (SELECT FROM gtf.task_info i WHERE task_name = 'vacuum' AND progress_current >= 29);
  PERFORM pg_sleep(0.01); END LOOP; END $$;
SELECT id FROM gtf.task_info WHERE task_name = 'vacuum' \gset
SELECT status, current BETWEEN 29 AND 31 AS at_the_cursor, total, percent IN (58, 60, 62) AS percent, eta FROM shown(:'id');
COMMIT;
CALL gtf_wait(:'id');

-- COPY: of an unknown size, and of a known one.
CREATE TABLE copied (line text);
CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_lock_shared(1);
  PERFORM pg_advisory_unlock_shared(1);
  RETURN NULL;
END $$;
CREATE TRIGGER halt AFTER INSERT ON copied EXECUTE FUNCTION halt();
SELECT pg_advisory_lock(1) IS NULL AS locked;
SELECT gtf_submit_sql($$COPY copied FROM PROGRAM 'seq 3'$$) AS id \gset
CALL until_held();
SELECT * FROM shown(:'id');
SELECT pg_advisory_unlock(1);
CALL gtf_wait(:'id');
SELECT pg_advisory_lock(1) IS NULL AS locked;
SELECT gtf_submit_sql($$COPY copied FROM 'PG_VERSION'$$) AS id \gset
CALL until_held();
SELECT status, total > 0 AS known, current = total AS complete, percent, progress_bar, eta FROM shown(:'id');
SELECT pg_advisory_unlock(1);
CALL gtf_wait(:'id');

-- What the body reports itself comes first.
CREATE FUNCTION report() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  PERFORM gtf_update_progress(3, 4);
  RETURN 1;
END $$;
SELECT pg_advisory_lock(1) IS NULL AS locked;
SELECT gtf_submit_sql('DO $$ BEGIN PERFORM report(); CREATE INDEX i ON t (halt_at(n, 26)); END $$') AS id \gset
CALL until_held();
SELECT status, progress_text, eta > '0' AS eta FROM gtf_get_task(:'id');
SELECT pg_advisory_unlock(1);
CALL gtf_wait(:'id');
SELECT * FROM shown(:'id');
DROP INDEX i;

-- Other types of tasks show what they report and nothing else.
CREATE FUNCTION create_index() RETURNS void LANGUAGE sql AS 'CREATE INDEX i ON t (halt_at(n, 26))';
RESET ROLE;
SELECT gtf_register_task('create_index', 'create_index()');
SET ROLE regress_gtf_owner;
SELECT pg_advisory_lock(1) IS NULL AS locked;
SELECT gtf_submit('create_index') AS id \gset
CALL until_held();
SELECT * FROM shown(:'id');
SELECT pg_advisory_unlock(1);
CALL gtf_wait(:'id');
RESET ROLE;

DROP EXTENSION gtf;
DROP TABLE t, v, copied;
DROP FUNCTION halt_at, shown, halt, report, create_index;
DROP PROCEDURE until_held, until_progress, vacuum;
REVOKE CREATE, USAGE ON SCHEMA public FROM regress_gtf_owner;
DROP ROLE regress_gtf_owner, regress_gtf_other;
