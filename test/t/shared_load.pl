# Shared tasks: many sessions and principals, running tasks, locks, a crash.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => "gtf.max_executors = 3\nmax_locks_per_transaction = 10\n");
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	SELECT gtf_register_task('held', 'hold(int,int)', scope => 'shared'), gtf_register_task('wait', 'note(int)', scope => 'shared');
	CREATE ROLE r1 LOGIN; CREATE ROLE r2 LOGIN; CREATE ROLE r3 LOGIN;
	CREATE TABLE answers (who name DEFAULT current_user, app_user text DEFAULT current_setting('gtf.app_user'), id uuid, answer text);
	GRANT ALL ON answers TO PUBLIC});

sub sql
{
	return $node->safe_psql('postgres', join(';', @_));
}

sub submit_as
{
	my ($role, $args) = @_;

	return sql("SET ROLE $role", "SELECT gtf_submit($args)");
}

sub pgbench
{
	my ($transactions, $script, $what) = @_;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/shared.sql";

	unlink $file;
	append_to_file($file, $script);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	command_ok(
		[
			'pgbench', '--no-vacuum', '--client=16', '--jobs=2', "--transactions=$transactions",
			'--host=' . $node->host, '--port=' . $node->port, "--file=$file", 'postgres'
		],
		$what);
}

# a transaction of one of two roles with so many users each
sub somebody_of
{
	my ($users) = @_;

	return qq{
\\set role random(1, 2)
\\set user random(1, $users)
} . q{BEGIN;
SELECT set_config('role', 'r' || :role, true), set_config('gtf.app_user', CASE :user WHEN 1 THEN '' ELSE 'user ' || :user END, true);
};
}

# ---- 10,000 submits under one key

my $gate = gate($node, 1);
pgbench(625, somebody_of(10) . q{INSERT INTO answers (id) SELECT gtf_submit('held', '{"key": 1}', 'one');
COMMIT;
}, '16 sessions submit under the same key');
is(sql('SELECT count(*), count(DISTINCT id) FROM answers'), '10000|1', '10,000 submits: one answer');
is(sql('SELECT count(*) FROM gtf.tasks'), '1', 'one task');
my $id = sql('SELECT DISTINCT id FROM answers');
my $principals = sql('SELECT count(DISTINCT (who, app_user)) FROM answers');
is(sql("SELECT subscriber_count FROM gtf_get_task('$id')"), $principals, 'as many subscribers as there are principals');
is(sql(qq{SELECT count(*) FROM (SELECT role::text, app_user FROM gtf_subscribers('$id') EXCEPT SELECT DISTINCT who, app_user FROM answers) AS _}),
	'0', 'and no others');
is(sql(qq{SELECT s.role = t.owner AND s.app_user = t.app_user FROM gtf_get_task('$id') t, gtf_subscribers('$id') s ORDER BY subscribed_at LIMIT 1}), 't', 'the first one is the owner');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(ended($node, $id), 'success', 'it ends');
is(sql('SELECT count(*), min(who) = min(owner::text) FROM effects JOIN gtf.task_info ON id = task'), '1|t', 'it has run once, as its owner');
is(sql(q{SET gtf.app_user = 'user 7'}, 'SET ROLE r2', "SELECT status FROM gtf_result('$id')"), 'success', 'a subscriber sees the result');
is(sql('SET ROLE r3', "SELECT count(*) FROM gtf_result('$id')"), '0', 'others do not');

# ---- they come and leave: nobody is without a task, no task is without anybody

sql('TRUNCATE answers', q{
	CREATE FUNCTION come_or_go() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		task uuid;
		said text;
	BEGIN
		IF random() < 0.5 THEN
			task := gtf_submit('wait', '{}', 'busy', delay => '1 h');
			said := 'joined';
		ELSE
			SELECT id INTO task FROM gtf.task_info WHERE task_key = 'busy' AND ended_at IS NULL LIMIT 1;
			BEGIN
				said := gtf_cancel(task);
			EXCEPTION WHEN no_data_found OR object_not_in_prerequisite_state THEN
				said := SQLSTATE;
			END;
		END IF;
		INSERT INTO answers (id, answer) VALUES (task, said);
	END$$});
pgbench(150, somebody_of(2) . q{SELECT come_or_go();
COMMIT;
}, '16 sessions join and leave');
cmp_ok(sql(q{SELECT count(DISTINCT answer) FROM answers WHERE answer IN ('joined', 'unsubscribed', 'aborted')}), '==', 3, 'all has happened');
is(sql(q{SELECT count(*) FROM gtf.task_info WHERE task_key = 'busy' AND (subscriber_count = 0 OR (status = 'aborted' AND subscriber_count <> 1))}),
	'0', 'the last one has ended each task, and only the last one');
