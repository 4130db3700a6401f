-- Limits, pauses, the pool: what can be set, and what is shown of it.
CREATE EXTENSION gtf;
\set VERBOSITY terse

CREATE ROLE regress_limits_user LOGIN;
CREATE FUNCTION limits_body() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT gtf_register_task('limited', 'limits_body()');
SELECT gtf_register_task('free', 'limits_body()', queue => 'limits_b');

-- A limit is set, changed in part, and removed
SELECT gtf_set_limit('queue', 'limits_a', 2);
SELECT gtf_set_limit('queue', 'limits_a', rate => '100/m');
SELECT gtf_set_limit('queue', 'limits_a');
SELECT gtf_set_limit('task_type', 'limited', rate => '0.5/s');
SELECT gtf_set_limit('owner', 'regress_limits_user', 7);
SELECT * FROM gtf.limits ORDER BY kind, name;
SELECT gtf_set_limit('queue', 'limits_a', -1);
SELECT gtf_set_limit('task_type', 'limited', rate => '0');
SELECT * FROM gtf.limits ORDER BY kind, name;
SELECT gtf_set_limit('queue', 'limits_a', rate => '0'), gtf_set_limit('owner', 'regress_limits_user', -1);
SELECT * FROM gtf.limits;

-- Rates
SELECT gtf_set_limit('queue', 'limits_a', rate => r) FROM unnest('{10/s,100/m,5/h,3/d,0.5/s,0.001/d}'::text[]) r;
DO $$
DECLARE
	r text;
BEGIN
	FOREACH r IN ARRAY '{"",x,10,10/,/s,10/x,10/ss,"10 /s",-1/s,0/s,0.0/s,.5/s,1./s,1e3/s,1/w,0.000001/d,NaN/s,123456789012345678901/s}'::text[] LOOP
		BEGIN
			PERFORM gtf_set_limit('queue', 'limits_a', rate => r);
			RAISE WARNING 'accepted: %', r;
		EXCEPTION WHEN invalid_parameter_value THEN
			NULL;
		END;
	END LOOP;
END$$;
SELECT rate FROM gtf.limits;
SELECT gtf_set_limit('queue', 'limits_a', rate => 'often');
\set VERBOSITY default
SELECT gtf_set_limit('queue', 'limits_a', rate => 'often');
\set VERBOSITY terse
SELECT gtf_set_limit('queue', 'limits_a', rate => '0');

-- What is refused
SELECT gtf_set_limit('queue', 'limits_a', 0);
SELECT gtf_set_limit('queue', 'limits_a', -2);
SELECT gtf_set_limit('color', 'red', 1);
SELECT gtf_set_limit('task_type', 'no_such_type', 1);
SELECT gtf_set_limit('owner', 'regress_no_such_role', 1);
-- but to take one away from what is gone
SELECT gtf_set_limit('task_type', 'no_such_type', -1), gtf_set_limit('owner', 'regress_no_such_role', rate => '0');
SELECT gtf_set_limit('queue', '', 1);
SELECT gtf_set_limit(NULL, 'limits_a', 1);
SELECT gtf_set_limit('queue', NULL, 1);
SELECT gtf_pause(NULL);
SELECT gtf_pause('');
SELECT gtf_set_pool(-1, NULL);
SELECT gtf_set_pool(NULL, 0);
SELECT gtf_set_pool(3, 2);
SELECT gtf_set_pool(NULL, 1000000);
SELECT gtf_worker_shutdown(0), gtf_worker_shutdown(-1), gtf_worker_shutdown(pg_backend_pid());

-- Administrators only; everybody may read
SET ROLE regress_limits_user;
SELECT gtf_set_limit('queue', 'limits_a', 1);
SELECT gtf_pause('limits_a');
SELECT gtf_resume('limits_a');
SELECT gtf_set_pool(1, 2);
SELECT gtf_worker_shutdown(1);
SELECT * FROM gtf.limits;
SELECT * FROM gtf.flow;
RESET ROLE;

-- Transactional
BEGIN;
SELECT gtf_pause('limits_a');
SAVEPOINT s;
SELECT gtf_set_limit('queue', 'limits_a', 3);
ROLLBACK TO s;
SELECT kind, name, max_running, paused FROM gtf.limits;
ROLLBACK;
SELECT count(*) FROM gtf.limits;
BEGIN READ ONLY;
SELECT gtf_pause('limits_a');
ROLLBACK;

-- A paused queue: its tasks wait and say why, others run
SELECT gtf_pause('limits_a');
SELECT gtf_submit('limited', queue => 'limits_a') AS paused \gset
SELECT gtf_submit('limited', queue => 'limits_a', delay => '1 h') AS delayed \gset
SELECT gtf_submit('free') AS free \gset
CALL gtf_wait(:'free', '60 s');
CALL gtf_wait(:'paused', '0.1 s');
SELECT status, wait_reason FROM gtf.task_info WHERE id IN (:'paused', :'delayed') ORDER BY id;
SELECT queue, ready, scheduled, in_progress, paused FROM gtf.queues WHERE queue LIKE 'limits%';
SELECT gtf_cancel(:'delayed');
-- the limit is kept, and again the pause when the limit goes
SELECT gtf_set_limit('queue', 'limits_a', 1), gtf_set_limit('queue', 'limits_a', -1);
SELECT queue, paused, max_running FROM gtf.queues WHERE queue LIKE 'limits%';
SELECT gtf_resume('limits_a');
CALL gtf_wait(:'paused', '60 s');
SELECT count(*) FROM gtf.queues WHERE queue LIKE 'limits%';

-- One that waits is cancelled, and expires
SELECT gtf_pause('limits_a');
SELECT gtf_submit('limited', queue => 'limits_a') AS cancelled \gset
SELECT gtf_submit('limited', queue => 'limits_a', expires_at => clock_timestamp() + '0.2 s') AS expiring \gset
SELECT gtf_cancel(:'cancelled');
CALL gtf_wait(:'expiring', '60 s');
SELECT gtf_resume('limits_a');

-- The pool
SELECT gtf_set_pool(1, 3);
SELECT * FROM gtf.limits;
SELECT gtf_set_pool();
SELECT * FROM gtf.limits;

DROP FUNCTION limits_body() CASCADE;
SELECT gtf_unregister_task('limited'), gtf_unregister_task('free');
DROP EXTENSION gtf CASCADE;
DROP ROLE regress_limits_user;
