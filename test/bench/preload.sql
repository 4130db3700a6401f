-- Submits :n tasks of type :type as role bench in one statement; shows the
-- last id that was there before, and the last one now.

SELECT coalesce((SELECT id FROM gtf.tasks ORDER BY id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000') AS before \gset
SELECT count(*) FROM gtf_submit_many(:'type', ARRAY(SELECT jsonb_build_object('a', i) FROM generate_series(1, :n) i)) \g /dev/null
SELECT :'before', id FROM gtf.tasks ORDER BY id DESC LIMIT 1;
