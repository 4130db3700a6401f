# Tasks are removed while others look at them: who waits is told, and nobody
# sees a task that has ended go back to pending.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use IPC::Run qw(start);
use Test::More;

my $node = gtf_node('main');
create_bodies($node);

# ---- who waits

my $gate = gate($node, 1);
for my $call ("gtf_wait('%s')", "gtf_wait_any(ARRAY['%s']::uuid[])", "gtf_wait_all(ARRAY['%s']::uuid[])")
{
	my $id = submit($node, q{'hold', '{"key": 1}'});
	my $err = '';

	until_held($node, 1);
	my $waiter = start [ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', sprintf("CALL $call", $id) ],
	  '<', \undef, '>', \my $out, '2>', \$err;
	my $waiting = "FROM pg_stat_activity WHERE query LIKE 'CALL gtf_wait%' AND wait_event = 'Extension'";
	until_true($node, "SELECT EXISTS (SELECT $waiting)");
	my $pid = $node->safe_psql('postgres', "SELECT pid $waiting");
	kill 'STOP', $pid;
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	until_status($node, $id, 'success');
	is($node->safe_psql('postgres', "CALL gtf_prune('0')"), '1', 'the task is removed');
	kill 'CONT', $pid;

	# who would sleep for ever
	until_true($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");
	$waiter->finish;
	like($err, qr/ERROR:  task "$id" does not exist/, "$call: is told that the task is gone");
	$gate->query_safe('SELECT pg_advisory_lock(1)');
}
$gate->quit;

# ---- who looks, all the time

$node->safe_psql('postgres', 'CREATE TABLE removed (id uuid); CREATE TABLE went_back (id uuid)');
my $reader = start [ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{
DO $$
DECLARE
	i uuid;
	s text;
	ended boolean;
BEGIN
	FOR round IN 1 .. 60 LOOP
		LOOP
			SELECT id INTO i FROM removed;
			COMMIT;
			EXIT WHEN i IS NOT NULL;
			PERFORM pg_sleep(0.001);
		END LOOP;
		ended := false;
		LOOP
			s := gtf_status(i);
			EXIT WHEN s IS NULL;
			IF s = 'success' THEN
				ended := true;
			ELSIF ended THEN
				INSERT INTO went_back VALUES (i);
			END IF;
		END LOOP;
		DELETE FROM removed;
		COMMIT;
	END LOOP;
END $$} ], '<', \undef, '>', \my $out, '2>', \my $err;
$node->safe_psql(
	'postgres', q{
DO $$
DECLARE
	i uuid;
	s text;
	n bigint;
BEGIN
	FOR round IN 1 .. 60 LOOP
		i := gtf_submit('note');
		COMMIT;
		CALL gtf_wait(i, NULL, s);
		INSERT INTO removed VALUES (i);
		COMMIT;
		PERFORM pg_sleep(0.004);
		CALL gtf_prune('0', NULL, n);
		WHILE EXISTS (SELECT FROM removed) LOOP
			COMMIT;
			PERFORM pg_sleep(0.001);
		END LOOP;
		COMMIT;
	END LOOP;
END $$});
$reader->finish;
is($err, '', 'somebody looks at tasks that are being removed');
is($node->safe_psql('postgres', 'SELECT count(*) FROM went_back'), '0', 'none goes back to pending');

$node->stop;
done_testing();
