# One active task for each key: what needs many sessions, prepared
# transactions, running tasks or a crash.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => q{
gtf.max_executors = 3
max_prepared_transactions = 10
max_locks_per_transaction = 10
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION stops_when_told(key int) RETURNS text LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect();
		WHILE gtf_sleep('60 s') LOOP END LOOP;
		PERFORM pg_advisory_xact_lock_shared(key);
		RETURN 'stopped';
	END$$;
	SELECT gtf_register_task('stops', 'stops_when_told(int)', abort => 'poll')});

sub sql
{
	return $node->safe_psql('postgres', join(';', @_));
}

# ---- many sessions, one key: one task, and all get its id

my $gate = gate($node, 1);
sql('CREATE TABLE answers (key int, id uuid)');
my $script = "$PostgreSQL::Test::Utils::tmp_check/keys.sql";
append_to_file($script, q{
\set key random(1, 3)
INSERT INTO answers SELECT :key, gtf_submit('hold', '{"key": 1}', 'key ' || :key);
});
command_ok(
	[
		'pgbench', '--no-vacuum', '--client=16', '--jobs=2', '--transactions=200',
		'--host=' . $node->host, '--port=' . $node->port, '--file=' . $script, 'postgres'
	],
	'many sessions submit under the same keys');
is(sql('SELECT count(*), count(DISTINCT key), count(DISTINCT id) FROM answers'), '3200|3|3', 'one task for each key');
is(sql('SELECT count(*) FROM gtf.tasks'), '3', 'and no other');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node, 'SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL');
is(sql('SELECT count(*), count(DISTINCT task) FROM effects'), '3|3', 'each runs once');

# the same while tasks end all the time: never two at once
sql('TRUNCATE effects, answers',
	q{CREATE FUNCTION alone() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect(), pg_sleep(random() * 0.003);
		IF random() < 0.2 THEN RAISE EXCEPTION 'sometimes'; END IF;
	END$$},
	q{SELECT gtf_register_task('alone', 'alone()')});
append_to_file("$script.2", q{INSERT INTO answers SELECT 0, gtf_submit('alone', '{}', 'one');} . "\n");
command_ok(
	[
		'pgbench', '--no-vacuum', '--client=8', '--jobs=2', '--transactions=200',
		'--host=' . $node->host, '--port=' . $node->port, "--file=$script.2", 'postgres'
	],
	'many sessions submit while the tasks end');
until_true($node, 'SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL');
is(sql(q{SELECT count(*) FROM (SELECT started_at, lag(ended_at) OVER (ORDER BY started_at) AS before FROM gtf.task_info WHERE task_type = 'alone') AS _
		WHERE started_at < before}),
	'0', 'never two at once');
is(sql(q{SELECT count(*) FROM answers WHERE id NOT IN (SELECT id FROM gtf.task_info WHERE task_type = 'alone' AND status IN ('success', 'failure'))}),
	'0', 'every id is of a task that has run');
cmp_ok(sql(q{SELECT count(DISTINCT id) FROM answers}), '<', 1600, 'some have joined');

# ---- many new keys in a transaction need no room in the lock table

is(sql(q{SELECT count(DISTINCT id) FROM gtf_submit_many('note', array_fill('{}'::jsonb, ARRAY[20000]),
		ARRAY(SELECT 'many ' || i FROM generate_series(1, 20000) i)) AS id}),
	'20000', '20,000 keys in one transaction');
until_true($node, 'SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL');

# ---- prepared transactions

for my $end ('COMMIT', 'ROLLBACK')
{
	my ($first) = sql(q{BEGIN; SELECT gtf_submit('note', '{}', 'prepared', delay => '1 h'); PREPARE TRANSACTION 'p'}) =~ /^([0-9a-f-]{36})$/m;
	my (undef, undef, $stderr) = $node->psql('postgres', q{SET lock_timeout = '50 ms'; SELECT gtf_submit('note', '{}', 'prepared')});

	like($stderr, qr/canceling statement due to lock timeout/, "$end PREPARED: lock_timeout applies");
	my $s = session($node);
	$s->query_until(qr/submits/, qq{\\echo submits\nSELECT 'got ' || gtf_submit('note', '{}', 'prepared', delay => '1 h');\n\\echo done\n});
	until_true($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'transactionid' AND query LIKE '%gtf_submit%'});
	sql("$end PREPARED 'p'");
	my ($second) = $s->query_until(qr/done/, '') =~ /got ([0-9a-f-]{36})/;
	$s->quit;
	is($second eq $first ? 'joins' : 'creates', $end eq 'COMMIT' ? 'joins' : 'creates', "$end PREPARED: the one that waited");
	is(sql("SELECT gtf_cancel('$second')"), 'aborted', "$end PREPARED: it is there");
}

