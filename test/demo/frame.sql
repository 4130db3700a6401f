-- One line of the live display for each task: its id, what is news when it
-- changes, and the text.

SELECT t.id,
	concat_ws(' ', t.status, t.attempt, t.wait_reason),
	format('  %-30s %-11s %7s  %s',
		left(coalesce(t.task_name, t.task_type || ' ' || (t.args ->> 'package'), t.task_type), 30),
		t.status,
		coalesce(to_char(extract(epoch FROM t.duration), 'FM9990.0 "s"'), ''),
		left(
			CASE t.status
				WHEN 'pending' THEN CASE t.wait_reason
					WHEN 'retry' THEN 'tried again soon: ' || (
						SELECT a.error_message FROM gtf.task_attempts a
						WHERE a.task_id = t.id ORDER BY a.attempt DESC LIMIT 1)
					WHEN 'executor' THEN 'waits for a free executor'
					ELSE t.wait_reason END
				WHEN 'in_progress' THEN concat_ws('  ', t.progress_bar, t.progress_text,
					to_char(extract(epoch FROM t.eta), '"ETA" FM9990.0 "s"'))
				WHEN 'success' THEN concat_ws(' ',
					CASE WHEN t.attempt > 1 THEN format('attempt %s:', t.attempt) END,
					coalesce(t.result::text, t.progress_text))
				ELSE t.error_message
			END, 46))
FROM gtf.task_info t ORDER BY t.id;
