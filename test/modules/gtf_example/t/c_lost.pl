# Tasks in C that end their process, or do not let it end; libraries that are
# replaced, that are loaded in any order, and that register the same name.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../../../perl";
use File::Copy qw(copy);
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $own = "$PostgreSQL::Test::Utils::tmp_check/libraries";
my ($pkglibdir) = map { chomp; $_ } scalar `pg_config --pkglibdir`;
mkdir $own;

my $node = gtf_node('main', conf => "gtf.kill_grace = '100 ms'\ndynamic_library_path = '$own:\$libdir'");
$node->safe_psql('postgres', 'CREATE TABLE effects (what text)');

sub hook
{
	my ($name, %options) = @_;
	my $library = $options{library} // 'gtf_failures';

	return $node->safe_psql('postgres',
		"SELECT gtf_register_task('$name', hook => '$library.$name', library => '$library')");
}

sub run
{
	my ($name) = @_;

	return outcome($node, submit($node, "'$name'"));
}

my $postmaster = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

# ---- the end of the process

# An atomic one has left nothing and runs again, three times; another does not.
foreach my $name (qw(call_exit call_proc_exit fatal))
{
	hook($name);
	hook("$name commits");
	is(run($name), 'failure|3|executor lost|executor_lost', "$name, atomic");
	is(run("$name commits"), 'failure|1|executor lost|executor_lost', "$name, not atomic");
}
ok(log_count($node, qr/hook "gtf_failures.call_exit" has called exit\(\)/) == 3, 'the log knows who has called exit()');

# ---- hooks that do not serve interrupts

foreach my $name ('loop', 'deaf_sleep', 'loop commits', 'deaf_sleep commits')
{
	hook($name);
	my $id = submit($node, "'$name'");
	my $pid = executor_of($node, $id);

	$node->safe_psql('postgres', "SELECT gtf_revoke('$id', true)");
	is(outcome($node, $id), 'aborted|1', "$name: revoked");
	until_true($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");

	$node->safe_psql('postgres', "SELECT gtf_set_timeout('$name', hard_timeout => '10 ms')");
	$id = submit($node, "'$name'");
	is(outcome($node, $id), 'timed_out|1|Task timed out', "$name: hard timeout");
}
is( $node->safe_psql('postgres', 'SELECT count(*) FROM effects'),
	'0', 'what they wrote is gone');

is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $postmaster, 'the server was never started anew');
ok(log_count($node, qr/terminating any other active server processes/) == 0, 'nor its processes');

# ---- one that crashes the server: what was written down tells what it was

foreach my $case (
	[ 'crash', 'success|2' ],
	[ 'crash commits', 'failure|1|executor lost|executor_lost' ])
{
	my ($name, $expected) = @$case;

	hook($name);
	# the session may be lost, too, before it has the answer
	$node->psql('postgres', "SELECT gtf_submit('$name')");
	until_true($node, "SELECT count(*) = 1 FROM gtf.task_info WHERE task_type = '$name' AND ended_at IS NOT NULL");
	is( outcome(
			$node, $node->safe_psql('postgres', "SELECT id FROM gtf.task_info WHERE task_type = '$name'")),
		$expected,
		"$name: it runs again if it was atomic");
}
is($node->safe_psql('postgres', q{SELECT string_agg(what, ' ') FROM effects}), 'crash', 'it has run once');
nothing_left($node);

# ---- another file in the place of the library

sub install
{
	my ($version) = @_;

	copy("$pkglibdir/gtf_v$version.so", "$own/new") or die $!;
	rename("$own/new", "$own/gtf_version.so") or die $!;
}

sub result
{
	my ($name) = @_;

	return $node->safe_psql('postgres',
		"SELECT gtf_submit('$name') AS id \\gset\n"
		  . "CALL gtf_wait(:'id');\n"
		  . "SELECT coalesce(error_message, result::text) || ' ' || attempt || CASE WHEN worker = pid THEN ' same' ELSE '' END"
		  . " FROM gtf.task_info, last_worker(worker) pid WHERE id = :'id'");
}

