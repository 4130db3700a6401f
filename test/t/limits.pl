# Limits hold whatever happens to the processes: tasks that run at once, starts
# in a time, queues that are paused; and nobody else waits because of them.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $kills = $ENV{GTF_KILLS} // 40;
my $node = gtf_node(
	'main', conf => q{
gtf.max_executors = 4
max_prepared_transactions = 2
log_min_messages = warning
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE ROLE one LOGIN; CREATE ROLE two LOGIN;
	-- raises if another one of its kind runs
	CREATE FUNCTION alone(lock int DEFAULT 1, seconds float8 DEFAULT 0) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		IF NOT pg_try_advisory_xact_lock(7, lock) THEN RAISE EXCEPTION 'not alone'; END IF;
		PERFORM pg_sleep(seconds);
		PERFORM effect(lock);
	END$$;
	SELECT gtf_register_task('alone', 'alone(int,float8)', max_attempts => 1),
		gtf_register_task('alone too', 'alone(int,float8)', queue => 'single')});

sub count_of
{
	my ($where) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM gtf.task_info WHERE $where");
}

sub none_active
{
	until_true($node, q{SELECT NOT EXISTS (SELECT FROM gtf.task_info WHERE ended_at IS NULL)});
}

# one at a time, by type, by queue and by owner together
$node->safe_psql(
	'postgres', q{
	SELECT gtf_set_limit('task_type', 'alone', 1), gtf_set_limit('queue', 'single', 1), gtf_set_limit('owner', 'one', 1);
	SELECT count(gtf_submit('alone', '{"lock": 1}')) FROM generate_series(1, 300);
	SELECT count(gtf_submit('alone too', '{"lock": 2}')) FROM generate_series(1, 300);
	SET ROLE one;
	SELECT count(gtf_submit('alone too', '{"lock": 3}', queue => 'other', priority => n % 3)) FROM generate_series(1, 50) n});
none_active();
is(count_of(q{status = 'success'}), '650', 'a limit of one: no two ran at once');
$node->safe_psql(
	'postgres', q{
	TRUNCATE effects;
	SELECT count(gtf_submit('alone too', '{"lock": 3}', queue => 'q' || n % 5)) FROM generate_series(1, 100) n},
	extra_params => [ '-U', 'one' ]);
none_active();
is(count_of(q{status <> 'success'}), '0', 'nor of one owner, in several queues');

# the same while executors and dispatchers die
$node->safe_psql('postgres',
	'TRUNCATE effects; ALTER SYSTEM SET gtf.crash_limit = 1000; SELECT pg_reload_conf()');
my $batch = $kills * 20;
$node->safe_psql(
	'postgres', qq{
	SELECT count(gtf_submit('alone', '{"lock": 1, "seconds": 0.002}')) FROM generate_series(1, $batch);
	SELECT count(gtf_submit('alone too', '{"lock": 2, "seconds": 0.002}')) FROM generate_series(1, $batch)});
for my $kill (1 .. $kills)
{
	my $kind = $kill % 10 == 0 ? 'dispatcher' : 'executor';
	my $done = $node->safe_psql('postgres', 'SELECT count(*) FROM effects');

	last if $done >= 2 * $batch;
	$node->safe_psql('postgres',
		qq{SELECT pg_terminate_backend(pid) FROM gtf.workers
		  WHERE kind = '$kind' AND (kind = 'dispatcher' OR task_id IS NOT NULL) ORDER BY random() LIMIT 1});
	until_true($node, "SELECT count(*) > $done OR NOT EXISTS (SELECT FROM gtf.task_info WHERE ended_at IS NULL) FROM effects");
}
none_active();
is( $node->safe_psql('postgres', q{SELECT status, attempt, error_message FROM gtf.task_info WHERE status <> 'success'}),
	'', 'nor when executors and dispatchers are killed');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT task) FROM effects'),
	2 * $batch . '|' . 2 * $batch, 'and all have run, once');

# a backlog of limited tasks is in nobody's way
$node->safe_psql(
	'postgres', q{
	SELECT gtf_pause('single');
	SELECT count(gtf_submit('alone too', priority => 10)) FROM generate_series(1, 5000);
	SELECT gtf_set_limit('task_type', 'hold', 1);
	SELECT gtf_submit('hold', '{"key": 1}', priority => 10) FROM generate_series(1, 10)});
is(ended($node, submit($node, q{'note', '{"n": 1}'})), 'success',
	'others run behind a backlog that must not start');
is( $node->safe_psql('postgres', q{SELECT queue, ready, paused FROM gtf.queues WHERE queue = 'single'}),
	'single|5000|t',
	'none of which has started');

