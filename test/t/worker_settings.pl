# What is set for the server or a database is for sessions and the code of
# tasks; gtf's own transactions have settings of their own.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main');
create_bodies($node);

my %hostile = (
	default_transaction_isolation => 'serializable',
	default_transaction_read_only => 'on',
	default_transaction_deferrable => 'on',
	statement_timeout => '1ms',
	lock_timeout => '1ms',
	idle_in_transaction_session_timeout => '1ms',
	session_replication_role => 'replica',
	search_path => 'nowhere');
my %friendly = (
	default_transaction_isolation => 'read committed',
	default_transaction_read_only => 'off',
	default_transaction_deferrable => 'off',
	statement_timeout => '0',
	lock_timeout => '0',
	idle_in_transaction_session_timeout => '0',
	session_replication_role => 'origin',
	search_path => 'public');

# sessions of this test, and executors of this role, are spared
$ENV{PGOPTIONS} = join ' ', map { "-c $_=" . $friendly{$_} =~ s/ /\\ /gr } sort keys %friendly;
$node->safe_psql('postgres', join ';', 'CREATE ROLE worker SUPERUSER LOGIN',
	map { "ALTER ROLE worker SET $_ = '$friendly{$_}'" } sort keys %friendly);
$node->safe_psql('postgres', q{CREATE TABLE other (i int)});

# a safe snapshot, which a transaction that is serializable, read only and
# deferrable waits for, cannot be had as long as this is open
my $serializable;

sub works
{
	my ($what) = @_;
	my $gate = gate($node, 1);

	$serializable = session($node);
	$serializable->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE; INSERT INTO other VALUES (1)');
	is(outcome($node, submit($node, q{'note'}, user => 'worker')), 'success|1', "$what: a task runs");
	my $id = submit($node, q{'hold', '{"key": 1}'}, user => 'worker');
	my $pid = executor_of($node, $id);
	until_true($node, "SELECT EXISTS (SELECT FROM gtf.live WHERE task_id = '$id')");
	terminate($node, $pid);
	until_true($node, "SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is(outcome($node, $id), 'success|2', 'and again when it has lost its executor');
	$serializable->query_safe('COMMIT');
	$serializable->quit;
	$gate->quit;
}

$node->safe_psql('postgres', join ';', map { "ALTER DATABASE postgres SET $_ = '$hostile{$_}'" } sort keys %hostile);
$node->restart;
works('ALTER DATABASE');

$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL');
$node->safe_psql('postgres', "ALTER SYSTEM SET $_ = '$hostile{$_}'") for sort keys %hostile;
$node->reload;
works('ALTER SYSTEM, without a restart');
$node->restart;
works('ALTER SYSTEM');

$node->stop;
done_testing();
