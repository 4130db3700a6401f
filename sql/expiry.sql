-- A task whose expires_at passes before it starts ends as aborted.
CREATE EXTENSION gtf;
CREATE FUNCTION exp_noop() RETURNS int LANGUAGE sql RETURN 1;
SELECT gtf_register_task('exp', 'exp_noop()');

-- while it is delayed
CALL gtf_wait(gtf_submit('exp', delay => '1 h', expires_at => clock_timestamp() + interval '1 s'));
SELECT status, error_message, exception_type, started_at, attempt, worker
FROM gtf.task_info WHERE task_type = 'exp';

-- in time
CALL gtf_wait(gtf_submit('exp', expires_at => clock_timestamp() + interval '1 h'));

-- never
CALL gtf_wait(gtf_submit('exp', expires_at => 'infinity'));
SELECT gtf_submit('exp', delay => '1 h', expires_at => 'infinity') AS id \gset
SELECT expires_at FROM gtf.task_info WHERE id = :'id';
SELECT gtf_cancel(:'id');

-- too late to submit
SELECT gtf_submit('exp', expires_at => clock_timestamp() - interval '1 s');

DROP FUNCTION exp_noop();

DROP EXTENSION gtf;
