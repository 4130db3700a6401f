# Tasks that depend on others, while processes and the server go down: they
# start once, when all prerequisites have succeeded for good.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node(
	'main', conf => q{
gtf.max_executors = 6
gtf.queue_memory = 64kB
wal_writer_delay = 10s
});
create_bodies($node);
create_stuck_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION say(what text) RETURNS void LANGUAGE plpgsql AS
		$$BEGIN PERFORM effect(); RAISE LOG 'task % runs', what; END$$;
	SELECT gtf_register_task('say', 'say(text)')});

sub effects
{
	my ($id) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE task = '$id'");
}

sub waits
{
	my ($id) = @_;

	until_true($node, "SELECT wait_reason = 'dependency' FROM gtf_get_task('$id')");
	until_dispatched($node);
	return status($node, $id);
}

sub waits_for
{
	my ($id) = @_;

	return $node->safe_psql('postgres', "SELECT wait_reason FROM gtf_get_task('$id')");
}

# ---- a new dispatcher

my $gate = gate($node, 1);
my $first = submit($node, q{'hold', '{"key": 1}'});
my $second = submit($node, qq{'note', depends_on => '{$first}'});
my $third = submit($node, qq{'note', depends_on => '{$second, $first}', expires_at => now() + interval '1 h'});
my $expiring = submit($node, qq{'note', depends_on => '{$first}', expires_at => clock_timestamp() + interval '3 s'});
executor_of($node, $first);
is(waits($second), 'pending', 'a dependent task waits');
my $dispatcher = worker_pid($node, 'dispatcher');
terminate($node, $dispatcher);
new_worker($node, 'dispatcher', $dispatcher);
is(waits($third), 'pending', 'also under a new dispatcher');
is(outcome($node, $expiring), 'aborted|0|Task expired', 'one that waits expires under a new dispatcher');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $third), 'success|1', 'and runs when its prerequisites have');
is(effects($_), '1', 'once') for ($second, $third);

# ---- a dependent from elsewhere is not started until it is adopted

$gate->query_safe('SELECT pg_advisory_lock(1)');
$first = submit($node, q{'hold', '{"key": 1}'});
($second, $third) = map { submit($node, qq{'note', depends_on => '{$first}'}) } 1 .. 2;
is(waits($_), 'pending', 'a dependent task waits') for ($second, $third);
$node->safe_psql('postgres', "UPDATE gtf.tasks SET home = home + 1 WHERE id = '$second'");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $third), 'success|1', 'it runs when its prerequisite has');
until_dispatched($node);
is(effects($second), '0', 'but not one that is not ours');
$node->safe_psql('postgres', "UPDATE gtf.tasks SET home = home - 1 WHERE id = '$second'; SELECT gtf_adopt()");
is(outcome($node, $second), 'success|1', 'until it is');

# ---- the others

# one that ends while there is no dispatcher
$gate->query_safe('SELECT pg_advisory_lock(1)');
$first = submit($node, q{'hold', '{"key": 1}'});
$second = submit($node, qq{'note', depends_on => '{$first}'});
executor_of($node, $first);
waits($second);
$dispatcher = worker_pid($node, 'dispatcher');
kill 'STOP', $dispatcher;
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_status($node, $first, 'success');
terminate($node, $dispatcher);
kill 'CONT', $dispatcher;
is(outcome($node, $second), 'success|1', 'a prerequisite has ended while the dispatcher was away');

# ---- the flusher dies before it has told of the end

$gate->query_safe('SELECT pg_advisory_lock(1)');
$first = submit($node, q{'hold', '{"key": 1}'});
$second = submit($node, qq{'note', depends_on => '{$first}'});
executor_of($node, $first);
waits($second);
my $flusher = worker_pid($node, 'flusher');
kill 'STOP', $flusher;
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_status($node, $first, 'success');
terminate($node, $flusher);
kill 'CONT', $flusher;
is(outcome($node, $second), 'success|1', 'a prerequisite has ended while the flusher was away');

# ---- a queue of its own

$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT gtf_pause('later')});
$first = submit($node, q{'hold', '{"key": 1}'});
$second = submit($node, qq{'note', depends_on => '{$first}', queue => 'later'});
executor_of($node, $first);
waits($second);
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node, "SELECT wait_reason IS DISTINCT FROM 'dependency' FROM gtf_get_task('$second')");
is(outcome($node, submit($node, qq{'note', depends_on => '{$first}'})), 'success|1', 'a prerequisite has ended');
is(waits_for($second), 'paused', 'its other dependent task is in a queue that is paused');
$node->safe_psql('postgres', q{SELECT gtf_resume('later')});
is(outcome($node, $second), 'success|1', 'and runs when that is resumed');

# ---- the executor of the prerequisite dies

$first = submit($node, q{'stuck'});
$second = submit($node, qq{'note', depends_on => '{$first}'});
terminate($node, executor_of($node, $first));
until_true($node, "SELECT attempt = 2 FROM gtf_get_task('$first')");
is(waits($second), 'pending', 'a lost attempt is not the end');
$node->safe_psql('postgres', 'INSERT INTO released DEFAULT VALUES');
is(outcome($node, $second), 'success|1', 'and the next one succeeds');

