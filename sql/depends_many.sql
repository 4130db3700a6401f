-- depends_on with many: 10,000 tasks that wait for one, and one for 1,000
-- not under valgrind: so many tasks take minutes there
CREATE EXTENSION gtf;
CREATE TABLE ran (name text);
CREATE FUNCTION many_step(gate int DEFAULT NULL) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ran SELECT task_name FROM gtf_context();
	PERFORM pg_advisory_xact_lock_shared(gate) WHERE gate IS NOT NULL;
	RETURN (SELECT jsonb_agg(r.status) FROM gtf_dependency_results() r);
END $$;
SELECT gtf_register_task('many_step', 'many_step(int)');
CREATE FUNCTION ids(name text, at_most int DEFAULT NULL) RETURNS uuid[] LANGUAGE sql AS $$
	SELECT array_agg(id) FROM (SELECT id FROM gtf.task_info WHERE task_name = name ORDER BY id DESC LIMIT at_most) _ $$;
CREATE PROCEDURE until_ended(name text) LANGUAGE plpgsql AS $$
DECLARE s text[];
BEGIN CALL gtf_wait_all(ids(name), '180 s', s); END $$;

SELECT pg_advisory_lock(1);
SELECT FROM gtf_submit('many_step', '{"gate": 1}', task_name => 'a');
SELECT count(*) FROM gtf_submit_many('many_step', array_fill('{}'::jsonb, ARRAY[10000]), task_name => 'b', depends_on => ids('a'));
SELECT FROM gtf_submit('many_step', task_name => 'c', depends_on => ids('b', 1000));
SELECT pg_advisory_unlock(1);
CALL until_ended('b');
CALL until_ended('c');
SELECT status, jsonb_array_length(result) FROM gtf.task_info WHERE task_name = 'c';
SELECT name, count(*) FROM ran GROUP BY 1 ORDER BY 1;
SELECT task_name, status, count(*) FROM gtf.task_info GROUP BY 1, 2 ORDER BY 1, 2;
TRUNCATE ran;

-- all of them fail with the one that they wait for, and so does the one that waits for them
SELECT FROM gtf_submit('many_step', task_name => 'd', delay => '1 h');
SELECT count(*) FROM gtf_submit_many('many_step', array_fill('{}'::jsonb, ARRAY[1000]), task_name => 'e', depends_on => ids('d'));
SELECT FROM gtf_submit('many_step', task_name => 'f', depends_on => ids('e'));
SELECT gtf_cancel((ids('d'))[1]);
CALL until_ended('e');
CALL until_ended('f');
SELECT task_name, status, count(*) FROM gtf.task_info WHERE task_name IN ('e', 'f') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT name FROM ran;

DO $$ DECLARE n bigint; BEGIN CALL gtf_prune('0', NULL, n); END $$;
SELECT count(*) FROM gtf.task_info;
SELECT count(*) FROM gtf.dependents;
DROP EXTENSION gtf;
DROP PROCEDURE until_ended;
DROP FUNCTION ids, many_step;
DROP TABLE ran;
