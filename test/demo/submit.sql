-- What the demo submits.  Each statement is a transaction here; in a longer
-- one, nothing would start before it commits.

SELECT gtf_submit('parse_relations', task_name => 'Parse what packages need') AS parse \gset

-- Too early: it fails and is tried again some seconds later.
SELECT gtf_submit('most_wanted', '{"top": 5}', task_name => 'Find the most wanted');

-- The rest works on what the first task leaves behind.
CALL gtf_wait(:'parse');

SELECT gtf_submit('count_users', '{"batch": 1000}', task_name => 'Count users, commit by commit') AS count \gset

-- One command each, also those that refuse to run in a transaction block.
SELECT gtf_submit_sql('CREATE INDEX CONCURRENTLY relation_package ON relation (package)',
	task_name => 'Build an index');

-- Many tasks at once.  One of them fails: the name is misspelt.
SELECT gtf_submit_many('closure', array_agg(jsonb_build_object('package', name)))
FROM unnest('{gnome, kde-full, libreofice, postgresql}'::text[]) AS name;

CALL gtf_wait(:'count');
SELECT gtf_submit_sql('VACUUM (ANALYZE) package', task_name => 'Vacuum what was updated');
