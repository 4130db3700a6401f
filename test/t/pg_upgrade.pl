# pg_upgrade carries everything; in the new server it is a copy.
#
# GTF_OLD_INSTALL names an older server that has gtf, as the directory above its
# bin (/usr/lib/postgresql/15).  Without it there is an upgrade to the same
# version, which differs for gtf in nothing but the catalogs.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @old_install = $ENV{GTF_OLD_INSTALL} ? (install_path => $ENV{GTF_OLD_INSTALL}) : ();

my $old = PostgreSQL::Test::Cluster->new('old', @old_install);
$old->init;
$old->append_conf('postgresql.conf', slurp_file('test/gtf.conf'));
$old->append_conf('postgresql.conf', "gtf.max_executors = 1");
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->append_conf('postgresql.conf', slurp_file('test/gtf.conf'));
plan skip_all => 'pg_upgrade is not installed' if !-x $new->config_data('--bindir') . '/pg_upgrade';

$old->start;
$old->safe_psql('postgres', 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN');
$old->safe_psql('postgres', 'DROP ROLE alice; CREATE ROLE alice LOGIN');
$old->safe_psql('postgres', 'CREATE EXTENSION gtf');
create_bodies($old);
create_stuck_bodies($old);
$old->safe_psql('postgres', 'GRANT SELECT ON released TO PUBLIC');
my %id;
$id{finished} = submit($old, q{'note', '{"n": 1}'}, user => 'alice');
is(ended($old, $id{finished}), 'success', 'one that has ended');
$id{running} = submit($old, q{'stuck'}, user => 'alice');
executor_of($old, $id{running});
$id{pending} = submit($old, q{'note', '{"n": 2}'}, user => 'bob');
$id{dependent} = submit($old, qq{'note', '{"n": 3}', depends_on => '{$id{pending}, $id{finished}}'});
$id{keyed} = submit($old, q{'note', '{"n": 4}', 'key', delay => '1 h'}, user => 'alice');
$old->safe_psql('postgres', 'CREATE DATABASE without');
$old->stop;

SKIP:
{
	skip 'GTF_OLD_INSTALL names no older server: only an upgrade to the same version is tested', 1
	  if !@old_install;
	ok($old->pg_version < $new->pg_version, 'from version ' . $old->pg_version . ' to ' . $new->pg_version);
}
my ($old_bin, $new_bin) = ($old->config_data('--bindir'), $new->config_data('--bindir'));
chdir ${PostgreSQL::Test::Utils::tmp_check};
# with the environment of the old one, which may have libraries of its own
$old->command_ok(
	[
		"$new_bin/pg_upgrade", '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old_bin, '-B', $new_bin,
		'-s', $new->host, '-p', $old->port, '-P', $new->port
	],
	'pg_upgrade');
my $superuser = getpwuid($<);
$new->start;
ok(until_log($new, 'gtf does not run tasks in database "postgres": its tables are a copy', 0), 'a copy');
is($new->safe_psql('postgres', 'SELECT count(*) FROM gtf.task_info'), '5', 'with all tasks');
$new->safe_psql('postgres', 'TRUNCATE effects; INSERT INTO released DEFAULT VALUES; SELECT gtf_adopt()');
is(outcome($new, $id{pending}), 'success|1', 'what has waited runs');
is(outcome($new, $id{dependent}), 'success|1', 'and what depends on it');
like(outcome($new, $id{running}), qr/^success\|[12]$/, 'and what was running');
is($new->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', n, who), ', ' ORDER BY n) FROM effects}),
	"2 bob, 3 $superuser, alice", 'each once');
is(status($new, $id{finished}), 'success', 'what has ended has ended');
is(submit($new, q{'note', task_key => 'key', delay => '1 h'}, user => 'alice'), $id{keyed}, 'keys are known');
is(outcome($new, submit($new, q{'note', '{"n": 6}'}, user => 'bob')), 'success|1', 'new tasks run');
$new->stop;
done_testing();
