# Shared tasks and roles that are dropped: what they have subscribed goes, and
# a task that nobody wants any more is asked to stop.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => "gtf.max_executors = 3\nmax_prepared_transactions = 5\n");
create_bodies($node);

sub sql
{
	return $node->safe_psql('postgres', join(';', @_));
}

sub submit_as
{
	my ($role, $args) = @_;

	return sql("SET ROLE $role", "SELECT gtf_submit($args)");
}

sub subscribers
{
	my ($id) = @_;

	return sql("SELECT string_agg(role || ' ' || app_user, ', ' ORDER BY subscribed_at) FROM gtf_subscribers('$id')");
}

sub make
{
	sql(map { "CREATE ROLE $_" } @_);
}

my $later = q{delay => '1 h'};
sql(q{
	CREATE FUNCTION polls() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM effect(); WHILE gtf_sleep(''1 min'') LOOP END LOOP; END';
	CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION hold_then_handle(key int) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM pg_advisory_xact_lock_shared(key), gtf_on_abort('nothing()');
		WHILE gtf_sleep('1 min') LOOP END LOOP;
	END$$;
	SELECT gtf_register_task('wait', 'note(int)', scope => 'shared'), gtf_register_task('polls', 'polls()', scope => 'shared', abort => 'poll'),
		gtf_register_task('held', 'hold(int,int)', scope => 'shared'), gtf_register_task('handles', 'hold_then_handle(int)', scope => 'shared');
	CREATE ROLE stays});
my $gate = gate($node, 1);

# ---- the last one

make('one');
my $id = submit_as('one', "'wait', '{}', 'last', $later");
sql('BEGIN', 'DROP ROLE one', 'ROLLBACK');
sql('ALTER ROLE one CREATEDB');
until_dispatched($node);
is(status($node, $id), 'pending', 'a role that is not dropped after all');
is(subscribers($id), 'one ', 'has its subscription');
sql('DROP ROLE one');
is(ended($node, $id), 'aborted', 'the last subscriber is dropped: the task is aborted');
is(subscribers($id), '', 'nothing is left of the role');
is(sql("SELECT subscriber_count FROM gtf_get_task('$id')"), '0', 'no subscribers');

# ---- one of two, with sub-users; the owner

make('one', 'two');
$id = submit_as('one', "'wait', '{}', 'two', $later");
is(submit_as('two', "'wait', '{}', 'two'"), $id, 'another one joins');
sql(q{SET gtf.app_user = 'joe'}, 'SET ROLE one', q{SELECT gtf_submit('wait', '{}', 'two')});
sql(q{SET gtf.app_user = 'ann'}, 'SET ROLE stays', q{SELECT gtf_submit('wait', '{}', 'two')});
sql('DROP ROLE one');
until_true($node, "SELECT count(*) = 2 FROM gtf_subscribers('$id')");
is(subscribers($id), 'two , stays ann', 'all that the role has subscribed has gone');
until_dispatched($node);
is(status($node, $id), 'pending', 'others want the task');
is(submit_as('stays', "'wait', '{}', 'two'"), $id, 'which can be joined');
sql('DROP ROLE two');
until_true($node, "SELECT count(*) = 2 FROM gtf_subscribers('$id')");
is(sql('SET ROLE stays', "SELECT gtf_cancel('$id')"), 'unsubscribed', 'the first of the last two leaves');
is(sql(q{SET gtf.app_user = 'ann'}, 'SET ROLE stays', "SELECT gtf_cancel('$id')"), 'aborted', 'the second one ends it');

# ---- from another database; many tasks

sql('CREATE DATABASE other');
make('one', 'two');
sql('SET ROLE one', q{SELECT count(gtf_submit('wait', '{}', 'k' || i, delay => '1 h')) FROM generate_series(1, 1000) i});
sql('SET ROLE two', q{SELECT count(gtf_submit('wait', '{}', 'k' || i, delay => '1 h')) FROM generate_series(901, 1100) i});
$node->safe_psql('other', 'DROP ROLE one, two');
until_true($node, q{SELECT count(*) = 1100 FROM gtf.task_info WHERE task_key LIKE 'k%' AND status = 'aborted'});
is(sql('SELECT count(*) FROM gtf.task_subscribers s WHERE NOT EXISTS (SELECT FROM pg_roles WHERE oid = s.role)'), '0', 'from another database: no rows are left');

# ---- running

make('one');
$id = submit_as('one', q{'polls', '{}', 'running'});
executor_of($node, $id);
sql('DROP ROLE one');
is(ended($node, $id), 'aborted', 'a running one is asked to stop');

