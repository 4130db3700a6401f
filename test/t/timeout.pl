# Timeouts that meet something else: the end of the task, a cancel, a body that
# will not stop, a dispatcher that is gone.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node(
	'main', conf => q{
gtf.max_executors = 3
gtf.kill_grace = 1
log_min_messages = info
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE SEQUENCE caught;
	-- neither an interrupt nor a poll stops it
	CREATE FUNCTION stubborn(seconds float8 DEFAULT 60) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		until timestamptz := clock_timestamp() + seconds * interval '1 s';
	BEGIN
		PERFORM effect();
		WHILE clock_timestamp() < until LOOP
			BEGIN
				PERFORM gtf_is_aborting(), pg_sleep(0.1);
			EXCEPTION WHEN query_canceled THEN
				PERFORM nextval('caught');
			END;
		END LOOP;
	END$$;
	-- does not stop when it is told, but some time later
	CREATE FUNCTION slow_witted() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		told int := 0;
	BEGIN
		PERFORM effect();
		WHILE told < 5 LOOP
			PERFORM pg_sleep(0.05);
			told := told + gtf_is_aborting()::int;
		END LOOP;
	END$$;
	CREATE FUNCTION doze(n int DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect(n);
		IF NOT gtf_sleep('1 min') THEN RAISE query_canceled; END IF;
	END$$;
	CREATE FUNCTION naps(ms float8) RETURNS void LANGUAGE plpgsql AS
		'BEGIN PERFORM effect(), pg_sleep(ms / 1000); END';
	CREATE FUNCTION told(key int) RETURNS void LANGUAGE plpgsql AS
		'BEGIN PERFORM effect(), pg_advisory_xact_lock_shared(key), gtf_check_abort(); END';
	SELECT gtf_register_task('stubborn', 'stubborn(float8)', abort => 'poll', max_attempts => 3),
		gtf_register_task('stubborn_never', 'stubborn(float8)', abort => 'never'),
		gtf_register_task('slow_witted', 'slow_witted()', abort => 'poll', timeout => '100 ms'),
		gtf_register_task('doze', 'doze(int)', abort => 'poll'),
		gtf_register_task('never', 'hold(int,int)', abort => 'never', timeout => '50 ms'),
		gtf_register_task('told', 'told(int)', abort => 'poll', timeout => '3 s'),
		gtf_register_task('naps', 'naps(float8)', abort => 'interrupt', timeout => '10 ms', max_attempts => 3);
	SELECT gtf_set_timeout('stubborn', '100 ms', '200 ms'), gtf_set_timeout('stubborn_never', NULL, '200 ms');

	-- what has to happen before the time is over: the tasks run, then a command
	CREATE PROCEDURE while_they_run(tasks uuid[], command text) LANGUAGE plpgsql AS $$
	BEGIN
		WHILE EXISTS (SELECT FROM unnest(tasks) id WHERE gtf_status(id) = 'pending') LOOP
			PERFORM pg_sleep(0.001);
		END LOOP;
		EXECUTE command;
	END$$;
});
my $gate = gate($node, 1);

sub sql
{
	return $node->safe_psql('postgres', join('; ', @_));
}

sub effects
{
	my ($id) = @_;

	return sql("SELECT count(*) FROM effects WHERE task = '$id'");
}

# its time is over
sub until_over
{
	my ($id) = @_;

	until_true($node,
		"SELECT clock_timestamp() > started_at + timeout + interval '0.2 s' FROM gtf_get_task('$id')");
}

my ($id, $wait);

# A body that catches each interrupt: after gtf.kill_grace its executor ends.
for my $type ('stubborn', 'stubborn_never')
{
	$id = submit($node, "'$type'");
	$wait = waiter($node, $id);
	is($wait->(), 'timed_out', "$type is ended");
	is(outcome($node, $id), 'timed_out|1|Task timed out', 'and is not tried again');
	is(effects($id), '0', 'it has no effects');
	is(sql("SELECT duration > '1.2 s' FROM gtf_get_task('$id')"), 't', 'after gtf.kill_grace');
	until_true($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE 'executor ' || pid = worker) FROM gtf_get_task('$id')");
}
cmp_ok(sql('SELECT last_value FROM caught'), '>', 1, 'it was interrupted more than once');
is(outcome($node, submit($node, q{'note'})), 'success|1', 'other tasks run');

# without a hard timeout: told, and left alone
my $offset = log_offset($node);
$id = submit($node, q{'slow_witted'});
is(outcome($node, $id), 'timed_out|1|Task timed out', 'a body that was told and goes on');
is(effects($id), '1', 'and returns in the end, keeps its effects');
is(log_count($node, qr/ (WARNING|ERROR|FATAL|LOG):  (?!statement|checkpoint)/, $offset), 0, 'nothing is logged');

