# The row of gtf.live that the dispatcher deals with is the one that is there,
# not the one of a moment ago.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => "gtf.max_executors = 2\nmax_prepared_transactions = 5");
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION fail_at_gate() RETURNS void LANGUAGE plpgsql AS
		$$BEGIN PERFORM pg_advisory_xact_lock_shared(1); RAISE EXCEPTION 'once more'; END$$;
	SELECT gtf_register_task('fail_at_gate', 'fail_at_gate()', max_attempts => 3, retry_delay => '1 hour')});

# a row of no task comes first, and the dispatcher is held at it
my $gate = gate($node, 1);
$node->safe_psql('postgres',
	q{INSERT INTO gtf.live (task_id, since, attempt, state) VALUES ('00000000-0000-7000-8000-000000000000', now(), 1, 'p')});
my $id = submit($node, q{'fail_at_gate'});
executor_of($node, $id);
until_true($node, "SELECT EXISTS (SELECT FROM gtf.live WHERE task_id = '$id' AND attempt = 1)");
$node->safe_psql('postgres', q{BEGIN; CREATE TABLE prepared (); PREPARE TRANSACTION 'prepared'});
my $lock = session($node);
$lock->query_safe('BEGIN; LOCK TABLE gtf.tasks IN ACCESS EXCLUSIVE MODE');
$node->safe_psql('postgres', q{COMMIT PREPARED 'prepared'});
until_true($node,
	q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'gtf dispatcher' AND wait_event_type = 'Lock')});

# meanwhile the attempt ends, and another one is to follow
$gate->query_safe('SELECT pg_advisory_unlock(1)');
until_true($node,
	q{SELECT EXISTS (SELECT FROM gtf.live WHERE attempt = 2) AND NOT EXISTS (SELECT FROM gtf.workers WHERE task_id IS NOT NULL)});
$lock->query_safe('COMMIT');
is(outcome($node, submit($node, q{'note'})), 'success|1', 'the dispatcher goes on');
is($node->safe_psql('postgres', "SELECT attempt, state FROM gtf.live WHERE task_id = '$id'"),
	'2|p', 'the next attempt is still announced');
is($node->safe_psql('postgres', "SELECT gtf_cancel('$id'::uuid); SELECT count(*) FROM gtf.live WHERE task_id = '$id'"),
	"aborted\n0", 'and goes with its task');
is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.live'),
	'1', 'a row whose task is not there is left alone: a restore may bring it');

$gate->quit;
$lock->quit;
$node->stop;
done_testing();
