# The outcome of an attempt and the effects of its body are one transaction,
# and (task, attempt) can end only once: who comes second has not run at all.

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

sub effects
{
	return sql("SELECT count(*) FROM effects WHERE task = '$_[0]'");
}

my $gate = gate($node, 1);
my $session = session($node);

# no lock on the tables while a body runs, not even the first of its type
my @ids = map { submit($node, "'$_', '{\"key\": 1}'") } ('hold', 'call_hold');
executor_of($node, $_) for @ids;
until_true($node, 'SELECT count(*) = 2 FROM gtf.live');
for my $table ('tasks', 'outcomes', 'live', 'task_type_versions')
{
	my (undef, undef, $err) = $node->psql('postgres', "BEGIN; LOCK gtf.$table IN ACCESS EXCLUSIVE MODE NOWAIT; ROLLBACK");
	is($err, '', "gtf.$table is not locked while tasks run");
}

# rows that move
my $waiting = submit($node, q{'note', delay => '200 ms'});
sql('VACUUM FULL gtf.tasks; VACUUM FULL gtf.outcomes; VACUUM FULL gtf.live; REINDEX TABLE gtf.tasks; REINDEX TABLE gtf.outcomes');
is(outcome($node, $waiting), 'success|1', 'VACUUM FULL while a task waits');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(outcome($node, $_), 'success|1', 'and while one runs') for @ids;

# somebody else ends the attempt first
sub compete
{
	my ($type, $end) = @_;

	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my $id = submit($node, "'$type', '{\"key\": 1}'");
	my $pid = executor_of($node, $id);

	$session->query_safe(
		"BEGIN; INSERT INTO gtf.outcomes (task_id, attempt, status, started_at, ended_at, error_message) VALUES ('$id', 1, 'f', now(), now(), 'by hand')");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	until_true($node, "SELECT cardinality(pg_blocking_pids($pid)) = 1 AND wait_event = 'transactionid' FROM pg_stat_activity WHERE pid = $pid");
	is(status($node, $id), 'in_progress', "$type waits for an uncommitted outcome");
	$session->query_safe($end);
	return $id;
}
my $id = compete('hold', 'ROLLBACK');
is(outcome($node, $id), 'success|1', 'which is rolled back: success');
is(effects($id), '1', 'with effects');
$id = compete('hold', 'COMMIT');
is(outcome($node, $id), 'failure|1|by hand', 'which is committed: it stays');
until_true($node, q{SELECT count(*) = 0 FROM gtf.workers WHERE task_id IS NOT NULL});
is(effects($id), '0', 'without effects');
is(outcome($node, submit($node, q{'note'})), 'success|1', 'the executor goes on');
$id = compete('call_hold', 'COMMIT');
is(outcome($node, $id), 'failure|1|by hand', 'a procedure, too');
until_true($node, q{SELECT count(*) = 0 FROM gtf.workers WHERE task_id IS NOT NULL});
# who really ends an attempt in this way deletes this, too
sql(q{DELETE FROM gtf.live WHERE task_id IN (SELECT task_id FROM gtf.outcomes WHERE error_message = 'by hand')});

# errors at commit
sql(q{CREATE TABLE parents (id int PRIMARY KEY);
	CREATE TABLE children (parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION orphan(n int) RETURNS void LANGUAGE plpgsql AS
		'BEGIN PERFORM effect(); INSERT INTO children VALUES (n); END';
	CREATE PROCEDURE call_orphan(n int) LANGUAGE plpgsql AS
		'BEGIN PERFORM effect(); COMMIT; INSERT INTO children VALUES (n); END';
	INSERT INTO parents VALUES (1);
	SELECT gtf_register_task('orphan', 'orphan(int)', retry_delay => '10 ms'),
		gtf_register_task('call_orphan', 'call_orphan(int)')});
my $violation = 'insert or update on table "children" violates foreign key constraint "children_parent_fkey"|foreign_key_violation';
is(outcome($node, submit($node, q{'orphan', '{"n": 1}'})), 'success|1', 'a deferred constraint that holds');
$id = submit($node, q{'orphan', '{"n": 2}'});
is(outcome($node, $id), "failure|1|$violation", 'a deferred constraint that fails at commit');
is(effects($id), '0', 'nothing is kept');
$id = submit($node, q{'orphan', '{"n": 2}', max_attempts => 3});
is(outcome($node, $id), "failure|3|$violation", 'it is an error like others');
is(sql("SELECT count(*) FROM gtf.task_attempts WHERE task_id = '$id'"), '3', 'of each attempt');
$id = submit($node, q{'call_orphan', '{"n": 2}'});
is(outcome($node, $id), "failure|1|$violation", 'in a procedure');
is(effects($id), '1', 'what it had committed is kept');

# roles whose transactions are special
for my $case (
	[ q{default_transaction_read_only = 'on'}, 'failure|1|cannot execute INSERT in a read-only transaction|read_only_sql_transaction' ],
	[ q{default_transaction_isolation = 'serializable'}, 'success|1' ],
	[ q{default_transaction_isolation = 'repeatable read'}, 'success|1' ],
	[ q{default_transaction_deferrable = 'on'}, 'success|1' ],
	[ q{synchronous_commit = 'off'}, 'success|1' ],
	[ q{lock_timeout = '1 ms'}, 'success|1' ],
	[ q{idle_in_transaction_session_timeout = '1 ms'}, 'success|1' ],
	[ q{session_replication_role = 'replica'}, 'success|1' ],
	[ q{row_security = 'off'}, 'success|1' ],
	[ q{search_path = ''}, 'failure|1|function effect(integer) does not exist|undefined_function' ],
	[ q{client_encoding = 'LATIN1'}, 'success|1' ],
	[ q{bytea_output = 'escape'}, 'success|1' ])
{
	my ($setting, $expected) = @$case;

	sql("CREATE ROLE special LOGIN; ALTER ROLE special SET $setting");
	is(outcome($node, sql(q{SET ROLE special; SELECT gtf_submit('note')})), $expected, "a role with $setting");
	is(outcome($node, sql(q{SET ROLE special; SELECT gtf_submit_sql('SELECT 1')})), 'success|1', 'runs commands');
	sql('DROP OWNED BY special; DROP ROLE special');
}

is(sql('SELECT count(*) FROM gtf.live'), '0', 'nothing is left in gtf.live');
$session->quit;
$gate->quit;
$node->stop;
done_testing();
