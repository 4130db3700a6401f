# Cleanup handlers of executors that are gone: another executor runs them
# before anything else happens to the task.  And handlers that take long.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => "gtf.max_executors = 3\ngtf.kill_grace = 1");
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE ROLE app NOLOGIN;
	GRANT CREATE ON SCHEMA public TO app;

	-- notes who runs it and for what, waits for a gate, and more
	CREATE FUNCTION clean(arg jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (task, attempt, n, who) SELECT task_id, attempt, (arg ->> 'n')::int, current_user FROM gtf_context();
		PERFORM pg_advisory_xact_lock_shared(key) FROM (SELECT (arg ->> 'gate')::int AS key) x WHERE key IS NOT NULL;
		IF arg ? 'die' THEN
			PERFORM pg_terminate_backend(pg_backend_pid());
			PERFORM pg_sleep(60);
		ELSIF arg ? 'fail' THEN
			RAISE 'not clean';
		END IF;
	END $$;

	-- registers cleanup handlers (n = 101, 102, ... with this argument), in
	-- its first attempt, then is held
	CREATE FUNCTION work(arg jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM effect(1);
		IF (gtf_context()).attempt = 1 THEN
			FOR i IN 1 .. (arg ->> 'handlers')::int LOOP
				PERFORM gtf_on_cleanup('clean(jsonb)', arg || jsonb_build_object('n', 100 + i));
			END LOOP;
		END IF;
		PERFORM pg_advisory_xact_lock_shared(1);
	END $$;
	CREATE FUNCTION work_and_return(arg jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM gtf_on_cleanup('clean(jsonb)', arg || '{"n": 101}');
	END $$;
	CREATE FUNCTION work_and_abort(arg jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM gtf_on_abort('clean(jsonb)', arg || '{"n": 101}');
		PERFORM gtf_sleep('1 min');
	END $$;
	SELECT gtf_register_task('work', 'work(jsonb)'),
		gtf_register_task('poll', 'work(jsonb)', abort => 'poll'),
		gtf_register_task('return', 'work_and_return(jsonb)'),
		gtf_register_task('abort', 'work_and_abort(jsonb)'),
		gtf_register_task('hard', 'work(jsonb)'),
		gtf_register_task('hard clean', 'work(jsonb)'), gtf_set_timeout('hard clean', hard_timeout => '2 s'),
		gtf_register_task('hard return', 'work_and_return(jsonb)'), gtf_set_timeout('hard return', hard_timeout => '4 s');
});
my $gate = gate($node, 1, 2);
my $log;

sub work
{
	my ($type, $arg, %params) = @_;

	$log = log_offset($node);
	return $node->safe_psql('postgres',
		($params{role} ? "SET ROLE $params{role};" : '') . "SELECT gtf_submit('$type', '$arg')");
}

sub effects
{
	my ($id) = @_;

	return $node->safe_psql('postgres',
		"SELECT string_agg(concat_ws(' ', attempt, n, who), ', ' ORDER BY seq) FROM effects WHERE task = '$id'"
	);
}

my $me = $node->safe_psql('postgres', 'SELECT current_user');

# by another process, as the owner, before the next attempt
my $id = work('work', '{"handlers": 2, "gate": 2}', role => 'app');
my $pid = holder($node, 1);
terminate($node, $pid);
my $cleaner = holder($node, 2);
isnt($cleaner, $pid, 'cleanup handlers run in another process');
is( $node->safe_psql(
		'postgres', "SELECT concat_ws(' ', status, attempt, worker = 'executor $pid') FROM gtf_get_task('$id')"),
	'in_progress 1 t',
	'the attempt is not over before they have run');
is($node->safe_psql('postgres', "SELECT count(*) FROM gtf.task_attempts WHERE task_id = '$id'"),
	0, 'and has no outcome');
$gate->query_safe('SELECT pg_advisory_unlock(2)');
holder($node, 1);
is(effects($id), '1 102 app, 1 101 app', 'as the owner, with the task and attempt, the last registered first');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2', 'then the task runs again');
is(effects($id), '1 102 app, 1 101 app, 2 1 app', 'without what the lost attempt did');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM gtf.task_info WHERE status NOT IN ('success')}),
	'0', 'cleaning up is no task');

