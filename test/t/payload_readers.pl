# Sessions that read payloads as fast as they can, while bodies replace them as
# fast as they can: nobody ever sees a payload that nobody has set, or with
# progress of another call, and nothing is leaked.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = 3;
my $node = gtf_node('main');

# A payload says of what it consists; sizes jump between a few bytes and some
# hundred kilobytes, so pages are given back and taken again all the time.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION is_whole(p jsonb) RETURNS boolean LANGUAGE sql AS
		$$SELECT p ->> 'data' = repeat(p ->> 'piece', (p ->> 'n')::int)$$;
	CREATE FUNCTION replace_payloads(seconds float8, who text) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE
		until timestamptz = clock_timestamp() + seconds * interval '1 s';
		payloads jsonb[] = (SELECT array_agg(jsonb_build_object('i', i, 'who', who, 'piece', piece, 'n', n, 'data', repeat(piece, n)))
			FROM (SELECT md5(who || i) AS piece, (((i * 7919) % 101) ^ 2)::int AS n, i FROM generate_series(1, 100) i) x);
		n int = 0;
		started timestamptz;
		slowest interval = '0';
	BEGIN
		WHILE clock_timestamp() < until LOOP
			started := clock_timestamp();
			PERFORM gtf_update_progress(n, payloads[n % 100 + 1]);
			slowest := greatest(slowest, clock_timestamp() - started);
			n := n + 1;
		END LOOP;
		RETURN jsonb_build_object('updates', n, 'slowest_ms', round(extract(epoch FROM slowest) * 1000));
	END $$;
	SELECT gtf_register_task('replace', 'replace_payloads(float8,text)');

	CREATE FUNCTION read_payloads() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		p jsonb;
		n int = 0;
		broken int = 0;
		foreign_ones int = 0;
		unlike int = 0;
		k uuid;
		c int;
	BEGIN
		WHILE EXISTS (SELECT FROM gtf.task_info WHERE task_type = 'replace' AND status IN ('pending', 'in_progress')) LOOP
			FOR k, p, c IN SELECT id, payload, progress_current FROM gtf.task_info i WHERE task_type = 'replace' AND payload IS NOT NULL LOOP
				n := n + 1;
				IF NOT coalesce(is_whole(p), false) THEN
					broken := broken + 1;
				ELSIF (SELECT args ->> 'who' FROM gtf.task_info WHERE id = k) <> p ->> 'who' THEN
					foreign_ones := foreign_ones + 1;
				ELSIF (p ->> 'i')::int <> c % 100 + 1 THEN
					unlike := unlike + 1;
				END IF;
			END LOOP;
		END LOOP;
		RETURN format('%s %s %s %s', n, broken, foreign_ones, unlike);
	END $$;
});

# some short ones after another in the same slots, too
$node->safe_psql('postgres',
	"SELECT count(gtf_submit('replace', jsonb_build_object('seconds', s, 'who', 'task ' || i || 'of' || s)))
	   FROM (VALUES ($seconds, 2), (0.02, 60)) t (s, n), generate_series(1, n) i");
my (@readers, @out, @err);
foreach my $i (0 .. 2)
{
	push @readers,
	  IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT read_payloads()' ],
		'<', \undef, '>', \$out[$i], '2>', \$err[$i]);
}
my $reads = 0;
my $failed = '';
foreach my $i (0 .. 2)
{
	$readers[$i]->finish;
	my ($n, $broken, $foreign, $unlike) = $out[$i] =~ /^(\d+) (\d+) (\d+) (\d+)$/
	  or die "no answer: $out[$i] $err[$i]";
	$reads += $n;
	$failed .= "$broken broken, $foreign of others, $unlike with other progress; "
	  if $broken || $foreign || $unlike;
}
is($failed, '', 'every payload that was read is one that its task has set');
cmp_ok($reads, '>', 10, "$reads were read");
note $node->safe_psql('postgres', q{SELECT sum((result ->> 'updates')::int) || ' were set, slowest: '
	|| max((result ->> 'slowest_ms')::int) || ' ms' FROM gtf.task_info WHERE task_type = 'replace'});
is($node->safe_psql('postgres', q{SELECT count(*) FROM gtf.task_info WHERE task_type = 'replace' AND status = 'success'}),
	'62', 'all bodies are through');
until_true($node, "SELECT value = 0 FROM gtf.stats WHERE name = 'payload_memory_used'");
pass('all memory is free');

$node->stop;
done_testing();
