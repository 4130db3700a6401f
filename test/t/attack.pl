# What an ordinary role can do to the tasks of others when it does as much as
# it can; what the owner of a database or of a schema can do to those who use
# gtf there.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => "gtf.max_executors = 2\nlog_min_messages = warning");
create_bodies($node);

sub sql
{
	my ($command, %params) = @_;

	return $node->safe_psql($params{db} // 'postgres', $command, extra_params => [ '-U', $params{user} // $ENV{PGUSER} // getpwuid($<) ]);
}

sql(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE eve LOGIN;
	CREATE ROLE owner LOGIN;
	CREATE SCHEMA eve AUTHORIZATION eve;
	SELECT gtf_register_task('shared', 'note(int)', scope => 'shared')});

# Tasks of alice run, whatever eve's do.
sub alice_runs
{
	my ($what) = @_;

	is(outcome($node, submit($node, q{'note'}, user => 'alice')), 'success|1', $what) for 1 .. 3;
}

# ----------------------------------------------------------------------
# Locks
# ----------------------------------------------------------------------

# those of gtf are told by pg_locks, but not to be had
my $id = submit($node, q{'shared', '{}', 'key', delay => '1 h'}, user => 'alice');
my $alice = session($node, user => 'alice');
my $eve = session($node, user => 'eve');
$alice->query_safe("BEGIN; SELECT gtf_cancel('$id')");
my ($high, $low) = split /\|/, sql(q{SELECT classid::int8::bit(32)::int, objid::int8::bit(32)::int FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3});
$alice->query_safe('ROLLBACK');
ok(defined $low, 'the lock of a task');
$eve->query_safe("SELECT pg_advisory_lock($high, $low), pg_advisory_lock((($high)::int8 << 32) | (($low)::int8 & 4294967295))");
is(sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid::int8::bit(32)::int = $low AND objsubid < 3"), '2', 'eve has two of that name');
is(sql("SET lock_timeout = '60 s'; SELECT gtf_cancel('$id')", user => 'alice'), 'aborted', 'which are in nobody\'s way');

# nor has she any lock on the tables that somebody would have to wait for
for my $relation ('gtf.tasks', 'gtf.outcomes', 'gtf.task_info', 'gtf.queues')
{
	for my $mode ('ROW SHARE', 'ROW EXCLUSIVE', 'SHARE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE')
	{
		my (undef, undef, $err) = $node->psql('postgres', "BEGIN; LOCK TABLE $relation IN $mode MODE NOWAIT", extra_params => [ '-U', 'eve' ]);
		like($err, qr/permission denied/, "LOCK $relation IN $mode MODE");
	}
}

# ----------------------------------------------------------------------
# What others see of a task that runs
# ----------------------------------------------------------------------
my $gate = gate($node, 1);
$id = submit($node, q{'hold', '{"key": 1}'}, user => 'alice');
my $pid = executor_of($node, $id);
is(sql("SELECT query FROM pg_stat_activity WHERE pid = $pid", user => 'alice'), "gtf task $id: hold", 'its owner sees what an executor does');
is(sql("SELECT query FROM pg_stat_activity WHERE pid = $pid", user => 'eve'), '<insufficient privilege>', 'others do not');
is(sql("SELECT role, task_id FROM gtf.workers WHERE pid = $pid", user => 'eve'), 'alice|', 'but whose it is');
for my $signal ('pg_cancel_backend', 'pg_terminate_backend')
{
	for my $kind ('executor', 'dispatcher', 'flusher', 'launcher')
	{
		my (undef, undef, $err) = $node->psql('postgres', "SELECT $signal(pid) FROM gtf.workers WHERE kind = '$kind'", extra_params => [ '-U', 'eve' ]);
		like($err, qr/ERROR:  (must be|permission denied)/, "$signal of the $kind");
	}
}
# nobody can say that it has ended, but to those who believe what they hear
my $waiter = waiter($node, $id);
sql(qq{NOTIFY "gtf:complete:$id", 'failure'; NOTIFY "gtf:abort:$id", 'abort'}, user => 'eve');
is(sql("SELECT gtf_status('$id')", user => 'alice'), 'in_progress', 'a forged signal changes nothing');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|1', 'it ends when it does');
is($waiter->(), 'success', 'and who waits is told then');
$gate->quit;
$_->quit for $alice, $eve;

# ----------------------------------------------------------------------
# Too much of everything
# ----------------------------------------------------------------------

# executors that end themselves
my $offset = log_offset($node);
sql(q{CREATE PROCEDURE dies() LANGUAGE plpgsql AS
	'BEGIN COMMIT; PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END';
	SELECT gtf_register_task('dies', 'dies()', max_attempts => 1000000, retry_delay => '1 hour')});
$id = submit($node, q{'dies'}, user => 'eve');
sql(q{SELECT gtf_submit('dies') FROM generate_series(1, 30)}, user => 'eve');
alice_runs('while executors die');
until_true($node, "SELECT status = 'pending' AND wait_reason = 'retry' AND attempt >= 3 FROM gtf_get_task('$id')");
is(sql("SELECT count(*) FROM gtf.task_attempts WHERE task_id = '$id'"), '3', 'they die less and less often');
sql(q{SELECT count(gtf_cancel(id)) FROM gtf.task_info WHERE task_type = 'dies'}, user => 'eve');

# many that wait for one
$id = submit($node, q{'note', delay => '1 h'}, user => 'eve');
sql("SELECT count(*) FROM gtf_submit_many('note', array_fill('{}'::jsonb, '{20000}'), depends_on => '{$id}')", user => 'eve');
sql("SELECT gtf_cancel('$id'::uuid)", user => 'eve');
alice_runs('while many tasks fail at once');

# tasks that make more tasks
sql(q{CREATE FUNCTION forks() RETURNS void LANGUAGE sql AS 'SELECT gtf_submit(''forks'') FROM generate_series(1, 2)';
	SELECT gtf_register_task('forks', 'forks()');});
submit($node, q{'forks'}, user => 'eve') for 1 .. 10;
alice_runs('while tasks multiply');
sql(q{DROP FUNCTION forks()});
alice_runs('while they fail');
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL AND run_at IS NULL});
is(log_count($node, qr/ERROR:|WARNING:/, $offset), 0, 'of which the log has nothing');