# a handler that fails
$gate->query_safe('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
$id = work('work', '{"handlers": 2, "fail": true}');
terminate($node, holder($node, 1));
until_true($node, "SELECT attempt = 2 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2', 'a failed handler of a lost attempt does not concern the task');
is(effects($id), "2 1 $me", 'its effects are not there');
is(log_count($node, qr/WARNING:  cleanup handler public.clean\(pg_catalog.jsonb\) of gtf task $id failed: not clean/, $log),
	2, 'and the log has warnings');

# cancelled while the handlers run
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = work('work', '{"handlers": 1, "gate": 2}');
terminate($node, holder($node, 1));
$cleaner = holder($node, 2);
is($node->safe_psql('postgres', "SELECT gtf_cancel('$id')"), 'aborted', 'a task can be cancelled while it is cleaned up after');
$gate->query_safe('SELECT pg_advisory_unlock(2)');
is(outcome($node, $id), 'aborted|1', 'and ends when that is done');
is(effects($id), "1 101 $me", 'the handler gets through');

# the cleaning executor is lost, too: once more, then no more
$gate->query_safe('SELECT pg_advisory_lock(2)');
$id = work('work', '{"handlers": 1, "gate": 2}');
terminate($node, holder($node, 1));
$cleaner = holder($node, 2);
terminate($node, $cleaner);
until_true($node,
	"SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted AND pid <> $cleaner)");
$gate->query_safe('SELECT pg_advisory_unlock(2), pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2', 'a lost cleanup is tried again');
is(effects($id), "1 101 $me, 2 1 $me", 'its handlers have run once in the end');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = work('work', '{"handlers": 1, "die": true}');
terminate($node, holder($node, 1));
until_true($node, "SELECT attempt = 2 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2', 'handlers that end two processes are given up');
is(log_count($node, qr/WARNING:  cleanup handlers of gtf task $id did not run/, $log), 1, 'with a warning');

# handlers that do not come to an end there: revoked ...
for my $signal ('SIGINT', 'SIGTERM')
{
	$gate->query_safe('SELECT pg_advisory_unlock_all(), pg_advisory_lock(1), pg_advisory_lock(2)');
	$id = work('work', '{"handlers": 1, "gate": 2}');
	terminate($node, holder($node, 1));
	$cleaner = holder($node, 2);
	$node->safe_psql('postgres', "SELECT gtf_revoke('$id', true, '$signal')");
	if ($signal eq 'SIGTERM')
	{
		# the second try
		until_true($node,
			"SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted AND pid <> $cleaner)");
		$node->safe_psql('postgres', "SELECT gtf_revoke('$id', true, '$signal')");
	}
	is(outcome($node, $id), 'aborted|1', "cleanup handlers can be stopped with $signal");
}

# ... or, as in the executor of the attempt, stopped by the hard timeout
$gate->query_safe('SELECT pg_advisory_unlock_all(), pg_advisory_lock(1), pg_advisory_lock(2)');
$id = work('hard clean', '{"handlers": 1, "gate": 2}');
is(outcome($node, $id), 'timed_out|1|Task timed out', 'cleanup handlers have the hard timeout of the type');
is(log_count($node, qr/WARNING:  cleanup handler public.clean\(pg_catalog.jsonb\) of gtf task $id failed: canceling statement/, $log),
	1, 'which cancels their statements');
$gate->query_safe('SELECT pg_advisory_unlock_all()');

# a dispatcher that is new to it
$gate->query_safe('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
$id = work('work', '{"handlers": 1, "gate": 2}');
terminate($node, holder($node, 1));
holder($node, 2);
my $dispatcher = worker_pid($node, 'dispatcher');
terminate($node, $dispatcher);
new_worker($node, 'dispatcher', $dispatcher);
$gate->query_safe('SELECT pg_advisory_unlock(2), pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2', 'a new dispatcher goes on with a lost attempt');
is(effects($id), "1 101 $me, 2 1 $me", 'whose handlers run once');

# no executor will come
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
$node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE postgres TO app');
$id = work('work', '{"handlers": 1}', role => 'app');
$pid = holder($node, 1);
$node->safe_psql('postgres', 'REVOKE CONNECT ON DATABASE postgres FROM app');
terminate($node, $pid);
like(outcome($node, $id), qr/^failure\|1\|role "app" does not have CONNECT privilege/,
	'an owner who may not connect any more');
is(log_count($node, qr/WARNING:  cleanup handlers of gtf task $id did not run: role "app" does not have CONNECT/, $log),
	1, 'leaves a warning about the handlers');
$node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC');

# gtf is disabled: later
$id = work('work', '{"handlers": 1}');
$pid = holder($node, 1);
$node->append_conf('postgresql.conf', 'gtf.enabled = off');
$node->reload;
until_true($node, q{SELECT current_setting('gtf.enabled') = 'off'});
terminate($node, $pid);
until_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
is(status($node, $id), 'in_progress', 'nothing is cleaned up while gtf is disabled');
$node->append_conf('postgresql.conf', 'gtf.enabled = on');
$node->reload;
until_true($node, "SELECT attempt = 2 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2', 'but afterwards');
is(effects($id), "1 101 $me, 2 1 $me", 'first the handlers, then the next attempt');

# a hard timeout: the body is cancelled, the handlers have the rest of the time
$gate->query_safe('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
for my $timeout ('0.3 s', '3 s', '30 s')
{
	$node->safe_psql('postgres', "SELECT gtf_set_timeout('hard', hard_timeout => '$timeout')");
	$id = work('hard', '{"handlers": 1}');
	ended($node, $id);
	# else it was over before the handler was registered
	last if effects($id) ne '';
}
is(outcome($node, $id), 'timed_out|1|Task timed out', 'a hard timeout cancels the statement');
is(effects($id), "1 101 $me", 'and cleanup handlers run');
$id = work('hard return', '{"gate": 2}');
until_true($node,
	"SELECT count(*) = 1 FROM pg_locks, gtf_get_task('$id') WHERE locktype = 'advisory' AND objid = 2 AND NOT granted AND 'executor ' || pid <> worker");
$gate->query_safe('SELECT pg_advisory_unlock(2)');
is(outcome($node, $id), 'timed_out|1|Task timed out', 'a handler that takes longer loses its process');
is(effects($id), "1 101 $me", 'and another one runs it');

# what can be done about a handler that takes long
$gate->query_safe('SELECT pg_advisory_lock(2)');
$id = work('return', '{"gate": 2}');
holder($node, 2);
is($node->safe_psql('postgres', "SELECT concat_ws(' ', status, is_abortable) FROM gtf_get_task('$id')"),
	'in_progress f', 'while cleanup handlers run the task is in progress');
my ($rc, $out, $err) = $node->psql('postgres', "SELECT gtf_cancel('$id')");
like($err, qr/ERROR:  task "$id" is ending and cannot be aborted any more/, 'and cannot be cancelled');
$node->safe_psql('postgres', "SELECT gtf_revoke('$id', true, 'SIGINT')");
is(outcome($node, $id), 'failure|1|Cleanup handler failed: canceling statement due to user request|query_canceled',
	'gtf_revoke with SIGINT cancels the handler');
until_true($node, 'SELECT count(*) = 0 FROM gtf.abort_requests');

$id = work('abort', '{"gate": 2}');
executor_of($node, $id);
until_true($node, "SELECT is_abortable FROM gtf_get_task('$id')");
$node->safe_psql('postgres', "SELECT gtf_cancel('$id')");
$pid = holder($node, 2);
is(status($node, $id), 'aborting', 'while abort handlers run the task is aborting');
is($node->safe_psql('postgres', "SELECT gtf_cancel('$id')"), 'aborted', 'and another cancel has nothing to do');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
is(outcome($node, $id), 'failure|1|Abort handler failed: canceling statement due to user request|query_canceled',
	'pg_cancel_backend cancels an abort handler');

# the process is ended in the middle of a cleanup handler
$id = work('return', '{"gate": 2}');
$pid = holder($node, 2);
terminate($node, $pid);
until_true($node, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted AND pid <> $pid)");
$gate->query_safe('SELECT pg_advisory_unlock(2)');
is(outcome($node, $id), 'success|2', 'a task that is lost in its cleanup handlers');
is(effects($id), "1 101 $me, 2 101 $me", 'cleans up for both attempts');

# a crash forgets
$gate->query_safe('SELECT pg_advisory_unlock(1)');
$gate->quit;
$gate = gate($node, 1);
$id = work('work', '{"handlers": 1}');
holder($node, 1);
until_true($node, "SELECT EXISTS (SELECT FROM gtf.live WHERE task_id = '$id')");
$node->safe_psql('postgres', 'CHECKPOINT');
$node->stop('immediate');
$gate->{run}->finish;
$node->start;
is(outcome($node, $id), 'success|2', 'after a crash of the server the task runs again');
is(effects($id), "2 1 $me", 'and its handlers are forgotten');

# one slot for all: what nobody can come for is given up
$node->append_conf('postgresql.conf', 'gtf.max_slots = 1');
$node->restart;
$gate = gate($node, 1);
$id = work('work', '{"handlers": 1}');
terminate($node, holder($node, 1));
until_true($node, "SELECT attempt = 2 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2', 'the slot of a lost attempt does not keep others out for ever');
is(log_count($node, qr/WARNING:  cleanup handlers of gtf task $id did not run: no slot is free/, $log), 1,
	'a warning says what it cost');

$gate->quit;
$node->stop;
done_testing();
