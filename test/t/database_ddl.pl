# Commands that need a database for themselves: gtf's workers make room, and
# come back.  Copies of a database run nothing until they are adopted.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run qw(start);
use Test::More;

my $node = gtf_node('main', conf => "gtf.max_executors = 2\nallow_in_place_tablespaces = on");
my ($out, $err);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub workers_of
{
	return "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'gtf %' AND datname = '$_[0]'";
}

# A database with gtf and a task that runs until its gate opens.
sub make
{
	my ($db) = @_;

	sql("CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION gtf');
	create_bodies($node, $db);
	$node->safe_psql($db, q{
		CREATE TABLE released ();
		CREATE FUNCTION stuck() RETURNS void LANGUAGE plpgsql AS $$BEGIN
			PERFORM effect();
			WHILE NOT EXISTS (SELECT FROM released) LOOP PERFORM pg_sleep(0.02); END LOOP;
		END$$;
		SELECT gtf_register_task('stuck', 'stuck()')});
	return running($db);
}

sub running
{
	my ($db) = @_;
	my $id;

	$node->safe_psql($db, 'DELETE FROM released');
	$id = submit($node, q{'stuck'}, db => $db);
	executor_of($node, $id, db => $db);
	return $id;
}

# After something that interrupted it, the task runs again.
sub goes_on
{
	my ($db, $id, $what) = @_;

	$node->safe_psql($db, 'INSERT INTO released DEFAULT VALUES');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(outcome($node, $id, db => $db), 'success|2', "$what: the running task runs again");
	is( $node->safe_psql($db, "SELECT count(*) FROM effects WHERE task = '$id'"),
		'1', 'with its effects once');
	is(outcome($node, submit($node, q{'note'}, db => $db), db => $db),
		'success|1', 'and others run');
}

# several databases
make('one');
make('two');
is( sql(q{SELECT count(DISTINCT datname) FROM pg_stat_activity WHERE backend_type = 'gtf dispatcher'}),
	'3',
	'one dispatcher per database');
worker_pid($node, 'flusher', db => 'one');
is( $node->safe_psql('one', q{SELECT string_agg(DISTINCT kind, ' ' ORDER BY kind) FROM gtf.workers}),
	'dispatcher executor flusher launcher',
	'gtf.workers shows those of the current database');

# DROP DATABASE
sql('DROP DATABASE one');
pass('DROP DATABASE does not wait for a running task');
is(sql(q{SELECT count(*) FROM pg_database WHERE datname = 'one'}), '0', 'it is gone');
my $id = make('one');
my $dispatcher = worker_pid($node, 'dispatcher', db => 'one');
sql('CREATE ROLE maker CREATEDB');
for my $command ('DROP DATABASE one', 'CREATE DATABASE three TEMPLATE one',
	'ALTER DATABASE one RENAME TO three', 'ALTER DATABASE one SET TABLESPACE pg_default')
{
	(undef, $out, $err) = $node->psql('postgres', "SET ROLE maker; $command");
	like($err, qr/must be owner of database one|permission denied to copy database "one"/,
		"$command by others");
}
(undef, $out, $err) = $node->psql('postgres', 'BEGIN; DROP DATABASE one');
like($err, qr/cannot run inside a transaction block/, 'DROP DATABASE in a transaction');
(undef, $out, $err) = $node->psql('one', 'DROP DATABASE one');
like($err, qr/cannot drop the currently open database/, 'DROP DATABASE from inside')
  or diag $err;

is($node->safe_psql('one', "SELECT status, attempt FROM gtf_get_task('$id')"),
	'in_progress|1', 'the task runs on');
is(worker_pid($node, 'dispatcher', db => 'one'), $dispatcher, 'and so does the dispatcher');
$node->safe_psql('one', 'INSERT INTO released DEFAULT VALUES');
is(outcome($node, $id, db => 'one'), 'success|1', 'to its end');

# in the way of a session that stays
$id = running('one');
my $session = session($node, db => 'one');
my $drop = start [ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'DROP DATABASE one' ],
  '<', \undef, '>', \$out, '2>', \$err;
until_true($node,
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'DROP DATABASE one' AND state = 'active'});
until_true($node, 'SELECT (' . workers_of('one') . ') = 0');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'DROP DATABASE one'});
$drop->finish;
$session->quit;
goes_on('one', $id, 'DROP DATABASE that is terminated');
$id = running('one');
sql('DROP DATABASE one WITH (FORCE)');
is(sql(q{SELECT count(*) FROM pg_database WHERE datname = 'one'}), '0', 'DROP DATABASE WITH (FORCE)');

