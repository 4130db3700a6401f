# Too few background worker slots, slots or database entries: tasks wait, the
# log says so once, and they go on by themselves when there is room.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;
use Time::HiRes ();

# launcher, logical replication launcher, two dispatchers, two flushers: room
# for one executor
my $node = gtf_node('main', conf => "max_worker_processes = 7\ngtf.max_executors = 4");
create_bodies($node);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

my $warning = 'WARNING:  no background worker slot is free for a gtf executor';
my $states = q{SELECT string_agg(DISTINCT concat_ws(' ', n, status, wait_reason), ', ') FROM
	(SELECT count(*) AS n, status, wait_reason FROM gtf.task_info WHERE task_type = 'hold' AND status <> 'success' GROUP BY status, wait_reason) AS _};
my $running = q{SELECT count(*) FROM gtf.task_info WHERE status = 'in_progress'};

sql('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION gtf');
worker_pid($node, 'flusher', db => 'other');
worker_pid($node, 'flusher');

# one after the other in the one place that there is
my $gate = gate($node, 1);
my $offset = log_offset($node);
my $id = submit($node, q{'hold', '{"key": 1}'});
for (1 .. 2)
{
	my $pid = executor_of($node, $id);

	terminate($node, $pid);
	until_true($node, "SELECT EXISTS (SELECT FROM gtf.workers WHERE task_id = '$id' AND pid <> $pid)");
}
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|3', 'an executor that is terminated is replaced');
$gate->query_safe('SELECT pg_advisory_lock(1)');

sql(q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN});
for my $role ('alice', 'bob', 'alice')
{
	is(outcome($node, sql("SET ROLE $role; SELECT gtf_submit('note')")), 'success|1', "an idle executor makes room for $role");
}
for my $db ('other', 'postgres', 'other')
{
	is(outcome($node, submit_sql($node, 'SELECT 1', db => $db), db => $db), 'success|1', "and for another database: $db");
}
is(log_count($node, $warning, $offset), 0, 'and all that is no shortage');

# busy all the time with the tasks of one owner
sql(q{SET ROLE alice; SELECT gtf_submit('note') FROM generate_series(1, 20000)});
is(outcome($node, sql(q{SET ROLE bob; SELECT gtf_submit('note')})), 'success|1', 'another owner');
isnt(sql(q{SELECT count(*) FROM gtf.task_info WHERE status = 'pending'}), '0', 'has its turn nevertheless');
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});

# a task that waits for another one, which has no place to run
sql(q{CREATE PROCEDURE wait_for_child() LANGUAGE plpgsql AS
		'DECLARE s text; BEGIN CALL gtf_wait(gtf_submit(''note''), NULL, s); END';
	SELECT gtf_register_task('wait_for_child', 'wait_for_child()')});
is(outcome($node, submit($node, q{'wait_for_child'})),
	'failure|1|a task cannot wait when every other executor is held by a waiting task|object_not_in_prerequisite_state',
	'a task does not wait for ever in the one place that there is');
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});
sql('TRUNCATE effects');

$offset = log_offset($node);
my @ids = map { submit($node, q{'hold', '{"key": 1}'}) } 1 .. 4;
until_true($node, "SELECT ($running) = 1");
ok(until_log($node, $warning, $offset), 'the log tells of the shortage');
is(sql($states), '1 in_progress, 3 pending executor', 'tasks wait for an executor');
is(sql(q{SELECT ready FROM gtf.queues WHERE queue = 'default'}), '3', 'gtf.queues counts them');

# more and more tasks, and executors that come and go
sql(q{ALTER SYSTEM SET gtf.executor_max_tasks = 1});
$node->reload;
sql(q{SELECT gtf_submit('note') FROM generate_series(1, 20)});
terminate($node, executor_of($node, $ids[0]));
until_true($node, "SELECT ($running) = 1 AND EXISTS (SELECT FROM gtf.task_attempts WHERE task_id = '$ids[0]')");
is(log_count($node, $warning, $offset), 1, 'once, whatever happens while it lasts');
is(sql("SELECT status, attempt, wait_reason FROM gtf_get_task('$ids[0]')"),
	'pending|1|executor', 'the one that has lost its executor waits for another');

# other workers leave
$node->safe_psql('other', 'DROP EXTENSION gtf');
until_true($node, "SELECT ($running) = 3");
like(sql($states), qr/\b3 in_progress/, 'free slots are used');
is(log_count($node, $warning, $offset), 1, 'it was still the same shortage');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});
is(sql('SELECT count(*) FROM effects'), '24', 'all have run');
is(outcome($node, submit($node, q{'wait_for_child'})), 'success|1', 'with more room a task can wait for another');
sql('ALTER SYSTEM RESET gtf.executor_max_tasks');
$node->reload;

