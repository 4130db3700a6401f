# gtf_retry() right after the end of an attempt: the next one runs, whatever the
# executor of the first still does.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 3');
create_bodies($node);
my $gate = session($node);
my $other = session($node);

# What was ready before is in an executor's hands, too, when this has ended.
sub pass_by
{
	my ($what) = @_;

	is(outcome($node, submit($node, q{'note'})), 'success|1', "$what: others run");
}

# A temporary table that somebody has locked keeps an executor after the end.
$node->safe_psql(
	'postgres', q{
	CREATE PROCEDURE linger(key int) LANGUAGE plpgsql AS $$BEGIN
		CREATE TEMPORARY TABLE lingering ();
		PERFORM effect((SELECT attempt FROM gtf_context()));
		COMMIT;
		PERFORM pg_advisory_xact_lock_shared(key);
		RAISE 'enough';
	END$$;
	SELECT gtf_register_task('linger', 'linger(int)')});

# Submits a task whose first attempt ends and whose executor cannot go on until
# $other rolls back.  Returns the task and the process.
sub ends_and_lingers
{
	my ($options, $what) = @_;

	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my $id = submit($node, qq{'linger', '{"key": 1}'$options});
	my $executor = holder($node, 1);
	$other->query_safe('BEGIN');
	$other->query_safe(
		q{DO $$BEGIN EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE',
			(SELECT oid::regclass FROM pg_class WHERE relname = 'lingering')); END$$});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is(outcome($node, $id), 'failure|1|enough|raise_exception', "$what: an attempt has ended");
	until_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE pid = $executor AND NOT granted");
	return ($id, $executor);
}

sub until_gone
{
	my ($executor) = @_;

	terminate($node, $executor);
	$other->query_safe('ROLLBACK');
	until_true($node, "SELECT count(*) = 0 FROM gtf.workers WHERE pid = $executor OR state = 'lost'");
}

my ($id, $executor) = ends_and_lingers('', 'a retry');
$node->safe_psql('postgres', "SELECT gtf_retry('$id')");
is(outcome($node, $id), 'failure|2|enough|raise_exception',
	'the next one does not wait for its executor');

# that executor is lost: what it had was settled long ago
until_gone($executor);
pass_by('a lost executor');
is(outcome($node, $id), 'failure|2|enough|raise_exception', 'and is not run again for it');
$node->safe_psql('postgres', "SELECT gtf_retry('$id')");
is(outcome($node, $id), 'failure|3|enough|raise_exception', 'but when it is asked for');

# it is lost while the next attempt waits, which has no time to expire any more
$node->safe_psql('postgres', 'SELECT gtf_set_pool(0, 1)');
until_true($node, q{SELECT count(*) <= 1 FROM gtf.workers WHERE kind = 'executor'});
($id, $executor) = ends_and_lingers(q{, expires_at => clock_timestamp() + interval '5 s'}, 'one that expires');
until_true($node, "SELECT clock_timestamp() > expires_at FROM gtf_get_task('$id')");
$node->safe_psql('postgres', "SELECT gtf_retry('$id')");
until_gone($executor);
is(outcome($node, $id), 'failure|2|enough|raise_exception', 'expired: the next one runs');
$node->safe_psql('postgres', 'SELECT gtf_set_pool()');

# Before the slot has let the task go: who takes the next attempt leaves it there.
SKIP:
{
	skip 'the server has no injection points', 4
	  if $node->safe_psql('postgres',
		q{SELECT NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'injection_points')}) eq 't';

	$node->safe_psql('postgres',
		q{CREATE EXTENSION injection_points; SELECT injection_points_attach('gtf-attempt-ended', 'wait')});
	my $stopped = submit($node, q{'raise', '{"message": "no"}'});
	until_true($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'gtf-attempt-ended'});
	$node->safe_psql('postgres', "SELECT injection_points_detach('gtf-attempt-ended'), gtf_retry('$stopped')");
	pass_by('an attempt that has not been told');
	is($node->safe_psql('postgres', "SELECT count(*) FROM gtf.task_attempts WHERE task_id = '$stopped'"),
		'1', 'the next one waits for it');

	# a new dispatcher finds it in the table
	my $pid = worker_pid($node, 'dispatcher');
	terminate($node, $pid);
	new_worker($node, 'dispatcher', $pid);
	pass_by('a new dispatcher');
	$node->safe_psql('postgres', q{SELECT injection_points_wakeup('gtf-attempt-ended')});
	is(outcome($node, $stopped), 'failure|2|no|raise_exception', 'and then it runs');
}

nothing_left($node);
$node->stop;
done_testing();
