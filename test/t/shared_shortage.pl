# Fewer slots than databases want, and whoever has them is busy for long or has
# been lost.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', extension => 0, conf => "max_worker_processes = 16\ngtf.max_executors = 4\ngtf.max_slots = 3");
my @databases = ('postgres', 'second', 'third');
my $gate;

sub sql
{
	my ($db, $sql) = @_;

	return $node->safe_psql($db, $sql);
}

# slow: for a while, unless it is told that it is enough; work: its first
# attempt has a cleanup handler and is held
sub make
{
	my ($db) = @_;

	sql($db, 'CREATE EXTENSION gtf');
	create_bodies($node, $db);
	sql($db, q{
		CREATE TABLE enough ();
		CREATE FUNCTION slow() RETURNS void LANGUAGE plpgsql AS
			'BEGIN IF NOT EXISTS (SELECT FROM enough) THEN PERFORM pg_sleep(0.1); END IF; END';
		CREATE FUNCTION clean() RETURNS void LANGUAGE sql AS 'SELECT effect(101)';
		CREATE FUNCTION work() RETURNS void LANGUAGE plpgsql AS $$BEGIN
			IF (gtf_context()).attempt = 1 THEN
				PERFORM gtf_on_cleanup('clean()');
				PERFORM pg_advisory_xact_lock_shared(2);
			END IF;
		END$$;
		SELECT gtf_register_task('slow', 'slow()'), gtf_register_task('work', 'work()')});
}

sub keep_busy
{
	my ($db, $count) = @_;

	sql($db, "DELETE FROM enough; SELECT gtf_submit('slow') FROM generate_series(1, $count)");
	until_true($node, q{SELECT count(*) > 0 FROM gtf.task_info WHERE task_type = 'slow' AND ended_at IS NOT NULL}, db => $db);
}

sub enough
{
	my ($db) = @_;

	sql($db, 'INSERT INTO enough DEFAULT VALUES');
	until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL}, db => $db);
}

sub restart_with
{
	$gate->quit;
	$node->append_conf('postgresql.conf', $_[0]);
	$node->restart;
	$gate = gate($node, 1, 2);
}

for my $db (@databases)
{
	sql('postgres', "CREATE DATABASE $db") if $db ne 'postgres';
	make($db);
}
$gate = gate($node, 1, 2);

# who has most is busy for long
submit($node, q{'hold', '{"key": 1}'}) for 1 .. 2;
until_held($node, 1, 2);
keep_busy('second', 1000);
is(outcome($node, submit_sql($node, 'SELECT 1', db => 'third'), db => 'third'),
	'success|1', 'a database that has fewer makes room when the one that has most cannot');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
enough('postgres');
enough('second');

# an attempt that is lost while others have all the slots
my $other_gate = gate($node, { db => 'third' }, 2);
my $id = submit($node, q{'work'}, db => 'third');
until_held($node, 2);
keep_busy('second', 1000);
until_true($node, q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'gtf executor' AND datname = 'second'});
my $offset = log_offset($node);
terminate($node, holder($node, 2));
is(outcome($node, $id, db => 'third'), 'success|2', 'a lost attempt gets an executor of others');
is(sql('third', "SELECT string_agg(concat_ws(' ', attempt, n), ', ') FROM effects WHERE task = '$id'"), '1 101', 'for its cleanup handlers, too');
is(log_count($node, 'cleanup handlers of gtf task', $offset), 0, 'none is given up');
$other_gate->quit;
enough('second');

# one that runs is not lost
restart_with('gtf.max_slots = 1');
my $session = session($node);
$session->query_until(qr/running/, "\\echo running\nCALL gtf_run('work');\n");
until_held($node, 2);
$offset = log_offset($node);
$id = submit($node, q{'note'});
ok(until_log($node, 'WARNING:  no background worker slot is free for a gtf executor', $offset), 'a session has the only slot');
is(log_count($node, 'cleanup handlers of gtf task', $offset), 0, 'and its cleanup handlers');
$gate->query_safe('SELECT pg_advisory_unlock(2)');
$session->quit;
is(outcome($node, $id), 'success|1', 'until it has ended');

$gate->quit;
$node->stop;
done_testing();
