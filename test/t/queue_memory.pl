# A backlog that does not fit into the dispatcher's memory: everything runs,
# once, and in the right order.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

# room for about 900 tasks, and one executor so that there is an order
my $node = gtf_node(
	'main', conf => q{
gtf.queue_memory = 64kB
gtf.max_executors = 1
gtf.enabled = off
log_statement = none
log_min_messages = info
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION second_try(n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect(n);
		IF (SELECT attempt FROM gtf_context()) = 1 THEN RAISE EXCEPTION 'once more'; END IF;
	END$$;
	SELECT gtf_register_task('second_try', 'second_try(int)', max_attempts => 2, retry_delay => '1 ms')});

sub switch_on
{
	my ($to) = @_;

	$node->append_conf('postgresql.conf', "gtf.enabled = $to");
	$node->reload;
}

sub scans
{
	return $node->safe_psql('postgres',
		q{SELECT value FROM gtf.stats WHERE name = 'table_scans'});
}

sub none_active
{
	until_true($node,
		q{SELECT NOT EXISTS (SELECT FROM gtf.tasks t WHERE NOT EXISTS
			(SELECT FROM gtf.outcomes o WHERE o.task_id = t.id AND o.status IN ('s', 'f')))});
}

my $in_order = q{
	SELECT count(*), count(DISTINCT task), count(*) FILTER (WHERE ran <> wanted)
	  FROM (SELECT task, row_number() OVER (ORDER BY seq) AS ran,
			row_number() OVER (ORDER BY priority DESC, coalesce(run_at, created_at), id) AS wanted
		  FROM effects e JOIN gtf.tasks t ON t.id = e.task WHERE n IS NOT NULL) AS _};

# priorities at random, one in ten was delayed; a few are due later
$node->safe_psql(
	'postgres', q{
	SET gtf.enabled = on;
	SELECT setseed(0.5);
	SELECT gtf_submit('note', jsonb_build_object('n', n), priority => (random() * 20)::int,
		delay => CASE WHEN n % 10 = 0 THEN random() * interval '1 s' END)
	  FROM generate_series(1, 20000) n;
	SELECT gtf_submit('note', delay => random() * interval '1 s' + '5 s') FROM generate_series(1, 200)});
until_true($node, q{SELECT clock_timestamp() > max(run_at) - interval '5 s' FROM gtf.tasks});
is($node->safe_psql('postgres', 'SELECT count(*) FROM effects'), '0', 'nothing has run');
switch_on('on');
none_active();
is($node->safe_psql('postgres', $in_order), '20000|20000|0',
	'all tasks have run once, in order of priority and time');
is( $node->safe_psql(
		'postgres', q{SELECT count(*), bool_and(at >= run_at) FROM effects JOIN gtf.tasks ON id = task WHERE n IS NULL}),
	'200|t',
	'and so have those due later');
cmp_ok(scans(), '>', 10, 'although they were not in memory all the time');

# more delayed tasks than memory, due at the same moment
$node->safe_psql('postgres', 'TRUNCATE effects');
$node->safe_psql(
	'postgres', q{
	SELECT clock_timestamp() AS start \gset
	SELECT count(gtf_submit('note', delay => '1 day')) FROM generate_series(1, 2000);
	-- not before they are all there
	SELECT clock_timestamp() + '4 s' + 10 * (clock_timestamp() - :'start') AS run_at \gset
	SELECT count(gtf_submit('note', jsonb_build_object('n', n), priority => n % 3, run_at => :'run_at'))
	  FROM generate_series(1, 5000) n});
until_true($node, 'SELECT count(*) = 5000 FROM effects');
is($node->safe_psql('postgres', $in_order), '5000|5000|0',
	'tasks that are due at the same moment run in order of priority');
$node->safe_psql('postgres',
	q{TRUNCATE gtf.tasks, gtf.outcomes, effects});

# more tasks that wait for another attempt than memory
$node->safe_psql(
	'postgres', q{
	SELECT count(gtf_submit('second_try', jsonb_build_object('n', n))) FROM generate_series(1, 3000) n;
	SELECT count(gtf_submit('note', jsonb_build_object('n', n), priority => n % 2)) FROM generate_series(1, 3000) n});
none_active();
is( $node->safe_psql(
		'postgres', q{SELECT task_type, status, attempt, count(*), (SELECT count(*) FROM effects WHERE attempt = i.attempt)
		  FROM gtf.task_info i GROUP BY task_type, status, attempt ORDER BY task_type}),
	"note|success|1|3000|3000\nsecond_try|success|2|3000|3000",
	'attempts after the first are not forgotten');

# a transaction that has to be found by a scan does not make the dispatcher
# forget what it left in the table
$node->safe_psql('postgres', 'TRUNCATE effects');
switch_on('off');
until_true($node, q{SELECT NOT current_setting('gtf.enabled')::bool});
$node->safe_psql(
	'postgres', q{
	SET gtf.enabled = on;
	SELECT count(gtf_submit('note', jsonb_build_object('n', n))) FROM generate_series(1, 3000) n});
my $before = scans();
$node->safe_psql(
	'postgres', q{
	SET gtf.enabled = on;
	BEGIN; SELECT gtf_submit('note', '{"n": 3001}'); PREPARE TRANSACTION 'one'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'one'});
until_true($node,
	qq{SELECT value > $before FROM gtf.stats WHERE name = 'table_scans'});
switch_on('on');
none_active();
is($node->safe_psql('postgres', $in_order), '3001|3001|0',
	'a small scan does not stand for a large one');

# what a scan remembers is bounded, too
$node->safe_psql(
	'postgres', q{
	SELECT count(gtf_submit('note', delay => '1 day')) FROM generate_series(1, 20000)});
$node->restart;
my $dispatcher = worker_pid($node, 'dispatcher');
is(outcome($node, submit($node, q{'note'})), 'success|1', 'the table is read');
my $offset = log_offset($node);
$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($dispatcher)");
until_log($node, qr/\[\d+\] LOG:  Grand total: /, $offset);
my ($known) = slurp_file($node->logfile, $offset) =~ /gtf known tasks: (\d+) total/;
cmp_ok($known // 0, '<', 200_000, 'without remembering all it has met');

# somebody else's backlog is not in the way: what is dropped for want of memory
# is the backlog's
$node->safe_psql(
	'postgres', q{
	TRUNCATE gtf.tasks, gtf.outcomes;
	CREATE ROLE other LOGIN;
	CREATE FUNCTION nap() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM pg_sleep(0.01);
	END$$;
	SELECT gtf_register_task('nap', 'nap()');
	SELECT count(gtf_submit('nap')) FROM generate_series(1, 5000)});
my $theirs =
  $node->safe_psql('postgres', q{SET ROLE other; SELECT gtf_submit('nap')});
until_true($node, qq{SELECT gtf_status('$theirs') = 'success'});
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM gtf.task_info WHERE status = 'pending'}),
	'>', 2500, 'who comes after a large backlog of another role is served before its end');

# nor is a backlog that must not start, also for tasks of its owner that come
# after it, whoever has read it
none_active();
$node->safe_psql(
	'postgres', q{
	SELECT gtf_pause('later');
	SELECT count(gtf_submit('note', queue => 'later')) FROM generate_series(1, 5000)});
is(outcome($node, submit($node, q{'note'})), 'success|1', 'tasks behind a paused backlog run');
$node->safe_psql(
	'postgres', q{
	SELECT gtf_set_limit('queue', 'slow', rate => '1/d');
	SELECT count(gtf_submit('note', queue => 'slow')) FROM generate_series(1, 5000)});
is(outcome($node, submit($node, q{'note'})), 'success|1', 'also behind one with a rate');
$node->restart;
is(outcome($node, submit($node, q{'note'})), 'success|1', 'also after a restart');
is( $node->safe_psql('postgres', q{
		SELECT string_agg(DISTINCT wait_reason, ',') FROM gtf.task_info WHERE status = 'pending'}),
	'limit,paused', 'nothing else waits');
$node->safe_psql('postgres', q{SELECT gtf_resume('later'), gtf_set_limit('queue', 'slow', rate => '0')});
none_active();
pass('all of them run in the end');

$node->stop;
done_testing();
