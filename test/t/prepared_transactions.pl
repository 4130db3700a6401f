# Tasks of a prepared transaction run when, and only when, it is committed,
# however long that takes and whatever happens in between.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run qw(start);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 2');
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE SEQUENCE runs;
	CREATE FUNCTION counted() RETURNS void LANGUAGE plpgsql AS
		$$BEGIN PERFORM nextval('runs'), effect(); END$$;
	SELECT gtf_register_task('counted', 'counted()')});

sub prepare
{
	my ($gid, $sql) = @_;

	$node->safe_psql('postgres', "BEGIN; $sql; PREPARE TRANSACTION '$gid'");
}

sub sql
{
	$node->safe_psql('postgres', $_[0]);
}

my $none_active =
  q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')};

# Everything there is has ended; the notes that ran.
sub ran
{
	my ($expected, $what) = @_;

	until_true($node, $none_active);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(take_effects($node), $expected, $what);
}

prepare('a', q{SELECT gtf_submit('note', '{"n": 1}')});
prepare('b', q{SELECT gtf_submit('note', '{"n": 2}')});
prepare('c', q{SELECT gtf_submit('note', '{"n": 3}'); SAVEPOINT s; SELECT gtf_submit('note', '{"n": 4}'); ROLLBACK TO s; SELECT gtf_submit('note', '{"n": 5}')});
sql(q{SELECT gtf_submit('note', '{"n": 6}')});
ran('6', 'nothing runs before it is committed');
sql(q{COMMIT PREPARED 'a'});
ran('1', 'committed');
sql(q{ROLLBACK PREPARED 'b'});
sql(q{SELECT gtf_submit('note', '{"n": 6}')});
ran('6', 'rolled back');

# meanwhile many others come and go, and the dispatcher has seen them all
for (1 .. 3)
{
	my $now = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	sql(q{SELECT FROM gtf_submit_many('counted', array_fill('{}'::jsonb, ARRAY[300]))});
	until_true($node, "SELECT clock_timestamp() > '$now'::timestamptz + '1.1 s'");
}
until_true($node, $none_active);
sql('TRUNCATE effects');
sql(q{COMMIT PREPARED 'c'});
ran('3 5', 'committed after many later tasks have ended');

# without a dispatcher
prepare('a', q{SELECT gtf_submit('note', '{"n": 1}')});
my $pid = worker_pid($node, 'dispatcher');
sql("SELECT pg_terminate_backend($pid); COMMIT PREPARED 'a'");
ran('1', 'committed while there is no dispatcher');

# across restarts
prepare('a', q{SELECT gtf_submit('note', '{"n": 1}')});
prepare('b', q{SELECT gtf_submit('note', '{"n": 2}')});
prepare('c', q{SELECT gtf_submit('note', '{"n": 3}')});
$node->restart;
sql(q{SELECT gtf_submit('note', '{"n": 6}')});
ran('6', 'prepared before a restart');
sql(q{COMMIT PREPARED 'a'});
ran('1', 'committed after it');
$node->stop('immediate');
$node->start;
sql(q{SELECT gtf_submit('note', '{"n": 6}')});
ran('6', 'prepared before a crash');
sql(q{COMMIT PREPARED 'b'});
ran('2', 'committed after it');
sql(q{ROLLBACK PREPARED 'c'});
sql(q{SELECT gtf_submit('note', '{"n": 6}')});
ran('6', 'rolled back after it');

# larger than any ring
prepare('a', q{SELECT FROM gtf_submit_many('note', array_fill('{"n": 1}'::jsonb, ARRAY[7000]))});
sql(q{COMMIT PREPARED 'a'});
until_true($node, $none_active);
is( $node->safe_psql('postgres',
		'WITH e AS (DELETE FROM effects RETURNING task) SELECT count(*), count(DISTINCT task) FROM e'),
	'7000|7000',
	'7000 tasks at once');

# Many at the same time, while others submit as usual: each runs once.
sql(q{SELECT setval('runs', 1, false); TRUNCATE gtf.tasks, gtf.outcomes});
my $script = $node->basedir . '/load.sql';
append_to_file($script, q{
\set kind random(1, 4)
\if :kind = 1
SELECT gtf_submit('counted'); SELECT gtf_submit('counted');
\elif :kind = 2
BEGIN; SELECT gtf_submit('counted'); PREPARE TRANSACTION 'p:client_id'; ROLLBACK PREPARED 'p:client_id';
\else
BEGIN; SELECT gtf_submit('counted'); PREPARE TRANSACTION 'p:client_id';
SELECT gtf_submit('counted');
COMMIT PREPARED 'p:client_id';
\endif
});
$node->command_ok(
	[
		'pgbench', '-n', '-c', 4, '-t', 150, '-f', $script, '-d', $node->connstr('postgres')
	],
	'prepared and other transactions at the same time');
until_true($node, $none_active);
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) > 600, (SELECT count(*) FROM effects) - count(*), (SELECT last_value FROM runs) - count(*)
		  FROM gtf.task_info WHERE status = 'success'}),
	't|0|0',
	'each task has run exactly once');

$node->stop;
done_testing();
