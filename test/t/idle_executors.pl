# Idle executors take what is there, however many tasks come at once, and
# whatever becomes of the one that was woken first.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main',
	conf => "max_worker_processes = 48\ngtf.max_executors = 40\ngtf.executor_idle_timeout = '1h'");
create_bodies($node);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# Runs the tasks that are held to their end, until the executors sleep for
# good: one that has statistics to report wakes up for that, and looks for a
# task, too.
sub rest
{
	my ($gate, $n) = @_;

	# so that they report at the end of the task
	until_true($node, q{SELECT max(started_at) < now() - interval '1.1 s' FROM gtf.task_info WHERE status = 'in_progress'});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	until_true($node, "SELECT count(*) = $n FROM gtf.workers WHERE kind = 'executor' AND state = 'idle'");
	until_true($node, q{SELECT n_tup_ins = (SELECT count(*) FROM effects) FROM pg_stat_user_tables WHERE relname = 'effects'});
	$gate->query_safe('SELECT pg_advisory_lock(1)');
}

my $gate = gate($node, 1);

# the first time they are started for it
for my $what ('new', 'idle')
{
	sql(q{SELECT gtf_submit_many('hold', array_fill('{"key": 1}'::jsonb, ARRAY[40]))});
	until_true($node, q{SELECT count(*) = 40 FROM gtf.workers WHERE kind = 'executor' AND state = 'running'});
	pass("40 tasks of one transaction run at once in $what executors");
	rest($gate, 40);
}

# The executor that was woken for a task leaves before it takes it.  Both are
# stopped, so that it does not matter which it is: the older or the younger one
# leaves, and in one of the rounds this is the one that was woken.
sql(q{CREATE ROLE other LOGIN; ALTER SYSTEM SET gtf.max_executors = 3});
$node->reload;
until_true($node, q{SELECT count(*) = 3 FROM gtf.workers WHERE kind = 'executor'});
for my $order ('ASC', 'DESC', 'ASC')
{
	my @holders = map { submit($node, q{'hold', '{"key": 1}'}) } 1 .. 2;
	my $pids = join ', ', map { executor_of($node, $_) } @holders;
	my @pids = split /\n/, sql("SELECT pid FROM pg_stat_activity WHERE pid IN ($pids) ORDER BY backend_start $order");

	is(ended($node, submit($node, q{'note'}, user => 'other')), 'success', 'another owner has an executor');
	rest($gate, 3);
	kill 'STOP', @pids;
	my $id = submit($node, q{'note'});
	is(ended($node, submit($node, q{'note'}, user => 'other')), 'success', 'which runs a later task');
	kill 'TERM', $pids[0];
	kill 'CONT', $pids[0];
	until_true($node, "SELECT count(*) = 0 FROM gtf.workers WHERE pid = $pids[0]");
	kill 'CONT', $pids[1];
	is(ended($node, $id), 'success', 'a task is run when the executor that was woken for it leaves');
}

$gate->quit;
$node->stop;
done_testing();