# ----------------------------------------------------------------------
# The owner of a database
# ----------------------------------------------------------------------
sql('CREATE DATABASE owned OWNER owner');
sql('CREATE EXTENSION gtf', db => 'owned');
is(outcome($node, submit_sql($node, 'SELECT 1', db => 'owned', user => 'alice'), db => 'owned'), 'success|1', 'a database of somebody');
for my $command ('DROP EXTENSION gtf', 'ALTER EXTENSION gtf DROP TABLE gtf.tasks', 'ALTER EXTENSION gtf SET SCHEMA pg_temp',
	'ALTER SCHEMA gtf RENAME TO mine', 'DROP SCHEMA gtf CASCADE', 'CREATE TABLE gtf.mine ()', 'ALTER TABLE gtf.tasks OWNER TO owner',
	'CREATE POLICY p ON gtf.tasks USING (true)', 'ALTER TABLE gtf.tasks DISABLE TRIGGER guard', 'CREATE TABLE child () INHERITS (gtf.tasks)',
	'INSERT INTO gtf.roles DEFAULT VALUES', 'UPDATE gtf.roles SET name = \'owner\'', 'SELECT * FROM gtf.tasks FOR SHARE',
	'CREATE OR REPLACE FUNCTION gtf_status(task_id uuid) RETURNS text LANGUAGE sql AS \'\'', 'ALTER FUNCTION gtf_status RENAME TO mine',
	'ALTER DATABASE owned SET gtf.enabled = off', 'ALTER DATABASE owned SET gtf.admin_role = \'eve\'',
	'SELECT gtf_set_pool(max => 3)', q{SELECT gtf_register_task('c', hook => 'h', library => '../../tmp/h')},
	q{SELECT gtf_submit_sql('x', run_at => 'infinity'), gtf_revoke(id, true) FROM gtf.tasks})
{
	my (undef, undef, $err) = $node->psql('owned', $command, extra_params => [ '-U', 'owner' ]);
	like($err, qr/^psql:.*ERROR:/, $command);
}
# he can drop the schema that he owns, and the extension with it
my $dispatcher = worker_pid($node, 'dispatcher');
sql('DROP SCHEMA public CASCADE', db => 'owned', user => 'owner');
until_true($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'owned' AND backend_type LIKE 'gtf%'});
alice_runs('in other databases nothing happens');
is(worker_pid($node, 'dispatcher'), $dispatcher, 'at all');