# ---- many pairs that end at the same time

$node->safe_psql(
	'postgres', q{
	TRUNCATE effects;
	DO $$
	DECLARE a uuid; b uuid;
	BEGIN
		FOR i IN 1 .. 500 LOOP
			a := gtf_submit('note', '{"n": 1}');
			b := gtf_submit('note', '{"n": 2}');
			PERFORM gtf_submit('note', '{"n": 3}', depends_on => ARRAY[a, b]);
			PERFORM gtf_submit('note', '{"n": 3}', depends_on => ARRAY[b, a]);
			IF i % 3 = 0 THEN COMMIT; END IF;
		END LOOP;
	END $$});
until_true($node, q{SELECT count(*) >= 2000 FROM gtf.outcomes o JOIN effects e ON e.task = o.task_id WHERE o.status = 's'});
until_dispatched($node);
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*), count(DISTINCT task), max(attempt), count(*) FILTER (WHERE n = 3 AND NOT (
			SELECT bool_and(p.seq IS NOT NULL AND p.at < e.at)
			FROM gtf.tasks t, unnest(t.depends_on) d LEFT JOIN effects p ON p.task = d
			WHERE t.id = e.task)) AS too_early
		FROM effects e}),
	'2000|2000|1|0',
	'every dependent task runs once, after both prerequisites');

# ---- more prerequisites than can be remembered

$node->safe_psql(
	'postgres', q{
	TRUNCATE effects;
	DO $$
	DECLARE ids uuid[] := ARRAY(SELECT gtf_submit_many('note', array_fill('{"n": 1}'::jsonb, ARRAY[3000]), delay => '1 s'));
	BEGIN
		FOR i IN 1 .. 3000 LOOP
			PERFORM gtf_submit('note', '{"n": 2}', depends_on => ids[i : i + 1]);
		END LOOP;
	END $$});
until_true($node, q{SELECT count(*) = 6000 FROM effects});
until_dispatched($node);
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT task) FROM effects}),
	'6000|6000', 'all run, with little memory');

# ---- the server goes down

for my $mode ('fast', 'immediate')
{
	$node->safe_psql('postgres', 'TRUNCATE released');
	$first = submit($node, q{'stuck'});
	my $bad = submit($node, q{'raise', '{"message": "no"}', delay => '1 h'});
	$second = submit($node, qq{'note', depends_on => '{$first}'});
	$third = submit($node, qq{'note', depends_on => '{$second, $bad}'});
	executor_of($node, $first);
	waits($third);
	$gate->quit if $mode eq 'fast';
	$node->stop($mode);
	$node->start;
	executor_of($node, $first);
	is(waits($second), 'pending', "$mode: it still waits");
	$node->safe_psql('postgres', 'INSERT INTO released DEFAULT VALUES');
	is(outcome($node, $second), 'success|1', "$mode: and runs");
	is(effects($second), '1', "$mode: once");
	$node->safe_psql('postgres', "SELECT gtf_cancel('$bad')");
	like(outcome($node, $third), qr/^failure\|0\|Prerequisite task $bad did not succeed \(status=aborted\)/, "$mode: or fails");
}

# ---- a success that is not on disk: nobody starts because of it, and a crash
# takes it back

sub wal_writer
{
	return $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
}

my $lost = 0;
for my $try (1 .. 5)
{
	$gate = gate($node, 1);
	$node->safe_psql('postgres', q{
		CREATE OR REPLACE FUNCTION hold(key int, n int DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS
			$$BEGIN PERFORM effect(n); PERFORM pg_advisory_xact_lock_shared(key); RAISE LOG 'prerequisite % runs', n; END$$});
	$first = submit($node, qq{'hold', '{"key": 1, "n": $try}'});
	$second = submit($node, qq{'say', '{"what": "before $try"}', depends_on => '{$first}'});
	until_held($node, 1);
	waits($second);
	# when they have expired, the dispatcher has had a whole round
	my @rounds = map {
		submit($node, "'note', delay => '1 h', expires_at => clock_timestamp() + interval '$_ s'")
	} (3, 3.3);
	my @stopped = (wal_writer(), worker_pid($node, 'flusher'));
	kill 'STOP', @stopped;
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	until_status($node, $first, 'success');
	$third = $node->safe_psql('postgres',
		qq{SET synchronous_commit = off; SELECT gtf_submit('say', '{"what": "after $try"}', depends_on => '{$first}')});
	until_status($node, $_, 'aborted') for @rounds;
	my $ran = log_count($node, qr/task (before|after) $try runs/);
	my $offset = log_offset($node);
	kill 'KILL', @stopped;
	until_log($node, qr/terminating any other active server processes/, $offset);
	until_true($node, 'SELECT NOT pg_is_in_recovery()');
	eval { $gate->quit };
	is(ended($node, $second), 'success', 'its dependent runs');
	my $times = log_count($node, qr/prerequisite $try runs/);
	next if $times < 2;
	is($ran, 0, 'nobody has run because of a success that was lost');
	$lost = 1;
	last;
}
ok($lost, 'a success was lost');

until_true($node, "SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL AND run_at IS NULL");
nothing_left($node);
$node->stop;
done_testing();