make('one');
$id = submit_as('one', q{'held', '{"key": 1}', 'running'});
my $handles = submit_as('one', q{'handles', '{"key": 1}', 'running'});
until_held($node, 1, 2);
sql('DROP ROLE one');
until_true($node, "SELECT count(*) = 0 FROM gtf_subscribers('$id')");
isnt(submit_as('stays', "'held', '{\"key\": 1}', 'running', $later"), $id, 'one that cannot be aborted cannot be joined any more');
is(status($node, $id), 'in_progress', 'it goes on');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(ended($node, $id), 'success', 'to its end');
is(ended($node, $handles), 'aborted', 'one that becomes abortable is asked then');

# ---- somebody is at the task: the dispatcher comes back, and waits for nobody

make('one', 'two');
$id = submit_as('one', "'wait', '{}', 'busy', $later");
my $s = session($node);
$s->query_safe("BEGIN; SET ROLE stays; SELECT gtf_submit('wait', '{}', 'busy')");
sql('DROP ROLE one');
until_dispatched($node);
nobody_waits($node, 'somebody joins: nobody waits');
$s->query_safe('COMMIT');
until_true($node, "SELECT count(*) = 1 FROM gtf_subscribers('$id')");
until_dispatched($node);
is(status($node, $id), 'pending', 'who has joined meanwhile wants it');

$id = submit_as('two', "'wait', '{}', 'undone', $later");
$s->query_safe("BEGIN; SET ROLE stays; SELECT gtf_submit('wait', '{}', 'undone')");
sql('DROP ROLE two');
until_dispatched($node);
$s->query_safe('ROLLBACK');
is(ended($node, $id), 'aborted', 'who has not does not');
$s->quit;

# ---- prepared

make('one');
$id = submit_as('one', "'wait', '{}', 'prepared', $later");
sql('BEGIN', 'DROP ROLE one', q{PREPARE TRANSACTION 'p'});
until_dispatched($node);
is(status($node, $id), 'pending', 'a DROP ROLE that is prepared');
sql(q{COMMIT PREPARED 'p'});
is(ended($node, $id), 'aborted', 'and committed');

# ---- while there is no dispatcher; another role gets the same OID

make('one');
my $private = submit_as('one', "'note', '{}', 'private', $later");
my $called = submit_as('one', "'note', '{}', 'called', scope => 'shared', $later");
my $of_type = submit_as('one', "'wait', '{}', 'of type', $later");
is(submit_as('stays', q{'wait', '{}', 'of type'}), $of_type, 'joined');
$id = submit_as('one', "'wait', '{}', 'stopped', $later");
my $oid = sql(q{SELECT 'one'::regrole::oid});
$gate->quit;
$node->stop;
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->start;
sql('DROP ROLE one');
$node->stop;
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'gtf'});
$node->start;
is(ended($node, $id), 'aborted', 'dropped while gtf was not loaded');
until_true($node, "SELECT count(*) = 1 FROM gtf_subscribers('$of_type')");
until_dispatched($node);
for (1 .. 5)
{
	$node->stop;
	run_log([ 'pg_resetwal', '-o', $oid, $node->data_dir ]);
	$node->start;
	make('one');
	# unless something else has needed an OID first
	last if sql(q{SELECT 'one'::regrole::oid}) eq $oid;
	sql('DROP ROLE one');
}
is(sql(q{SELECT 'one'::regrole::oid}), $oid, 'another role has the same OID');
is(sql(q{SELECT count(*) FROM gtf_subscribers('} . $of_type . q{')}), '1', 'it has not subscribed anything');
isnt(submit_as('one', "'note', '{}', 'private', $later"), $private, 'and joins no private task');
isnt(submit_as('one', "'note', '{}', 'called', scope => 'shared', $later"), $called, 'nor one that was shared within the role');
is(submit_as('one', q{'wait', '{}', 'of type'}), $of_type, 'but what is for all');

# ---- the extension is dropped while the dispatcher is at it: nobody waits in a circle

sql('DROP EXTENSION gtf', 'CREATE FUNCTION nop() RETURNS void LANGUAGE sql AS \'\'');
my ($rc, undef, $stderr) = $node->psql('postgres', join(
		"\n",
		(q{
	CREATE EXTENSION gtf;
	CREATE ROLE two;
	CREATE ROLE three;
	SELECT gtf_register_task('nop', 'nop()', scope => 'shared');
	SET ROLE two;
	SELECT count(gtf_submit('nop', '{}', 'k' || i, delay => '1 h')) FROM generate_series(1, 50) i;
	SET ROLE three;
	SELECT count(gtf_submit('nop', '{}', 'k' || i, delay => '1 h')) FROM generate_series(1, 50) i;
	RESET ROLE;
	ALTER ROLE three RENAME TO four;
	DROP ROLE two;
	DROP ROLE four;
	SELECT pg_sleep(random() * 0.01);
	DROP EXTENSION gtf;}) x 20));
is("$rc $stderr", '0 ', 'roles and the extension are dropped');

$node->stop;
done_testing();