# ----------------------------------------------------------------------
# A schema that somebody else has prepared
# ----------------------------------------------------------------------
sql('CREATE DATABASE prepared; REVOKE CREATE ON DATABASE prepared FROM PUBLIC');
sql('CREATE SCHEMA eve AUTHORIZATION eve', db => 'prepared');

# functions, operators and types that the script could take for those that it means
sql(q{SET search_path = eve;
	CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
	CREATE FUNCTION setval(text, int) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
	CREATE FUNCTION pg_extension_config_dump(text, text) RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION yes(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT true';
	CREATE OPERATOR = (LEFTARG = name, RIGHTARG = name, FUNCTION = yes);
	CREATE DOMAIN uuid AS text;
	CREATE DOMAIN jsonb AS text}, db => 'prepared', user => 'eve');
sql('CREATE EXTENSION gtf SCHEMA eve', db => 'prepared');
is( sql(q{SELECT count(*) FROM pg_depend d WHERE deptype = 'n' AND refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
		AND (EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
			OR classid = 'pg_rewrite'::regclass AND objid IN (SELECT oid FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM pg_class WHERE relnamespace = 'gtf'::regnamespace)))
		AND NOT EXISTS (SELECT FROM pg_depend r WHERE r.classid = d.refclassid AND r.objid = d.refobjid AND r.deptype IN ('e', 'i'))},
		db => 'prepared'),
	'0', 'nothing of hers has become a part of gtf');
is(sql('SELECT count(*) FROM gtf.show_tasks, gtf.show_workers', db => 'prepared'), '0', 'psql views');

# what is there under the same name is not taken over, nor can it be called instead of ours: with fewer defaults,
# or with text for a literal; then there is no extension
for my $object ('FUNCTION eve.gtf_iter_tasks(row_limit int) RETURNS TABLE (id uuid) LANGUAGE sql AS \'SELECT NULL::uuid\'',
	'FUNCTION eve.gtf_iter_tasks(row_limit int, status text) RETURNS TABLE (id uuid) LANGUAGE sql AS \'SELECT NULL::uuid\'',
	'FUNCTION eve.gtf_get_task(task_id anyelement) RETURNS TABLE (id uuid) LANGUAGE sql AS \'SELECT NULL::uuid\'',
	'FUNCTION eve.gtf_parse_search(search varchar) RETURNS jsonb LANGUAGE sql AS \'SELECT NULL::jsonb\'',
	'SCHEMA gtf', 'FUNCTION eve.gtf_status(task_id uuid) RETURNS text LANGUAGE sql AS \'SELECT NULL::text\'', 'PROCEDURE eve.gtf_prune(interval, bigint, INOUT bigint) LANGUAGE sql AS \'SELECT 1::bigint\'')
{
	sql('DROP EXTENSION IF EXISTS gtf; DROP SCHEMA eve CASCADE; CREATE SCHEMA eve', db => 'prepared');
	sql("CREATE $object", db => 'prepared');
	my (undef, undef, $err) = $node->psql('prepared', 'CREATE EXTENSION gtf SCHEMA eve');
	like($err, qr/^psql:.*ERROR:/, "CREATE $object");
}

$node->stop;
done_testing();
