# A submit is part of its transaction: the task runs if and only if that
# commits, whichever way it commits, and not before.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 2');
create_bodies($node);

# Everything that was submitted has ended, and what ran are the notes with
# these numbers.
sub ran
{
	my ($expected, $what) = @_;

	until_true($node,
		q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure', 'aborted')}
	);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(take_effects($node), $expected, $what);
}

sub note_sql
{
	my ($n) = @_;

	return "SELECT FROM gtf_submit('note', '{\"n\": $n}');";
}

$node->safe_psql('postgres', note_sql(1));
ran('1', 'autocommit');

$node->safe_psql('postgres', 'BEGIN;' . note_sql(1) . 'ROLLBACK;' . note_sql(2));
ran('2', 'rolled back');
is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.tasks'),
	'2', 'a rolled back task does not exist');

# subtransactions
$node->safe_psql('postgres',
	    'BEGIN;' . note_sql(1) . 'SAVEPOINT a;' . note_sql(2) . 'SAVEPOINT b;' . note_sql(3)
	  . 'RELEASE b;' . note_sql(4) . 'ROLLBACK TO a;' . note_sql(5) . 'SAVEPOINT c;' . note_sql(6)
	  . 'RELEASE c; RELEASE a;' . note_sql(7) . 'COMMIT;');
ran('1 5 6 7', 'rolled back to a savepoint');
$node->safe_psql(
	'postgres', q{DO $$BEGIN
	FOR i IN 1..5 LOOP
		BEGIN
			PERFORM gtf_submit('note', jsonb_build_object('n', i));
			IF i % 2 = 0 THEN RAISE EXCEPTION 'no'; END IF;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP; END$$});
ran('1 3 5', 'exception blocks');
$node->psql('postgres',
	'BEGIN;' . note_sql(1) . 'SELECT 1/0; COMMIT;' . note_sql(2),
	on_error_stop => 0);
ran('2', 'an aborted transaction');

# invisible until the commit
my $session = session($node);
my $id = $session->query_safe(q{BEGIN; SELECT gtf_submit('note', '{"n": 1}')});
is($node->safe_psql('postgres', "SELECT gtf_status('$id') IS NULL"),
	't', 'an uncommitted task is invisible to others');
like($session->query("SELECT gtf_status('$id')"),
	qr/pending/, 'and pending for its transaction');
$node->safe_psql('postgres', note_sql(2));
ran('2', 'it does not run, and holds up no other task');
$session->query_safe('COMMIT');
ran('1', 'it runs after the commit');

# asynchronous commit: started when it is flushed, which somebody does
$node->safe_psql('postgres',
	'SET synchronous_commit = off;' . note_sql(1) . note_sql(2));
ran('1 2', 'synchronous_commit = off');

# a task that submits tasks
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION family(n int) RETURNS uuid LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect(n);
		IF n > 0 THEN
			RETURN gtf_submit('family', jsonb_build_object('n', n - 1));
		END IF;
		RETURN NULL;
	END$$;
	CREATE FUNCTION disowned(n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM gtf_submit('note', jsonb_build_object('n', n));
		RAISE EXCEPTION 'no';
	END$$;
	CREATE PROCEDURE stages(n int) LANGUAGE plpgsql AS $$BEGIN
		PERFORM gtf_submit('note', jsonb_build_object('n', n));
		COMMIT;
		PERFORM gtf_submit('note', jsonb_build_object('n', n + 1));
		ROLLBACK;
		PERFORM gtf_submit('note', jsonb_build_object('n', n + 2));
	END$$;
	SELECT gtf_register_task('family', 'family(int)'), gtf_register_task('disowned', 'disowned(int)'),
		gtf_register_task('stages', 'stages(int)')});
$id = submit($node, q{'family', '{"n": 2}'});
ran('0 1 2', 'tasks submitted by tasks');
is( $node->safe_psql(
		'postgres', qq{
		SELECT string_agg(concat_ws(' ', p.args->>'n', r.args->>'n'), ', ' ORDER BY i.args->>'n' DESC)
		  FROM gtf.task_info i LEFT JOIN gtf.tasks p ON p.id = i.parent_id LEFT JOIN gtf.tasks r ON r.id = i.root_id
		 WHERE i.task_type = 'family'}),
	', 2 2, 1 2',
	'have a parent and a root');
is( $node->safe_psql('postgres',
		"SELECT result #>> '{}' = (SELECT id::text FROM gtf.tasks WHERE parent_id = '$id') FROM gtf_result('$id')"
	),
	't',
	'whose id the body knows');
submit($node, q{'disowned', '{"n": 1}'});
ran('', 'a task that fails has submitted nothing');
submit($node, q{'stages', '{"n": 1}'});
ran('1 3', 'a procedure submits what it commits');

# one transaction with more tasks than the ring has room for, while others
# submit
$node->safe_psql(
	'postgres', q{
	SELECT count(gtf_submit('note', jsonb_build_object('n', n))) FROM generate_series(1, 7000) n});