# enough again, then not
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'hold', '{"key": 1}'});
executor_of($node, $id);
is(log_count($node, $warning, $offset), 1, 'no shortage, no warning');
submit($node, q{'hold', '{"key": 1}'}) for 1 .. 3;
until_true($node, "SELECT ($running) = 3");
until_log($node, qr/$warning.*$warning/s, $offset);
is(log_count($node, $warning, $offset), 2, 'the next shortage is told of');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});

# gtf.max_slots
sub restart_with
{
	$node->append_conf('postgresql.conf', $_[0]);
	$gate->quit;
	$node->restart;
	$gate = gate($node, 1);
}
restart_with("gtf.max_slots = 2\nmax_worker_processes = 16");
$offset = log_offset($node);
submit($node, q{'hold', '{"key": 1}'}) for 1 .. 4;
until_true($node, "SELECT ($running) = 2");
ok(until_log($node, $warning, $offset), 'gtf.max_slots');
is( sql(q{SELECT count(*), wait_reason FROM gtf.task_info WHERE status = 'pending' GROUP BY 2}),
	'2|executor',
	'tasks wait');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});
is(log_count($node, $warning, $offset), 1, 'one warning');

# more owners than slots, so that not each of them can have a lane
my @owners = ('alice', 'bob', 'carol', 'dave', 'eve');
sql(join ';', 'TRUNCATE effects', map { "CREATE ROLE $_ LOGIN" } @owners[2 .. 4]);
sql(join ';', map { "SET ROLE $_; SELECT gtf_submit('note') FROM generate_series(1, 50)" } @owners, @owners);
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});
is(sql(q{SELECT string_agg(who || ' ' || n, ', ' ORDER BY who) FROM (SELECT who, count(*) AS n FROM effects GROUP BY who) AS _}),
	join(', ', map { "$_ 100" } @owners), 'each owner has its turn');

# not even a dispatcher
restart_with("max_worker_processes = 2");
$offset = log_offset($node);
ok( until_log($node, 'WARNING:  no background worker slot is free for a gtf dispatcher', 0),
	'no dispatcher');
$id = submit($node, q{'note'});
submit($node, q{'note'});
is(sql("SELECT status, wait_reason FROM gtf_get_task('$id')"), 'pending|executor', 'tasks wait');
until_true($node, q{SELECT clock_timestamp() > pg_postmaster_start_time() + interval '2.5 s'});
is(log_count($node, 'no background worker slot is free', $offset), 0, 'which was told once');
restart_with('max_worker_processes = 16');
is(outcome($node, $id), 'success|1', 'and run when there is room');

# connections: limits of the database, and of a role
sql(q{CREATE ROLE limited LOGIN; ALTER SYSTEM SET gtf.executor_idle_timeout = 1});
$node->reload;
sql('ALTER DATABASE other ALLOW_CONNECTIONS false');
$node->safe_psql('postgres', 'ALTER DATABASE other ALLOW_CONNECTIONS true');
$node->safe_psql('other', 'CREATE EXTENSION gtf');
worker_pid($node, 'dispatcher', db => 'other');
my $session = session($node, db => 'other');
$offset = log_offset($node);
sql('ALTER DATABASE other ALLOW_CONNECTIONS false');
$id = $session->query_safe(q{SELECT gtf_submit_sql('SELECT 1')});
ok( until_log($node, 'WARNING:  could not start a gtf executor: database "other" is not currently accepting connections', $offset),
	'a database that takes no connections');
is($session->query_safe("SELECT gtf_status('$id')"), 'pending', 'tasks wait');
sql('ALTER DATABASE other ALLOW_CONNECTIONS true');
is(outcome($node, $id, db => 'other'), 'success|1', 'and run when it does again');
is(log_count($node, 'WARNING:  could not start', $offset), 1, 'one warning');
$session->quit;

# gtf.max_databases
restart_with('gtf.max_databases = 1');
$offset = 0;
my @databases = ('postgres', 'other');
my %id = map { $_ => submit_sql($node, 'SELECT 1', db => $_) } @databases;
my $statuses = sub {
	return join ' ', map { status($node, $id{$_}, db => $_) } @databases;
};
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if $statuses->() =~ /success/;
	Time::HiRes::usleep(50_000);
}
like($statuses->(), qr/^(success pending|pending success)$/, 'gtf.max_databases: one database runs tasks');
ok(until_log($node, 'WARNING:  .*gtf.max_databases', $offset), 'the log says so');
restart_with('gtf.max_databases = 2');
is(outcome($node, $id{$_}, db => $_), 'success|1', "with room for two, $_ runs its task") for @databases;

$gate->quit;
$node->stop;
done_testing();
