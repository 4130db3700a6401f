# Cancels that meet something else: a task that expires or is refused while the
# canceller's transaction is open, the end of an attempt, its retry, the next
# attempt, the next task of the executor.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => q{
gtf.max_executors = 2
deadlock_timeout = 100ms
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION raise_after(key int) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect(), pg_advisory_xact_lock_shared(key);
		IF (SELECT attempt FROM gtf_context()) = 1 THEN RAISE EXCEPTION 'no'; END IF;
	END$$;
	SELECT gtf_register_task('deaf', 'hold(int,int)', abort => 'poll', retry_delay => '10 ms'),
		gtf_register_task('raise_after', 'raise_after(int)', abort => 'poll', retry_delay => '1 h');
});
my $gate = gate($node, 1);

sub sql
{
	return $node->safe_psql('postgres', join('; ', @_));
}

my ($id, $s, $wait);

# Submit a task in a session and cancel it there in a transaction that stays
# open; at once, for the task shall not have expired or begun.
sub submit_and_cancel
{
	my ($submit) = @_;
	my $out = $s->query_safe("$submit AS id \\gset\nRESET ROLE; BEGIN; SELECT FROM gtf_cancel(:'id'); SELECT :'id'");

	return $out =~ s/\s//gr;
}

# a task that expires while its cancel is not committed
$s = session($node);
# without the warning that it will
my $expiring = q{SET client_min_messages = error; SELECT gtf_submit('note', delay => '1 h', expires_at => clock_timestamp() + interval '2 s')};
$id = submit_and_cancel($expiring);
until_true($node, "SELECT clock_timestamp() > expires_at + interval '0.2 s' FROM gtf_get_task('$id')");
is(ended($node, submit($node, q{'note'})), 'success', 'expired, cancel not committed: tasks go on');
nobody_waits($node, 'expired: nobody waits for the transaction');
is(status($node, $id), 'pending', 'and it is left alone');
my ($rc, $stdout, $stderr) = $node->psql('postgres', "SET lock_timeout = '20 ms'; SELECT gtf_cancel('$id')");
like($stderr, qr/canceling statement due to lock timeout/, 'who cancels it, too, waits, but for lock_timeout at most');
$wait = waiter($node, $id);
$s->query_safe('COMMIT');
is($wait->(), 'aborted', 'until the cancel is committed');
is(outcome($node, $id), 'aborted|0', 'without a message');
$id = submit_and_cancel($expiring);
until_true($node, "SELECT clock_timestamp() > expires_at + interval '0.2 s' FROM gtf_get_task('$id')");
$wait = waiter($node, $id);
$s->query_safe('ROLLBACK');
is($wait->(), 'aborted', 'or rolled back');
is(outcome($node, $id), 'aborted|0|Task expired', 'and it expires');

# a task that fails because its owner may not connect
sql(q{CREATE ROLE regress_gtf_out LOGIN; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC});
$id = submit_and_cancel(q{SET ROLE regress_gtf_out; SELECT gtf_submit('note', delay => '2 s')});
until_true($node, "SELECT clock_timestamp() > run_at + interval '0.2 s' FROM gtf_get_task('$id')");
is(ended($node, submit($node, q{'note'})), 'success', 'refused, cancel not committed: tasks go on');
nobody_waits($node, 'refused: nobody waits for the transaction');
$wait = waiter($node, $id);
$s->query_safe('ROLLBACK');
is($wait->(), 'failure', 'and it fails when that is rolled back');
sql(q{GRANT CONNECT ON DATABASE postgres TO PUBLIC});

# The task's commit waits for a lock that its canceller has: who waits for its
# end would wait for ever.
sql(q{CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1), (2);
	CREATE TABLE child (parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION bear(id int) RETURNS void LANGUAGE sql AS 'INSERT INTO child VALUES (id)'},
	q{SELECT gtf_register_task('bear', 'bear(int)', abort => 'poll'),
		gtf_register_task('bear_on', 'bear(int)')});
for my $type ('bear', 'bear_on')
{
	$s->query_safe('BEGIN; DELETE FROM parent WHERE id = 1');
	$id = submit($node, qq{'$type', '{"id": 1}'});
	until_true($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'gtf executor' AND wait_event_type = 'Lock'});
	like($s->query("SELECT gtf_cancel('$id')"),
		$type eq 'bear' ? qr/^aborted$/ : qr/^$/,
		"$type: a task whose commit waits for its canceller");
	$s->query('ROLLBACK');
	is(outcome($node, $id), 'success|1', "$type: it ends, and so does the cancel");
}
# what it said would be taken for the next error
$s->quit;
$s = session($node);

