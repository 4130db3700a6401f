# Tasks of all kinds that are cancelled and revoked at random moments, by
# several clients: each ends once, those that were aborted have no effects,
# the others theirs, nobody else is hit, and nothing is left over.
#
# GTF_SECONDS sets how long it goes on (5).

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run qw(start);
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{GTF_SECONDS} // 5;
my $clients = 3;

my $node = gtf_node(
	'main', conf => q{
gtf.max_executors = 4
gtf.retry_delay_max = 1
log_min_messages = info
log_statement = none
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	-- counts the bodies that have begun, whatever becomes of them
	CREATE SEQUENCE begun;
	CREATE FUNCTION plain(ms float8) RETURNS void LANGUAGE plpgsql AS
		'BEGIN PERFORM nextval(''begun''), effect(), pg_sleep(ms / 1000); END';
	CREATE FUNCTION interrupted(ms float8) RETURNS void LANGUAGE plpgsql AS
		'BEGIN PERFORM effect(), pg_sleep(ms / 1000); END';
	CREATE FUNCTION polite(ms float8) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM nextval('begun'), effect();
		IF NOT gtf_sleep(ms * interval '1 ms') THEN DELETE FROM effects WHERE task = gtf_task_id(); END IF;
	END$$;
	CREATE FUNCTION catches(ms float8) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		BEGIN
			PERFORM effect(), pg_sleep(ms / 1000);
		EXCEPTION WHEN query_canceled THEN
			PERFORM pg_sleep(0);
		END;
	END$$;
	CREATE FUNCTION second_time(ms float8) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect(), pg_sleep(ms / 1000);
		IF (SELECT attempt FROM gtf_context()) = 1 THEN RAISE EXCEPTION 'once more'; END IF;
	END$$;
	CREATE PROCEDURE called(ms float8) LANGUAGE plpgsql AS $$BEGIN
		PERFORM pg_sleep(ms / 2000);
		COMMIT;
		IF ms < 2 AND (SELECT attempt FROM gtf_context()) = 1 THEN RAISE EXCEPTION 'once more'; END IF;
		PERFORM effect(), pg_sleep(ms / 2000);
	END$$;
	SELECT gtf_register_task('plain', 'plain(float8)'),
		gtf_register_task('interrupted', 'interrupted(float8)', abort => 'interrupt'),
		gtf_register_task('polite', 'polite(float8)', abort => 'poll'),
		gtf_register_task('catches', 'catches(float8)', abort => 'interrupt'),
		gtf_register_task('second_time', 'second_time(float8)', abort => 'interrupt', max_attempts => 2, retry_delay => '5 ms'),
		gtf_register_task('called', 'called(float8)', abort => 'interrupt', max_attempts => 2, retry_delay => '5 ms');

	-- what a client has asked for, and what it was told
	CREATE TABLE asked (id uuid, what text, told text);
	CREATE PROCEDURE client(seconds float8) LANGUAGE plpgsql AS $$
	DECLARE
		-- the bodies of the first two count themselves: they are not interrupted
		kinds text[] := '{plain,polite,interrupted,catches,second_time,called}';
		ids uuid[];
		id uuid;
		kind text;
		what text;
		told text;
		rolled_back boolean;
		until timestamptz := clock_timestamp() + seconds * interval '1 s';
	BEGIN
		-- and until there was some work
		WHILE clock_timestamp() < until OR (SELECT count(*) < 500 FROM gtf.tasks)
			OR (SELECT count(DISTINCT status) < 2 OR min(n) < 10 FROM (SELECT status, count(*) AS n FROM gtf.outcomes WHERE status IN ('s', 'a') GROUP BY 1) x)
		LOOP
			ids := '{}';
			FOR i IN 1 .. 1 + random() * 7 LOOP
				ids := ids || gtf_submit(kinds[1 + floor(random() * array_length(kinds, 1))],
					jsonb_build_object('ms', random() * 6), priority => (random() * 2)::int);
			END LOOP;
			COMMIT;
			FOREACH id IN ARRAY ids LOOP
				CONTINUE WHEN random() < 0.3;
				what := (ARRAY['cancel', 'cancel', 'cancel', 'cancel', 'twice', 'array', 'nothing', 'revoke', 'sigint', 'sigterm'])[1 + floor(random() * 10)];
				SELECT task_type INTO kind FROM gtf_get_task(id);
				CONTINUE WHEN what = 'sigterm' AND random() < 0.6;
				CONTINUE WHEN what IN ('sigint', 'sigterm') AND kind IN ('plain', 'polite');
				PERFORM pg_sleep(random() * random() * 0.006);
				rolled_back := random() < 0.1;
				BEGIN
					told := CASE what
						WHEN 'cancel' THEN gtf_cancel(id)
						WHEN 'twice' THEN (SELECT gtf_cancel(id) || gtf_cancel(id))
						WHEN 'array' THEN (SELECT string_agg(outcome, ',') FROM gtf_cancel(ids))
						WHEN 'revoke' THEN gtf_revoke(id)
						WHEN 'sigint' THEN gtf_revoke(id, true, 'SIGINT')
						WHEN 'sigterm' THEN gtf_revoke(id, true)
						ELSE 'nothing' END;
				EXCEPTION WHEN object_not_in_prerequisite_state THEN
					told := regexp_replace(SQLERRM, '".*"', '');
				END;
				IF rolled_back THEN
					ROLLBACK;
					CONTINUE;
				END IF;
				INSERT INTO asked SELECT a, what, told FROM unnest(CASE what WHEN 'array' THEN ids ELSE ARRAY[id] END) a;
				COMMIT;
			END LOOP;
		END LOOP;
	END$$;
});

