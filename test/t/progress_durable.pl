# What running tasks report survives them: it is written down now and then
# while they run, and stays with the outcome when the executor or the whole
# server is lost.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use List::Util qw(min);
use Time::HiRes qw(usleep);

my $node = gtf_node('main', init => { allows_streaming => 1 });

# Reports step i, then waits for the gate key + i.  The result is what the
# attempt has found when it began.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION steps(key int, n int, size int DEFAULT 0) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE
		c record;
		random text = (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, size / 32));
		found jsonb;
	BEGIN
		SELECT * INTO c FROM gtf_context();
		SELECT jsonb_build_object('attempt', c.attempt, 'payload', c.payload -> 'step', 'progress', progress_text,
				'seen', payload -> 'step') INTO found
			FROM gtf.task_info WHERE id = c.task_id;
		FOR i IN 1 .. n LOOP
			PERFORM gtf_update_progress(i, n, jsonb_build_object('step', i, 'random', random));
			PERFORM pg_advisory_xact_lock_shared(key + i);
		END LOOP;
		RETURN found;
	END $$;
	CREATE FUNCTION count_up(key int, size int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		random text = (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, size / 32));
	BEGIN
		PERFORM gtf_update_payload(jsonb_build_object('random', random));
		FOR i IN 1 .. 3 LOOP
			PERFORM gtf_update_progress(i);
			PERFORM pg_advisory_xact_lock_shared(key + i);
		END LOOP;
	END $$;
	-- opens one gate after the other; the seconds until each next step is written
	CREATE FUNCTION go_on(id uuid, key int, n int) RETURNS float8[] LANGUAGE plpgsql AS $$
	DECLARE
		started timestamptz;
		seconds float8[] = '{}';
	BEGIN
		FOR i IN 1 .. n - 1 LOOP
			started := clock_timestamp();
			PERFORM pg_advisory_unlock(key + i);
			WHILE NOT EXISTS (SELECT FROM gtf.live WHERE task_id = id AND progress_current = i + 1) LOOP
				PERFORM pg_sleep(0.001);
			END LOOP;
			seconds := seconds || extract(epoch FROM clock_timestamp() - started)::float8;
		END LOOP;
		RETURN seconds;
	END $$;
	SELECT gtf_register_task('steps', 'steps(int,int,int)', retry_delay => '0.01 s'),
		gtf_register_task('count_up', 'count_up(int,int)');
});

sub interval
{
	my ($value) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET gtf.progress_flush_interval = '$value'");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	until_true($node, "SELECT current_setting('gtf.progress_flush_interval') = '$value'");
}