# who ran the task before the last one
$node->safe_psql('postgres', q{
	CREATE TABLE workers (worker text);
	INSERT INTO workers VALUES ('');
	CREATE FUNCTION last_worker(now text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
	  before text;
	BEGIN
	  SELECT worker INTO before FROM workers;
	  UPDATE workers SET worker = coalesce(now, worker);
	  RETURN before;
	END $$;
	ALTER SYSTEM SET gtf.max_executors = 1;
	SELECT pg_reload_conf()});
install(1);
hook('version', library => 'gtf_version');
hook('added', library => 'gtf_version');
like(result('version'), qr/^success\n1 1/, 'the first version');
is(result('version'), "success\n1 1 same", 'the executor stays');
is( result('added'),
	qq{failure\nhook "gtf_version.added" does not exist 0},
	'a hook that it does not have');
install(2);
is(result('version'), "success\n2 1", 'the second version in another executor, and in the first attempt');
is(result('version'), "success\n2 1 same", 'which stays');
install(1);
install(2);
is(result('added'), "success\n2 1", 'a hook that the new file has');

# loaded first by something else than a hook
$node->safe_psql('postgres', q{
	SELECT pg_terminate_backend(pid) FROM gtf.workers WHERE kind = 'executor';
	CREATE FUNCTION number() RETURNS int LANGUAGE c AS 'gtf_version', 'gtf_version_number';
	SELECT gtf_register_task('number', 'number()')});
install(1);
is(result('number'), "success\n1 1", 'a function of the library');
install(2);
is(result('version'), "success\n2 1", 'a hook of it, when it was replaced');

unlink "$own/gtf_version.so";
is( result('version'),
	'failure' . "\n" . 'could not access file "gtf_version": No such file or directory 0',
	'no file');

# ---- the same name twice

hook('digest', library => 'gtf_example');
$node->safe_psql('postgres', q{SELECT gtf_register_task('twin', hook => 'gtf_twin.digest', library => 'gtf_twin')});
is(outcome($node, submit($node, q{'digest', '{"table": "workers"}'})), 'success|1', 'one library with this name');
is(outcome($node, submit($node, q{'twin'})), 'success|1', 'another one is loaded');
is( outcome($node, submit($node, q{'digest', '{"table": "workers"}'})),
	'failure|0|hook "gtf_example.digest" is registered more than once|duplicate_object',
	'now there are two');
like(
	$node->safe_psql('postgres', q{SELECT stack_trace FROM gtf.task_info WHERE exception_type = 'duplicate_object'}),
	qr{DETAIL:  By library ".*/gtf_example.so" and by library ".*/gtf_twin.so".},
	'and it says which');

# ---- any order of loading, with no library in the type

install(1);
$node->safe_psql('postgres', q{
	SELECT gtf_register_task('version', hook => 'gtf_version.version')});
foreach my $conf (
	"shared_preload_libraries = 'gtf_version, gtf'",
	"shared_preload_libraries = 'gtf, gtf_version'",
	"session_preload_libraries = 'gtf_version'")
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'gtf'\n$conf");
	$node->restart;
	like(result('version'), qr/^success\n1 1/, $conf);
	install(2);
	if ($conf =~ /^shared/)
	{
		is(result('version'), "success\n1 1 same", 'what the server has loaded stays until it is started again');
	}
	else
	{
		is(result('version'), "success\n2 1", 'a new session loads the new file');
	}
	install(1);
}

is( $node->psql('postgres', 'CALL gtf._run_hook()', stderr => \my $stderr), 3, 'nobody calls hooks but gtf');
like($stderr, qr/gtf._run_hook\(\) is called by gtf only/, 'and the error says so');

$node->stop;
done_testing();