cmp_ok(sql(q{SELECT count(*) FROM gtf.task_info WHERE task_key = 'busy' AND ended_at IS NULL}), '<=', 1, 'one task at a time');
is(sql(q{SELECT count(*) FROM answers WHERE answer = 'aborted' AND id NOT IN (SELECT id FROM gtf.task_info WHERE status = 'aborted')}), '0', 'what was aborted is');
is(sql(q{SELECT count(*) FROM (SELECT id FROM answers WHERE answer = 'aborted' GROUP BY id HAVING count(*) > 1) AS _}), '0', 'once');
# who has joined and not left since is there: joins and leaves of each alternate but for joins that are repeated
is(sql(q{SELECT count(*) FROM gtf.task_subscribers_info s WHERE NOT EXISTS (
		SELECT FROM answers a WHERE a.id = s.task_id AND a.who = s.role::text AND a.app_user = s.app_user AND answer = 'joined')
		AND s.task_id IN (SELECT id FROM answers)}), '0', 'who is there has joined');
sql(q{SELECT gtf_cancel(id, true) FROM gtf.task_info WHERE ended_at IS NULL});

# ---- many new keys need no room in the lock table; locks are out of reach

is(sql('SET ROLE r1', q{SELECT count(DISTINCT id) FROM gtf_submit_many('wait', array_fill('{}'::jsonb, ARRAY[20000]),
		ARRAY(SELECT 'many ' || i FROM generate_series(1, 20000) i)) AS id}),
	'20000', '20,000 new keys in a transaction');
until_true($node, 'SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL');

$id = submit_as('r1', q{'wait', '{}', 'locked', delay => '1 h'});
my $s = session($node);
$s->query_safe("BEGIN; SET ROLE r1; SELECT gtf_submit('wait', '{}', 'locked'); SET ROLE r2; SELECT gtf_submit('wait', '{}', 'locked')");
for my $call (q{gtf_submit('wait', '{}', 'locked')}, "gtf_cancel('$id')")
{
	my (undef, undef, $stderr) =
	  $node->psql('postgres', "SET lock_timeout = '50 ms'; SELECT $call");

	like($stderr, qr/canceling statement due to lock timeout/, "lock_timeout: $call");
}
is(submit_as('r1', q{'wait', '{}', 'locked'}), $id, 'who is subscribed needs no lock');
# what a user can make of what he sees in pg_locks
my $locks = session($node, user => 'r3');
is( $locks->query_safe(q{SELECT bool_and(pg_try_advisory_lock(classid::int, objid::int) AND pg_try_advisory_lock((classid::bigint << 32) | objid::bigint))
		FROM pg_locks WHERE locktype = 'advisory' AND objsubid > 2}),
	't',
	'locks of SQL users are others');
$s->query_safe('COMMIT');
$s->query_safe("SET lock_timeout = '60 s'");
is($s->query_safe("SET ROLE r2; SELECT gtf_cancel('$id')"), 'unsubscribed', 'and not in the way');
$locks->quit;

# ---- who waits for it

my $waiter = waiter($node, $id, user => 'r1');
my (undef, undef, $stderr) = $node->psql('postgres', "CALL gtf_wait('$id')", extra_params => [ '-U', 'r2' ]);
like($stderr, qr/task "$id" does not exist/, 'who has left cannot wait for it');
is(sql("SELECT gtf_cancel('$id', true)"), 'aborted', 'cancelled for all');
is($waiter->(), 'aborted', 'who waits is told');

# ---- the task ends while somebody joins, or leaves: neither waits for the other

for my $end ('COMMIT', 'ROLLBACK')
{
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	$id = submit_as('r1', q{'held', '{"key": 1}', 'ends'});
	until_held($node, 1);
	$s->query_safe("BEGIN; SET ROLE r2; SELECT gtf_submit('held', '{\"key\": 1}', 'ends')");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is(ended($node, $id), 'success', "$end: it ends while somebody joins");
	$s->query_safe($end);
	is(sql('SET ROLE r2', "SELECT status FROM gtf_get_task('$id')"), $end eq 'COMMIT' ? 'success' : '', "$end: who has joined sees it");

	$gate->query_safe('SELECT pg_advisory_lock(1)');
	$id = submit_as('r1', q{'held', '{"key": 1}', 'ends'});
	submit_as('r2', q{'held', '{"key": 1}', 'ends'});
	until_held($node, 1);
	$s->query_safe("BEGIN; SET ROLE r2; SELECT gtf_cancel('$id')");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is(ended($node, $id), 'success', "$end: it ends while somebody leaves");
	$s->query_safe($end);
	is(sql("SELECT subscriber_count FROM gtf_get_task('$id')"), $end eq 'COMMIT' ? '1' : '2', "$end: who has left has");
}

# ---- subscriptions survive a crash

$id = submit_as('r1', q{'wait', '{}', 'crash', delay => '1 h'});
is(submit_as('r2', q{'wait', '{}', 'crash'}), $id, 'joined');
$s->quit;
$gate->quit;
$node->stop('immediate');
$node->start;
is(submit_as('r3', q{'wait', '{}', 'crash'}), $id, 'joined after a crash');
is(sql("SELECT string_agg(role::text, ' ' ORDER BY subscribed_at) FROM gtf_subscribers('$id')"), 'r1 r2 r3', 'with those from before');
is(sql('SET ROLE r1', "SELECT gtf_cancel('$id')"), 'unsubscribed', 'the first one leaves');

$node->stop;
done_testing();
