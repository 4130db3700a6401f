# Behind PgBouncer in transaction mode: clients share one server connection,
# and nothing of a task, a wait or an application user stays in it.
#
# PgBouncer is looked for in PATH, or is GTF_PGBOUNCER; what libraries it
# needs besides the system's are in the folder GTF_PGBOUNCER_LIBS.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Spec;
use GtfTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $pgbouncer = $ENV{GTF_PGBOUNCER} // (grep { -x $_ } map { "$_/pgbouncer" } File::Spec->path, '/usr/sbin')[0];
my $libs = join ':', grep { defined } $ENV{GTF_PGBOUNCER_LIBS}, $ENV{LD_LIBRARY_PATH};

sub pgbouncer
{
	local $ENV{LD_LIBRARY_PATH} = $libs if $libs ne '';
	return IPC::Run::start([ $pgbouncer, @_ ], '>', '/dev/null', '2>', '/dev/null');
}

plan skip_all => 'pgbouncer is not installed (Debian has a package of that name)'
  if !defined $pgbouncer || !-x $pgbouncer || !pgbouncer('--version')->finish;

my $node = gtf_node('main', conf => "client_connection_check_interval = '100ms'");
create_bodies($node);
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');

# one server connection for each role, which nobody keeps
my $folder = PostgreSQL::Test::Utils::tempdir_short();
append_to_file("$folder/users", qq{"postgres" ""\n"app" ""\n});
append_to_file("$folder/ini", join "\n",
	'[databases]',
	'* = host=' . $node->host . ' port=' . $node->port,
	'[pgbouncer]',
	'pool_mode = transaction',
	'default_pool_size = 1',
	'listen_addr =',
	'listen_port = 6432',
	"unix_socket_dir = $folder",
	'auth_type = trust',
	"auth_file = $folder/users",
	"logfile = $folder/log",
	'');
my $process = pgbouncer("$folder/ini");

# What psql prints, errors too.
sub client
{
	my ($sql, $user) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'psql', '-XAtq', '-h', $folder, '-p', 6432, '-U', $user // 'app', '-d', 'postgres', '-f', '-' ],
		'<', \$sql, '>', \$out, '2>', \$err);
	chomp $out;
	return $out . $err;
}

my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
my $pid;
select undef, undef, undef, 0.05 while ($pid = client('SELECT pg_backend_pid()')) !~ /^\d+$/ && time < $deadline;
is(client('SELECT pg_backend_pid()'), $pid, 'clients share a server connection') or diag slurp_file("$folder/log");

is(client(q{CALL gtf_wait(gtf_submit('note', '{"n": 1}'))}), 'success', 'a submit and a wait');
is(client(q{SELECT gtf_submit('note', '{"n": 2}') AS id \gset
			CALL gtf_wait(:'id');
			SELECT result FROM gtf_result(:'id')}), "success\n2", 'in one statement each');
like(client(q{CALL gtf_run('note', '{"n": 3}')}), qr/\|success\|3$/, 'a task that its session runs');
like(client(q{CALL gtf_run('raise', '{"message": "no"}')}), qr/\|failure\|$/, 'and one that fails there');
is(client(q{SELECT gtf_task_id() IS NULL}), 't', 'which leaves nothing');
like(client(q{BEGIN; CALL gtf_run('raise', '{"message": "no"}'); ROLLBACK; SELECT gtf_task_id() IS NULL}),
	qr/\|failure\|\nt$/, 'nor in a transaction');

# application users
my $id = client(q{BEGIN; SET LOCAL gtf.app_user = 'alice'; SELECT gtf_submit('note', '{"n": 4}'); COMMIT});
is(client(q{SHOW gtf.app_user}), '', 'the next client is nobody');
is(client("SELECT count(*) FROM gtf_get_task('$id')"), '0', 'and does not see the task');
is(client("BEGIN; SET LOCAL gtf.app_user = 'alice'; SELECT app_user FROM gtf_get_task('$id'); COMMIT"),
	'alice', 'which alice sees');

# a client that goes while it waits: the server connection does not wait on
my $later = client(q{SELECT gtf_submit('note', delay => '1 h')});
my $waiter = IPC::Run::start(
	[ 'psql', '-XAtq', '-h', $folder, '-p', 6432, '-U', 'app', '-d', 'postgres', '-c', "CALL gtf_wait('$later')" ],
	'>', '/dev/null', '2>', '/dev/null');
my $waiting = q{FROM pg_stat_activity WHERE query LIKE 'CALL gtf_wait%' AND state = 'active'};
until_true($node, "SELECT count(*) = 1 $waiting");
$waiter->kill_kill;
until_true($node, "SELECT count(*) = 0 $waiting");
pass('a client that goes while it waits leaves no session that waits');
like(client("SELECT gtf_status('$later')"), qr/^pending$/, 'the task is still there');
is(client("SELECT gtf_cancel('$later')"), 'aborted', 'and is cancelled by another client');

$process->signal('TERM');
$process->finish;
$node->stop;
done_testing();
