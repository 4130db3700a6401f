# ALTER EXTENSION UPDATE, and an extension of another version than the
# library: nothing runs, the log says why, and it goes on when both fit.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

# an upgrade script that changes nothing but the version, and the way back
my $share = `pg_config --sharedir`;
chomp $share;
plan skip_all => "$share/extension is not writable" if !-w "$share/extension";
my ($version) = slurp_file("$share/extension/gtf.control") =~ /default_version *= *'([^']+)'/;
my @scripts = map { "$share/extension/gtf--$_.sql" } ("$version--99.0", "99.0--$version");
append_to_file($_, "-- for a test\n") for @scripts;

END
{
	unlink @scripts if @scripts;
}

my $node = gtf_node('main', conf => 'gtf.max_executors = 2');
create_bodies($node);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

my $workers =
  q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'gtf %' AND backend_type <> 'gtf launcher'};
my $message = qr/LOG:  gtf does not run tasks in database "postgres": the extension has version 99.0, the library \Q$version\E/;
my $gate = gate($node, 1);

# taken back
my $id = submit($node, q{'hold', '{"key": 1}'});
executor_of($node, $id);
my $offset = log_offset($node);
sql("BEGIN; ALTER EXTENSION gtf UPDATE TO '99.0'; ROLLBACK");
pass('ALTER EXTENSION UPDATE does not wait for a running task');
until_true($node,
	"SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
is(log_count($node, $message, $offset), 0, 'rolled back: all goes on');

# done
sql("ALTER EXTENSION gtf UPDATE TO '99.0'");
ok(until_log($node, $message, $offset), 'the log tells of another version');
until_true($node, "SELECT ($workers) = 0");
pass('all workers leave');
is(sql("SELECT status FROM gtf_get_task('$id')"), 'in_progress', 'reading works');
my @new = map { submit($node, q{'note'}) } 1 .. 3;
is(status($node, $new[0]), 'pending', 'submitting, too');
until_true($node, "SELECT ($workers) = 0");

# a restart does not help
$gate->quit;
$offset = log_offset($node);
$node->restart;
ok(until_log($node, $message, $offset), 'after a restart the same');
until_true($node, "SELECT ($workers) = 0");
is(status($node, $new[0]), 'pending', 'nothing has run');
submit($node, q{'note'}) for 1 .. 10;
cmp_ok(log_count($node, $message, $offset), '<=', 3, 'the log is not filled with it');

# back again
sql("ALTER EXTENSION gtf UPDATE TO '$version'");
is(outcome($node, $new[0]), 'success|1', 'when both fit, tasks run');
is(outcome($node, $id) =~ s/\|.*//r, 'success', 'also the one that was running');
is(sql("SELECT count(*) FROM effects WHERE task = '$id'"), '1', 'with its effects once');

# not ours
my $dispatcher = worker_pid($node, 'dispatcher');
sql('CREATE ROLE nobody');
my (undef, undef, $err) = $node->psql('postgres', "SET ROLE nobody; ALTER EXTENSION gtf UPDATE TO '99.0'");
like($err, qr/must be owner of extension gtf/, 'ALTER EXTENSION by others');
sql('ALTER EXTENSION plpgsql UPDATE');
is(worker_pid($node, 'dispatcher'), $dispatcher, 'or of others disturbs nobody');

$node->stop;
done_testing();