# what is set is there after a restart
$node->restart;
is(ended($node, submit($node, q{'note', '{"n": 1}'})), 'success', 'the server was restarted');
is( $node->safe_psql('postgres', q{SELECT queue, ready, paused FROM gtf.queues WHERE queue = 'single'}),
	'single|5000|t', 'the queue is still paused');

# also when nothing but gtf.flow has told the dispatcher
$node->safe_psql('postgres', q{BEGIN; SELECT gtf_resume('single'); PREPARE TRANSACTION 'resume'});
is(ended($node, submit($node, q{'note', '{"n": 1}'})), 'success', 'prepared: nothing has changed');
is(count_of(q{queue = 'single' AND status = 'pending'}), '5000', 'not resumed yet');
$node->safe_psql('postgres', q{COMMIT PREPARED 'resume'});
none_active();
is(count_of(q{status <> 'success'}), '0', 'resumed by COMMIT PREPARED');

# lowered and raised while tasks run
my $gate = gate($node, 5);
$node->safe_psql(
	'postgres', q{
	SELECT gtf_set_limit('task_type', 'hold', 3);
	SELECT gtf_submit('hold', '{"key": 5}') FROM generate_series(1, 10)});
until_held($node, 5, 3);
until_dispatched($node);
is(count_of(q{wait_reason = 'limit'}), '7', 'three run, others wait for the limit');
$node->safe_psql('postgres', q{SELECT gtf_set_limit('task_type', 'hold', 4)});
until_held($node, 5, 4);
$node->safe_psql('postgres', q{SELECT gtf_set_limit('task_type', 'hold', 1)});
terminate($node, $node->safe_psql('postgres', q{SELECT min(pid) FROM gtf.workers WHERE task_id IS NOT NULL}));
until_held($node, 5, 3);
until_dispatched($node);
until_held($node, 5, 3);
pass('a lower limit lets nothing start until it is kept');
$node->safe_psql('postgres', q{SELECT gtf_set_limit('task_type', 'hold', -1)});
until_held($node, 5, 4);
$gate->quit;
none_active();

# a limit for what runs already
$gate = gate($node, 6);
submit($node, q{'hold', '{"key": 6}'});
until_held($node, 6);
$node->safe_psql(
	'postgres', q{
	SELECT gtf_set_limit('task_type', 'hold', 1);
	SELECT gtf_submit('hold', '{"key": 6}')});
until_dispatched($node);
until_held($node, 6, 1);
$gate->quit;
none_active();
pass('a task that was started before there was a limit counts');

# rates: times between starts, across executors, restarts of the dispatcher
# and executors that are lost
$node->safe_psql(
	'postgres', q{
	SELECT gtf_set_limit('task_type', 'hold', -1);
	TRUNCATE gtf.tasks, gtf.outcomes;
	SELECT gtf_set_limit('task_type', 'note', rate => '20/s')});
my $offset = log_offset($node);
$node->safe_psql('postgres',
	q{SELECT count(gtf_submit('note', '{"n": 1}', queue => 'q' || n % 3)) FROM generate_series(1, 20) n},
	extra_params => [ '-U', $_ ])
  for qw(one two);
$node->safe_psql('postgres', q{SELECT gtf_cancel(gtf_submit('note', '{"n": 1}', priority => 5))});
none_active();
my $too_early = q{SELECT count(*), count(*) FILTER (WHERE started_at - before < '50 ms')
	FROM (SELECT started_at, lag(started_at) OVER (ORDER BY started_at) AS before
		FROM gtf.task_info WHERE task_type = 'note' AND started_at IS NOT NULL) AS _};
is($node->safe_psql('postgres', $too_early), '40|0', 'a rate: no start comes too early');
unlike(slurp_file($node->logfile, $offset), qr/(WARNING|ERROR): /, 'and nothing else goes wrong');
$node->safe_psql('postgres', 'TRUNCATE gtf.tasks, gtf.outcomes');
$node->safe_psql('postgres', q{SELECT count(gtf_submit('note', '{"n": 1}')) FROM generate_series(1, 40) n});
until_true($node, q{SELECT count(*) > 5 FROM gtf.outcomes});
my $dispatcher = worker_pid($node, 'dispatcher');
terminate($node, $dispatcher);
new_worker($node, 'dispatcher', $dispatcher);
none_active();
my ($all, $early) = split /\|/, $node->safe_psql('postgres', $too_early);
is($all, 40, 'all have run');
cmp_ok($early, '<=', 1, 'at most one starts early because of another dispatcher');
$node->safe_psql('postgres', q{SELECT gtf_set_limit('task_type', 'note', rate => '1/d')});
my $next = submit($node, q{'note', '{"n": 1}'});
until_true($node, "SELECT wait_reason = 'limit' FROM gtf.task_info WHERE id = '$next'");
$node->safe_psql('postgres', q{SELECT gtf_set_limit('task_type', 'note', rate => '0')});
is(ended($node, $next), 'success', 'until the rate is taken away');

