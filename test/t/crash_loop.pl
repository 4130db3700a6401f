# Nothing is lost and nothing is done twice, however often the server crashes.
#
# Under a load of all kinds of tasks the postmaster, or one of its processes,
# is killed again and again, at random moments.  After the last restart each
# submit that was acknowledged is there, every task has ended, each atomic
# task has its effects exactly once if it succeeded and not at all otherwise,
# and what gtf_wait has told is still true.
#
# GTF_CRASHES sets the number of crashes (5), GTF_SEED repeats their order.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run qw(start);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $crashes = $ENV{GTF_CRASHES} // 5;
my $clients = 4;
my $seed = srand($ENV{GTF_SEED} // (time ^ $$));

note "GTF_SEED=$seed GTF_CRASHES=$crashes";

# No atomic task shall be given up: each is to end with its effects.
my $node = gtf_node(
	'main', conf => q{
gtf.max_executors = 4
gtf.crash_limit = 1000
gtf.retry_delay_max = 1
log_statement = none
log_min_messages = info
checkpoint_timeout = 30s
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION flaky(n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect(n);
		IF (SELECT attempt FROM gtf_context()) = 1 THEN RAISE EXCEPTION 'once more'; END IF;
	END$$;
	CREATE FUNCTION lengthy(n int) RETURNS void LANGUAGE plpgsql AS
		'BEGIN PERFORM effect(n); PERFORM pg_sleep(0.15); END';
	CREATE FUNCTION parent(n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM effect(n);
		PERFORM gtf_submit_many('note', array_fill('{}'::jsonb, ARRAY[n]));
	END$$;
	CREATE PROCEDURE called(n int) LANGUAGE plpgsql AS
		'BEGIN PERFORM effect(n); COMMIT; PERFORM effect(-n); END';
	SELECT gtf_register_task('flaky', 'flaky(int)', max_attempts => 1000, retry_delay => '50 ms'),
		gtf_register_task('lengthy', 'lengthy(int)'),
		gtf_register_task('parent', 'parent(int)'),
		gtf_register_task('called', 'called(int)');
});

# What the clients do, in a random order.  Each line of output is written
# after the commit; it names a task that must be there in the end, and, after
# a wait, when it ended.
my @steps = (
	(q{SELECT gtf_submit('note');}) x 6,
	q{SELECT gtf_submit('note', priority => 5);},
	q{SELECT gtf_submit('note', delay => '300 ms');},
	q{SELECT gtf_submit_many('note', array_fill('{}'::jsonb, ARRAY[50]));},
	q{BEGIN; SELECT gtf_submit('note') AS a, gtf_submit('note') AS b \gset
SAVEPOINT s; SELECT FROM gtf_submit('raise', '{"message": "rolled back"}'); ROLLBACK TO s; COMMIT;
\echo :a
\echo :b},
	q{BEGIN; SELECT FROM gtf_submit('raise', '{"message": "rolled back"}'); ROLLBACK;},
	q{SELECT gtf_submit('flaky', '{"n": 1}');},
	q{SELECT gtf_submit('lengthy', '{"n": 1}');},
	q{SELECT gtf_submit('parent', '{"n": 3}');},
	q{SELECT gtf_submit('called', '{"n": 1}');},
	q{SELECT gtf_submit('note') AS id \gset
CALL gtf_wait(:'id') \gset
SELECT :'id' || ' ' || ended_at FROM gtf.outcomes WHERE task_id = :'id';});
my @scripts;
for my $client (1 .. $clients)
{
	my $file = $node->basedir . "/client$client.sql";

	append_to_file($file,
		join("\n", map { $steps[ rand @steps ] } 1 .. 20_000) . "\n");
	push @scripts, $file;
}

sub start_clients
{
	my ($round) = @_;

	return map {
		start [
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $scripts[$_],
			'-o', $node->basedir . "/out.$round.$_", '-d', $node->connstr('postgres')
		  ],
		  '<', \undef, '>', $node->basedir . "/stdout.$round.$_", '2>',
		  $node->basedir . "/err.$round.$_"
	} 0 .. $clients - 1;
}

# How much has been acknowledged.
sub lines
{
	return map { split /(?<=\n)/, slurp_file($_) } glob $node->basedir . "/out.$_[0].*";
}

for my $round (1 .. $crashes)
{
	my @psql = start_clients($round);
	my $kind = int rand 6;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if lines($round) > 20;
		usleep(100_000);
	}
	usleep(int rand 800_000);
	if ($kind == 0)
	{
		note "crash $round: immediate stop";
		$node->stop('immediate');
	}
	elsif ($kind == 1)
	{
		my $pids = $node->safe_psql('postgres',
			q{SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type LIKE 'gtf %'}
		);
		my @pids = split ' ', $pids;
		my $pid = $pids[ rand @pids ];

		note "crash $round: kill -9 of a worker";
		my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
		my $offset = log_offset($node);
		kill 'KILL', $pid;
		until_log($node, 'was terminated by signal 9', $offset);
	}
	else
	{
		note "crash $round: kill -9 of the postmaster";
		$node->kill9;
	}
	$_->finish for @psql;
	start_after_crash($node) if $kind != 1;
	until_true($node, 'SELECT true');
}

# in the end
until_true($node,
	q{SELECT count(*) = 0 FROM gtf.task_info WHERE status NOT IN ('success', 'failure')});

my (@known, @waited);
for my $file (glob $node->basedir . '/out.*')
{
	# the last line may be cut off
	for my $line (grep { /\n$/ } split /(?<=\n)/, slurp_file($file))
	{
		push @known, $1 if $line =~ /^([0-9a-f-]{36})\b/;
		push @waited, "$1\t$2" if $line =~ /^([0-9a-f-]{36}) (.*)$/;
	}
}
$node->safe_psql('postgres',
	    "CREATE TABLE known (id uuid); CREATE TABLE waited (id uuid, ended_at timestamptz);\n"
	  . "COPY known FROM STDIN;\n" . join("\n", @known) . "\n\\.\n"
	  . "COPY waited FROM STDIN;\n" . join("\n", @waited) . "\n\\.\n");
note $node->safe_psql(
	'postgres', q{SELECT task_type, status, error_message, attempt > 1 AS again, count(*)
	  FROM gtf.task_info GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4});

cmp_ok(scalar @known, '>', 20 * $crashes, 'there was work');
is( $node->safe_psql(
		'postgres', 'SELECT count(*) FROM known k WHERE NOT EXISTS (SELECT FROM gtf.tasks t WHERE t.id = k.id)'),
	'0',
	'no acknowledged submit is lost');
is( $node->safe_psql(
		'postgres', q{SELECT count(*) FROM gtf.task_info WHERE task_type <> 'called' AND status <> 'success'}),
	'0',
	'every atomic task has succeeded');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM gtf.task_info i
			FULL JOIN (SELECT task, count(*) AS n FROM effects GROUP BY task) e ON e.task = i.id
		WHERE (task_type <> 'called' AND n IS DISTINCT FROM 1) OR i.id IS NULL}),
	'0',
	'with its effects exactly once');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM gtf.task_info i
			LEFT JOIN LATERAL (SELECT count(*) AS n FROM effects WHERE task = i.id) e ON true
		WHERE task_type = 'called' AND NOT CASE
			WHEN status = 'success' THEN n = 2 AND attempt = 1
			ELSE n <= 2 AND error_message = 'executor lost' END}),
	'0',
	'a procedure has run once, whole or lost');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM gtf.task_info p
			LEFT JOIN LATERAL (SELECT count(*) AS n FROM gtf.tasks c WHERE c.parent_id = p.id) c ON true
		WHERE p.task_type = 'parent' AND n <> 3}),
	'0',
	'what a task has submitted exists exactly once');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM waited w JOIN gtf.task_info i USING (id)
		 WHERE i.status <> 'success' OR i.ended_at <> w.ended_at}),
	'0',
	'what gtf_wait has told is still true');
is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.live'),
	'0', 'nothing is left in gtf.live');

$node->stop;
done_testing();
