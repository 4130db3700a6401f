# Cancels while the dispatcher or the executor is gone, or the server crashes.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => q{
gtf.max_executors = 2
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION doze() RETURNS void LANGUAGE plpgsql AS
		$$BEGIN PERFORM effect(); WHILE gtf_sleep('1 min') LOOP END LOOP; RAISE 'stopped' USING ERRCODE = 'query_canceled'; END$$;
	SELECT gtf_register_task('deaf', 'hold(int,int)', abort => 'poll'),
		gtf_register_task('doze', 'doze()', abort => 'poll');
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

my ($id, $pending, $wait, $dispatcher);

# While there is no dispatcher: what has not started is ended by the caller,
# what runs is told by the caller.
my $launcher = worker_pid($node, 'launcher');
$id = submit($node, q{'doze'});
my $deaf = submit($node, q{'deaf', '{"key": 1}'});
$pending = submit($node, q{'note', delay => '1 h'});
my $deaf_pid = executor_of($node, $deaf);
executor_of($node, $id);
kill 'STOP', $launcher;
$dispatcher = worker_pid($node, 'dispatcher');
terminate($node, $dispatcher);
until_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $dispatcher");
my @waits = map { waiter($node, $_) } $id, $pending;
sql("SELECT gtf_cancel('$id'), gtf_cancel('$pending')");
is($_->(), 'aborted', 'cancelled without a dispatcher') for @waits;
is(effects($id), '0', 'a body that raises has no effects');
# its executor is gone, too
terminate($node, $deaf_pid);
until_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $deaf_pid");
is(sql("SELECT gtf_cancel('$deaf')"), 'aborted', 'cancelled without an executor');
$wait = waiter($node, $deaf);
kill 'CONT', $launcher;
is($wait->(), 'aborted', 'settled by the next dispatcher');
is(outcome($node, $deaf), 'aborted|1', 'it does not run again');
is(effects($deaf), '0', 'and has no effects');
new_worker($node, 'dispatcher', $dispatcher);

# A committed cancel survives a crash.
$id = submit($node, q{'deaf', '{"key": 1}'});
$pending = submit($node, q{'note', delay => '1 h'});
executor_of($node, $id);
until_true($node, "SELECT count(*) = 1 FROM gtf.live WHERE task_id = '$id'");
sql("SELECT gtf_cancel('$id'), gtf_cancel('$pending')");
$node->kill9;
start_after_crash($node);
until_true($node, 'SELECT true');
is(status($node, $pending), 'aborted', 'pending, cancelled, crash');
is(outcome($node, $id), 'aborted|1', 'running, cancelled, crash: it does not run again');
is(effects($id), '0', 'and has no effects');

nothing_left($node);

$node->stop;
done_testing();
