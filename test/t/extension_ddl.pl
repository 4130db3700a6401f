# CREATE and DROP EXTENSION while gtf is at work: the workers leave first and
# come back if the command is taken back; nobody waits for long.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run qw(start);
use Test::More;

my $node = gtf_node('main', conf => "gtf.max_executors = 2\nmax_prepared_transactions = 5");
my $workers =
  q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'gtf %' AND backend_type <> 'gtf launcher'};

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# A fresh extension, and a task whose body runs.
sub begin
{
	sql('DROP TABLE IF EXISTS effects; DROP SCHEMA IF EXISTS bodies CASCADE');
	sql('DROP EXTENSION IF EXISTS gtf; CREATE EXTENSION gtf');
	sql($_)
	  for 'DROP FUNCTION IF EXISTS effect, note, hold, "raise", quit; DROP PROCEDURE IF EXISTS call_hold';
	create_bodies($node);
	my $id = submit($node, q{'hold', '{"key": 1}'});
	executor_of($node, $id);
	return $id;
}

my $gate = gate($node, 1);

# dropped while a task runs and somebody waits for it
my $id = begin();
my ($out, $err) = ('', '');
my $waiter = start [
	'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL gtf_wait('$id')"
  ],
  '<', \undef, '>', \$out, '2>', \$err;
until_true($node,
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL gtf_wait%' AND wait_event_type = 'Extension'});
sql('DROP EXTENSION gtf');
pass('DROP EXTENSION does not wait for a running task');
is(sql('SELECT count(*) FROM effects'), '0', 'which is rolled back');
until_true($node, "SELECT ($workers) = 0");
$waiter->finish;
like($err, qr/does not exist/, 'who waited for it gets an error');

# created again
$id = begin();
isnt($id, '', 'CREATE EXTENSION again');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|1', 'tasks run');
$gate->query_safe('SELECT pg_advisory_lock(1)');

# rolled back, in several ways
sub survives
{
	my ($what, $sql) = @_;
	my $id = begin();
	my $dispatcher = worker_pid($node, 'dispatcher');

	$node->psql('postgres', $sql, on_error_stop => 0);
	new_worker($node, 'dispatcher', $dispatcher);
	until_true($node,
		"SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is(outcome($node, $id), 'success|2', "$what: the task runs again");
	is(sql("SELECT count(*) FROM effects WHERE task = '$id'"), '1', 'with its effects once');
	is(outcome($node, submit($node, q{'note'})), 'success|1', 'and so do others');
	$gate->query_safe('SELECT pg_advisory_lock(1)');
}
survives('DROP rolled back', 'BEGIN; DROP EXTENSION gtf; ROLLBACK');
survives('DROP rolled back to a savepoint',
	'BEGIN; SAVEPOINT a; DROP EXTENSION gtf; ROLLBACK TO a; COMMIT');
survives('DROP twice, rolled back',
	'BEGIN; SAVEPOINT a; DROP EXTENSION gtf; ROLLBACK TO a; DROP EXTENSION gtf; ROLLBACK');
survives('DROP SCHEMA CASCADE rolled back',
	'BEGIN; ALTER EXTENSION gtf DROP SCHEMA gtf; ROLLBACK; BEGIN; DROP OWNED BY CURRENT_USER CASCADE; ROLLBACK; BEGIN; DROP EXTENSION gtf CASCADE; ROLLBACK');
survives('the session that drops is terminated',
	'BEGIN; DROP EXTENSION gtf; SELECT pg_terminate_backend(pg_backend_pid())');
survives('DROP prepared and rolled back',
	q{BEGIN; DROP EXTENSION gtf; PREPARE TRANSACTION 'drop'; ROLLBACK PREPARED 'drop'});

# dropped and created in one transaction, more than once
begin();
sql('BEGIN; DROP EXTENSION gtf; CREATE EXTENSION gtf; DROP EXTENSION gtf; CREATE EXTENSION gtf; COMMIT');
sql(q{SELECT gtf_register_task('note', 'note(int)')});
is(outcome($node, submit($node, q{'note'})), 'success|1',
	'dropped and created twice in a transaction');
is(sql('SELECT count(*) FROM effects'), '1', 'old tasks do not run');

# without the right to do it
begin();
my $dispatcher = worker_pid($node, 'dispatcher');
sql('CREATE ROLE nobody');
my ($rc, undef, $stderr) = $node->psql('postgres',
	'SET ROLE nobody; DROP EXTENSION gtf');
like($stderr, qr/must be owner of extension gtf/, 'DROP by others');
(undef, undef, $stderr) = $node->psql('postgres',
	'SET ROLE nobody; DROP SCHEMA gtf CASCADE');
like($stderr, qr/must be owner of schema gtf/, 'or of its schema');
is(worker_pid($node, 'dispatcher'), $dispatcher, 'stops no worker');
is(sql(q{SELECT count(*) FROM gtf.task_info WHERE status = 'in_progress' AND attempt = 1}),
	'1', 'nor a task');
(undef, undef, $stderr) = $node->psql('postgres', 'DROP FUNCTION gtf_submit');
like($stderr, qr/extension gtf requires it/, 'a member cannot be dropped');
is(worker_pid($node, 'dispatcher'), $dispatcher, 'which stops no worker either');

# other ways to drop it
sql('BEGIN; ALTER EXTENSION gtf UPDATE; COMMIT');
sql(q{DROP EXTENSION gtf; CREATE SCHEMA house; CREATE EXTENSION gtf SCHEMA house});
sql(q{SELECT house.gtf_register_task('note', 'public.note(int)')});
sql(q{CREATE OR REPLACE FUNCTION effect(n int DEFAULT NULL) RETURNS void LANGUAGE sql AS
	'INSERT INTO effects (task, attempt, n) SELECT task_id, attempt, $1 FROM house.gtf_context()'});
$id = sql(q{SELECT house.gtf_submit('note', '{"n": 5}')});
sql("CALL house.gtf_wait('$id', '30 s')");
is(sql("SELECT status, result FROM house.gtf_get_task('$id')"),
	'success|5', 'in a schema of its own');
like((sql("SELECT status, error_message FROM gtf.task_info"))[0], qr/^success/, 'the views are in gtf');
sql('DROP SCHEMA house CASCADE');
until_true($node, "SELECT ($workers) = 0");
is(sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'gtf'}), '0', 'DROP SCHEMA CASCADE');

sql('CREATE ROLE landlord SUPERUSER; SET ROLE landlord; CREATE EXTENSION gtf');
worker_pid($node, 'dispatcher');
sql('DROP OWNED BY landlord; DROP ROLE landlord');
until_true($node, "SELECT ($workers) = 0");
is(sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'gtf'}), '0', 'DROP OWNED');

# a task that drops the ground under its feet ends without doing harm
begin();
$gate->query_safe('SELECT pg_advisory_unlock(1)');
submit_sql($node, 'DROP EXTENSION gtf CASCADE');
until_true($node, "SELECT ($workers) = 0 AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'gtf')");
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = begin();
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|1', 'dropped by a task, created again');

# created in a prepared transaction, in another database
sql('CREATE DATABASE second');
$node->safe_psql('second', q{BEGIN; CREATE EXTENSION gtf; PREPARE TRANSACTION 'create'});
$node->safe_psql('second', q{COMMIT PREPARED 'create'});
$id = submit_sql($node, 'SELECT 1', db => 'second');
is(outcome($node, $id, db => 'second'), 'success|1', 'created by COMMIT PREPARED');

$gate->quit;
$node->stop;
done_testing();
