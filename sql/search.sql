-- The search language: how it is read, what it matches, what it refuses.
CREATE EXTENSION gtf;

-- How it is read.
SELECT gtf_parse_search('') AS blank, gtf_parse_search(E' \t\n ') AS blanks;
SELECT query, gtf_parse_search(query) FROM (VALUES
  ('first second'), ('first AND second'), ('first OR second third'), ('(first OR second) third'),
  ('first and second'), ('"AND"'), ('"first second"'), ('a"b c"d'),
  ('args:"hello world"'), ('NAME:tasks.fetch'), ('name:tasks worker:host result:done error:boom id:0000 queue:night'),
  ('first (first second)'), ('first FIRST'), ('(first second) OR (second third) OR first'), ('first ((second third))'),
  ('state:F'), ('STATE:failure'), ('stateFAILURE'), ('state:STARTED'), ('state:FAILURE state:SUCCESS'),
  ('(state:FAILURE OR state:RETRY) result:timeout'),
  ('kwargs:a=1'), ('kwargs:a='), ('kwargs:abc'), ('kwargs:a="x y"'), ('kwargs:" a = b=c "'),
  ('args:abc args:def'), ('result:abc result:def'),
  ('result:"a \"b\" c"'), ('a\"b\\c'), ('a\bc'), ('(((((abc)))))'), ('uuid:1234'), ('foo:bar'), ('name:-abc'),
  ('"(not a group)"'), ('"nam"e:abc')) v(query);
