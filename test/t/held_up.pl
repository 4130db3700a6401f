# What waits inside of a task is woken whatever happens meanwhile: the pool gets
# smaller, a handler of its own sleeps; and a body that has locked what the
# dispatcher needs ends all the same.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 4');
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE PROCEDURE parent(key int) LANGUAGE plpgsql AS $$
	DECLARE
		id uuid := gtf_submit('hold', jsonb_build_object('key', key), task_name => 'child');
		s text;
	BEGIN
		COMMIT;
		CALL gtf_wait(id, NULL, s);
	END$$;
	SELECT gtf_register_task('parent', 'parent(int)')});
my $gate = session($node);

# three of four executors wait for tasks, then there are only three
my %smaller = (
	'gtf_set_pool()' => 'SELECT gtf_set_pool(0, 3)',
	'gtf.max_executors' => 'ALTER SYSTEM SET gtf.max_executors = 3; SELECT pg_reload_conf()');
for my $how (sort keys %smaller)
{
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	# before the children of the first one
	my @parents = split /\n/, $node->safe_psql('postgres',
		q{SELECT gtf_submit_many('parent', array_fill('{"key": 1}'::jsonb, ARRAY[3]), priority => 1)});
	until_true($node, q{SELECT count(*) = 3 FROM gtf.task_info WHERE task_name = 'child' AND ended_at IS NULL});
	until_held($node, 1);
	$node->safe_psql('postgres', $smaller{$how});
	my $ids = "'{" . join(',', @parents) . "}'::uuid[]";
	until_true($node, qq{SELECT count(*) > 0 FROM gtf.task_info WHERE id = ANY ($ids) AND status = 'failure'});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	$node->safe_psql('postgres', "CALL gtf_wait_all($ids, '60 s')");
	is($node->safe_psql('postgres', qq{SELECT string_agg(DISTINCT status || coalesce(': ' || error_message, ''), ', ')
			FROM gtf.task_info WHERE id = ANY ($ids) OR task_name = 'child'}),
		'failure: a task cannot wait when every other executor is held by a waiting task, success',
		"$how: who cannot wait any more says so, the others go on");
	$node->safe_psql('postgres',
		'SELECT gtf_set_pool(); ALTER SYSTEM RESET gtf.max_executors; SELECT pg_reload_conf()');
}

# a handler sleeps when the end is told
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION sleepy() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		RAISE LOG 'the handler sleeps';
		WHILE EXISTS (SELECT FROM gtf.task_info WHERE task_name = 'child' AND ended_at IS NULL) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
		PERFORM pg_sleep(0.5);
	END$$;
	CREATE PROCEDURE listening(key int) LANGUAGE plpgsql AS $$BEGIN
		PERFORM gtf_on_abort('sleepy()');
		CALL parent(key);
	END$$;
	SELECT gtf_register_task('listening', 'listening(int)')});
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $offset = log_offset($node);
my $id = submit($node, q{'listening', '{"key": 1}', timeout => '2 s'});
until_held($node, 1);
until_log($node, 'the handler sleeps', $offset);
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'timed_out|1|Task timed out', 'an end that is told while a handler sleeps');

# the dispatcher waits for the body, and the body for the dispatcher
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION in_the_way() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		LOCK TABLE gtf.live IN ACCESS EXCLUSIVE MODE;
		WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'gtf.live'::regclass AND NOT granted) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END$$;
	SELECT gtf_register_task('in_the_way', 'in_the_way()')});
is(outcome($node, submit($node, q{'in_the_way'})), 'success|1', 'a body that holds the dispatcher up');
is(outcome($node, submit($node, q{'note'})), 'success|1', 'the dispatcher goes on');
until_true($node, 'SELECT count(*) = 0 FROM gtf.live');

nothing_left($node);
$node->stop;
done_testing();
