# The server starts with gtf preloaded, its launcher runs, comes back after a
# crash, and a fast shutdown does not wait for it.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $launcher =
  "SELECT pid FROM pg_stat_activity WHERE backend_type = 'gtf launcher'";

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', slurp_file('test/gtf.conf'))
  if !defined $ENV{TEMP_CONFIG};
$node->start;

ok($node->poll_query_until('postgres', "SELECT EXISTS ($launcher)"),
	'launcher runs');
my $pid = $node->safe_psql('postgres', $launcher);

$node->safe_psql('postgres', 'CREATE EXTENSION gtf');
is( $node->safe_psql(
		'postgres', "SELECT count(*) FROM pg_extension WHERE extname = 'gtf'"),
	'1',
	'extension created');

kill 'KILL', $pid;
ok( $node->poll_query_until(
		'postgres', "SELECT EXISTS ($launcher AND pid <> $pid)"),
	'launcher is back after kill -9');

$node->stop('fast');
ok(!-e $node->data_dir . '/postmaster.pid', 'fast shutdown');

done_testing();
