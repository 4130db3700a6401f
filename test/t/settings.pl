# Settings take effect when they are reloaded, for what runs already, too.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 3');
create_bodies($node);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub set
{
	my ($setting, $value) = @_;

	sql(defined $value ? "ALTER SYSTEM SET $setting = '$value'" : "ALTER SYSTEM RESET $setting");
	$node->reload;
}

sub sqlstate
{
	(undef, undef, my $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
	return $err =~ /(?:ERROR|FATAL): +(\w+):/ ? $1 : "no error: $err";
}

my $executors = q{SELECT count(*) FROM gtf.workers WHERE kind = 'executor'};
my $running = q{SELECT count(*) FROM gtf.task_info WHERE status = 'in_progress'};
my $none_active = q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')};
my $gate = gate($node, 1);

# gtf.max_executors up and down, while all are busy
my @ids = map { submit($node, q{'hold', '{"key": 1}'}) } 1 .. 8;
until_true($node, "SELECT ($running) = 3");
set('gtf.max_executors', 5);
until_true($node, "SELECT ($running) = 5");
pass('more executors after a reload');
set('gtf.max_executors', 2);
until_true($node, q{SELECT current_setting('gtf.max_executors') = '2'});
is(sql($running), '5', 'running tasks stay');
sql(q{SELECT gtf_submit_many('note', array_fill('{"n": 1}'::jsonb, ARRAY[50]))});
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node, $none_active);
until_true($node, "SELECT ($executors) <= 2");
pass('fewer executors after a reload');
is(sql('SELECT count(*) FROM gtf.task_attempts'), '0', 'no attempt was lost for that');

# a lower limit holds also for a backlog
set('gtf.max_executors', 4);
sql(q{CREATE FUNCTION crowd() RETURNS bigint LANGUAGE plpgsql AS $$BEGIN
		PERFORM pg_sleep(0.01);
		PERFORM effect(count(*)::int) FROM gtf.workers WHERE task_id IS NOT NULL;
		RETURN 1;
	END$$; SELECT gtf_register_task('crowd', 'crowd()'); TRUNCATE effects});
# in one session, or all is done before the next one has started
sql(q{ALTER SYSTEM SET gtf.max_executors = 1;
	SELECT gtf_submit_many('crowd', array_fill('{}'::jsonb, ARRAY[300]));
	DO $$BEGIN
		WHILE (SELECT max(n) FROM effects) IS DISTINCT FROM 4 LOOP
			PERFORM pg_sleep(0.001);
		END LOOP;
		PERFORM pg_reload_conf();
	END$$});
until_true($node, $none_active);
is(sql('SELECT max(n) FROM (SELECT n FROM effects ORDER BY seq DESC LIMIT 20) AS _'), '1',
	'fewer executors in the middle of a backlog');
set('gtf.max_executors', 3);

# gtf.executor_idle_timeout
ended($node, submit($node, q{'note'}));
cmp_ok(sql($executors), '>=', 1, 'an executor stays when it has nothing to do');
set('gtf.executor_idle_timeout', '1s');
until_true($node, "SELECT ($executors) = 0");
pass('and leaves after gtf.executor_idle_timeout, also one that was idle before');
is(outcome($node, submit($node, q{'note'})), 'success|1', 'another one comes');
set('gtf.executor_idle_timeout', undef);

# gtf.executor_max_tasks
set('gtf.executor_max_tasks', 5);
until_true($node, q{SELECT current_setting('gtf.executor_max_tasks') = '5'});
sql(q{SELECT pg_terminate_backend(pid) FROM gtf.workers WHERE kind = 'executor'});
until_true($node, "SELECT ($executors) = 0");
sql(q{TRUNCATE effects; CREATE TABLE pids (pid int, task uuid);
	CREATE FUNCTION record_pid() RETURNS void LANGUAGE sql AS 'INSERT INTO pids SELECT pg_backend_pid(), gtf_task_id()';
	SELECT gtf_register_task('record_pid', 'record_pid()')});
set('gtf.max_executors', 1);
until_true($node, q{SELECT current_setting('gtf.max_executors') = '1'});
sql(q{SELECT gtf_submit_many('record_pid', array_fill('{}'::jsonb, ARRAY[23]))});
until_true($node, $none_active);
is( sql('SELECT count(DISTINCT task), count(*), max(n) FROM (SELECT task, count(*) OVER (PARTITION BY pid) AS n FROM pids) AS _'),
	'23|23|5',
	'gtf.executor_max_tasks');
set('gtf.executor_max_tasks', undef);

