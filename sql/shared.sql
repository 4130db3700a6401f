-- Shared tasks: who joins, who sees them, who may cancel what.
CREATE EXTENSION gtf;
CREATE ROLE regress_gtf_alice;
CREATE ROLE regress_gtf_bob;
CREATE ROLE regress_gtf_carol;
CREATE ROLE regress_gtf_admin;
SELECT current_database() AS db, d.datdba::regrole AS owner
  FROM pg_database d WHERE datname = current_database() \gset
ALTER DATABASE :"db" OWNER TO regress_gtf_admin;

-- the error of a command
CREATE FUNCTION fails(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  message text;
  more text;
  hint text;
BEGIN
  EXECUTE command;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, more = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(E'\n', SQLSTATE, regexp_replace(message, '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>'),
                   nullif(more, ''), nullif(hint, ''));
END $$;
CREATE FUNCTION shared_add(a int DEFAULT 1, b int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a + b';
-- waits for a lock
CREATE FUNCTION shared_hold(key int) RETURNS name LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(key);
  RETURN current_user;
END $$;
CREATE FUNCTION shared_polls() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  WHILE gtf_sleep('1 min') LOOP END LOOP;
  PERFORM pg_advisory_xact_lock_shared(2);
  RETURN 'stopped';
END $$;
SELECT gtf_register_task('add', 'shared_add(int,int)', scope => 'shared');
SELECT gtf_register_task('alone', 'shared_add(int,int)');
SELECT gtf_register_task('hold', 'shared_hold(int)', scope => 'shared');
SELECT gtf_register_task('polls', 'shared_polls()', scope => 'shared', abort => 'poll');
SELECT scope FROM gtf.task_types WHERE task_type = 'add';

-- What the current user sees of the tasks under a key, and what he may do.
CREATE PROCEDURE await(id uuid, state text) LANGUAGE plpgsql AS $$
BEGIN
  WHILE gtf_status(id) IS DISTINCT FROM state LOOP PERFORM pg_sleep(0.005); COMMIT; END LOOP;
END $$;
CREATE VIEW facts AS
SELECT task_key, current_user AS who, CASE WHEN owner::text LIKE 'regress%' THEN owner::text ELSE 'superuser' END AS owner, status, subscriber_count AS n, is_subscribed AS mine, can_cancel, cancel_action, can_force
  FROM gtf.task_info;
CREATE VIEW subscribers AS
SELECT t.task_key, string_agg(role || CASE WHEN s.app_user <> '' THEN ' for ' || s.app_user ELSE '' END, ', ' ORDER BY subscribed_at) AS subscribers
  FROM gtf.task_subscribers_info s JOIN gtf.task_info t ON t.id = s.task_id GROUP BY 1;
GRANT SELECT ON facts, subscribers TO PUBLIC;

-- Private tasks do without the table of subscribers: nothing of this looks for it.
SET ROLE regress_gtf_alice;
SELECT gtf_submit('alone', '{}', 'k', delay => '1 h') AS of_alice \gset
RESET ROLE;
BEGIN;
ALTER TABLE gtf.task_subscribers RENAME TO hidden;
SET LOCAL ROLE regress_gtf_bob;
SELECT gtf_submit('alone', '{}', 'k', delay => '1 h') AS of_bob \gset
SELECT gtf_submit('alone', '{}', 'k') = :'of_bob' AS joined;
SELECT subscriber_count, is_subscribed, cancel_action FROM gtf.task_info;
SELECT gtf_status(:'of_alice'), gtf_status(:'of_bob'), gtf_cancel(:'of_bob'), gtf_retry(:'of_bob');
SELECT fails($$SELECT gtf_submit('add', '{}', 'k', delay => '1 h')$$);
ROLLBACK;
SELECT gtf_cancel(:'of_alice');
CALL gtf_prune('0');

-- A shared task has a key.
SELECT fails($$SELECT gtf_submit('add')$$);
SELECT fails($$SELECT gtf_submit('alone', scope => 'shared')$$);
SELECT fails($$SELECT gtf_submit_many('add', ARRAY['{}', '{}']::jsonb[], ARRAY['a', NULL])$$);
SELECT fails($$SELECT gtf_submit_sql('SELECT 1', scope => 'shared')$$);

-- The first submitter owns it, the next ones join.
SET ROLE regress_gtf_alice;
SELECT gtf_submit('add', '{"a": 3}', 'k', task_name => 'of alice', delay => '1 h') AS k \gset
SELECT * FROM facts;
SELECT role, app_user, subscribed_at > now() - interval '1 h' AS recently FROM gtf_subscribers(:'k');
SET ROLE regress_gtf_bob;
SELECT count(*) FROM gtf.task_info;
SELECT count(*) FROM gtf_subscribers(:'k');
SELECT gtf_submit('add', '{"a": 4}', 'k', task_name => 'of bob') = :'k' AS joined;
SELECT gtf_submit('add', '{"a": 5}', 'k') = :'k' AS again;
SELECT gtf_submit_many('add', ARRAY['{}', '{}', '{}']::jsonb[], ARRAY['k', 'k', 'k']) = :'k' AS many;
SELECT task_name, args, scope FROM gtf.task_info;
SELECT * FROM facts;
SELECT * FROM subscribers;
-- what he gives is checked nevertheless
SELECT fails($$SELECT gtf_submit('add', '{"c": 5}', 'k')$$);
-- sub-users of a role
SET gtf.app_user = 'joe';
SELECT count(*) FROM gtf.task_info;
SELECT gtf_submit('add', '{}', 'k') = :'k' AS joined;
SELECT * FROM facts;
SELECT * FROM subscribers;
SELECT gtf_cancel(:'k');
SELECT count(*) FROM gtf.task_info;
SELECT gtf_status(:'k'), fails(format('SELECT gtf_cancel(%L)', :'k'));
RESET gtf.app_user;
SELECT * FROM subscribers;
RESET ROLE;
SELECT task_key, owner, app_user FROM gtf.task_info;

-- Which keys meet: of the type for all, of the call for all of a role.
SET ROLE regress_gtf_alice;
SELECT gtf_submit('alone', '{}', 'k', scope => 'shared', delay => '1 h') AS called \gset
SELECT gtf_submit('alone', '{}', 'k', delay => '1 h') <> :'called' AS private,
  gtf_submit('add', '{}', 'k', scope => 'shared') = :'k' AS of_type,
  gtf_submit('add', '{}', 'k', scope => 'private', delay => '1 h') <> :'k' AS not_shared,
  gtf_submit('add', '{}', 'K', delay => '1 h') <> :'k' AS other_key;
SET gtf.app_user = 'ann';
SELECT gtf_submit('alone', '{}', 'k', scope => 'shared') = :'called' AS same_role;
SELECT gtf_submit_sql('SELECT 1', 'k', scope => 'shared', delay => '1 h') AS command \gset
RESET gtf.app_user;
SELECT gtf_submit_sql('SELECT 2', 'k', scope => 'shared') = :'command' AS same_role;
SET ROLE regress_gtf_bob;
SELECT gtf_submit('alone', '{}', 'k', scope => 'shared', delay => '1 h') <> :'called' AS other_role,
  gtf_submit_sql('SELECT 2', 'k', scope => 'shared', delay => '1 h') <> :'command' AS command_of_other_role;
RESET ROLE;
SELECT task_type, scope, owner, subscriber_count FROM gtf.task_info WHERE task_key = 'k' ORDER BY id;
-- private tasks have a subscriber, too, and no row
SELECT count(*) FROM gtf.task_subscribers s JOIN gtf.tasks t ON t.id = s.task_id WHERE scope <> 's';
SELECT s.role, s.app_user, s.subscribed_at = t.created_at AS at_once
  FROM gtf.task_subscribers_info s JOIN gtf.task_info t ON t.id = s.task_id WHERE scope = 'private' ORDER BY t.id;
DO $$ BEGIN PERFORM gtf_cancel(id) FROM gtf.task_info WHERE task_key IN ('k', 'K') AND scope = 'private'; END $$;
SELECT outcome FROM gtf_cancel(ARRAY(SELECT id FROM gtf.task_info WHERE ended_at IS NULL AND id <> :'k' ORDER BY id), force => true);

-- Undone: a join, leaving, both.
SET ROLE regress_gtf_carol;
BEGIN;
SELECT gtf_submit('add', '{}', 'k') = :'k' AS joined;
SAVEPOINT s;
SELECT gtf_cancel(:'k');
SELECT count(*) FROM gtf.task_info;
ROLLBACK TO s;
SELECT n, mine, cancel_action FROM facts;
SELECT gtf_cancel(:'k');
SELECT gtf_submit('add', '{}', 'k') = :'k' AS joined_again;
SELECT n, mine, cancel_action FROM facts;
ROLLBACK;
SELECT count(*) FROM gtf.task_info;
SET ROLE regress_gtf_bob;
BEGIN;
SELECT gtf_cancel(:'k');
SELECT count(*) FROM gtf.task_info;
ROLLBACK;
SELECT n, mine, cancel_action FROM facts WHERE task_key = 'k' AND status = 'pending';
-- a new one that is joined and left before it is committed
BEGIN;
SELECT gtf_submit('add', '{}', 'new', delay => '1 h') AS new \gset
SELECT gtf_submit('add', '{}', 'new') = :'new' AS same;
SET gtf.app_user = 'joe';
SELECT gtf_submit('add', '{}', 'new') = :'new' AS joined;
SELECT outcome FROM gtf_cancel(ARRAY[:'new', :'new', gtf_submit('add', '{}', 'new')]::uuid[]) AS _(id, outcome) WHERE outcome NOT LIKE '%exist';
RESET gtf.app_user;
SELECT gtf_cancel(:'new');
SELECT n, mine, status FROM facts WHERE task_key = 'new';
COMMIT;

-- ---------------------------------------------------------------------------
-- The table of cancels: scope, subscribers, caller, force.
-- ---------------------------------------------------------------------------
RESET ROLE;
SELECT home FROM gtf.tasks LIMIT 1 \gset
-- two or more: a subscriber
SET ROLE regress_gtf_bob;
SELECT gtf_cancel(:'k');
SELECT count(*) FROM gtf.task_info WHERE id = :'k';
SELECT fails(format('SELECT gtf_cancel(%L)', :'k'));
SELECT fails(format('SELECT gtf_cancel(%L, true)', :'k'));
SELECT fails(format('SELECT gtf_retry(%L)', :'k'));
-- one: that subscriber, the creator; force is for administrators
SET ROLE regress_gtf_alice;
SELECT * FROM facts WHERE status = 'pending';
SELECT fails(format('SELECT gtf_cancel(%L, true)', :'k'));
SELECT gtf_cancel(:'k');
-- it stays visible, and who is told twice is told why
SELECT * FROM facts WHERE status = 'aborted' AND task_key = 'k' ORDER BY n;
SELECT fails(format('SELECT gtf_cancel(%L)', :'k')), fails(format('SELECT gtf_cancel(%L, true)', :'k'));
-- the creator leaves: he does not see it any more, it is still his
SELECT gtf_submit('hold', '{"key": 1}', 'h', delay => '1 h') AS h \gset
SET ROLE regress_gtf_bob;
SELECT gtf_submit('hold', '{"key": 1}', 'h') = :'h' AS joined;
SET ROLE regress_gtf_alice;
SELECT gtf_cancel(:'h');
SELECT count(*) FROM gtf.task_info WHERE id = :'h';
SELECT gtf_status(:'h'), (SELECT count(*) FROM gtf_get_task(:'h')) AS got, (SELECT count(*) FROM gtf_result(:'h')) AS result,
  (SELECT count(*) FROM gtf_subscribers(:'h')) AS subscribers, gtf._current_state(:'h') IS NULL AS nothing, gtf._subscriber_count(:'h', 's') AS n,
  gtf._visible(:'h', :home, 's', 'regress_gtf_alice'::regrole, '') AS visible;
SELECT fails(format('SELECT gtf_cancel(%L)', :'h'));
SELECT gtf_submit('hold', '{"key": 1}', 'h') = :'h' AS joined_again;
-- an administrator who is not subscribed
SET ROLE regress_gtf_admin;
SELECT * FROM facts WHERE task_key = 'h';
SELECT fails(format('SELECT gtf_cancel(%L)', :'h'));
SELECT replace(outcome, :'h', '<id>') AS outcome FROM gtf_cancel(ARRAY[:'h']::uuid[]);
-- who is: he leaves it, and sees it nevertheless
SELECT gtf_submit('hold', '{"key": 1}', 'h') = :'h' AS joined;
SELECT * FROM facts WHERE task_key = 'h';
SELECT gtf_cancel(:'h');
SELECT * FROM facts WHERE task_key = 'h';
-- by force for all; the subscriptions stay
SELECT gtf_cancel(:'h', force => true);
SELECT * FROM facts WHERE task_key = 'h';
SELECT * FROM subscribers WHERE task_key = 'h';
SET ROLE regress_gtf_bob;
SELECT * FROM facts WHERE task_key = 'h';
-- one subscriber, an administrator who is not
SELECT gtf_submit('add', '{}', 'one', delay => '1 h') AS one \gset
SET ROLE regress_gtf_admin;
SELECT * FROM facts WHERE task_key = 'one';
SELECT gtf_cancel(:'one');
-- private: nobody else; of the principal, by force
SET ROLE regress_gtf_alice;
SELECT gtf_submit('alone', '{}', 'private', delay => '1 h') AS private \gset
SET ROLE regress_gtf_bob;
SELECT fails(format('SELECT gtf_cancel(%L)', :'private')), fails(format('SELECT gtf_cancel(%L, true)', :'private'));
SET ROLE regress_gtf_alice;
SELECT fails(format('SELECT gtf_cancel(%L, true)', :'private'));
SELECT gtf_cancel(:'private');
-- system: administrators, with force or without
SET ROLE regress_gtf_admin;
SELECT gtf_submit('alone', '{}', 'system', scope => 'system', delay => '1 h') AS system1 \gset
SELECT gtf_submit('alone', '{}', 'system 2', scope => 'system', delay => '1 h') AS system2 \gset
SET ROLE regress_gtf_bob;
SELECT fails(format('SELECT gtf_cancel(%L)', :'system1')), fails(format('SELECT gtf_cancel(%L, true)', :'system1'));
SET ROLE regress_gtf_admin;
SELECT gtf_cancel(:'system1'), gtf_cancel(:'system2', force => true);
RESET ROLE;

-- Running, not abortable: 55000 and nothing changes; leaving is always possible.
SELECT pg_advisory_lock(1);
SET ROLE regress_gtf_alice;
SELECT gtf_submit('hold', '{"key": 1}', 'r') AS r \gset
CALL await(:'r', 'in_progress');
SELECT * FROM facts WHERE task_key = 'r';
SELECT fails(format('SELECT gtf_cancel(%L)', :'r'));
SELECT * FROM subscribers WHERE task_key = 'r';
SET ROLE regress_gtf_bob;
SELECT gtf_submit('hold', '{"key": 1}', 'r') = :'r' AS joined;
SELECT * FROM facts WHERE task_key = 'r';
SELECT result, args FROM gtf.task_info WHERE id = :'r';
SELECT gtf_cancel(:'r');
SET ROLE regress_gtf_admin;
SELECT fails(format('SELECT gtf_cancel(%L, true)', :'r'));
SELECT fails(format('SELECT gtf_cancel(%L)', :'r'));
RESET ROLE;
SELECT * FROM subscribers WHERE task_key = 'r';
SET ROLE regress_gtf_bob;
SELECT gtf_submit('hold', '{"key": 1}', 'r') = :'r' AS joined_again;
RESET ROLE;
SELECT pg_advisory_unlock(1);
SET ROLE regress_gtf_bob;
CALL gtf_wait(:'r');
-- it has run as its first submitter
SELECT result FROM gtf_result(:'r');
-- and can be read by subscribers, but not joined any more
SELECT gtf_submit('hold', '{"key": 0}', 'r', delay => '1 h') <> :'r' AS a_new_one;
SELECT gtf_cancel(gtf_submit('hold', '{"key": 0}', 'r'));

-- Aborting: it cannot be joined, again is the same, others can leave.
RESET ROLE;
SELECT pg_advisory_lock(2);
SET ROLE regress_gtf_alice;
SELECT gtf_submit('polls', '{}', 'p') AS p \gset
CALL await(:'p', 'in_progress');
SET ROLE regress_gtf_bob;
SELECT gtf_submit('polls', '{}', 'p') = :'p' AS joined;
SET ROLE regress_gtf_admin;
SELECT gtf_cancel(:'p', true), gtf_cancel(:'p', true);
SET ROLE regress_gtf_bob;
SELECT * FROM facts WHERE task_key = 'p';
SELECT gtf_submit('polls', '{}', 'p') AS p2 \gset
SELECT :'p2' <> :'p' AS a_new_one;
SELECT gtf_cancel(:'p');
SELECT gtf_status(:'p');
SET ROLE regress_gtf_alice;
SELECT * FROM facts WHERE task_key = 'p';
SELECT gtf_cancel(:'p');
RESET ROLE;
SELECT pg_advisory_unlock(2);
CALL gtf_wait(:'p');
SELECT gtf_cancel(:'p2');
CALL gtf_wait(:'p2');

-- Retry: who sees it.
SET ROLE regress_gtf_carol;
SELECT fails(format('SELECT gtf_retry(%L)', :'p'));
SET ROLE regress_gtf_alice;
SELECT gtf_retry(:'p');
CALL await(:'p', 'in_progress');
SET ROLE regress_gtf_carol;
SELECT gtf_submit('polls', '{}', 'p') = :'p' AS joined;
SET ROLE regress_gtf_alice;
SELECT gtf_cancel(:'p');
SET ROLE regress_gtf_carol;
SELECT gtf_cancel(:'p');
CALL gtf_wait(:'p');
SELECT gtf_retry(:'p');
SELECT gtf_cancel(:'p');
CALL gtf_wait(:'p');

-- Tasks of superusers: who has joined sees them, administrators do not.
RESET ROLE;
SELECT gtf_submit('add', '{}', 'super', delay => '1 h') AS super \gset
SET ROLE regress_gtf_admin;
SELECT gtf_status(:'super'), fails(format('SELECT gtf_cancel(%L, true)', :'super'));
SELECT gtf_submit('add', '{}', 'super') = :'super' AS joined;
SELECT * FROM facts WHERE task_key = 'super';
SELECT fails(format('SELECT gtf_cancel(%L, true)', :'super'));
SELECT fails(format('SELECT gtf_revoke(%L)', :'super'));
SELECT gtf_cancel(:'super');
SELECT gtf_status(:'super');
SET ROLE regress_gtf_bob;
SELECT gtf_submit('add', '{}', 'super') = :'super' AS joined;
SELECT * FROM facts WHERE task_key = 'super';
RESET ROLE;
SELECT gtf_cancel(:'super', true);

-- An application user that no index can have.
SET gtf.app_user = :'db';
SELECT set_config('gtf.app_user', repeat('x', 1024), false) IS NOT NULL AS longest;
SELECT gtf_cancel(gtf_submit('add', '{}', 'long', delay => '1 h'));
SELECT set_config('gtf.app_user', repeat('x', 1025), false) IS NOT NULL AS longer;
SELECT fails($$SELECT gtf_submit('add', '{}', 'longer')$$);
RESET gtf.app_user;

-- Who may not submit the type cannot join, and is told nothing of the task.
RESET ROLE;
SELECT gtf_submit('add', '{}', 'closed', delay => '1 h') AS closed \gset
REVOKE EXECUTE ON FUNCTION shared_add FROM PUBLIC;
SET ROLE regress_gtf_carol;
SELECT fails($$SELECT gtf_submit('add', '{}', 'closed')$$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION shared_add TO PUBLIC;
SELECT gtf_register_task('add', 'shared_add(int,int)', scope => 'shared', submit_role => 'regress_gtf_bob');
SET ROLE regress_gtf_carol;
SELECT fails($$SELECT gtf_submit('add', '{}', 'closed')$$);
SELECT fails($$SELECT gtf_submit_many('add', ARRAY['{}']::jsonb[], ARRAY['closed'])$$);
SET ROLE regress_gtf_bob;
SELECT gtf_submit('add', '{}', 'closed') = :'closed' AS joined_under_the_next_version;
SELECT gtf_cancel(:'closed');
-- the type is not shared any more: its keys are others, the task goes on
RESET ROLE;
SELECT gtf_register_task('add', 'shared_add(int,int)');
SELECT gtf_submit('add', '{}', 'closed', scope => 'shared', delay => '1 h') <> :'closed' AS other;
SELECT subscriber_count, is_subscribed, cancel_action FROM gtf_get_task(:'closed');

-- Removed with all its rows.
DO $$ BEGIN PERFORM outcome FROM gtf_cancel(ARRAY(SELECT id FROM gtf.task_info WHERE ended_at IS NULL), true); END $$;
DO $$ BEGIN WHILE EXISTS (SELECT FROM gtf.task_info WHERE ended_at IS NULL) LOOP COMMIT; PERFORM pg_sleep(0.01); END LOOP; END $$;
SELECT count(*) > 10 AS some FROM gtf.task_subscribers;
DO $$ DECLARE n bigint; BEGIN CALL gtf_prune('0', NULL, n); END $$;
SELECT count(*) FROM gtf.task_subscribers;

ALTER DATABASE :"db" OWNER TO :"owner";
DROP VIEW facts, subscribers;
DROP EXTENSION gtf;
DROP PROCEDURE await;
DROP FUNCTION fails, shared_add, shared_hold, shared_polls;
DROP ROLE regress_gtf_alice, regress_gtf_bob, regress_gtf_carol, regress_gtf_admin;
