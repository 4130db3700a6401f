# An executor that is terminated, or cancelled, in the middle of a task.
#
# The body of an atomic task leaves nothing behind and runs again at once,
# unless it loses its executor time and again; a procedure or a command may
# have left something behind and runs again only while attempts remain.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 2');
create_bodies($node);
my $gate = gate($node, 1);

sub attempts
{
	my ($id) = @_;

	return $node->safe_psql(
		'postgres', "SELECT string_agg(concat_ws(' ', attempt, error_message, exception_type), ', ' ORDER BY attempt)
		  FROM gtf.task_attempts WHERE task_id = '$id'");
}

sub effects
{
	my ($id) = @_;

	return $node->safe_psql('postgres',
		"SELECT string_agg(attempt::text, ',' ORDER BY seq) FROM effects WHERE task = '$id'"
	);
}

# an atomic task, lost once and twice
my $id = submit($node, q{'hold', '{"key": 1}'});
my $first = executor_of($node, $id);
terminate($node, $first);
until_true($node,
	"SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
is($node->safe_psql('postgres', "SELECT worker FROM gtf.task_attempts WHERE task_id = '$id'"),
	"executor $first", 'an atomic task runs again');
terminate($node, executor_of($node, $id));
until_true($node,
	"SELECT status = 'in_progress' AND attempt = 3 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|3', 'and succeeds in the end');
is(effects($id), '3', 'with its effects once');
is(attempts($id), '1 executor lost executor_lost, 2 executor lost executor_lost',
	'the lost attempts are told');

in_time(
	'within a second',
	sub {
		$gate->query_safe('SELECT pg_advisory_lock(1)');
		$id = submit($node, q{'hold', '{"key": 1}'});
		terminate($node, executor_of($node, $id));
		until_true($node, "SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
		$gate->query_safe('SELECT pg_advisory_unlock(1)');
		ended($node, $id);
		return $node->safe_psql('postgres',
			"SELECT i.started_at - a.ended_at < '1 s' FROM gtf_get_task('$id') i JOIN gtf.task_attempts a ON a.task_id = i.id") eq 't';
	});

# lost for good
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'quit'});
is(outcome($node, $id), 'failure|3|executor lost|executor_lost',
	'an atomic task that loses its executor three times fails');
is(effects($id), '', 'without effects');
like($node->safe_psql('postgres', "SELECT stack_trace FROM gtf_get_task('$id')"),
	qr/^DETAIL:  It was lost 3 times, the limit is gtf.crash_limit.\nHINT:  .*gtf_retry/, 'and says why');
$node->append_conf('postgresql.conf', 'gtf.crash_limit = 1');
$node->reload;
until_true($node,
	q{SELECT current_setting('gtf.crash_limit') = '1'});
is( outcome($node, submit($node, q{'quit'})),
	'failure|1|executor lost|executor_lost',
	'gtf.crash_limit says how often');
$node->append_conf('postgresql.conf', 'gtf.crash_limit = 3');
$node->reload;

# max_attempts counts failures, not lost executors of atomic bodies
$id = submit($node, q{'hold', '{"key": 1}', max_attempts => 1});
terminate($node, executor_of($node, $id));
until_true($node,
	"SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2',
	'a lost executor is no failed attempt of an atomic task');

# a procedure
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'call_hold', '{"key": 1}'});
terminate($node, executor_of($node, $id));
is(outcome($node, $id), 'failure|1|executor lost|executor_lost',
	'a procedure does not run again');
like($node->safe_psql('postgres', "SELECT stack_trace FROM gtf_get_task('$id')"),
	qr/^DETAIL:  Procedures and commands .* only while attempts remain/, 'and says why');
is(effects($id), '1', 'what it had committed stays');
$id = submit($node, q{'call_hold', '{"key": 1}', max_attempts => 2});
terminate($node, executor_of($node, $id));
until_true($node,
	"SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2',
	'a procedure runs again while attempts remain');
is(effects($id), '1,2', 'with the effects of both attempts');

# a command
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit_sql($node, 'SELECT pg_advisory_xact_lock_shared(1)');
terminate($node, executor_of($node, $id));
is(outcome($node, $id), 'failure|1|executor lost|executor_lost',
	'a command does not run again');
$id = submit_sql($node, 'SELECT pg_advisory_xact_lock_shared(1)',
	options => 'max_attempts => 2');
terminate($node, executor_of($node, $id));
until_true($node,
	"SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2',
	'a command runs again while attempts remain');

# cancelled statements are errors of the body
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $message = 'canceling statement due to user request|query_canceled';
for my $type ('hold', 'call_hold')
{
	$id = submit($node, qq{'$type', '{"key": 1}'});
	my $pid = holder($node, 1);
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
	is(outcome($node, $id), "failure|1|$message",
		"pg_cancel_backend ends $type as a failure");
	is($node->safe_psql('postgres', "SELECT pid FROM gtf.workers WHERE pid = $pid"),
		$pid, 'and its executor stays');
}
$id = submit_sql($node, 'SELECT pg_advisory_xact_lock_shared(1)');
$node->safe_psql('postgres',
	'SELECT pg_cancel_backend(' . holder($node, 1) . ')');
is(outcome($node, $id), "failure|1|$message",
	'pg_cancel_backend ends a command as a failure');
$id = submit($node, q{'hold', '{"key": 1}', max_attempts => 2});
$node->safe_psql('postgres',
	'SELECT pg_cancel_backend(' . holder($node, 1) . ')');
until_true($node,
	"SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $id), 'success|2',
	'which is tried again while attempts remain');

# a cancel that meets no body does no harm
$node->safe_psql('postgres',
	q{SELECT pg_cancel_backend(pid) FROM gtf.workers WHERE kind = 'executor'});
is(outcome($node, submit($node, q{'note'})), 'success|1',
	'a cancelled idle executor runs the next task');

# errors
my $submitted = q{SELECT value FROM gtf.stats WHERE name = 'tasks_submitted'};
my $before = $node->safe_psql('postgres', $submitted);
is( outcome($node, submit($node, q{'raise', '{"message": "no"}', max_attempts => 3})),
	'failure|3|no|raise_exception',
	'an error of each attempt');
is($node->safe_psql('postgres', $submitted) - $before, 1, 'of a task that counts once');
is( outcome($node, submit($node, q{'raise', '{"message": "no"}'})),
	'failure|1|no|raise_exception',
	'an error is a failure');
is( outcome(
		$node,
		submit_sql($node, 'SELECT 1/0')),
	'failure|1|division by zero|division_by_zero',
	'an error of a command, too');
is( outcome(
		$node,
		submit_sql(
			$node,
			q{DO $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END$$})),
	'failure|1|executor lost|executor_lost',
	'a command that ends its own process');

# everything had its end, and every success its effects
is( $node->safe_psql(
		'postgres', q{SELECT count(*) FROM gtf.task_info WHERE status NOT IN ('success', 'failure')}),
	'0',
	'nothing is left over');
is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.live'),
	'0', 'nor in gtf.live');

$gate->quit;
$node->stop;
done_testing();
