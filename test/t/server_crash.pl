# The server is stopped, stopped hard, or one of its processes is killed:
# afterwards everything that had not ended goes on by itself.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 3');
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION crash() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect();
		EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid());
		PERFORM pg_sleep(60);
	END$$;
	CREATE PROCEDURE call_crash() LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect();
		COMMIT;
		PERFORM crash();
	END$$;
	SELECT gtf_register_task('crash', 'crash()'), gtf_register_task('call_crash', 'call_crash()')});
create_stuck_bodies($node);

sub suspect_before
{
	# the dispatcher writes it before it does anything else
	worker_pid($node, 'flusher');
	return $node->safe_psql('postgres', 'SELECT suspect_before FROM gtf.state');
}

sub effects
{
	my ($id) = @_;

	return $node->safe_psql('postgres',
		"SELECT string_agg(attempt::text, ',' ORDER BY seq) FROM effects WHERE task = '$id'"
	);
}

# A backlog of tasks in all states of waiting, and one of each kind running.
my %id;

sub backlog
{
	%id = (
		atomic => submit($node, q{'stuck'}),
		procedure => submit($node, q{'call_stuck'}),
		command => submit_sql($node, 'SELECT pg_sleep(600)'));
	executor_of($node, $_) for values %id;

	# one that fails once; then the fourth executor is held, too
	$node->safe_psql('postgres', "ALTER SYSTEM SET gtf.max_executors = 4");
	$node->reload;
	($id{retrying}, $id{fourth}) = split /\|/, $node->safe_psql('postgres',
		q{SELECT gtf_submit('raise_twice', '{"message": "a"}', priority => 1), gtf_submit('stuck')});
	executor_of($node, $id{fourth});
	is($node->safe_psql('postgres', "SELECT count(*) FROM gtf.task_attempts WHERE task_id = '$id{retrying}'"),
		'1', 'one has failed once');

	$id{delayed} = submit($node, q{'note', delay => '2 s'});
	$id{pending} = submit($node, q{'note', '{"n": 7}'});
	is(status($node, $id{$_}), 'pending', "$_ task waits") for ('pending', 'delayed', 'retrying');
}

sub aftermath
{
	my ($what) = @_;

	$node->safe_psql('postgres', 'INSERT INTO released DEFAULT VALUES');
	is(outcome($node, $id{pending}), 'success|1', "pending task runs after $what");
	is(outcome($node, $id{delayed}), 'success|1', "delayed task runs after $what");
	is( $node->safe_psql('postgres',
			"SELECT started_at >= run_at FROM gtf_get_task('$id{delayed}')"),
		't',
		'and not too early');
	is(outcome($node, $id{retrying}),
		'failure|2|a|raise_exception', "retrying task is tried again after $what");
	is(outcome($node, $id{atomic}) =~ s/\|.*//r, 'success', "running task runs again after $what");
	is(outcome($node, $id{fourth}) =~ s/\|.*//r, 'success', 'and so does the other');
	like(effects($id{atomic}), qr/^\d$/, 'and has its effects once');
	is(outcome($node, $id{procedure}), 'failure|1|executor lost|executor_lost',
		"running procedure is lost in $what");
	is(effects($id{procedure}), '1', 'and keeps what it had committed');
	is(outcome($node, $id{command}), 'failure|1|executor lost|executor_lost',
		"running command is lost in $what");
	$node->safe_psql('postgres', 'DELETE FROM released');
	$node->safe_psql('postgres', "ALTER SYSTEM RESET gtf.max_executors");
	$node->reload;
}

# a clean restart
my $before = suspect_before();
backlog();
$node->restart;
aftermath('a restart');
is(suspect_before(), $before, 'a clean restart makes nothing suspect');

# immediate stop
backlog();
$node->stop('immediate');
$node->start;
aftermath('an immediate stop');
isnt(suspect_before(), $before, 'a crash makes what was submitted before suspect');
$before = suspect_before();
$node->restart;
is(suspect_before(), $before, 'and a clean restart changes nothing about it');

# kill -9 of the postmaster
backlog();
$node->kill9;
start_after_crash($node);
aftermath('kill -9 of the postmaster');
isnt(suspect_before(), $before, 'suspects again');

# kill -9 of a process
%id = (
	atomic => submit($node, q{'stuck'}),
	procedure => submit($node, q{'call_stuck'}));
my $pid = executor_of($node, $id{atomic});
executor_of($node, $id{procedure});
my $offset = log_offset($node);
kill 'KILL', $pid;
until_log($node, 'all server processes terminated; reinitializing', $offset);
until_true($node, 'SELECT true');
$node->safe_psql('postgres', 'INSERT INTO released DEFAULT VALUES');
like(outcome($node, $id{atomic}), qr/^success\|/, 'kill -9 of an executor: the task runs again');
like(effects($id{atomic}), qr/^\d$/, 'and has its effects once');
is(outcome($node, $id{procedure}), 'failure|1|executor lost|executor_lost',
	'a procedure of another executor is lost with it');

# bodies that crash the server each time
sub crashes
{
	my ($type, $limit) = @_;
	my $offset = log_offset($node);
	my ($other, $id) = split /\|/,
	  $node->safe_psql('postgres',
		"SELECT gtf_submit('note', delay => '1 s'), gtf_submit('$type', delay => '0.5 s')");

	# clients lose their connections, too
	until_true($node,
		"SELECT gtf_status('$id') = 'failure' AND gtf_status('$other') = 'success'");
	like(outcome($node, $id), qr/^failure\|\d\|executor lost\|executor_lost$/,
		"$type: given up");
	like($node->safe_psql('postgres', "SELECT stack_trace FROM gtf_get_task('$id')"),
		$type eq 'crash' ? qr/^DETAIL:  It was lost 3 times, the limit is gtf.crash_limit/ : qr/^DETAIL:  Procedures/,
		'which is explained');
	# it may be running when the other one crashes
	like(outcome($node, $other), qr/^success\|\d$/, 'other tasks run');
	like(effects($other), qr/^\d$/, 'and have their effects once');

	my $crashes = log_count($node, 'was terminated by signal 9', $offset);
	cmp_ok($crashes, '>=', 1, 'it had crashed the server');
	cmp_ok($crashes, '<=', $limit, "at most $limit times");
}

# the first crash may come before the start was recorded
crashes('crash', 4);
crashes('call_crash', 1);
is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.live'),
	'0', 'nothing is left in gtf.live');

$node->stop;
done_testing();