-- What is refused, and where.
CREATE FUNCTION complaint(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RETURN gtf_parse_search(query)::text;
EXCEPTION WHEN syntax_error THEN
  RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT query, complaint(query) FROM (VALUES
  ('ab'), ('first ab'), ('first or second'), ('""'), ('name:'), ('name:"  "'), ('name:ab'), ('state:'), ('kwargs:a'), ('kwargs: a=1'),
  ('first OR'), ('OR first'), ('first OR OR second'), ('first OR AND second'), ('first AND'), ('AND first'),
  ('first AND OR second'), ('NOT first'), ('first NOT second'), ('first OR NOT second'), ('-first'), ('"-abc"'), ('first -second'),
  ('()'), ('first ()'), ('(first'), ('first)'), ('(first OR)'), ('first OR )'), ('"first'), ('first "second')) v(query);
SELECT complaint('((((((abc))))))') AS nesting;
SELECT complaint(repeat('x', 2048)) = '{"field": "any", "value": "' || repeat('x', 2048) || '"}' AS longest,
       complaint(repeat('x', 2049)) AS longer;
SELECT complaint(repeat('(first) ', 42)) AS tokens, complaint(repeat('(first) ', 43)) AS more;
SELECT gtf_parse_search('first OR');

-- What it matches: one row, given by hand.
CREATE FUNCTION hit(query text, args jsonb DEFAULT '{"k1": 1, "k2": 22, "k3": "345", "k": "x, y", "p": ["arg1", 2], "q": {"a": [1, null]}, "t": true, "n": null, "s": "a \"b\" \\c"}',
                    result jsonb DEFAULT '"boom"', status text DEFAULT 'failure', attempt int DEFAULT 1, started timestamptz DEFAULT now()) RETURNS boolean
LANGUAGE sql AS $$
  SELECT gtf._matches(query, NULL, attempt, started, '01a200e8-c45d-7da5-8c5e-f1938849f289', 'tasks.add', 'Nightly sum', status,
                      'executor 4711', 'night', args, result, 'it does not fit', 'raise_exception', 'PL/pgSQL function f() line 3')
$$;
SELECT query, hit(query) FROM (VALUES
  ('state:SUCCESS boom'), ('zzz boom'), ('kwargs:k="x, y"'), ('kwargs:1=1'), ('BOOM'),
  ('kwargs:k1=1'), ('kwargs:K1=1'), ('kwargs:k1=2'), ('kwargs:k2=2'), ('kwargs:k2=22'), ('kwargs:k3=345'), ('kwargs:k3="345"'),
  ('kwargs:k=x'), ('kwargs:none=1'), ('kwargs:t=TRUE'), ('kwargs:n=null'), ('kwargs:q="{\"a\": [1, null]}"'), ('kwargs:a=1'),
  ('args:arg1'), ('kwargs:arg1'), ('args:"k2\": 22"'), ('args:"a \"b\""'), ('args:"\" \\c"'), ('args:boom'),
  ('name:TASKS'), ('name:nightly'), ('name:executor'), ('worker:4711'), ('worker:tasks'), ('result:BOO'), ('result:arg1'),
  ('error:FIT'), ('error:raise_exc'), ('error:"line 3"'), ('error:boom'), ('id:01A200E8'), ('id:tasks'), ('queue:nig'), ('queue:day'),
  ('state:FAIL'), ('state:failure'), ('fail'), ('8c5e'), ('tasks.add'), ('4711'), ('arg1'), ('"does not fit"'), ('night'), ('sumfailure'),
  ('tasks.add AND zzz'), ('tasks.add OR zzz'), ('(zzz OR boom) state:failure'), ('zzz OR boom state:success')) v(query);
SELECT hit('', '{}', NULL) AS everything, hit('boom', '{}', NULL), hit('result:boom', '{}', NULL), hit('kwargs:k=1', '[1]'), hit('args:"hello world"', '["hello world"]');
-- Words for states, also those of Celery.
SELECT status || CASE WHEN NOT started THEN ', not started' WHEN attempt > 1 THEN ', again' ELSE '' END AS task, string_agg(word, ' ' ORDER BY n) AS is
  FROM (VALUES ('pending', 0, false), ('pending', 2, true), ('in_progress', 1, true), ('aborting', 1, true), ('success', 1, true),
               ('failure', 1, true), ('failure', 0, false), ('aborted', 1, true), ('timed_out', 1, true)) t(status, attempt, started),
       unnest('{pending,in_progress,ABORTING,Success,failure,aborted,timed_out,RECEIVED,STARTED,RETRY,REVOKED,REJECTED,SUCC,p}'::text[]) WITH ORDINALITY w(word, n)
 WHERE hit('state:' || word, status => t.status, attempt => t.attempt, started => CASE WHEN t.started THEN now() END)
 GROUP BY 1 ORDER BY 1;

-- gtf_args_contain: elements of a list, or parts of the text of anything else.
SELECT args, needles, gtf_args_contain(args, needles) FROM (VALUES
  ('["arg1", 2]'::jsonb, '{arg1}'::text[]), ('["arg1", 2]', '{arg}'), ('["arg1", 2]', '{2,arg1}'), ('["arg1", 2]', '{2,3}'), ('["arg1"]', '{}'),
  ('{"a": "hello world", "b": 5}', '{hello}'), ('{"a": "hello world", "b": 5}', '{WORLD,5}'), ('{"a": "hello world"}', '{none}'),
  ('"hello"', '{ell}'), ('5', '{5}'), ('null', '{"null"}'), ('{"a": "say \"hi\""}', '{"say \"hi\""}'), ('{}', '{a,NULL}')) v(args, needles);
SELECT gtf_args_contain(NULL, '{a}'), gtf_args_contain('{}', NULL);

-- Tasks: the row is compared as its reader sees it.
CREATE ROLE regress_gtf_alice;
CREATE ROLE regress_gtf_bob;
CREATE FUNCTION get(customer text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'connection timeout' USING DETAIL = 'a secret';
END $$;
CREATE FUNCTION store(customer text, priority text) RETURNS text LANGUAGE sql AS $$SELECT 'stored '$$;
SELECT gtf_register_task('fetch', 'get(text)'), gtf_register_task('store', 'store(text,text)');
SET ROLE regress_gtf_alice;
SELECT gtf_submit('fetch', '{"customer": "customer-123"}') AS fetch \gset
SELECT gtf_submit('store', '{"customer": "customer-456", "priority": "low"}') AS store \gset
SELECT gtf_submit('store', '{"customer": "hello world", "priority": "low"}', delay => '1 hour') AS later \gset
CALL gtf_wait(:'fetch');
CALL gtf_wait(:'store');
SELECT query, gtf_task_matches(:'fetch', query) AS fetch, gtf_task_matches(:'store', query) AS store, gtf_task_matches(:'later', query) AS later
  FROM (VALUES (''), ('name:FETCH'), ('state:FAILURE'), ('state:pending'), ('customer-456'), ('args:customer'), ('kwargs:priority=LOW'),
               ('result:stored'), ('args:"hello world"'), ('error:timeout'), ('error:secret'), ('worker:executor'), ('"executor "'),
               ('(state:FAILURE OR state:RETRY) error:timeout'), ('state:FAILURE OR stored')) v(query);
SELECT gtf_task_matches(:'fetch', 'id:' || left(:'fetch', 8)), gtf_task_matches(:'fetch', :'store'), gtf_task_matches(NULL, ''), gtf_task_matches(:'fetch', NULL);
\set SHOW_CONTEXT never
SELECT gtf_task_matches(:'fetch', 'ab');
-- what one may not see cannot be found out about
SET ROLE regress_gtf_bob;
SELECT gtf_task_matches(:'fetch', ''), gtf_task_matches(:'fetch', 'customer-123'), gtf_task_matches('00000000-0000-7000-8000-000000000000', '');
SELECT gtf_task_matches(:'fetch', 'ab');
RESET ROLE;
SELECT gtf_task_matches(:'fetch', 'error:secret') AS admin;
-- nothing of it is a query
SELECT complaint('"''; DROP TABLE gtf.tasks; --"'), gtf_task_matches(:'fetch', '"'' OR true"'), gtf_task_matches(:'store', '"%"OR'), gtf_task_matches(:'store', 'st_re');

DROP EXTENSION gtf CASCADE;
DROP FUNCTION complaint, hit, get, store;
DROP ROLE regress_gtf_alice, regress_gtf_bob;