my @clients = map {
	start [
		'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', "CALL client($seconds)",
		'-d', $node->connstr('postgres')
	  ],
	  '<', \undef, '>&', $node->basedir . "/out.$_"
} 1 .. $clients;
for my $i (1 .. $clients)
{
	ok($clients[ $i - 1 ]->finish, "client $i");
	my $out = slurp_file($node->basedir . "/out.$i");
	diag $out if $out ne '';
}

until_true($node,
	q{SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL});

note $node->safe_psql(
	'postgres', q{SELECT task_type, status, started_at IS NOT NULL AS started, error_message, count(*)
	  FROM gtf.task_info GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4});
note $node->safe_psql('postgres',
	q{SELECT what, told, count(*) FROM asked WHERE what <> 'array' GROUP BY 1, 2 ORDER BY 1, 2});

# The number of rows that a query finds is to be zero.
sub none
{
	my ($query, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', "SELECT count(*) FROM ($query LIMIT 20) q"),
		'0', $what)
	  or diag $node->safe_psql('postgres', "SELECT * FROM ($query LIMIT 20) q");
}

none(
	q{SELECT task_id FROM gtf.outcomes GROUP BY 1
	  HAVING count(*) FILTER (WHERE status IN ('s', 'f', 'a', 't')) <> 1
		OR max(attempt) <> max(attempt) FILTER (WHERE status IN ('s', 'f', 'a', 't'))},
	'each task has ended once');
none(
	q{SELECT i.id, task_type, status, n FROM gtf.task_info i
		LEFT JOIN (SELECT task, count(*) AS n FROM effects GROUP BY 1) e ON e.task = i.id
	  WHERE n IS DISTINCT FROM CASE WHEN status = 'success' THEN 1 END
		-- what a procedure does in its last transaction
		AND NOT (task_type = 'called' AND status = 'aborted')},
	'success means effects, everything else none');
none(
	q{SELECT i.id, task_type, status, error_message FROM gtf.task_info i
	  WHERE status NOT IN ('success', 'aborted')},
	'nothing has failed');
none(
	q{SELECT i.id, task_type, status, attempt FROM gtf.task_info i
	  WHERE (status <> 'success' OR attempt > 1 + (task_type IN ('second_time', 'called'))::int)
		AND NOT EXISTS (SELECT FROM asked WHERE asked.id = i.id AND what <> 'nothing')},
	'nothing has happened to a task that nobody wanted to stop');
none(
	q{SELECT i.id, task_type, status FROM gtf.task_info i
	  WHERE status = 'aborted' AND NOT EXISTS (
		SELECT FROM asked WHERE asked.id = i.id AND told LIKE ANY ('{%aborted%,%aborting%}'))},
	'nothing was aborted whose canceller was refused');
none(q{SELECT * FROM gtf.outcomes WHERE status = 'l'},
	'no attempt was lost to the end of its neighbour');
is( $node->safe_psql(
		'postgres', q{SELECT (SELECT last_value FROM begun) - count(*) FROM gtf.task_info
		  WHERE task_type IN ('plain', 'polite') AND started_at IS NOT NULL}),
	'0',
	'no body has run in vain');
until_true($node, 'SELECT count(*) = 0 FROM gtf.abort_requests');
is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.live'),
	'0', 'nothing is left in gtf.live');
is(log_count($node, qr/ (ERROR|WARNING|PANIC): /), 0, 'and nothing to complain about');

$node->stop;
done_testing();
