# CALL gtf_wait and its sisters: from where, for how long, for what, and that
# a waiter is in nobody's way.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run qw(start);
use Test::More;

my $node = gtf_node('main', conf => "gtf.max_executors = 2\ngtf.max_waiters = 16\nautovacuum = off");
create_bodies($node);
my $gate = gate($node, 1);
my ($out, $err);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub sqlstate
{
	(undef, undef, my $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
	return $err =~ /(?:ERROR|FATAL): +(\w+):/ ? $1 : "no error: $err";
}

# A session in the background that waits.
sub waiting_psql
{
	my ($sql) = @_;
	my $waiter = { out => '', err => '' };

	$waiter->{run} = start [ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $sql ],
	  '<', \undef, '>', \$waiter->{out}, '2>', \$waiter->{err};
	return $waiter;
}

my $sleeping =
  q{FROM pg_stat_activity WHERE query ~ 'gtf_wait' AND wait_event = 'Extension' AND backend_type = 'client backend'};

sub until_waiting
{
	until_true($node, "SELECT count(*) = $_[0] $sleeping");
}

# from where
my $id = submit($node, q{'note', '{"n": 1}'});
is(sql("CALL gtf_wait('$id')"), 'success', 'at top level');
is(sql("CALL gtf_wait('$id')"), 'success', 'for a task that has ended');
is(sql(q{CALL gtf_wait(gtf_submit('note'))}), 'success', 'for a task submitted in the same statement');
is( sql(q{DO $$DECLARE id uuid := gtf_submit('note'); s text; BEGIN
		CALL gtf_wait(id, NULL, s);
		IF s <> 'success' THEN RAISE '%', s; END IF;
		id := gtf_submit('raise', '{"message": "a"}');
		CALL gtf_wait(id, status => s);
		IF s <> 'failure' THEN RAISE '%', s; END IF;
	END$$}), '', 'in DO, more than once');
sql(q{CREATE PROCEDURE wait_inside(INOUT s text) LANGUAGE plpgsql AS
	'BEGIN CALL gtf_wait(gtf_submit(''note''), NULL, s); COMMIT; END'});
is(sql(q{CALL wait_inside(NULL)}), 'success', 'in a procedure');
is(sqlstate("BEGIN; CALL gtf_wait('$id')"), '25001', 'not in a transaction block');
is(sqlstate("DO \$\$DECLARE s text; BEGIN BEGIN CALL gtf_wait('$id', NULL, s); EXCEPTION WHEN division_by_zero THEN NULL; END; END\$\$"),
	'25001', 'not in an exception block');
sql(qq{CREATE FUNCTION wait_in_function() RETURNS text LANGUAGE plpgsql AS
	\$\$DECLARE s text; BEGIN CALL gtf_wait('$id', NULL, s); RETURN s; END\$\$});
is(sqlstate('SELECT wait_in_function()'), '25001', 'not in a function');
(undef, undef, $err) = $node->psql('postgres', "BEGIN; CALL gtf_wait('$id')");
like($err, qr/HINT/, 'which is explained');

# what for
is(sqlstate("CALL gtf_wait(gen_random_uuid())"), 'P0002', 'an unknown task');
sql('CREATE ROLE stranger LOGIN');
is(sqlstate("SET ROLE stranger; CALL gtf_wait('$id')"), 'P0002', 'an invisible task');
is(sqlstate('CALL gtf_wait(NULL)'), '22004', 'null');
is(sqlstate("CALL gtf_wait('$id', '-1 s')"), '22023', 'a negative timeout');
sql(q{CREATE FUNCTION big(n int) RETURNS text LANGUAGE sql AS
	'SELECT string_agg(md5(i::text), '''') FROM generate_series(1, n) i';
	CREATE FUNCTION big_error(n int) RETURNS text LANGUAGE plpgsql AS
	'BEGIN RAISE EXCEPTION ''%'', big(n) USING DETAIL = big(n); END';
	SELECT gtf_register_task('big', 'big(int)'), gtf_register_task('big_error', 'big_error(int)')});
is( sql(q{CALL gtf_wait(gtf_submit('big', '{"n": 10000}', task_name => big(1000)));
		CALL gtf_wait(gtf_submit('big_error', '{"n": 10000}'));
		SELECT gtf_submit('big', '{"n": 10000}', task_name => big(1000)) AS id \gset
		CALL gtf_wait(:'id'); CALL gtf_wait(:'id');}),
	"success\nfailure\nsuccess\nsuccess", 'large results, errors and names');

# how long
$id = submit($node, q{'hold', '{"key": 1}'});
executor_of($node, $id);
is(sql("CALL gtf_wait('$id', '10 ms')"), 'in_progress', 'a timeout while the task runs');
is(sql("CALL gtf_wait('$id', '0')"), 'in_progress', 'a timeout of zero');
is(sql(q{CALL gtf_wait(gtf_submit('note', delay => '1 day'), '10 ms')}), 'pending', 'a timeout while it waits');
my @ids = ($id, map { submit($node, q{'note'}) } 1 .. 2);
ended($node, $_) for @ids[ 1, 2 ];
my $array = "ARRAY['" . join("','", @ids) . "']::uuid[]";
is(sql("CALL gtf_wait_all($array, '300 ms')") =~ s/^\{.*?,//r, 'success,success}', 'gtf_wait_all times out');
like(sql("CALL gtf_wait_any($array)"), qr/^($ids[1]|$ids[2])\|success$/, 'gtf_wait_any');
is(sql("CALL gtf_wait_any(ARRAY['$id']::uuid[], '10 ms')"), '|', 'gtf_wait_any times out');

# longer than 2^31 ms
my @far = map { waiting_psql("CALL gtf_wait('$id', '$_')") } '100 days', '1000 years';
until_waiting(2);
sql(q{SELECT gtf_submit('note', delay => '100 days'), gtf_submit('note', expires_at => now() + interval '100 days', run_at => now() + interval '1000 years');
	CREATE FUNCTION sleep_long() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RETURN gtf_sleep('100 days'); END$$;
	SELECT gtf_register_task('sleep_long', 'sleep_long()', abort => 'poll', timeout => '100 days')});
my $sleeper = submit($node, q{'sleep_long'});
executor_of($node, $sleeper);
is(sql(q{SELECT string_agg(DISTINCT status || coalesce(' ' || wait_reason, ''), ', ') FROM gtf.task_info WHERE task_type = 'note' AND status <> 'success'}),
	'pending scheduled', 'a delay of 100 days');
is(status($node, $sleeper), 'in_progress', 'a sleep and a timeout of 100 days');
sql("SELECT gtf_cancel('$sleeper')");
is(ended($node, $sleeper), 'aborted', 'which is woken for an abort');
is($far[0]{out} . $far[1]{out}, '', 'a wait of 100 days');

# several at a time
my @waiters = (
	(map { waiting_psql("CALL gtf_wait('$id')") } 1 .. 4),
	waiting_psql("CALL gtf_wait_any(ARRAY['$id']::uuid[])"),
	waiting_psql("CALL gtf_wait_all($array)"));
until_waiting(8);
is( sql("SELECT count(*), count(backend_xid), count(backend_xmin), min(state) $sleeping"),
	'8|0|0|active',
	'waiters have no snapshot');
is( sql("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.pid IN (SELECT pid $sleeping) AND locktype = 'relation'"),
	'0', 'nor locks');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
$_->{run}->finish for @far, @waiters;
is($far[0]{out} . $far[1]{out}, "success\n" x 2, 'also those who have a hundred days');
is(join('', map { $_->{out} } @waiters),
	"success\n" x 4 . "$id|success\n{success,success,success}\n", 'all are told');

# nobody's old snapshot
$id = submit($node, q{'note', delay => '1 day'});
@waiters = (
	waiting_psql("CALL gtf_wait('$id')"),
	waiting_psql("DO \$\$DECLARE s text; BEGIN CALL gtf_wait('$id', NULL, s); END\$\$"),
	waiting_psql("CALL gtf_wait(gtf_submit('note', delay => '1 day'))"));
until_waiting(3);
sql('CREATE TABLE vacuumed AS SELECT 1; DELETE FROM vacuumed');
like((($node->psql('postgres', 'VACUUM (VERBOSE) vacuumed'))[2]), qr/1 removed, 0 remain/, 'VACUUM removes everything');
sql("SELECT pg_terminate_backend(pid) $sleeping");
$_->{run}->finish for @waiters;

# CREATE INDEX CONCURRENTLY waits for everybody with a snapshot
sql('CREATE TABLE indexed AS SELECT generate_series(1, 1000) AS i');
is(sql(q{CALL gtf_wait(gtf_submit_sql('CREATE INDEX CONCURRENTLY ON indexed (i)'), '60 s')}),
	'success', 'waiting for CREATE INDEX CONCURRENTLY');
is(sql(q{DO $$DECLARE s text; BEGIN
	FOR i IN 1..15 LOOP
		CALL gtf_wait(gtf_submit_sql('CREATE INDEX CONCURRENTLY ON indexed (i)'), '60 s', s);
		IF s <> 'success' THEN RAISE '%', s; END IF;
	END LOOP; END$$}), '', 'in DO, too, again and again');

# waiters that go away
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'hold', '{"key": 1}'});
is(sqlstate("SET statement_timeout = '50 ms'; CALL gtf_wait('$id')"), '57014', 'a waiter can be cancelled');
for (1 .. 2)
{
	@waiters = map { waiting_psql("CALL gtf_wait('$id')") } 1 .. 10;
	until_waiting(10);
	sql("SELECT pg_terminate_backend(pid) $sleeping");
	$_->{run}->finish for @waiters;
}
@waiters = map { waiting_psql("CALL gtf_wait('$id')") } 1 .. 16;
until_waiting(16);
is(sqlstate("CALL gtf_wait('$id')"), '53400', 'gtf.max_waiters');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
$_->{run}->finish for @waiters;
is(join('', map { $_->{out} } @waiters), "success\n" x 16,
	'terminated waiters have left nothing behind');

# one session leaves room for others, whatever it waits for
$gate->query_safe('SELECT pg_advisory_lock(1)');
my @many = ($id, submit($node, q{'hold', '{"key": 1}'}), map { submit($node, q{'note'}) } 1 .. 30);
my $many = "ARRAY['" . join("','", @many) . "']::uuid[]";
@waiters = (waiting_psql("CALL gtf_wait_all($many)"),
	waiting_psql("CALL gtf_wait_any(array_fill('$many[1]'::uuid, '{100}'))"),
	map { waiting_psql("CALL gtf_wait('$many[1]')") } 1 .. 11);
until_waiting(13);
is(sqlstate("CALL gtf_wait_any($many)"), '53400', 'gtf_wait_any of too many');
(undef, undef, $err) = $node->psql('postgres', "CALL gtf_wait_any($many)");
like($err, qr/cannot wait for any of more than 4 tasks.*gtf\.max_waiters/s, 'which is explained');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
$_->{run}->finish for @waiters;
is(join('', map { $_->{out} } @waiters),
	'{' . join(',', ('success') x 32) . "}\n$many[1]|success\n" . "success\n" x 11,
	'gtf_wait_all of many, gtf_wait_any of one a hundred times, and others');

# tasks that wait
sql(q{CREATE PROCEDURE wait_for(id uuid, INOUT s text DEFAULT NULL) LANGUAGE plpgsql AS
	'BEGIN CALL gtf_wait(id, NULL, s); END';
	CREATE PROCEDURE wait_for_self() LANGUAGE plpgsql AS
	'DECLARE s text; BEGIN CALL gtf_wait(gtf_task_id(), NULL, s); END';
	CREATE PROCEDURE wait_for_child(INOUT s text DEFAULT NULL) LANGUAGE plpgsql AS
	'BEGIN CALL gtf_wait(gtf_submit(''note''), NULL, s); END';
	SELECT gtf_register_task('wait_for', 'wait_for(uuid,text)'), gtf_register_task('wait_for_self', 'wait_for_self()'),
		gtf_register_task('wait_for_child', 'wait_for_child(text)')});
like(outcome($node, submit($node, q{'wait_for_self'})),
	qr/^failure\|1\|task .* cannot wait for itself\|object_not_in_prerequisite_state$/, 'for itself');
is(outcome($node, submit($node, q{'wait_for_child'})), 'success|1', 'for a child');
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $later = submit($node, q{'note', delay => '1 hour'});
my $first = submit($node, qq{'wait_for', '{"id": "$later"}'});
executor_of($node, $first);
like(outcome($node, submit($node, qq{'wait_for', '{"id": "$later"}'})),
	qr/^failure\|1\|a task cannot wait when every other executor is held by a waiting task\|object_not_in_prerequisite_state$/,
	'when all other executors wait');
like(outcome($node, submit_sql($node, "CALL gtf_wait('$later')")),
	qr/^failure\|1\|a task cannot wait/, 'in a command, too');
is(outcome($node, submit($node, q{'note'})), 'success|1', 'the last executor is free');
terminate($node, executor_of($node, $first));
is(outcome($node, $first), 'failure|1|executor lost|executor_lost', 'a waiting task that loses its executor');
is(outcome($node, submit($node, q{'wait_for_child'})), 'success|1', 'is not counted any more');

# who is who
is( sql(q{SELECT string_agg(DISTINCT backend_type, ', ' ORDER BY backend_type) FROM pg_stat_activity WHERE backend_type LIKE 'gtf%'}),
	'gtf dispatcher, gtf executor, gtf flusher, gtf launcher',
	'backend types in pg_stat_activity');
until_true($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'gtf%' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)});
pass('idle workers hold no snapshot');

$gate->quit;
$node->stop;
done_testing();