sub live
{
	my ($id) = @_;

	return $node->safe_psql('postgres',
		"SELECT concat_ws('|', state, attempt, progress_kind, progress_current, progress_total, payload -> 'step')
		   FROM gtf.live WHERE task_id = '$id'");
}

sub until_live
{
	my ($id, $step) = @_;

	until_true($node,
		"SELECT EXISTS (SELECT FROM gtf.live WHERE task_id = '$id' AND progress_current = $step)");
}

sub outcomes
{
	my ($id) = @_;

	return $node->safe_psql('postgres',
		"SELECT string_agg(concat_ws('|', attempt, status, progress_current, progress_total, payload -> 'step'), ' ' ORDER BY attempt)
		   FROM gtf.outcomes WHERE task_id = '$id'");
}

# ---- the server crashes

interval('50ms');
my $gate = gate($node, 11, 12, 13);
my $id = submit($node, q{'steps', '{"key": 10, "n": 3, "size": 1000000}'});
my $other = submit_sql($node, 'DO $$ BEGIN PERFORM gtf_update_progress(0.25); PERFORM pg_advisory_xact_lock_shared(13); END $$',
	options => 'max_attempts => 2');
until_held($node, 11);
until_live($id, 1);
is(live($id), 'r|1|r|1|3|1', 'progress and payload are written while the task runs');
$gate->query_safe('SELECT pg_advisory_unlock(11)');
until_held($node, 12);
until_live($id, 2);
is(live($id), 'r|1|r|2|3|2', 'and again when there is news');
is( $node->safe_psql('postgres', "SELECT length(payload ->> 'random') FROM gtf.live WHERE task_id = '$id'"),
	'1000000', 'a large payload, too');
until_true($node, "SELECT EXISTS (SELECT FROM gtf.live WHERE task_id = '$other' AND progress_fraction = 0.25)");

# what is written is not flushed at once; this flushes all before it
$node->safe_psql('postgres', 'CREATE TABLE flushed ()');
$node->stop('immediate');
$gate->{run}->finish;
$node->start;
is(ended($node, $id), 'success', 'after a crash it runs again');
is(outcomes($id), '1|l|2|3|2 2|s|3|3|3', 'the lost attempt has what was written');
is( $node->safe_psql('postgres', "SELECT result FROM gtf_result('$id')"),
	'{"seen": 2, "attempt": 2, "payload": 2, "progress": null}',
	'the next attempt starts with its payload and without progress');
is(ended($node, $other), 'success', 'the command, too');
is( $node->safe_psql('postgres',
		"SELECT string_agg(concat_ws('|', attempt, status, progress_fraction), ' ' ORDER BY attempt) FROM gtf.outcomes WHERE task_id = '$other'"),
	'1|l|0.25 2|s|0.25', 'with its fraction');

# ---- only the executor is lost

interval('1h');
$gate = gate($node, 21, 22, 23);
$id = submit($node, q{'steps', '{"key": 20, "n": 3}'});
until_held($node, 21);
$gate->query_safe('SELECT pg_advisory_unlock(21)');
until_held($node, 22);
until_true($node, "SELECT EXISTS (SELECT FROM gtf.live WHERE task_id = '$id')");
is(live($id), 'r|1', 'nothing is written before the interval has passed');
my $pid = executor_of($node, $id);
terminate($node, $pid);
$gate->quit;
is(ended($node, $id), 'success', 'without its executor it runs again');
is(outcomes($id), '1|l|2|3|2 2|s|3|3|3', 'the lost attempt has what it reported last');
is( $node->safe_psql('postgres', "SELECT result ->> 'payload' FROM gtf_result('$id')"),
	'2', 'the next one has its payload');
until_true($node, "SELECT value = 0 FROM gtf.stats WHERE name = 'payload_memory_used'");

# ---- only what has changed is written

interval('20ms');
$gate = gate($node, 31, 32, 33, 71 .. 79);
$id = submit($node, q{'count_up', '{"key": 30, "size": 20000}'});
until_held($node, 31);
until_live($id, 1);

# The dispatcher goes round: it writes what another task reports, three times.
my $other_step = 0;
my $round = submit($node, q{'steps', '{"key": 70, "n": 9}'});
until_live($round, 1);

sub rounds
{
	for (1 .. 3)
	{
		$other_step++;
		$gate->query_safe("SELECT pg_advisory_unlock(70 + $other_step)");
		until_live($round, $other_step + 1);
	}
}
my $row = "SELECT ctid || ' ' || xmin FROM gtf.live WHERE task_id = '$id'";
my $chunks = q{SELECT string_agg(DISTINCT chunk_id::text, ' ') FROM } . $node->safe_psql('postgres',
	q{SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'gtf.live'::regclass});
# the report that came with the payload may be written in two steps
rounds();
my $before = $node->safe_psql('postgres', $row);
my $before_chunks = $node->safe_psql('postgres', $chunks);
like($before_chunks, qr/^\d+$/, 'the payload is stored out of line');
rounds();
is($node->safe_psql('postgres', $row), $before, 'without news nothing is written');
$gate->query_safe('SELECT pg_advisory_unlock(31)');
until_live($id, 2);
isnt($node->safe_psql('postgres', $row), $before, 'new progress is');
is($node->safe_psql('postgres', $chunks), $before_chunks, 'but not the payload, which is the same');

# as after a disk that was full when it should have been written
$node->safe_psql('postgres', "DELETE FROM gtf.live WHERE task_id = '$id'");
$gate->query_safe('SELECT pg_advisory_unlock(32)');
until_live($id, 3);
is( $node->safe_psql('postgres', "SELECT state, attempt, length(payload ->> 'random') FROM gtf.live WHERE task_id = '$id'"),
	'r|1|20000', 'a missing row is written whole');
until_true($node, q{SELECT n_tup_upd > 0 FROM pg_stat_all_tables WHERE relid = 'gtf.live'::regclass});
pass('autovacuum knows of the updates');
$gate->quit;
is(ended($node, $id), 'success', 'the end');
is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.live'), '0', 'deletes the row');

# ---- at once

interval('0');
$gate = gate($node, 41 .. 46);
$id = submit($node, q{'steps', '{"key": 40, "n": 6}'});
until_held($node, 41);
until_live($id, 1);
# measured in the server: a client takes long to start on a slow machine
my @times = split /,/, $gate->query_safe("SELECT array_to_string(go_on('$id', 40, 6), ',')");
note "seconds: @times";
# somebody who looks from time to time, as it does when it is not woken, comes
# in time for one report, but not for the next one
cmp_ok(min(map { $times[$_] + $times[ $_ + 1 ] } 0 .. 3), '<', 1.5, 'with interval 0 the dispatcher is woken');
$gate->query_safe('SELECT pg_advisory_unlock(46)');
is(ended($node, $id), 'success', 'the end of it');
$gate->quit;

# ---- the end comes while the dispatcher writes

$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION hurry(n int, size int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		random text = (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, size / 32));
	BEGIN
		FOR i IN 1 .. 20 LOOP
			PERFORM gtf_update_progress(i, 20, jsonb_build_object('i', i, 'random', random));
			PERFORM pg_sleep(random() * 0.005);
		END LOOP;
		IF n % 3 = 0 THEN RAISE 'failed'; END IF;
	END $$;
	SELECT gtf_register_task('hurry', 'hurry(int,int)');
	SELECT count(gtf_submit('hurry', jsonb_build_object('n', n, 'size', 100000))) FROM generate_series(1, 120) n;
});
until_true($node, q{SELECT count(*) = 120 FROM gtf.task_info WHERE task_type = 'hurry' AND status IN ('success', 'failure')});
is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.live'), '0', 'no row is left behind');
is( $node->safe_psql(
		'postgres', q{SELECT count(*), count(*) FILTER (WHERE status = 'failure') FROM gtf.task_info
		WHERE task_type = 'hurry' AND attempt = 1 AND progress_text = '20 of 20 (100%)' AND payload ->> 'i' = '20'}),
	'120|40',
	'each has its last report');
