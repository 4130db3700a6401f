-- Submits :n tasks of type :type, :batch in each transaction; shows the last id
-- that was there before, and the last one now.

SELECT coalesce((SELECT id FROM gtf.tasks ORDER BY id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000') AS before \gset
CALL bench.submit(:'type', :n, :batch);
SELECT :'before', id FROM gtf.tasks ORDER BY id DESC LIMIT 1;
