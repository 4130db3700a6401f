# A list of pending tasks jumps over those that have ended, once somebody has
# passed them, and still has all that wait: before them, behind them, among
# them.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main');

$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION noop() RETURNS void LANGUAGE sql AS '';
	SELECT gtf_register_task('noop', 'noop()');
	CREATE FUNCTION fails() RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''as it should''; END';
	SELECT gtf_register_task('fails', 'fails()', queue => 'fails');
	CREATE FUNCTION waits(sort text) RETURNS text LANGUAGE sql AS
		$$SELECT string_agg(task_name, ' ') FROM gtf_iter_tasks(50, status => '{pending}', sort_by => sort)$$;
	-- pages that such a list reads
	CREATE FUNCTION reads(sort text, after uuid DEFAULT NULL) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE plan json;
	BEGIN
		FOR i IN 1 .. 2 LOOP	-- once for the catalogs
			EXECUTE format('EXPLAIN (ANALYZE, BUFFERS, FORMAT json)
				SELECT FROM gtf_iter_tasks(50, status => ''{pending}'', sort_by => %L, after => %L)',
				sort, after) INTO plan;
		END LOOP;
		RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::int + (plan->0->'Plan'->>'Shared Read Blocks')::int;
	END $$;
	-- n tasks that have ended, of which no executor knows
	CREATE PROCEDURE end_some(n int) LANGUAGE sql AS $$
		WITH submitted AS (SELECT gtf_submit_many('noop', array_fill('{}'::jsonb, ARRAY[n]), delay => '1 day') AS id)
		INSERT INTO gtf.outcomes (task_id, attempt, started_at, ended_at, status, worker)
			SELECT id, 1, now(), now(), 's', 1 FROM submitted $$;
});

sub submit_named
{
	my ($name) = @_;
	return $node->safe_psql('postgres',
		"SELECT gtf_submit('noop', task_name => '$name', delay => '1 day')");
}

sub reads
{
	my ($sort) = @_;
	return $node->safe_psql('postgres', "SELECT reads('$sort')");
}

sub waits
{
	my ($sort) = @_;
	return $node->safe_psql('postgres', "SELECT waits('$sort')");
}

# what a list reads when there is nothing to jump over
submit_named('first');
my $failed = $node->safe_psql('postgres',
	"SELECT gtf_submit('fails', task_name => 'failed')");
ended($node, $failed);
my %few = map { $_ => reads($_) } '-created', 'created';

# An open transaction might bring in tasks that are older than those that end
# meanwhile.
my $early = session($node);
$early->query_safe(q{BEGIN});
$early->query_safe(
	q{SELECT gtf_submit('noop', task_name => 'early', delay => '1 day')});

$node->safe_psql('postgres', 'CALL end_some(20000)');
my $second = submit_named('second');
$node->safe_psql('postgres', 'CALL end_some(20000)');
$node->safe_psql('postgres', 'VACUUM gtf.tasks, gtf.outcomes');
is(waits('-created'), 'second first', 'newest first');
is(waits('created'), 'first second', 'oldest first');
cmp_ok(reads('-created'), '>', $few{'-created'} + 150,
	'what might have older neighbours is passed again');
$early->query_safe('COMMIT');
$early->quit;
is(waits('-created'), 'second early first', 'with the one that was committed late');

for my $sort ('-created', 'created')
{
	until_true($node, "SELECT reads('$sort') < $few{$sort} + 100",
		"$sort: jumps over those that have ended");
}
is(waits('-created'), 'second early first', 'newest first');
is(waits('created'), 'first early second', 'oldest first');
my $third = submit_named('third');
is(waits('-created'), 'third second early first', 'a new one');
is(waits('created'), 'first early second third', 'a new one, oldest first');
is( $node->safe_psql(
		'postgres',
		q{SELECT string_agg(task_name, ' ') FROM gtf_iter_tasks(50, status => '{pending}',
			after => (SELECT id FROM gtf.task_info WHERE task_name = 'second'))}),
	'early first',
	'from a page on');
$node->safe_psql('postgres', "SELECT gtf_cancel('$third')");
$node->safe_psql('postgres', 'CALL end_some(20000)');
is(waits('-created'), 'second early first', 'more have ended');
until_true($node, "SELECT reads('-created') < $few{'-created'} + 100",
	'jumps over these, too');

# What has failed, and waits for another try, is found elsewhere.
$node->safe_psql('postgres', "SELECT gtf_pause('fails'); SELECT gtf_retry('$failed')");
is(waits('-created'), 'second early failed first', 'one that waits again');

$node->restart;
is(waits('-created'), 'second early failed first', 'after a restart');
until_true($node, "SELECT reads('-created') < $few{'-created'} + 100",
	'learned anew');
is(waits('created'), 'first failed early second', 'the same');

# What is ended by a transaction that is rolled back has not ended for others.
# (Those below are learned first, to see that those above may be.)
$node->restart;
until_true($node, "SELECT reads('-created', '$second') < $few{'-created'} + 100",
	'learned up to the second one');
like($node->safe_psql(
		'postgres', qq{BEGIN; SELECT gtf_cancel('$second'::uuid); SELECT waits('-created'); ROLLBACK}),
	qr/^early failed first$/m, 'without one that this transaction has cancelled');
is(waits('-created'), 'second early failed first', 'with it after a rollback');

done_testing();