# RENAME and SET TABLESPACE
$id = make('one');
sql('ALTER DATABASE one RENAME TO first');
goes_on('first', $id, 'RENAME');
$id = running('first');
sql('BEGIN; ALTER DATABASE first RENAME TO one; ROLLBACK');
goes_on('first', $id, 'RENAME rolled back');
$id = running('first');
sql(q{CREATE TABLESPACE elsewhere LOCATION ''});
sql('ALTER DATABASE first SET TABLESPACE elsewhere');
goes_on('first', $id, 'SET TABLESPACE');

# copies
$id = running('first');
# from here on a copy knows that it was running
until_true($node, q{SELECT count(*) = 1 FROM gtf.live WHERE state = 'r'}, db => 'first');
my $waiting = submit($node, q{'note', '{"n": 1}', delay => '1 ms', priority => -1}, db => 'first');
is(ended($node, $waiting, db => 'first'), 'success', 'the other executor is free');
my $pending = submit($node, q{'note', '{"n": 2}', delay => '1 day'}, db => 'first');
my $offset = log_offset($node);
sql('CREATE DATABASE copy TEMPLATE first');
goes_on('first', $id, 'CREATE DATABASE TEMPLATE');
ok( until_log($node, 'gtf does not run tasks in database "copy": its tables are a copy', $offset),
	'the log says that a copy runs nothing');
my $new = submit($node, q{'note', '{"n": 3}'}, db => 'copy');
submit($node, q{'note', '{"n": 3}'}, db => 'copy') for 1 .. 3;
is( $node->safe_psql('copy', "SELECT status, attempt FROM gtf_get_task('$id')"),
	'in_progress|1', 'a task that was running in the original');
is($node->safe_psql('copy', 'SELECT count(*) FROM effects WHERE n = 3'), '0', 'does not run in the copy');
is(status($node, $new, db => 'copy'), 'pending', 'nor does a new task');
is(log_count($node, 'gtf does not run tasks in database "copy"', $offset), 1, 'which is said once');
(undef, $out, $err) = $node->psql('copy', 'SET ROLE maker; SELECT gtf_adopt()');
like($err, qr/permission denied|must be|administrator/, 'only administrators adopt');
is( $node->safe_psql('copy', 'INSERT INTO released DEFAULT VALUES; BEGIN; SELECT gtf_adopt(); ROLLBACK; SELECT count(*) FROM gtf.state s JOIN pg_database d ON d.oid = s.database WHERE d.datname = current_database()'),
	"\n0", 'an adoption rolled back');
$node->safe_psql('copy', 'SELECT gtf_adopt()');
is(outcome($node, $new, db => 'copy'), 'success|1', 'gtf_adopt() lets tasks run');
like(outcome($node, $id, db => 'copy'), qr/^success\|/, 'the one that was running, too');
is(status($node, $pending, db => 'copy'), 'pending', 'and what waits waits');
$node->restart;
is(outcome($node, submit($node, q{'note'}, db => 'copy'), db => 'copy'),
	'success|1', 'and stays adopted');

# templates
$offset = log_offset($node);
$node->safe_psql('template1', 'CREATE EXTENSION gtf');
create_bodies($node, 'template1');
submit($node, q{'note'}, db => 'template1');
sql('CREATE DATABASE made_from_template1');
ok( until_log($node, 'gtf does not run tasks in database "made_from_template1": its tables are a copy', $offset),
	'what was made from a template is a copy');
is(sql(workers_of('template1')), '0', 'nothing runs in a template');
is($node->safe_psql('template1', 'SELECT status FROM gtf.task_info'), 'pending', 'nor do its tasks');
sql('ALTER DATABASE two IS_TEMPLATE true');
sql('SET ROLE maker; CREATE DATABASE made_from_two TEMPLATE two');
is(sql(q{SELECT count(*) FROM pg_database WHERE datname = 'made_from_two'}),
	'1', 'CREATE DATABASE by others from a template');

$node->stop;
done_testing();
