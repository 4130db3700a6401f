-- What the demo submits.  Each statement is a transaction here; within a longer
-- one, nothing would start before its commit.

SELECT gtf_submit('parse_depends', task_name => 'Parse the Depends fields') AS parse \gset

-- Too early: it fails and is tried again later.
SELECT gtf_submit('most_wanted', '{"top": 5}', task_name => 'Most wanted packages');

-- The rest works on what the first task leaves behind.
CALL gtf_wait(:'parse');

SELECT gtf_submit('count_users', '{"batch": 1000}', task_name => 'Count users, 1,000 a commit') AS count \gset

-- One command each, also those that refuse to run in a transaction block.
SELECT gtf_submit_sql('CREATE INDEX CONCURRENTLY dependency_package ON dependency (package)',
	task_name => 'Build an index');

-- Many tasks at once; one of them will fail.
SELECT gtf_submit_many('closure', array_agg(jsonb_build_object('package', name)))
FROM unnest('{gnome, kde-full, libreofice, texlive-full, postgresql}'::text[]) AS name;

CALL gtf_wait(:'count');
SELECT gtf_submit_sql('VACUUM (ANALYZE) package', task_name => 'Vacuum what was updated');