# A cancel comes after the end of the attempt that it was meant for, while the
# dispatcher is busy with something else.
my $dispatcher = worker_pid($node, 'dispatcher');
$id = submit($node, q{'raise_after', '{"key": 1}'});
executor_of($node, $id);
$s->query_safe("BEGIN; SELECT gtf_cancel('$id')");
kill 'STOP', $dispatcher;
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_status($node, $id, 'failure');
$s->query_safe('COMMIT');
is(sql('SELECT count(*) FROM gtf.abort_requests'), '1', 'too late: the request is there');
is(status($node, $id), 'failure', 'too late: the task has failed');
sql("SELECT gtf_retry('$id')");
kill 'CONT', $dispatcher;
is(outcome($node, $id), 'success|2', 'it is not the next attempt that is cancelled');
until_true($node, 'SELECT count(*) = 0 FROM gtf.abort_requests');

# the same, but the retry is not committed yet: the dispatcher goes on
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'raise_after', '{"key": 1}'});
executor_of($node, $id);
$s->query_safe("BEGIN; SELECT gtf_cancel('$id')");
kill 'STOP', $dispatcher;
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_status($node, $id, 'failure');
$s->query_safe('COMMIT');
$s->query_safe("BEGIN; SELECT gtf_retry('$id')");
kill 'CONT', $dispatcher;
is(ended($node, submit($node, q{'note'})), 'success', 'too late and retried, not committed: tasks go on');
nobody_waits($node, 'too late and retried: nobody waits for the transaction');
$s->query_safe('COMMIT');
is(outcome($node, $id), 'success|2', 'it is retried');
until_true($node, 'SELECT count(*) = 0 FROM gtf.abort_requests');

# In between the attempt has failed and the task waits for another: aborted.
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'raise_after', '{"key": 1}', max_attempts => 2});
executor_of($node, $id);
$s->query_safe("BEGIN; SELECT gtf_cancel('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node, "SELECT wait_reason = 'retry' FROM gtf_get_task('$id')");
$wait = waiter($node, $id);
$s->query_safe('COMMIT');
is($wait->(), 'aborted', 'a task that waits for a retry by the time of the commit');
is(outcome($node, $id), 'aborted|1', 'has one attempt');

# or runs again: the dispatcher asks the new attempt
for my $stop ('gtf_cancel(%s)', q{gtf_revoke(%s, true, 'SIGINT')}, 'gtf_revoke(%s, true)')
{
	my $type = $stop =~ /cancel/ ? 'deaf' : 'hold';

	$gate->query_safe('SELECT pg_advisory_lock(1)');
	$id = submit($node, qq{'$type', '{"key": 1}'});
	my $pid = executor_of($node, $id);
	$s->query_safe('BEGIN; SELECT ' . sprintf($stop, "'$id'"));
	terminate($node, $pid);
	until_true($node, "SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
	$s->query_safe('COMMIT');
	until_true($node, "SELECT gtf_status('$id') IN ('aborting', 'aborted')");
	pass("$stop: the next attempt is asked");
	# who is deaf is too late
	$gate->query_safe('SELECT pg_advisory_unlock(1)') if $type eq 'deaf';
	is(ended($node, $id), $type eq 'deaf' ? 'success' : 'aborted', "$stop: and follows");
	$gate->query_safe('SELECT pg_advisory_unlock(1)') if $type ne 'deaf';
}

# A request survives an error of the dispatcher.
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'raise_after', '{"key": 1}', max_attempts => 2});
executor_of($node, $id);
$s->query_safe("BEGIN; SELECT gtf_cancel('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node, "SELECT wait_reason = 'retry' FROM gtf_get_task('$id')");
my $offset = log_offset($node);
$s->query_safe('ALTER TABLE gtf.abort_requests RENAME TO gone; COMMIT');
ok(until_log($node, qr/relation "gtf.abort_requests" does not exist/, $offset), 'the dispatcher cannot read the requests');
sql('ALTER TABLE gtf.gone RENAME TO abort_requests');
is(outcome($node, $id), 'aborted|1', 'it tries again');

# The executor is revoked at the last moment of a task: the next one does not
# die of it.  A long division cannot be interrupted.
sql(q{CREATE FUNCTION divide(a numeric DEFAULT repeat('7', 60000)::numeric, b numeric DEFAULT repeat('3', 30000)::numeric)
		RETURNS numeric LANGUAGE internal AS 'numeric_div';
	CREATE PROCEDURE divide_and_revoke(INOUT divides uuid DEFAULT NULL, INOUT next uuid DEFAULT NULL, INOUT told text DEFAULT NULL)
	LANGUAGE plpgsql AS $$BEGIN
		divides := gtf_submit('divide');
		next := gtf_submit('call_hold', '{"key": 2}');
		COMMIT;
		WHILE gtf_status(divides) = 'pending' LOOP PERFORM pg_sleep(0.001); END LOOP;
		BEGIN
			told := gtf_revoke(divides, true);
		EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
		END;
	END$$},
	q{SELECT gtf_register_task('divide', 'divide(numeric,numeric)')});
$node->append_conf('postgresql.conf', 'gtf.max_executors = 1');
$node->reload;
until_true($node, q{SELECT count(*) <= 1 FROM gtf.workers WHERE kind = 'executor'});
my $revoked = '';
for my $try (1 .. 100)
{
	my ($divides, $next, $told) = split /\|/, sql('CALL divide_and_revoke()');

	is(outcome($node, $next), 'success|1', "the next task runs ($try)");
	$revoked = $told && ended($node, $divides);
	last if $revoked eq 'success';
}
is($revoked, 'success', 'the revoked one had come to its end');
$node->append_conf('postgresql.conf', 'gtf.max_executors = 2');
$node->reload;

# A body that has caught its interrupt was told, whatever comes after.
sql(q{CREATE FUNCTION catches() RETURNS numeric LANGUAGE plpgsql AS $$BEGIN
		PERFORM pg_sleep(60);
	EXCEPTION WHEN query_canceled THEN
		PERFORM pg_advisory_xact_lock(3);
		RETURN divide();
	END$$},
	q{SELECT gtf_register_task('catches', 'catches()', abort => 'interrupt')});
for my $try (1 .. 3)
{
	$id = submit($node, q{'catches'});
	until_true($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'gtf executor' AND wait_event = 'PgSleep'});
	sql("SELECT gtf_cancel('$id')");
	# while it divides, or too late where that is fast
	until_true($node, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 3) OR ended_at IS NOT NULL FROM gtf_get_task('$id')");
	$node->psql('postgres', "SELECT gtf_revoke('$id', true, 'SIGINT')");
	is(outcome($node, $id), 'aborted|1', "interrupted twice, caught once ($try)");
}

