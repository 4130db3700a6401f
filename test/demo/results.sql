-- What the demo shows when all tasks have ended.

\echo Attempts that did not succeed (view gtf.task_attempts):
SELECT coalesce(t.task_name, t.task_type || ' ' || (t.args ->> 'package')) AS task, a.attempt, a.error_message, t.status AS "task's status"
FROM gtf.task_attempts a JOIN gtf.task_info t ON t.id = a.task_id ORDER BY a.task_id, a.attempt;

\echo The result of one task (gtf_result):
SELECT x.* FROM gtf.task_info t, gtf_result(t.id) r,
	jsonb_to_recordset(r.result) AS x (package text, needed_by int)
WHERE t.task_type = 'most_wanted';

\echo What is at work (view gtf.workers):
SELECT pid, kind, role, state, processed, failed FROM gtf.workers;
