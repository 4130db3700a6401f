# Many databases: each one with the extension gets its dispatcher, after a
# restart, after CREATE EXTENSION at any moment, and as soon as there is room.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run qw(start);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 1');
my @databases = ('postgres', map { "d$_" } 1 .. 4);

sub sql
{
	my ($db, $sql) = @_;

	return $node->safe_psql($db, $sql);
}

sql('postgres', "CREATE DATABASE $_") for @databases[ 1 .. 4 ];
# not in d4
sql($_, 'CREATE EXTENSION gtf') for @databases[ 1 .. 3 ];

# restart: nobody has to submit anything to wake them up
my %id = map { $_ => submit_sql($node, 'SELECT 1', db => $_, options => q{delay => '1 s'}) } @databases[ 0 .. 3 ];
$node->restart;
until_true($node, qq{SELECT count(*) = 1 FROM gtf.outcomes WHERE task_id = '$id{$_}' AND status = 's'}, db => $_)
  for @databases[ 0 .. 3 ];
pass('after a restart each database with the extension runs its tasks');
is( sql('postgres', q{SELECT string_agg(DISTINCT datname, ' ' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'gtf dispatcher'}),
	'd1 d2 d3 postgres',
	'and others have no dispatcher');

# created when a dispatcher has found nothing and the launcher does not know
# yet: the dispatcher is held at its look, the launcher stopped
my $lock = session($node, db => 'd4');
$lock->query_safe('BEGIN; LOCK TABLE pg_extension IN ACCESS EXCLUSIVE MODE');
my $launcher = worker_pid($node, 'launcher');
terminate($node, $launcher);
$launcher = new_worker($node, 'launcher', $launcher);
until_true($node,
	q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'gtf dispatcher' AND datname = 'd4' AND wait_event_type = 'Lock')});
kill 'STOP', $launcher;
$lock->query_safe('COMMIT');
until_true($node,
	q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'gtf dispatcher' AND datname = 'd4')});
my $created = sql('d4', q{BEGIN; CREATE EXTENSION gtf; SELECT gtf_submit_sql('SELECT 1'); COMMIT});
kill 'CONT', $launcher;
until_true($node, qq{SELECT count(*) = 1 FROM gtf.outcomes WHERE task_id = '$created'}, db => 'd4');
pass('created just after a dispatcher has looked in vain');
$lock->quit;

# created and dropped all the time
my $script = $node->basedir . '/create.sql';
append_to_file($script, join "\n", map { qq{
	DROP EXTENSION IF EXISTS gtf;
	SELECT pg_sleep(random() * 0.05);
	BEGIN;
	CREATE EXTENSION gtf;
	SELECT gtf_submit_sql('SELECT 1');
	COMMIT;
	DO \$\$
	DECLARE deadline timestamptz := clock_timestamp() + interval '$PostgreSQL::Test::Utils::timeout_default s';
	BEGIN
		WHILE NOT EXISTS (SELECT FROM gtf.outcomes WHERE status = 's') LOOP
			PERFORM pg_sleep(0.005);
			IF clock_timestamp() > deadline THEN RAISE 'no task has run in round $_'; END IF;
		END LOOP;
	END\$\$;
}} 1 .. 8);
my (@runs, @out);
for my $db (@databases[ 1 .. 4 ])
{
	my $out = '';

	push @out, \$out;
	push @runs, start [ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', $script ],
	  '<', \undef, '>', '/dev/null', '2>', $out[-1];
}
for my $i (0 .. $#runs)
{
	ok($runs[$i]->finish, "created, dropped and created in $databases[$i + 1]")
	  or diag ${ $out[$i] };
}

# more databases than gtf.max_databases
$node->append_conf('postgresql.conf', 'gtf.max_databases = 4');
$node->restart;
until_true($node, q{SELECT count(DISTINCT datname) = 4 FROM pg_stat_activity WHERE backend_type = 'gtf dispatcher'});
ok(until_log($node, qr/WARNING:  gtf cannot look for tasks in database "\w+": gtf.max_databases is reached/),
	'a warning when there are too many databases');
my $offset = log_offset($node);
sql('postgres', 'CREATE DATABASE late');
sql('late', 'CREATE EXTENSION gtf');
my $id = submit_sql($node, 'SELECT 1', db => 'late');
my $warning = 'WARNING:  gtf cannot look for tasks in database "late": gtf.max_databases is reached';
ok(until_log($node, $warning, $offset), 'and for one that is created later');
submit_sql($node, 'SELECT 1', db => 'late') for 1 .. 5;
is(status($node, $id, db => 'late'), 'pending', 'whose tasks wait');
is(log_count($node, $warning, $offset), 1, 'one warning');
sql($_, 'DROP EXTENSION gtf') for @databases[ 1 .. 4 ];
is(ended($node, $id, db => 'late'), 'success', 'and run when there is room');

$node->stop;
done_testing();
