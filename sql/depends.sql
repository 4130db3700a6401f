-- depends_on: a task starts when all its prerequisites have succeeded, and
-- fails when one of them ends otherwise.
CREATE EXTENSION gtf;
CREATE TABLE ran (seq serial, name text);
GRANT ALL ON ran, ran_seq_seq TO PUBLIC;
-- writes its name, waits for the gate if it has one, and fails if it shall
CREATE FUNCTION step(gate int DEFAULT NULL, fails boolean DEFAULT false) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ran (name) SELECT task_name FROM gtf_context();
	PERFORM pg_advisory_xact_lock_shared(gate) WHERE gate IS NOT NULL;
	IF fails THEN RAISE EXCEPTION 'as it should'; END IF;
	PERFORM gtf_update_payload(to_jsonb(task_name || '''s payload')) FROM gtf_context();
	RETURN (SELECT jsonb_agg(concat_ws(', ', (SELECT task_name FROM gtf_get_task(r.task_id)), r.task_type, r.status, r.payload, r.result)
			ORDER BY n) FROM gtf_dependency_results() WITH ORDINALITY AS r (task_id, task_type, status, payload, result, n));
END $$;
SELECT gtf_register_task('step', 'step(int,boolean)', retry_delay => '1 ms');
-- the tasks by their names
CREATE FUNCTION ids(VARIADIC names text[]) RETURNS uuid[] LANGUAGE sql AS $$
	SELECT array_agg((SELECT id FROM gtf.task_info WHERE task_name = name) ORDER BY n)
	FROM unnest(names) WITH ORDINALITY AS _ (name, n) $$;
CREATE FUNCTION id(name text) RETURNS uuid LANGUAGE sql AS 'SELECT id FROM gtf.task_info WHERE task_name = name';
CREATE VIEW tasks AS
	SELECT task_name AS name, status, wait_reason AS waits, result,
		regexp_replace(error_message, '[0-9a-f]{8}-[0-9a-f-]{27}', coalesce((
			SELECT task_name FROM gtf.task_info p
			WHERE p.id = substring(t.error_message, '[0-9a-f]{8}-[0-9a-f-]{27}')::uuid), '<id>')) AS error,
		exception_type AS condition, attempt, started_at IS NOT NULL AS started
	FROM gtf.task_info t;
CREATE PROCEDURE until_ended(VARIADIC names text[]) LANGUAGE plpgsql AS $$
DECLARE s text[];
BEGIN CALL gtf_wait_all(ids(VARIADIC names), '60 s', s); END $$;
CREATE PROCEDURE until_status(wanted text, VARIADIC names text[]) LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM tasks WHERE name = ANY (names) AND status <> wanted) LOOP
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
CREATE PROCEDURE next_part() LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	CALL gtf_prune('0', NULL, n);
	TRUNCATE ran;
END $$;

-- two that run, one that waits for both; and one for that
SELECT pg_advisory_lock(1);
SELECT pg_advisory_lock(2);
SELECT FROM gtf_submit('step', '{"gate": 1}', task_name => 'a');
SELECT FROM gtf_submit('step', '{"gate": 2}', task_name => 'b');
SELECT FROM gtf_submit('step', task_name => 'c', depends_on => ids('b', 'a', 'b'));
SELECT FROM gtf_submit('step', task_name => 'd', depends_on => ids('c'));
SELECT FROM gtf_submit('step', task_name => 'e', depends_on => '{}');
CALL until_status('in_progress', 'a', 'b');
CALL until_ended('e');
SELECT name, status, waits FROM tasks ORDER BY 1;
SELECT depends_on = ids('b', 'a') AS each_once, queue_time FROM gtf_get_task(id('c'));
SELECT ready, scheduled, in_progress FROM gtf.queues;
SELECT pg_advisory_unlock(1);
CALL until_ended('a');
SELECT name, status, waits FROM tasks ORDER BY 1;
SELECT pg_advisory_unlock(2);
CALL until_ended('d');
SELECT name, status, result FROM tasks ORDER BY 1;
SELECT name FROM ran WHERE name IN ('c', 'd') ORDER BY seq;
SELECT depends_on = ids('b', 'a') AS still_there FROM gtf_get_task(id('c'));
-- prerequisites that have ended
SELECT FROM gtf_submit('step', task_name => 'f', depends_on => ids('a', 'd'));
CALL until_ended('f');
SELECT name, status, result FROM tasks WHERE name = 'f';
CALL next_part();

-- the first that fails decides, at once, and for those that wait for it, too
SELECT pg_advisory_lock(1);
SELECT FROM gtf_submit('step', '{"gate": 1}', task_name => 'a');
SELECT FROM gtf_submit('step', '{"gate": 1}', task_name => 'b', delay => '1 h');
SELECT FROM gtf_submit('step', '{"fails": true}', task_name => 'c', delay => '0.2 s');
SELECT FROM gtf_submit('step', task_name => 'd', depends_on => ids('a', 'b', 'c'));
SELECT FROM gtf_submit('step', task_name => 'e', depends_on => ids('d', 'a'));
SELECT FROM gtf_submit('step', task_name => 'f', depends_on => ids('b', 'e'), max_attempts => 3);
CALL until_ended('f');
SELECT name, status, error, condition, attempt, started FROM tasks WHERE name IN ('d', 'e', 'f') ORDER BY 1;
SELECT FROM gtf_submit('step', task_name => 'g', depends_on => ids('a', 'c'));
CALL until_ended('g');
SELECT name, status, error FROM tasks WHERE name = 'g';
-- retried, it is another matter only for those that are retried, too
SELECT count(*) FROM gtf.task_info, gtf_retry(id) WHERE task_name IN ('c', 'd', 'e', 'f');
CALL until_ended('e', 'f');
SELECT name, status, error, attempt FROM tasks WHERE name IN ('c', 'd', 'e', 'f', 'g') ORDER BY 1;
SELECT outcome FROM gtf_cancel(ids('b'));
SELECT pg_advisory_unlock(1);
CALL until_ended('a');
SELECT name FROM ran WHERE name NOT IN ('a', 'c');
CALL next_part();

-- ... an attempt that is followed by another one does not decide
CREATE FUNCTION second_try() RETURNS int LANGUAGE plpgsql AS $$
DECLARE n int := (SELECT attempt FROM gtf_context());
BEGIN IF n = 1 THEN RAISE EXCEPTION 'once'; END IF; RETURN n; END $$;
SELECT gtf_register_task('second_try', 'second_try()', retry_delay => '1 ms', max_attempts => 2);
SELECT FROM gtf_submit('second_try', task_name => 'a');
SELECT FROM gtf_submit('second_try', task_name => 'b', depends_on => ids('a'));
SELECT FROM gtf_submit('step', task_name => 'c', depends_on => ids('b', 'a'));
CALL until_ended('c');
SELECT name, status, result, attempt FROM tasks ORDER BY 1;
CALL next_part();

-- a prerequisite succeeds when it is retried: those that have failed stay so
-- until they are retried, too
CREATE FUNCTION permitted() RETURNS int LANGUAGE plpgsql AS $$
BEGIN IF NOT EXISTS (SELECT FROM ran WHERE name = 'permit') THEN RAISE EXCEPTION 'not permitted'; END IF; RETURN 1; END $$;
SELECT gtf_register_task('permitted', 'permitted()');
SELECT FROM gtf_submit('permitted', task_name => 'a');
SELECT FROM gtf_submit('step', task_name => 'b', depends_on => ids('a'));
SELECT FROM gtf_submit('step', task_name => 'c', depends_on => ids('b'));
CALL until_ended('c');
INSERT INTO ran (name) VALUES ('permit');
SELECT gtf_retry(id('a'));
CALL until_ended('a');
SELECT name, status FROM tasks ORDER BY 1;
SELECT gtf_retry(id('b'));
CALL until_ended('b');
SELECT name, status, result, attempt FROM tasks ORDER BY 1;
SELECT gtf_retry(id('c'));
CALL until_ended('c');
SELECT name, status, result, attempt FROM tasks ORDER BY 1;
CALL next_part();

-- the other ways to end
SELECT FROM gtf_submit('step', task_name => 'cancelled', delay => '1 h');
SELECT FROM gtf_submit_sql('SELECT pg_sleep(600)', task_name => 'timed out', timeout => '20 ms');
SELECT FROM gtf_submit('step', task_name => 'expired', delay => '1 h', expires_at => clock_timestamp() + interval '0.2 s');
SELECT FROM gtf_submit('step', task_name => 'a', depends_on => ids('cancelled'));
SELECT FROM gtf_submit('step', task_name => 'b', depends_on => ids('timed out'));
SELECT FROM gtf_submit('step', task_name => 'c', depends_on => ids('expired'));
SELECT gtf_cancel(id('cancelled'));
CALL until_ended('a', 'b', 'c');
SELECT name, status, error FROM tasks WHERE name IN ('a', 'b', 'c') ORDER BY 1;
SELECT name FROM ran;
CALL next_part();

-- the one that waits is cancelled, expires, has a time, a key
SELECT FROM gtf_submit('step', task_name => 'a', delay => '1 h');
SELECT FROM gtf_submit('step', task_name => 'b', depends_on => ids('a'));
SELECT FROM gtf_submit('step', task_name => 'c', depends_on => ids('b'));
SELECT FROM gtf_submit('step', task_name => 'd', depends_on => ids('a'), expires_at => clock_timestamp() + interval '1 s');
SELECT FROM gtf_submit('step', task_name => 'e', depends_on => ids('d', 'a'));
SELECT FROM gtf_submit('step', task_name => 'f', depends_on => ids('a'), delay => '1 h');
SELECT gtf_submit('step', '{}', 'key', 'g', depends_on => ids('a')) = gtf_submit('step', '{}', 'key', 'h') AS joined;
SELECT gtf_cancel(id('b'));
CALL until_ended('c', 'd', 'e');
SELECT name, status, waits, error FROM tasks ORDER BY 1;
-- in the transaction that cancels
BEGIN;
SELECT gtf_cancel(id('a'));
SELECT FROM gtf_submit('step', task_name => 'i', depends_on => ids('a'));
COMMIT;
CALL until_ended('f', 'g', 'i');
SELECT name, status, error FROM tasks WHERE name IN ('f', 'g', 'i') ORDER BY 1;
SELECT name FROM ran;
CALL next_part();

-- what is submitted in one transaction, and undone
BEGIN;
SELECT gtf_submit('step', task_name => 'a') AS a \gset
SELECT gtf_submit('step', task_name => 'b', depends_on => ARRAY[gtf_submit('step', task_name => 'c'), :'a']) AS b \gset
SAVEPOINT s;
SELECT gtf_submit('step', task_name => 'd') AS d \gset
SELECT gtf_submit('step', task_name => 'e', depends_on => ARRAY[:'d']::uuid[]) AS e \gset
ROLLBACK TO s;
SELECT gtf_submit('step', task_name => 'f', depends_on => ARRAY[:'b']::uuid[]) AS f \gset
COMMIT;
CALL until_ended('f');
SELECT name, status, result FROM tasks ORDER BY 1;
SELECT count(*) FROM gtf.dependents;
CALL next_part();
SELECT count(*) FROM gtf.dependents;

-- many, and commands
SELECT FROM gtf_submit('step', task_name => 'a', delay => '0.1 s');
SELECT FROM gtf_submit_sql('INSERT INTO ran (name) SELECT string_agg(status, '','') FROM gtf_dependency_results()',
	task_name => 'b', depends_on => ids('a'));
SELECT count(*) FROM gtf_submit_many('step', array_fill('{}'::jsonb, ARRAY[3]), task_name => 'c', depends_on => ids('a', 'b'));
DO $$ DECLARE s text[]; ids uuid[] := ARRAY(SELECT id FROM gtf.task_info WHERE task_name = 'c'); BEGIN CALL gtf_wait_all(ids, '60 s', s); END $$;
SELECT name FROM ran ORDER BY seq;
CALL next_part();

-- what somebody waits for is not removed
SELECT FROM gtf_submit('step', task_name => 'a');
SELECT FROM gtf_submit('step', '{"fails": true}', task_name => 'b');
SELECT FROM gtf_submit('step', task_name => 'c', delay => '1 h');
CALL until_ended('a', 'b');
SELECT FROM gtf_submit('step', task_name => 'd', depends_on => ids('a', 'c'));
SELECT FROM gtf_submit('step', task_name => 'e', depends_on => ids('a', 'b'));
CALL until_ended('e');
SELECT FROM gtf_submit('step', task_name => 'f');
CALL until_ended('f');
CALL gtf_prune('0', 2);
SELECT name, status FROM tasks ORDER BY 1;
CALL gtf_prune('0');
SELECT name, status FROM tasks ORDER BY 1;
SELECT gtf_cancel(id('d'));
SELECT gtf_cancel(id('c'));
CALL gtf_prune('0', 1);
\set VERBOSITY sqlstate
SELECT gtf_retry(id('d'));
\set VERBOSITY default
CALL next_part();

-- arguments
SELECT gtf_submit('step', depends_on => ARRAY[NULL]::uuid[]);
SELECT gtf_submit('step', depends_on => '{{01a200e6-be1c-79df-b2de-d75539076018}, {01a200e6-be1c-79df-b2de-d75539076018}}');
SELECT gtf_submit('step', depends_on => '{01a200e6-be1c-79df-b2de-d75539076018}');
SELECT gtf_submit_sql('SELECT 1', depends_on => '{01a200e6-be1c-79df-b2de-d75539076018}');
SELECT gtf_submit_many('step', '{"{}"}', depends_on => '{01a200e6-be1c-79df-b2de-d75539076018}');
SELECT gtf_dependency_results();
CREATE ROLE regress_gtf_depends;
SELECT FROM gtf_submit('step', task_name => 'a');
SELECT format('{%s}', id('a')) AS a \gset
SET ROLE regress_gtf_depends;
\set VERBOSITY sqlstate
SELECT gtf_submit('step', depends_on => :'a');
\set VERBOSITY default
SELECT * FROM gtf.dependents;
RESET ROLE;
-- one's own that became somebody else's matter
SET ROLE regress_gtf_depends;
SET gtf.app_user = 'one';
SELECT gtf_submit('step', task_name => 'b') AS b \gset
SELECT gtf_submit('step', task_name => 'c', depends_on => ARRAY[:'b']::uuid[]) AS c \gset
SET gtf.app_user = 'two';
\set VERBOSITY sqlstate
SELECT gtf_submit('step', depends_on => ARRAY[:'c']::uuid[]);
\set VERBOSITY default
RESET gtf.app_user;
RESET ROLE;
CALL until_ended('c');
SELECT name, status, result FROM tasks WHERE name = 'c';
DROP VIEW tasks;
DROP FUNCTION id, ids, step, second_try, permitted;
DROP PROCEDURE next_part, until_ended, until_status;
DROP EXTENSION gtf;
DROP TABLE ran;
DROP ROLE regress_gtf_depends;