# more owners than executors, one of them with a backlog
$node->safe_psql('postgres', q{SELECT gtf_set_pool(0, 2)});
$node->safe_psql(
	'postgres', q{
	TRUNCATE gtf.tasks, gtf.outcomes;
	DO $$BEGIN FOR i IN 1..12 LOOP EXECUTE format('CREATE ROLE owner%s LOGIN', i); END LOOP; END$$;
	CREATE FUNCTION nap() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(0.01)';
	SELECT gtf_register_task('nap', 'nap()');
	SELECT count(gtf_submit('nap')) FROM generate_series(1, 4000)});
$node->safe_psql('postgres', q{SELECT gtf_submit('nap')}, extra_params => [ '-U', "owner$_" ]) for 1 .. 12;
until_true($node, q{SELECT count(*) = 12 FROM gtf.task_info WHERE owner::text LIKE 'owner%' AND status = 'success'});
cmp_ok(count_of(q{status = 'pending'}), '>', 0, 'nobody waits for the end of the backlog of another owner');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM gtf.workers WHERE kind = 'executor'}), '<=', 3,
	'with two executors, and maybe one that is leaving');
$node->safe_psql('postgres', q{TRUNCATE gtf.tasks, gtf.outcomes; SELECT gtf_set_pool(2, NULL)});

# an executor that is to leave does so after its task
$gate = gate($node, 8);
my $held = submit($node, q{'hold', '{"key": 8}'});
my $executor = executor_of($node, $held);
is($node->safe_psql('postgres', "SELECT gtf_worker_shutdown($executor)"), 't', 'an executor is told to leave');
is($node->safe_psql('postgres', "SELECT gtf_worker_shutdown($executor)"), 't', 'once more');
until_held($node, 8);
$gate->quit;
is(ended($node, $held), 'success', 'its task is not disturbed');
until_true($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $executor)");

# idle executors stay, as many as the pool's minimum
$node->safe_psql('postgres', 'ALTER SYSTEM SET gtf.executor_idle_timeout = 1; SELECT pg_reload_conf()');
my @gated = map { submit($node, q{'hold', '{"key": 9}'}) } 1 .. 4;
$gate = gate($node, 9);
push @gated, map { submit($node, q{'hold', '{"key": 9}'}) } 1 .. 4;
until_held($node, 9, 4);
$gate->quit;
ended($node, $_) for @gated;
my $executors = q{SELECT count(*) FROM gtf.workers WHERE kind = 'executor'};
until_true($node, "SELECT ($executors) = 2");
$node->safe_psql('postgres', q{SELECT gtf_set_pool()});
until_true($node, "SELECT ($executors) = 0");
pass('the minimum of the pool stays, and goes when there is none');

# a session that runs a task itself is none of the pool, and counts for no limit
$node->safe_psql('postgres', q{SELECT gtf_set_pool(1, 2), gtf_set_limit('task_type', 'hold', 1)});
$gate = gate($node, 10, 11);
my $inline = session($node);
$inline->query_until(qr/runs/, qq{\\echo runs\nCALL gtf_run('hold', '{"key": 11}');\n\\echo ended\n});
until_held($node, 11);
my $session = $node->safe_psql('postgres',
	q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 11 AND NOT granted});
is($node->safe_psql('postgres', "SELECT gtf_worker_shutdown($session)"), 'f', 'it is no executor that could leave');
@gated = map { submit($node, q{'call_hold', '{"key": 10}'}) } 1 .. 2;
until_held($node, 10, 2);
my $old = join ', ', map { executor_of($node, $_) } @gated;
my $cannot = submit($node, q{'hold', '{"key": 12}'});
until_dispatched($node);
is($node->safe_psql('postgres', "SELECT wait_reason FROM gtf_get_task('$cannot')"), 'executor',
	'another task of its type waits for no limit');
$gate->query_safe('SELECT pg_advisory_unlock(10)');
is(ended($node, $_), 'success', 'a task has ended') for @gated, $cannot;
until_true($node, "SELECT ($executors) < 2");
my $note = submit($node, q{'note'});
ended($node, $note);
is($node->safe_psql('postgres', "SELECT worker IN (SELECT 'executor ' || unnest(ARRAY[$old])) FROM gtf_get_task('$note')"),
	't', 'and an executor has stayed');
$gate->quit;
$inline->query_until(qr/ended/, '');
$inline->quit;
$node->safe_psql('postgres', q{SELECT gtf_set_pool(), gtf_set_limit('task_type', 'hold', -1)});

$node->stop;
done_testing();
