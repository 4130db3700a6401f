# The eight worker slots of a server as it comes, and several databases: each
# one gets on, whatever the others have to do.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

# two launchers; a dispatcher and a flusher for each database
my $node = gtf_node('main', extension => 0, conf => "max_worker_processes = 8\ngtf.max_executors = 4");
my @databases = ('postgres', 'second', 'third');

sub sql
{
	my ($db, $sql) = @_;

	return $node->safe_psql($db, $sql);
}

# Tasks for minutes, unless they are told that it is enough.
sub make
{
	my ($db) = @_;

	sql($db, q{
		CREATE EXTENSION gtf;
		CREATE TABLE enough ();
		CREATE FUNCTION slow() RETURNS void LANGUAGE plpgsql AS
			'BEGIN IF NOT EXISTS (SELECT FROM enough) THEN PERFORM pg_sleep(0.1); END IF; END';
		SELECT gtf_register_task('slow', 'slow()')});
}

sub keep_busy
{
	my ($db) = @_;

	sql($db, q{SELECT gtf_submit('slow') FROM generate_series(1, 3000)});
	until_true($node, q{SELECT count(*) > 2 FROM gtf.outcomes}, db => $db);
}

# two databases, and room for two executors
make('postgres');
sql('postgres', 'CREATE DATABASE second');
make('second');
keep_busy('postgres');
is(outcome($node, submit_sql($node, 'SELECT 1', db => 'second', options => 'priority => 1'), db => 'second'),
	'success|1', 'a database that is busy all the time lets another one run its task');
keep_busy('second');
pass('and many');
is(outcome($node, submit_sql($node, 'SELECT 1', options => 'priority => 1')), 'success|1', 'while its own go on');

# three, and no room for an executor but that of flushers
sql('postgres', 'CREATE DATABASE third');
make('third');
keep_busy('third');
pass('a third one');
is(outcome($node, submit_sql($node, 'SELECT 1', db => $_, options => 'priority => 1'), db => $_), 'success|1', "all three run tasks: $_")
  for @databases;

# with less to do the flushers come back
sql($_, 'INSERT INTO enough DEFAULT VALUES') for @databases;
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL}, db => $_) for @databases;
sql('postgres', 'ALTER SYSTEM SET gtf.executor_idle_timeout = 1');
$node->reload;
worker_pid($node, 'flusher', db => $_) for @databases;
pass('flushers come back');
is(outcome($node, submit_sql($node, 'SELECT 1', db => $_, options => 'priority => 1'), db => $_), 'success|1', "and leave again for a task: $_")
  for @databases;

# more databases, while idle executors have the places
sql('postgres', q{ALTER SYSTEM SET gtf.executor_idle_timeout = '1 h'});
$node->reload;
for my $db ('fourth', 'fifth')
{
	sql('postgres', "CREATE DATABASE $db");
	make($db);
	is(outcome($node, submit_sql($node, 'SELECT 1', db => $db), db => $db), 'success|1', "a $db database");
}

$node->stop;
done_testing();