until_true($node, "SELECT value = 0 FROM gtf.stats WHERE name = 'payload_memory_used'");

# ---- short tasks cost nothing

interval('2s');
$node->safe_psql('postgres', 'CREATE DATABASE short');
$node->safe_psql(
	'short', q{
	CREATE EXTENSION gtf;
	CREATE FUNCTION f(i int) RETURNS boolean LANGUAGE sql AS $$SELECT gtf_update_progress(i, 100, to_jsonb(i))$$;
	SELECT gtf_register_task('f', 'f(int)');
	SELECT count(gtf_submit('f', jsonb_build_object('i', i))) FROM generate_series(1, 100) i;
});
until_true($node, q{SELECT count(*) = 100 FROM gtf.task_info WHERE status = 'success'}, db => 'short');
SKIP:
{
	skip 'a slow machine', 1
	  if $node->safe_psql('short', q{SELECT max(duration) > '20 ms' FROM gtf.task_info}) eq 't';
	is($node->safe_psql('short', q{SELECT pg_relation_size('gtf.live')}),
		'0', 'of short tasks nothing was ever written to gtf.live');
}

# ---- a task that follows another in the same executor is not overlooked

$node->safe_psql('postgres', 'ALTER SYSTEM SET gtf.max_executors = 1');
interval('10ms');
$gate = gate($node, 51, 61);
$id = submit($node, q{'steps', '{"key": 50, "n": 1}'});
my $next = submit($node, q{'steps', '{"key": 60, "n": 1}'});
until_held($node, 51);
until_live($id, 1);
# the dispatcher has nothing more to do
usleep(2_500_000);
$gate->query_safe('SELECT pg_advisory_unlock(51)');
until_held($node, 61);
until_live($next, 1);
is(live($next), 'r|1|r|1|1|1', 'the second of two tasks is written as well');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET gtf.max_executors');
$node->reload;

# ---- a standby

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my $on_standby = "SELECT status || ' ' || progress_text || ' ' || (payload ->> 'step') FROM gtf_get_task('$next')";
until_true($standby, "SELECT ($on_standby) IS NOT NULL");
is($standby->safe_psql('postgres', $on_standby), 'in_progress 1 of 1 (100%) 1', 'a standby shows both');
$standby->stop;
$gate->quit;
is(ended($node, $next), 'success', 'the last one ends');

$node->stop;
done_testing();