# An executor ends between the failure of an attempt and handing over the next:
# while it waits for the lock of a temporary table that it removes.
sql(q{CREATE PROCEDURE leaves_temp() LANGUAGE plpgsql AS $$BEGIN
		CREATE TEMP TABLE left_behind ();
		COMMIT;
		PERFORM pg_advisory_xact_lock_shared(1);
		IF (SELECT attempt FROM gtf_context()) = 1 THEN RAISE EXCEPTION 'once more'; END IF;
	END$$},
	q{SELECT gtf_register_task('leaves_temp', 'leaves_temp()', max_attempts => 2, retry_delay => '0')});
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'leaves_temp'});
my $pid = executor_of($node, $id);
until_true($node, q{SELECT count(*) = 1 FROM pg_class WHERE relname = 'left_behind'});
$s->query_safe('BEGIN; LOCK TABLE '
	  . sql(q{SELECT relnamespace::regnamespace || '.left_behind' FROM pg_class WHERE relname = 'left_behind'})
	  . ' IN ACCESS SHARE MODE');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node, "SELECT wait_event = 'relation' FROM pg_stat_activity WHERE pid = $pid");
terminate($node, $pid);
$s->query_safe('COMMIT');
is(outcome($node, $id), 'success|2', 'an executor that ends after the failure of an attempt loses no retry');

# A cancel that fails in the middle of writing leaves the session as it was.
$s->query_safe('BEGIN; LOCK TABLE gtf.outcomes IN SHARE MODE');
$id = submit($node, q{'note', delay => '1 h'});
for my $cancel ("gtf_cancel('$id')", "gtf_cancel(ARRAY['$id']::uuid[])")
{
	(undef, $stdout) = $node->psql('postgres',
		"SET lock_timeout = '20 ms';\nSELECT $cancel;\nSELECT 'it goes on';",
		on_error_stop => 0);
	like($stdout, qr/it goes on$/, "an error in $cancel");
}
$s->query_safe('COMMIT');
is(sql("SELECT gtf_cancel('$id')"), 'aborted', 'and it can be tried again');

# A task that is submitted and cancelled while the dispatcher is in the middle
# of something does not run, not even in vain.  The dispatcher is a new one,
# which knows nothing of the tasks above.
sql(q{CREATE SEQUENCE begun; CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql AS $$SELECT nextval('begun')$$},
	q{SELECT gtf_register_task('counted', 'counted()')});
terminate($node, $dispatcher);
new_worker($node, 'dispatcher', $dispatcher);
ended($node, submit($node, q{'note'}));
$s->query_safe('BEGIN; LOCK TABLE gtf.outcomes IN SHARE MODE');
submit($node, q{'note', delay => '1 h', expires_at => clock_timestamp() + interval '0.2 s'});
until_true($node, q{SELECT wait_event = 'relation' FROM pg_stat_activity WHERE backend_type = 'gtf dispatcher'});
$id = submit($node, q{'counted'});
$s->query_safe("SELECT gtf_cancel('$id'); COMMIT");
is(ended($node, submit($node, q{'note'})), 'success', 'other tasks run');
is(outcome($node, $id), 'aborted|0', 'submitted and cancelled');
is(sql('SELECT is_called FROM begun'), 'f', 'it has not begun');

nothing_left($node);

$node->stop;
done_testing();
