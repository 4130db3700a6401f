# PREPARE TRANSACTION after a cancel: nothing happens before COMMIT PREPARED,
# then everything, even after a restart.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => q{
gtf.max_executors = 2
max_prepared_transactions = 10
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION raise_after(key int) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect(), pg_advisory_xact_lock_shared(key);
		IF (SELECT attempt FROM gtf_context()) = 1 THEN RAISE EXCEPTION 'no'; END IF;
	END$$;
	SELECT gtf_register_task('interrupted', 'hold(int,int)', abort => 'interrupt'),
		gtf_register_task('raise_after', 'raise_after(int)', retry_delay => '1 h');
});
my $gate = gate($node, 1);

sub sql
{
	return $node->safe_psql('postgres', join('; ', @_));
}

my $s = session($node);
my ($id, $revoked, $pending, $kept, $wait, @waits);

$id = submit($node, q{'interrupted', '{"key": 1}'});
$revoked = submit($node, q{'hold', '{"key": 1}'});
executor_of($node, $_) for $id, $revoked;
$pending = submit($node, q{'note', '{"n": 1}'});
$kept = submit($node, q{'note', '{"n": 2}'});
my $failed = submit($node, q{'raise', '{"message": "no"}', priority => 5});
$s->query_safe("BEGIN; SELECT gtf_cancel('$id'), gtf_revoke('$revoked', true), gtf_cancel('$pending')");
$s->query_safe("PREPARE TRANSACTION 'wanted'");
$s->query_safe("BEGIN; SELECT gtf_cancel('$kept'); PREPARE TRANSACTION 'unwanted'");
my ($status_before) = sql("SELECT string_agg(gtf_status(t), ' ' ORDER BY n) FROM unnest('{$id,$revoked,$pending,$kept}'::uuid[]) WITH ORDINALITY u (t, n)");
is($status_before, 'in_progress in_progress pending pending', 'prepared: nothing has happened');
@waits = map { waiter($node, $_) } $id, $revoked;
my $listener = session($node);
$listener->query_safe(qq{LISTEN "gtf:complete:$_"; LISTEN "gtf:abort:$_"}) for $id, $revoked, $pending, $kept;
$s->query_safe("COMMIT PREPARED 'wanted'");
is($_->(), 'aborted', 'COMMIT PREPARED stops what runs') for @waits;
is(outcome($node, $pending), 'aborted|0', 'and what has not started');
my ($heard, @signals) = ('');
for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
{
	# psql looks for notifications after each command
	$heard .= $listener->query_safe('SELECT') . "\n";
	@signals = sort map { "$_ " . join ' ', $heard =~ /"gtf:\w+:$_" with payload "(\w+)"/g } $id, $revoked, $pending, $kept;
	last if 3 <= grep { /aborted/ } @signals;
	Time::HiRes::usleep(50_000);
}
is(join(', ', @signals), join(', ', sort "$id abort aborted", "$revoked abort aborted", "$pending aborted", "$kept "),
	'all are signalled');
$listener->quit;
is(ended($node, $failed), 'failure', 'executors are free');
nobody_waits($node, 'prepared: nobody waits for the transaction');
$wait = waiter($node, $kept);
$s->query_safe("ROLLBACK PREPARED 'unwanted'");
is($wait->(), 'success', 'ROLLBACK PREPARED lets it run');

$gate->query_safe('SELECT pg_advisory_unlock(1)');
($pending, my $retried) = map { submit($node, $_) } q{'note', delay => '1 h'}, q{'raise_after', '{"key": 1}'};
ended($node, $retried);
# before it is due
$kept = $s->query_safe("SELECT gtf_submit('note', delay => '1 s') AS kept \\gset
	BEGIN; SELECT gtf_cancel('$pending') AS a, gtf_cancel(:'kept') AS b, gtf_retry('$retried') AS c \\gset
	PREPARE TRANSACTION 'restart'; SELECT :'kept'");
$_->quit for $s, $gate;
$node->restart;
is(ended($node, submit($node, q{'note'})), 'success', 'prepared before a restart: tasks go on');
until_true($node, "SELECT clock_timestamp() > run_at + interval '0.2 s' FROM gtf_get_task('$kept')");
is(ended($node, submit($node, q{'note'})), 'success', 'also when the task is due');
nobody_waits($node, 'prepared before a restart: nobody waits for the transaction');
$wait = waiter($node, $kept);
sql(q{COMMIT PREPARED 'restart'});
is($wait->(), 'aborted', 'COMMIT PREPARED wakes who waits');
is(outcome($node, $pending), 'aborted|0', 'after a restart, too');
is(outcome($node, $retried), 'success|2', 'a prepared retry runs');
is(sql("SELECT count(*) FROM effects WHERE task IN ('$pending', '$kept')"), '0', 'without effects of what was cancelled');

nothing_left($node);

$node->stop;
done_testing();
