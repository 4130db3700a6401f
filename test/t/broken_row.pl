# Rows that cannot be read: the task they belong to fails, or stays pending if
# not even its owner can be told; all others run as if nothing was.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', conf => "gtf.max_executors = 2\nautovacuum = off");
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	-- 16 kB that do not compress
	CREATE FUNCTION large() RETURNS jsonb LANGUAGE sql AS
		$$SELECT jsonb_build_object('key', 1, 'message', string_agg(md5(n::text), '')) FROM generate_series(1, 500) n$$;
	CREATE FUNCTION shown() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM gtf_update_payload(large());
		IF (SELECT attempt FROM gtf_context()) = 1 THEN RAISE EXCEPTION 'again'; END IF;
		PERFORM effect(), pg_advisory_xact_lock_shared(1);
	END$$;
	CREATE FUNCTION hidden() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		IF (SELECT attempt FROM gtf_context()) = 1 THEN
			PERFORM gtf_update_payload(large());
			RAISE EXCEPTION 'again';
		END IF;
		PERFORM effect(), pg_advisory_xact_lock_shared(1);
	END$$;
	CREATE PROCEDURE call_shown() LANGUAGE plpgsql AS $$BEGIN
		PERFORM gtf_update_payload(large());
		PERFORM pg_sleep(600);
	END$$;
	SELECT gtf_register_task('hidden', 'hidden()', max_attempts => 2, retry_delay => '10 ms'),
		gtf_register_task('hidden_late', 'hidden()', max_attempts => 2, retry_delay => '1 hour'),
		gtf_register_task('any', 'raise(text)'), gtf_register_task('call_shown', 'call_shown()')});
my $missing = 'missing chunk number 0 for toast value';

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# Everything that is stored out of line in this table is gone.
sub break_toast
{
	my ($table) = @_;
	my ($oid, $name) = split /\|/,
	  sql("SELECT oid, oid::regclass FROM pg_class WHERE oid = (SELECT reltoastrelid FROM pg_class WHERE oid = '$table'::regclass)");

	isnt(sql("SELECT count(*) FROM $name"), '0', "$table has values out of line");
	# the server protects such tables
	sql(qq{
		SET allow_system_table_mods = on;
		UPDATE pg_class SET relkind = 'r' WHERE oid = $oid;
		TRUNCATE $name;
		UPDATE pg_class SET relkind = 't' WHERE oid = $oid});
}

sub others_run
{
	my ($what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(outcome($node, submit($node, q{'note'})), 'success|1', "others run: $what");
}

my $gate = gate($node, 1);

# arguments
sql('ALTER SYSTEM SET gtf.max_executors = 1');
$node->reload;
my $first = submit($node, q{'hold', '{"key": 1}'});
executor_of($node, $first);
my $id = submit($node, q{'any', large() - 'key'});
break_toast('gtf.tasks');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
like(outcome($node, $id), qr/^failure\|0\|could not read the task: $missing .*\|data_corrupted$/,
	'arguments that cannot be read');
others_run('arguments');
sql('ALTER SYSTEM RESET gtf.max_executors');
$node->reload;

# a lost executor, and the payload of the attempt before
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = submit($node, q{'hidden'});
until_true($node,
	"SELECT status = 'in_progress' AND attempt = 2 FROM gtf_get_task('$id')");
break_toast('gtf.outcomes');
terminate($node, executor_of($node, $id));
others_run('a lost attempt');
like(
	outcome($node, $id),
	qr/^failure\|2\|executor lost, and the task is broken: $missing .*\|data_corrupted$/,
	'an attempt that lost its executor and cannot be settled');
others_run('afterwards');
is(sql('SELECT count(*) FROM gtf.live'), '0', 'nothing is left of it');

# one that expires
$id = submit($node, q{'hidden_late', expires_at => clock_timestamp() + '8 s'});
until_true($node, "SELECT count(*) = 1 FROM gtf.task_attempts WHERE task_id = '$id'");
break_toast('gtf.outcomes');
my @others = map { submit($node, q{'note', delay => '1 hour', expires_at => clock_timestamp() + '1 s'}) } 1 .. 3;
is(ended($node, $id), 'aborted', 'a task that expires');
is(ended($node, $_), 'aborted', 'and others with it') for @others;
others_run('an expired task');

# found after a crash
$id = submit($node, q{'call_shown'});
my $hold = submit($node, q{'hold', '{"key": 2}'});
until_true($node, "SELECT count(*) = 1 FROM gtf.live WHERE task_id = '$id' AND payload IS NOT NULL");
break_toast('gtf.live');
$gate->quit;
my $offset = log_offset($node);
$node->stop('immediate');
$node->start;
$gate = gate($node, 1);
others_run('gtf.live after a crash');
like(ended($node, $hold), qr/success/, 'the one that ran, too');
like(outcome($node, $id), qr/^failure\|1\|executor lost, and the task is broken: $missing .*\|data_corrupted$/,
	'an attempt whose report cannot be read');

# pages of gtf.tasks and gtf.live
$id = submit($node, q{'hidden_late'});
until_true($node, "SELECT count(*) = 1 FROM gtf.live WHERE task_id = '$id' AND attempt = 2");
is(sql(q{SELECT pg_relation_size('gtf.live')}), '8192', 'a page of gtf.live');
# they are due when the server has been stopped and started again
my @ids = split /\n/, sql(q{SELECT gtf_submit('note', delay => '10 s') FROM generate_series(1, 200)});
my $tasks = sql(q{SELECT pg_relation_filepath('gtf.tasks')});
my $live = sql(q{SELECT pg_relation_filepath('gtf.live')});
my $page = sql("SELECT (ctid::text::point)[0]::int FROM gtf.tasks WHERE id = '$ids[100]'");
my @broken = split /\n/, sql("SELECT id FROM gtf.tasks WHERE (ctid::text::point)[0]::int = $page ORDER BY id");
my %is_broken = map { $_ => 1 } @broken;
my @readable = grep { !$is_broken{$_} } @ids;
cmp_ok(scalar @broken, '>', 20, 'a page of tasks');
$gate->quit;
$node->stop;
for ([ $tasks, $page ], [ $live, 0 ])
{
	my ($path, $block) = ($node->data_dir . "/$_->[0]", $_->[1]);

	open my $file, '+<', $path or die "$path: $!";
	binmode $file;
	seek $file, $block * 8192, 0;
	print $file "\x55" x 8192;
	close $file;
}
$offset = log_offset($node);
$node->start;
others_run('a page that cannot be read');
is(ended($node, $_), 'success', 'a task of another page') for @readable[ 0, -1 ];
until_log($node, "gtf task $broken[-1] cannot be read and stays pending", $offset);
is(log_count($node, 'WARNING:  gtf task .* cannot be read and stays pending', $offset),
	scalar @broken, 'a warning for each of its tasks');
like(outcome($node, $id), qr/^failure\|.*invalid page/, 'a task that waited for its second attempt fails');

$node->stop;
done_testing();