# ---- a task that is aborting has given up its key; the next one waits for it

$gate->query_safe('SELECT pg_advisory_lock(1)');
for my $how ('cancelled', 'timed out')
{
	my $old = submit($node, q{'stops', '{"key": 1}', 'stops'} . ($how eq 'timed out' ? q{, timeout => '0.3 s'} : ''));

	executor_of($node, $old) if $how eq 'cancelled';
	is(submit($node, q{'stops', '{"key": 1}', 'stops'}), $old, "$how: before, it is joined") if $how eq 'cancelled';
	my $s = session($node);
	if ($how eq 'cancelled')
	{
		# a rollback of the cancel keeps the key
		$s->query_safe("BEGIN; SELECT gtf_cancel('$old')");
		$s->query_safe('ROLLBACK');
		is(submit($node, q{'stops', '{"key": 1}', 'stops'}), $old, "$how: rolled back, it is joined");
		sql("SELECT gtf_cancel('$old')");
	}
	until_status($node, $old, 'aborting');
	my $new = submit($node, q{'note', '{}', 'stops'});
	isnt($new, $old, "$how: another type is another key");
	ended($node, $new);
	$new = submit($node, q{'stops', '{"key": 2}', 'stops'});
	isnt($new, $old, "$how: a new task");
	is(submit($node, q{'stops', '{"key": 2}', 'stops'}), $new, "$how: which is joined");
	until_dispatched($node);
	is(sql("SELECT status, wait_reason FROM gtf_get_task('$new')"), 'pending|key', "$how: it waits for the old one");
	is(sql("SELECT count(*) FROM effects WHERE task = '$new'"), '0', "$how: and has not begun");
	my (undef, undef, $stderr) = $node->psql('postgres', "SELECT gtf_retry('$old')");
	like($stderr, qr/has not ended/, "$how: the old one cannot be retried yet");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is(ended($node, $old), $how eq 'cancelled' ? 'aborted' : 'timed_out', "$how: the old one ends");
	executor_of($node, $new);
	(undef, undef, $stderr) = $node->psql('postgres', "SELECT gtf_retry('$old')");
	like($stderr, qr/task key "stops" is taken/, "$how: and cannot be retried: the key is taken");
	sql("SELECT gtf_cancel('$new')");
	is(ended($node, $new), 'aborted', "$how: the new one runs");
	cmp_ok(sql("SELECT min(o.ended_at) <= min(n.started_at) FROM gtf_get_task('$old') o, gtf_get_task('$new') n"), 'eq', 't', "$how: after the old one");
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	$s->quit;
}

# a key is not freed while an attempt is repeated
my $id = submit($node, q{'hold', '{"key": 1}', 'lost'});
my $pid = executor_of($node, $id);
terminate($node, $pid);
is(submit($node, q{'hold', '{"key": 1}', 'lost'}), $id, 'an executor that is lost keeps the key');
until_true($node, "SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
is(submit($node, q{'hold', '{"key": 1}', 'lost'}), $id, 'the next attempt has it');

# ---- keys survive a crash

my $waiting = submit($node, q{'note', '{}', 'waiting', delay => '1 h'});
my $ended = submit($node, q{'note', '{}', 'ended'});
ended($node, $ended);
$node->stop('immediate');
$gate->{run}->finish;
$node->start;
is(submit($node, q{'note', '{}', 'waiting'}), $waiting, 'after a crash a task that waits has its key');
isnt(submit($node, q{'note', '{}', 'ended'}), $ended, 'one that has ended has not');
is(ended($node, $id), 'success', 'the one that was running ends');

$node->stop;
done_testing();
