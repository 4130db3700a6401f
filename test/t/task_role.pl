# A task runs as the role that submitted it: with its privileges and its
# settings, whether it can log in or not, and with no way to become another.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => 'gtf.max_executors = 3');
create_bodies($node);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub submit_as
{
	my ($role, $args) = @_;

	return sql("SET ROLE $role; SELECT gtf_submit($args)");
}

sub result_as
{
	my ($role, $args) = @_;
	my $id = submit_as($role, $args);

	ended($node, $id);
	return sql("SELECT coalesce(error_message, result #>> '{}') FROM gtf_result('$id')");
}

# The extension's owner did not make these.
sql(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE ghost NOLOGIN;
	CREATE ROLE boss LOGIN SUPERUSER;
	CREATE ROLE friends;
	GRANT friends TO alice;
	CREATE TABLE of_alice AS SELECT 'alice''s' AS secret;
	CREATE TABLE of_ghost AS SELECT 'ghost''s' AS secret;
	CREATE TABLE of_friends AS SELECT 'friends''' AS secret;
	ALTER TABLE of_alice OWNER TO alice;
	ALTER TABLE of_ghost OWNER TO ghost;
	ALTER TABLE of_friends OWNER TO friends;
	CREATE FUNCTION run(command text) RETURNS text LANGUAGE plpgsql AS
		'DECLARE r text; BEGIN EXECUTE command INTO r; RETURN r; END';
	CREATE PROCEDURE call_run(command text, then_command text, INOUT r text DEFAULT NULL) LANGUAGE plpgsql AS
		'BEGIN EXECUTE command; COMMIT; EXECUTE then_command INTO r; END';
	SELECT gtf_register_task('run', 'run(text)'), gtf_register_task('call_run', 'call_run(text,text,text)')});

sub run_as
{
	my ($role, $command) = @_;

	return result_as($role, "'run', jsonb_build_object('command', \$a\$$command\$a\$)");
}

sub call_as
{
	my ($role, $command, $then) = @_;

	return result_as($role,
		"'call_run', jsonb_build_object('command', \$a\$$command\$a\$, 'then_command', \$a\$$then\$a\$)") =~ s/^\{"r": (.*)\}$/$1/r;
}

# who
for my $role ('alice', 'ghost', 'boss')
{
	is(run_as($role, 'SELECT concat_ws($$ $$, session_user, current_user, current_setting($$role$$), current_setting($$is_superuser$$))')
		,
		"$role $role none " . ($role eq 'boss' ? 'on' : 'off'),
		"session and current user of a task of $role");
}
is(run_as('alice', 'SELECT secret FROM of_alice'), "alice's", 'own privileges');
is(run_as('alice', 'SELECT secret FROM of_friends'), "friends'", 'those of a role that one is a member of');
is(run_as('alice', 'SELECT secret FROM of_ghost'), 'permission denied for table of_ghost', 'no others');
is(run_as('ghost', 'SELECT secret FROM of_ghost'), "ghost's", 'a role that cannot log in');
is(run_as('bob', 'SELECT secret FROM of_alice'), 'permission denied for table of_alice', 'not those of other tasks');

# no way up
for my $attempt (
	[ 'SET ROLE boss', 'permission denied to set role "boss"' ],
	[ 'SET ROLE bob', 'permission denied to set role "bob"' ],
	[ 'SET SESSION AUTHORIZATION boss', 'permission denied to set session authorization' ],
	[ 'SET SESSION AUTHORIZATION bob', 'permission denied to set session authorization' ])
{
	my ($command, $message) = @$attempt;

	for my $role ('alice', 'ghost')
	{
		like(run_as($role, $command), qr/^$message/, "$role: $command");
	}
	like(call_as('alice', $command, 'SELECT 1'), qr/^$message/, "in a procedure: $command");
}
for my $command ('RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET ROLE none', 'RESET ALL', 'SET SESSION AUTHORIZATION DEFAULT',
	'SET ROLE friends')
{
	my $who = $command eq 'SET ROLE friends' ? 'friends' : 'alice';

	is(call_as('alice', $command, 'SELECT session_user || $$ $$ || current_user'), "\"alice $who\"", "$command leaves alice as alice");
	is(run_as('alice', 'SELECT session_user || $$ $$ || current_user'), 'alice alice', 'nor is the next task somebody else');
}
is(call_as('boss', 'SET ROLE bob', 'SELECT session_user || $$ $$ || current_user'), '"boss bob"', 'a superuser may');
is(run_as('boss', 'SELECT current_user'), 'boss', 'for one task');
is(call_as('boss', 'SET SESSION AUTHORIZATION bob', 'SELECT session_user'), '"bob"', 'become somebody else');
is(run_as('boss', 'SELECT session_user'), 'boss', 'for one task');

