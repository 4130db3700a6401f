# Rows that a subscription brings into the tables of gtf are refused like SQL:
# an apply worker may have no more privileges than its owner, and those on all
# tables are not enough.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node(
	'main',
	init => { allows_streaming => 'logical' },
	conf => "wal_retrieve_retry_interval = 100ms\n");

is( $node->safe_psql(
		'postgres', q{
		SELECT c.relname FROM pg_class c LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgfoid = 'gtf._guard'::regproc
		 WHERE c.relnamespace = 'gtf'::regnamespace AND c.relkind = 'r'
		 GROUP BY c.relname HAVING string_agg(t.tgenabled, '' ORDER BY t.tgenabled) IS DISTINCT FROM 'AR'}),
	'', 'no table of gtf is without guards');

# the same server, so that the slot has to be there before
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
$node->safe_psql(
	'elsewhere', q{
	CREATE SCHEMA gtf;
	CREATE TABLE gtf.counters (name text PRIMARY KEY, value bigint NOT NULL);
	CREATE PUBLICATION eve FOR TABLE gtf.counters;
	SELECT pg_create_logical_replication_slot('eve', 'pgoutput')});

# before 16 only a superuser can make a subscription, but need not stay one
my $options = 'create_slot = false, copy_data = false, enabled = false';
$options .= ', run_as_owner = true, password_required = false'
  if $node->pg_version >= 16;
my $conninfo = $node->connstr . ' dbname=elsewhere';
$node->safe_psql('postgres', 'CREATE ROLE eve SUPERUSER LOGIN');
$node->safe_psql('postgres', qq{
	SET ROLE eve;
	CREATE SUBSCRIPTION eve CONNECTION '$conninfo' PUBLICATION eve WITH ($options)});
$node->safe_psql('postgres', q{
	ALTER ROLE eve NOSUPERUSER;
	GRANT pg_write_all_data, pg_read_all_data TO eve;
	ALTER SUBSCRIPTION eve ENABLE});

my $offset = log_offset($node);
$node->safe_psql('elsewhere', q{INSERT INTO gtf.counters VALUES ('forged', 1)});
ok(until_log($node, qr/ERROR:  permission denied for table counters/, $offset), 'refused');
is($node->safe_psql('postgres', q{SELECT count(*) FROM gtf.counters WHERE name = 'forged'}), '0', 'nothing has come');

# a superuser does as he likes
$node->safe_psql('postgres', 'ALTER ROLE eve SUPERUSER');
until_true($node, q{SELECT count(*) = 1 FROM gtf.counters WHERE name = 'forged'}, 'it comes to a superuser');
$node->safe_psql('postgres', 'DROP SUBSCRIPTION eve');
$node->stop;
done_testing();