until_true($node,
	q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure', 'aborted')});
is( $node->safe_psql('postgres',
		'WITH e AS (DELETE FROM effects RETURNING n) SELECT count(*), count(DISTINCT n) FROM e'),
	'7000|7000',
	'a transaction of 7000 tasks');
$session->query_safe(
	q{BEGIN; SELECT FROM gtf_submit_many('note', array_fill('{"n": 1}'::jsonb, ARRAY[3000]))});
$node->safe_psql('postgres',
	q{SELECT FROM gtf_submit_many('note', array_fill('{"n": 2}'::jsonb, ARRAY[5000]))});
$session->query_safe(
	q{SAVEPOINT a; SELECT FROM gtf_submit_many('note', array_fill('{"n": 3}'::jsonb, ARRAY[3000])); ROLLBACK TO a;
	SELECT FROM gtf_submit_many('note', array_fill('{"n": 4}'::jsonb, ARRAY[3000])); COMMIT});
until_true($node,
	q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure', 'aborted')});
is( $node->safe_psql(
		'postgres',
		q{SELECT string_agg(c, ' ' ORDER BY c) FROM (SELECT n || ':' || count(*) FROM effects GROUP BY n) AS _(c)}),
	'1:3000 2:5000 4:3000',
	'an older and larger transaction that commits after a newer one');
$node->safe_psql('postgres', 'TRUNCATE effects');

# the order of starting, with one executor
$node->append_conf('postgresql.conf', 'gtf.max_executors = 1');
$node->reload;
until_true($node, q{SELECT count(*) <= 1 FROM gtf.workers WHERE kind = 'executor'});
my $gate = gate($node, 1);
$id = submit($node, q{'hold', '{"key": 1}'});
executor_of($node, $id);
$node->safe_psql(
	'postgres', q{
	SELECT gtf_submit('note', jsonb_build_object('n', n), priority => n % 3) FROM generate_series(1, 9) n;
	SELECT gtf_submit('note', '{"n": 10}', priority => 100);
	SELECT gtf_submit('note', '{"n": 11}', priority => -1);
	SELECT gtf_submit('note', '{"n": 12}')});
until_dispatched($node);
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node,
	q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure', 'aborted')});
is( $node->safe_psql('postgres',
		'SELECT string_agg(n::text, \' \' ORDER BY seq) FROM effects WHERE n IS NOT NULL'),
	'10 2 5 8 1 4 7 3 6 9 12 11',
	'priority, then the order of submitting');

# overtaking what waits in front of the executor already
$node->safe_psql('postgres', 'TRUNCATE effects');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'hold', '{"key": 1}'});
executor_of($node, $id);
$node->safe_psql('postgres',
	q{SELECT FROM gtf_submit_many('note', array_fill('{"n": 1}'::jsonb, ARRAY[400]))});
$node->safe_psql('postgres', q{SELECT gtf_submit('note', '{"n": 2}', priority => 1)});
until_dispatched($node);
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node,
	q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure', 'aborted')});
is( $node->safe_psql('postgres',
		'SELECT n, count(*) OVER () FROM effects WHERE n IS NOT NULL ORDER BY seq LIMIT 1'),
	'2|401',
	'a task of higher priority overtakes a whole lane');

# delays
my $early = 0;
$node->safe_psql('postgres', q{SELECT gtf_submit('note', '{"n": 9}', run_at => clock_timestamp() + '1 day')});
in_time(
	'delayed tasks start in the order of their times, and not long after',
	sub {
		$node->safe_psql('postgres', 'TRUNCATE effects');
		$node->safe_psql(
			'postgres', q{
			SELECT gtf_submit('note', '{"n": 4}', delay => '600 ms'),
				gtf_submit('note', '{"n": 2}', run_at => clock_timestamp() + '200 ms'),
				gtf_submit('note', '{"n": 3}', delay => '400 ms'),
				gtf_submit('note', '{"n": 1}', run_at => clock_timestamp() - '1 hour'::interval)});
		until_true($node, 'SELECT count(*) = 4 FROM effects');
		my ($order, $too_early, $soon) = split /\|/, $node->safe_psql(
			'postgres', q{
			SELECT string_agg(n::text, ' ' ORDER BY seq), count(*) FILTER (WHERE at < run_at AND n <> 1),
				max(started_at - greatest(run_at, created_at)) < '0.3 s'
			  FROM effects e JOIN gtf.task_info i ON i.id = e.task});
		$early += $too_early;
		return $order eq '1 2 3 4' && $soon eq 't';
	});
is($early, 0, 'and not before');
is( $node->safe_psql('postgres',
		q{SELECT status, wait_reason FROM gtf.task_info WHERE run_at > now() + '2 h'}),
	'pending|scheduled',
	'a task for tomorrow waits');

$session->quit;
$gate->quit;
$node->stop;
done_testing();
