# Launcher, dispatcher and flusher can be terminated at any time: another one
# takes over, what runs goes on, no task is lost and none runs twice.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run qw(start);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 3');
create_bodies($node);

# A sequence counts how often bodies have begun, even those rolled back.
$node->safe_psql(
	'postgres', q{
	CREATE SEQUENCE runs;
	CREATE FUNCTION counted(n int DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS
		$$BEGIN PERFORM nextval('runs'), effect(n), pg_sleep(n / 1000.0); END$$;
	SELECT gtf_register_task('counted', 'counted(int)'),
		gtf_register_task('raise_twice', 'raise(text)', max_attempts => 2, retry_delay => '1 s')});

my $none_active =
  q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure', 'aborted')
	AND coalesce(run_at, now()) < now() + interval '1 hour'};

# a running task does not care
my $gate = gate($node, 1, 2, 3, 4);
my $id = submit($node, q{'hold', '{"key": 1}'});
my $executor = executor_of($node, $id);
my $started = $node->safe_psql('postgres', "SELECT started_at FROM gtf_get_task('$id')");
for my $kind ('dispatcher', 'flusher', 'launcher', 'dispatcher', 'flusher')
{
	my $pid = worker_pid($node, $kind);

	terminate($node, $pid);
	new_worker($node, $kind, $pid);
}
is( $node->safe_psql('postgres',
		"SELECT status, attempt, worker, started_at FROM gtf_get_task('$id')"),
	"in_progress|1|executor $executor|$started",
	'a task runs on while all other processes are replaced');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|1', 'and ends as usual');

# tasks of all kinds that wait while the dispatcher is replaced
my $holder = submit($node, q{'hold', '{"key": 2}'});
executor_of($node, $holder);
my @ids = (
	submit($node, q{'counted', delay => '500 ms'}),
	submit($node, q{'raise_twice', '{"message": "a"}'}),
	submit($node, q{'counted', delay => '1 day'}));
until_true($node, "SELECT count(*) = 1 FROM gtf.task_attempts WHERE task_id = '$ids[1]'");
my $pid = worker_pid($node, 'dispatcher');
terminate($node, $pid);
$pid = new_worker($node, 'dispatcher', $pid);
push @ids, submit($node, q{'counted'});
terminate($node, $pid);
is(outcome($node, $ids[0]), 'success|1', 'a delayed task');
is(outcome($node, $ids[1]), 'failure|2|a|raise_exception', 'a retrying task');
is(status($node, $ids[2]), 'pending', 'a task for tomorrow');
is(outcome($node, $ids[3]), 'success|1', 'a task submitted meanwhile');
$gate->query_safe('SELECT pg_advisory_unlock(2)');
is(outcome($node, $holder), 'success|1', 'and the one that was running');

# what expires while it runs runs on, though a new dispatcher reads the table
$gate->query_safe('SELECT pg_advisory_lock(1)');
for my $time ('0.5 s', '5 s', '50 s')
{
	$id = submit($node, qq{'hold', '{"key": 1}', expires_at => clock_timestamp() + interval '$time'});
	until_true($node, "SELECT gtf_status('$id') <> 'pending'");
	last if status($node, $id) eq 'in_progress';
}
$pid = worker_pid($node, 'dispatcher');
terminate($node, $pid);
new_worker($node, 'dispatcher', $pid);
is(outcome($node, submit($node, q{'counted'})), 'success|1', 'the table has been read');
until_true($node, "SELECT clock_timestamp() > expires_at FROM gtf.tasks WHERE id = '$id'");
until_true($node, "SELECT gtf_status('" . submit($node, q{'counted', delay => '1 h', expires_at => clock_timestamp() + interval '0.3 s'}) . "') = 'aborted'");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|1', 'a running task does not expire');

# submitted while there is no dispatcher, nor a launcher to start one
$pid = worker_pid($node, 'launcher');
my $dispatcher = worker_pid($node, 'dispatcher');
$node->safe_psql('postgres',
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ($pid, $dispatcher)");
@ids = map { submit($node, q{'counted'}) } 1 .. 3;
is(join(' ', map { outcome($node, $_) } @ids),
	'success|1 success|1 success|1', 'submitted without launcher and dispatcher');

# an executor lost while there is no dispatcher
new_worker($node, 'launcher', $pid);
$pid = worker_pid($node, 'dispatcher');
$id = submit($node, q{'hold', '{"key": 3}'});
$executor = executor_of($node, $id);
$node->safe_psql('postgres',
	"SELECT pg_terminate_backend($pid), pg_terminate_backend($executor)");
until_true($node,
	"SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(3)');
is(outcome($node, $id), 'success|2', 'an executor lost together with the dispatcher');

# The flusher dies between the end of a task and telling the waiters.
$id = submit($node, q{'hold', '{"key": 4}'});
executor_of($node, $id);
my ($out, $err) = ('', '');
my $waiter = start [
	'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL gtf_wait('$id')"
  ],
  '<', \undef, '>', \$out, '2>', \$err;
until_true($node,
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL gtf_wait%' AND wait_event_type = 'Extension'});
$pid = worker_pid($node, 'flusher');
kill 'STOP', $pid;
$gate->query_safe('SELECT pg_advisory_unlock(4)');
until_true($node, $none_active);
kill 'TERM', $pid;
kill 'CONT', $pid;
$waiter->finish;
is($out, "success\n", 'a waiter learns from the next flusher');

# under load
sub runs_and_tasks
{
	until_true($node, $none_active);
	return $node->safe_psql(
		'postgres', q{
		SELECT (SELECT last_value FROM runs) - (SELECT count(*) FROM gtf.task_info WHERE task_type = 'counted' AND status = 'success'),
			(SELECT count(*) FROM gtf.task_info WHERE status = 'failure'),
			(SELECT count(*) FROM (SELECT task FROM effects GROUP BY task, attempt HAVING count(*) > 1) AS _)});
}
is(runs_and_tasks(), '0|1|0', 'so far every body has run once');

my $script = $node->basedir . '/load.sql';
append_to_file($script, q{
\set kind random(1, 10)
\if :kind = 1
SELECT count(gtf_submit('counted', '{"n": 20}')) FROM generate_series(1, 5);
\elif :kind = 2
BEGIN; SELECT gtf_submit('counted'); ROLLBACK;
\elif :kind = 3
SELECT gtf_submit('counted', delay => '100 ms');
\else
SELECT gtf_submit('counted', priority => :kind);
\endif
});
my $load = start [
	'pgbench', '-n', '-c', 2, '-T', 60, '-R', 100, '-f', $script,
	'-d', $node->connstr('postgres')
  ],
  '<', \undef, '>', \$out, '2>', \$err;
for my $kind ((('dispatcher') x 5, 'flusher', 'launcher') x 2)
{
	my $pid = worker_pid($node, $kind);

	terminate($node, $pid);
	new_worker($node, $kind, $pid) unless $kind eq 'launcher';
}
$load->signal('INT');
$load->finish;
is(runs_and_tasks(), '0|1|0',
	'every body has run once, while the workers were replaced');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.tasks'),
	'>', 100, 'there was work');
is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.live'),
	'0', 'nothing is left in gtf.live');

$gate->quit;
$node->stop;
done_testing();