# members that do not inherit a role's privileges do not have them here either
sql('CREATE ROLE staff; CREATE ROLE member LOGIN NOINHERIT; GRANT staff TO member');
sql(q{SELECT gtf_register_task('for_staff', 'note(int)', submit_role => 'staff')});
sql(q{ALTER SYSTEM SET gtf.admin_role = 'staff'});
$node->reload;
until_true($node, q{SELECT current_setting('gtf.admin_role') = 'staff'});
for my $inherits (0, 1)
{
	# since version 16 it is the grant that counts
	sql('ALTER ROLE member INHERIT; REVOKE staff FROM member; GRANT staff TO member') if $inherits;
	is(sql(q{SET ROLE member; SELECT count(*) > 0 FROM gtf.task_info WHERE owner = 'alice'::regrole}),
		$inherits ? 't' : 'f', 'gtf.admin_role');
	my (undef, undef, $err) = $node->psql('postgres', q{SET ROLE member; SELECT gtf_submit('for_staff')});
	is($err =~ /permission denied for task type "for_staff"/ ? 'denied' : $err, $inherits ? '' : 'denied', 'submit_role');
}
sql('ALTER SYSTEM RESET gtf.admin_role');
$node->reload;

# what a command is depends on a setting, and the owner may have another value
sql('CREATE ROLE dave LOGIN; ALTER ROLE dave SET standard_conforming_strings = off');
my $copy = q{COPY (SELECT 'a\\') TO PROGRAM '|| current_user ||' --') TO STDOUT};
is(outcome($node, sql("SET ROLE dave; SELECT gtf_submit_sql(\$a\$$copy\$a\$)")),
	'failure|1|COPY cannot be run as a task|feature_not_supported', 'a command is looked at again where it runs');

# the tasks of a function that runs as its owner are that owner's
sql(q{CREATE FUNCTION submit_as_owner() RETURNS uuid LANGUAGE sql SECURITY DEFINER AS
	$$SELECT gtf_submit('run', '{"command": "SELECT session_user"}')$$;
	ALTER FUNCTION submit_as_owner() OWNER TO ghost});
my $id = sql('SET ROLE alice; SELECT submit_as_owner()');
ended($node, $id);
is(sql("SELECT owner, result #>> '{}' FROM gtf.task_info WHERE id = '$id'"), 'ghost|ghost', 'SECURITY DEFINER');

# settings
sql(q{ALTER ROLE alice SET work_mem = '1234kB';
	ALTER ROLE ghost SET work_mem = '2345kB';
	ALTER DATABASE postgres SET temp_buffers = '1600kB';
	ALTER ROLE alice IN DATABASE postgres SET search_path = 'of_alice';
	ALTER ROLE alice SET statement_timeout = '1 ms'});
my $settings = q{SELECT concat_ws(' ', current_setting('work_mem'), current_setting('temp_buffers'), current_setting('search_path'))};
# an executor knows the settings of the time when it was started
sql(q{SELECT pg_terminate_backend(pid) FROM gtf.workers WHERE kind = 'executor'});
until_true($node, q{SELECT count(*) = 0 FROM gtf.workers WHERE kind = 'executor'});
is(run_as('alice', $settings), '1234kB 1600kB of_alice', 'settings of the role and the database');
is(run_as('ghost', $settings), '2345kB 1600kB "$user", public', 'of a role that cannot log in');
is(run_as('alice', 'SELECT pg_sleep(0.1)'), '', 'statement_timeout is for clients');
sql('ALTER DATABASE postgres RESET temp_buffers; ALTER ROLE alice RESET ALL; ALTER ROLE alice IN DATABASE postgres RESET ALL');

# a role that is set for who logs in is none for tasks
# (this test's own sessions are spared)
$ENV{PGOPTIONS} = '-c role=none';
sql('ALTER ROLE alice SET role = friends; ALTER DATABASE postgres SET role = bob');
sql(q{SELECT pg_terminate_backend(pid) FROM gtf.workers WHERE kind = 'executor'});
until_true($node, q{SELECT count(*) = 0 FROM gtf.workers WHERE kind = 'executor'});
for my $role ('alice', 'ghost', 'boss')
{
	my $who = q{SELECT concat_ws(' ', session_user, current_user, pg_backend_pid())};
	my $first = run_as($role, $who);

	like($first, qr/^$role $role \d+$/, "ALTER ROLE and ALTER DATABASE SET role: $role");
	is(run_as($role, $who), $first, 'in the same process');
	like(call_as($role, 'RESET ROLE', $who), qr/^"$role $role/, 'also after RESET ROLE');
}
sql('ALTER DATABASE postgres RESET role; ALTER ROLE alice RESET role');
delete $ENV{PGOPTIONS};

# without the right to connect
sql('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
my $offset = log_offset($node);
sql(q{SELECT pg_terminate_backend(pid) FROM gtf.workers WHERE kind = 'executor'});
until_true($node, q{SELECT count(*) = 0 FROM gtf.workers WHERE kind = 'executor'});
$id = submit_as('bob', q{'note'});
is(outcome($node, $id),
	'failure|0|role "bob" does not have CONNECT privilege on the database|insufficient_privilege',
	'a role that may not connect');
sql(q{SET ROLE bob; SELECT gtf_submit('note') FROM generate_series(1, 1200)});
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});
is(sql(q{SELECT count(*) FROM gtf.task_info WHERE error_message LIKE '%CONNECT%' AND started_at IS NULL}),
	'1201', 'all its tasks fail');
is(log_count($node, 'starting background worker process "gtf executor', $offset), 0, 'without a start of a process');
is(run_as('boss', 'SELECT 1'), '1', 'while others go on');
sql('GRANT CONNECT ON DATABASE postgres TO PUBLIC');
is(run_as('bob', 'SELECT 1'), '1', 'and it, too, when it may again');

# ... any more, while it has an executor
my $warm = q{SELECT pid FROM gtf.workers WHERE kind = 'executor' AND role = 'bob'::regrole};
my $no_connect = 'role "bob" does not have CONNECT privilege on the database';
my $pid = sql($warm);
sql('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
is(outcome($node, submit_as('bob', q{'note'})), "failure|0|$no_connect|insufficient_privilege", 'CONNECT revoked under an executor');
sql('GRANT CONNECT ON DATABASE postgres TO friends; GRANT friends TO bob');
is(run_as('bob', 'SELECT 1'), '1', 'granted through a role');
sql('REVOKE friends FROM bob');
is(run_as('bob', 'SELECT 1'), $no_connect, 'of which it is no member any more');
is(sql($warm), $pid, 'all in the same process');
sql('GRANT CONNECT ON DATABASE postgres TO PUBLIC');

# no superuser any more, while it has an executor that was one
$warm = q{SELECT pid FROM gtf.workers WHERE kind = 'executor' AND role = 'boss'::regrole};
is(run_as('boss', 'SELECT current_setting($$is_superuser$$)'), 'on', 'a superuser');
$pid = sql($warm);
sql('ALTER ROLE boss NOSUPERUSER');
is(run_as('boss', 'SELECT current_setting($$is_superuser$$)'), 'off', 'who is none any more');
isnt(sql($warm), $pid, 'has a new process');
like(run_as('boss', 'SET SESSION AUTHORIZATION bob'), qr/^permission denied/, 'with no way up');
sql('ALTER ROLE boss SUPERUSER');

# whose settings keep processes from starting
for my $setting ([ 'alice', 'local_preload_libraries' ], [ 'ghost', 'session_preload_libraries' ])
{
	my ($role, $name) = @$setting;

	sql("ALTER ROLE $role SET $name = 'nope'");
	sql(q{SELECT pg_terminate_backend(pid) FROM gtf.workers WHERE kind = 'executor'});
	until_true($node, q{SELECT count(*) = 0 FROM gtf.workers WHERE kind = 'executor'});
	$offset = log_offset($node);
	like(outcome($node, submit_as($role, q{'note'})),
		qr/^failure\|0\|could not start an executor: could not access file ".*nope"/,
		"$name of a library that is not there");
	is(log_count($node, 'starting background worker process "gtf executor', $offset), 3, 'after three tries');
	sql("ALTER ROLE $role RESET $name");
	is(run_as($role, 'SELECT 1'), '1', 'without it tasks run');
}

# dropped, with tasks that wait and an executor that is idle
sql('CREATE ROLE carol LOGIN');
is(run_as('carol', 'SELECT 1'), '1', 'a role has an executor');
my $delayed;

# Drop carol after a submit, before the task can start.
sub submit_and_drop
{
	my $dispatcher = worker_pid($node, 'dispatcher');

	sql('ALTER DATABASE postgres SET gtf.enabled = off');
	$dispatcher = new_worker($node, 'dispatcher', $dispatcher);
	$delayed = sql(q{SET gtf.enabled = on; SET ROLE carol; SELECT gtf_submit('note')});
	sql('DROP ROLE carol; ALTER DATABASE postgres RESET gtf.enabled');
	new_worker($node, 'dispatcher', $dispatcher);
}
submit_and_drop();
like(outcome($node, $delayed), qr/^failure\|0\|role "\w+" does not exist\|undefined_object$/,
	'when it is dropped, a task that waits fails');
is(sql("SELECT count(*) FROM effects WHERE task = '$delayed'"), '0', 'and does not run');
sql('CREATE ROLE carol LOGIN');
my $gate = gate($node, 1);
$id = submit_as('carol', q{'hold', '{"key": 1}'});
executor_of($node, $id);
submit_and_drop();
like(outcome($node, $delayed), qr/^failure\|0\|role "\w+" does not exist\|undefined_object$/,
	'also while another one runs');
is(sql("SELECT count(*) FROM effects WHERE task = '$delayed'"), '0', 'which does not run either');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
like(outcome($node, $id), qr/^(success|failure)\|1/, 'the one that was running ends');
sql('CREATE ROLE carol LOGIN');
is(run_as('carol', 'SELECT 1'), '1', 'a new role of that name is another');
sql('DROP ROLE carol');

# two owners and one executor
$node->append_conf('postgresql.conf', 'gtf.max_executors = 1');
$node->reload;
until_true($node, q{SELECT count(*) <= 1 FROM gtf.workers WHERE kind = 'executor'});
sql('TRUNCATE effects');
sql(q{CREATE FUNCTION nap() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.005), effect(); END';
	SELECT gtf_register_task('nap', 'nap()')});
for my $order ([ 'alice', 'bob' ], [ 'bob', 'alice' ], [ 'ghost', 'boss' ], [ 'boss', 'ghost' ])
{
	my ($first, $second) = @$order;

	sql(qq{BEGIN; SET LOCAL ROLE $first; SELECT gtf_submit('nap') FROM generate_series(1, 200); RESET ROLE;
		SET LOCAL ROLE $second; SELECT gtf_submit('nap') FROM generate_series(1, 2); COMMIT});
	until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});
	cmp_ok(sql(qq{SELECT count(*) FROM effects WHERE who = '$first' AND seq < (SELECT min(seq) FROM effects WHERE who = '$second')}),
		'<', 150, "$first does not keep $second from running");
	sql('TRUNCATE effects');
}

# of the executors of one owner the first one that is free goes to another
$node->append_conf('postgresql.conf', 'gtf.max_executors = 2');
$node->reload;
$gate->query_safe('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
for my $short (2, 1)
{
	my @ids = map { submit_as('alice', qq{'hold', '{"key": $_}'}) } 1, 2;

	executor_of($node, $_) for @ids;
	sql(q{SET ROLE alice; SELECT gtf_submit('note') FROM generate_series(1, 100)});
	$id = submit_as('bob', q{'note'});
	until_true($node, "SELECT clock_timestamp() > created_at + interval '100 ms' FROM gtf_get_task('$id')");
	$gate->query_safe("SELECT pg_advisory_unlock($short)");
	is(outcome($node, $id), 'success|1', 'while another one is busy');
	is(status($node, $ids[2 - $short]), 'in_progress', 'for much longer');
	$gate->query_safe("SELECT pg_advisory_lock($short)");
	$gate->query_safe('SELECT pg_advisory_unlock(' . (3 - $short) . ')');
	until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});
	$gate->query_safe('SELECT pg_advisory_lock(' . (3 - $short) . ')');
}

$gate->quit;
$node->stop;
done_testing();