# gtf.executor_max_memory
sql(q{CREATE FUNCTION fat() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM set_config('my.fat' || i, repeat('x', 100000), false) FROM generate_series(1, 100) i;
		INSERT INTO pids SELECT pg_backend_pid(), gtf_task_id();
	END$$; SELECT gtf_register_task('fat', 'fat()'); TRUNCATE pids});
set('gtf.executor_max_memory', '64MB');
ended($node, submit($node, q{'fat'})) for 1 .. 2;
is(sql('SELECT count(DISTINCT pid) FROM pids'), '1', 'below gtf.executor_max_memory an executor stays');
set('gtf.executor_max_memory', '1kB');
until_true($node, q{SELECT current_setting('gtf.executor_max_memory') = '1kB'});
sql('TRUNCATE pids');
ended($node, submit($node, q{'fat'})) for 1 .. 3;
cmp_ok(sql('SELECT count(DISTINCT pid) FROM pids'), '>=', 2, 'above it, it is replaced');
set('gtf.executor_max_memory', undef);

# gtf.enabled, for the server
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $held = submit($node, q{'hold', '{"key": 1}'});
executor_of($node, $held);
my @waiting = (submit($node, q{'note', delay => '100 ms'}), submit($node, q{'note'}));
set('gtf.max_executors', 2);
set('gtf.enabled', 'off');
until_true($node, q{SELECT NOT current_setting('gtf.enabled')::bool});
is(sqlstate(q{SELECT gtf_submit('note')}), '55000', 'gtf.enabled = off: no submits');
is(sqlstate(q{SELECT gtf_submit_sql('SELECT 1')}), '55000', 'of no kind');
is(sqlstate(q{SELECT gtf_submit_many('note', '{}')}), '55000', 'also of nothing');

# the dispatcher has noticed it, too, when a task does not start any more
for (1 .. 100)
{
	my @probes = map { sql(q{SET gtf.enabled = on; SELECT gtf_submit('note')}) } 1 .. 2;

	# nor one that comes later
	push @waiting, @probes;
	last if sql("CALL gtf_wait('$probes[0]', '1 s')") eq 'pending' && sql("CALL gtf_wait('$probes[1]', '1 s')") eq 'pending';
	pop @waiting for 1 .. 2;
}
is(status($node, $held), 'in_progress', 'what runs runs on');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $held), 'success|1', 'to its end');
@waiting = grep { status($node, $_) eq 'pending' } @waiting;
cmp_ok(scalar @waiting, '>=', 1, 'nothing starts');
my $session = session($node);
like($session->query_safe(q{SET gtf.enabled = on; SELECT gtf_submit('note')}), qr/^[0-9a-f-]{36}$/m, 'a superuser can submit');
set('gtf.enabled', undef);
is(join(' ', map { outcome($node, $_) } @waiting), join(' ', ('success|1') x @waiting), 'switched on, everything starts');
until_true($node, $none_active);

# and for a database
sql(q{CREATE DATABASE other});
$node->safe_psql('other', 'CREATE EXTENSION gtf');
my $other = $node->safe_psql('other', q{SELECT gtf_submit_sql('SELECT 1', delay => '4 s');
	ALTER DATABASE other SET gtf.enabled = off});
(undef, undef, my $err) = $node->psql('other', q{SELECT gtf_submit_sql('SELECT 1')});
like($err, qr/disabled/, 'off in one database');
is(outcome($node, submit($node, q{'note'})), 'success|1', 'on in another');
until_true($node, 'SELECT clock_timestamp() > min(run_at) FROM gtf.tasks', db => 'other');
set('gtf.max_executors', 2);    # any reload
is(status($node, $other, db => 'other'), 'pending', 'nothing starts there');
sql('ALTER DATABASE other SET gtf.enabled = on');
is(outcome($node, $other, db => 'other'), 'success|1', 'until it is switched on');
sql('ALTER DATABASE other SET gtf.enabled = off');
$other = $node->safe_psql('other', q{SET gtf.enabled = on; SELECT gtf_submit_sql('SELECT 1')});
is(status($node, $other, db => 'other'), 'pending', 'off again');
sql('ALTER DATABASE other RESET gtf.enabled');
is(outcome($node, $other, db => 'other'), 'success|1', 'and reset');

# who may set what
sql('CREATE ROLE plain');
is(sqlstate("SET ROLE plain; SET $_"), $_ =~ /app_user/ ? 'no error: ' : '42501', "SET $_ by others")
  for ('gtf.enabled = off', "gtf.app_user = 'a'");
is(sqlstate("SET $_ = 1"), '55P02', "SET $_")
  for ('gtf.max_executors', 'gtf.crash_limit', 'gtf.max_slots', 'gtf.queue_memory');
is(sqlstate('SET gtf.nonsense = 1'), '42602', 'no other names');

$session->quit;
$gate->quit;
$node->stop;
done_testing();