# not abortable: one warning
$offset = log_offset($node);
$id = submit($node, q{'never', '{"key": 1}'});
my $hold = submit($node, q{'hold', '{"key": 1}', timeout => '50 ms'});
until_true($node, "SELECT timeout_exceeded FROM gtf_get_task('$_')") for $id, $hold;
until_over($_) for $id, $hold;
is(sql("SELECT gtf_status('$id'), gtf_status('$hold')"), 'in_progress|in_progress', 'a body that cannot be aborted runs on');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $_), 'success|1', 'and succeeds') for $id, $hold;
for ($id, $hold)
{
	until_log($node, qr/WARNING:  gtf task $_ /, $offset);
	is(log_count($node, qr/WARNING:  gtf task $_ has exceeded its timeout and cannot be aborted/, $offset), 1, 'with one warning');
}

# The first cause wins.
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $other = submit($node, q{'told', '{"key": 1}', timeout => '10 ms'});
$id = sql(q{SELECT gtf_submit('told', '{"key": 1}') AS id \gset
	CALL while_they_run(ARRAY[:'id'::uuid], format('SELECT gtf_cancel(%L)', :'id')); SELECT :'id'});
until_status($node, $other, 'aborting');
is(sql("SELECT gtf_cancel('$other')"), 'aborted', 'cancelled after its time is over');
until_over($id);
my @waits = map { waiter($node, $_) } $id, $other;
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is($_->(), $_ == $waits[0] ? 'aborted' : 'timed_out', 'the first cause wins') for @waits;
is(outcome($node, $id), 'aborted|1', 'cancelled, then its time was over');
is(outcome($node, $other), 'timed_out|1|Task timed out', 'its time was over, then cancelled');
is(sql("SELECT count(*) FROM gtf.abort_requests"), '0', 'no request is left');
# by the same clock
$id = submit($node, q{'told', '{"key": 2}', timeout => '0'});
is(outcome($node, $id), 'success|1', 'no timeout');

# the dispatcher enforces it
in_time(
	'within 100 ms',
	sub {
		my $task = submit($node, q{'doze', timeout => '50 ms'});

		is(outcome($node, $task), 'timed_out|1|Task timed out', 'a timeout');
		return sql("SELECT duration < '150 ms' FROM gtf_get_task('$task')") eq 't';
	});

# While there is no dispatcher nobody looks at the clock: the next one does.
my $launcher = worker_pid($node, 'launcher');
my $dispatcher = worker_pid($node, 'dispatcher');
$gate->query_safe('SELECT pg_advisory_lock(1)');
sql(q{SELECT gtf_set_timeout('stubborn_never', NULL, '6 s')});
kill 'STOP', $launcher;
($id, my $hard, $hold) = split /\|/, sql(qq{
	SELECT gtf_submit('doze', timeout => '6 s') AS a, gtf_submit('stubborn_never') AS b,
		gtf_submit('never', '{"key": 1}', timeout => '6 s') AS c \\gset
	CALL while_they_run(ARRAY[:'a', :'b', :'c']::uuid[], 'SELECT pg_terminate_backend($dispatcher)'); SELECT :'a', :'b', :'c'});
until_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $dispatcher");
until_true($node, "SELECT clock_timestamp() > started_at + interval '6.1 s' FROM gtf_get_task('$hold')");
is(sql("SELECT gtf_status('$id')"), 'in_progress', 'without a dispatcher a task runs on');
@waits = map { waiter($node, $_) } $id, $hard;
kill 'CONT', $launcher;
is($_->(), 'timed_out', 'the next dispatcher ends it') for @waits;
until_true($node, "SELECT timeout_exceeded FROM gtf_get_task('$hold')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $hold), 'success|1', 'but not what cannot be aborted');

# The executor is terminated while it is asked to stop: timed out, not lost.
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'told', '{"key": 1}', timeout => '10 ms'});
until_status($node, $id, 'aborting');
terminate($node, sql("SELECT pid FROM gtf.workers WHERE task_id = '$id'"));
is(outcome($node, $id), 'timed_out|1|Task timed out', 'an executor that is terminated after the timeout');
$gate->query_safe('SELECT pg_advisory_unlock(1)');

# Bodies that end just when their time is over: one or the other.
sql(q{SELECT count(gtf_submit('naps', jsonb_build_object('ms', 6 + i % 80 / 10.0))) FROM generate_series(1, 300) i});
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL});
note sql(q{SELECT status, count(*) FROM gtf.task_info WHERE task_type = 'naps' GROUP BY 1});
is(sql(q{SELECT count(*) FROM gtf.task_info WHERE task_type = 'naps' AND (status NOT IN ('success', 'timed_out') OR attempt > 1)}),
	'0', 'a task ends in time or not');
is( sql(q{SELECT count(*) FROM gtf.task_info i
		WHERE task_type = 'naps' AND (status = 'success') <> EXISTS (SELECT FROM effects WHERE task = i.id)}),
	'0', 'with its effects or without');

is(sql('SELECT count(*) FROM gtf.live'), '0', 'nothing is left in gtf.live');
is(sql('SELECT count(*) FROM gtf.abort_requests'), '0', 'nor in gtf.abort_requests');

$node->stop;
done_testing();
