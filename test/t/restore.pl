# Point-in-time recovery from a base backup and an archive: the restored server
# is the same one to gtf, and goes on with what had not ended at that point,
# when it is let.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

# two executors, which two tasks keep
my $node = gtf_node('main', init => { allows_streaming => 1, has_archiving => 1 }, conf => 'gtf.max_executors = 2');
create_bodies($node);
create_stuck_bodies($node);
$node->backup('b');

my $done = submit($node, q{'note', '{"n": 1}'});
is(ended($node, $done), 'success', 'one that has ended');
my %id = (
	running => submit($node, q{'stuck'}),
	procedure => submit($node, q{'call_stuck'}),
	waiting => submit($node, q{'note', '{"n": 2}', delay => '1 s', priority => -1}),
	key => submit($node, q{'note', '{"n": 3}', task_key => 'k', delay => '1 s'}));
executor_of($node, $id{$_}) for 'running', 'procedure';
until_true($node, q{SELECT count(*) = 2 FROM gtf.live WHERE state = 'r'});
$node->safe_psql('postgres', q{SELECT pg_create_restore_point('here')});

# after that point
$node->safe_psql('postgres', 'INSERT INTO released DEFAULT VALUES');
ended($node, $id{$_}) for 'running', 'waiting', 'key';
my $later = submit($node, q{'note', '{"n": 4}'});
ended($node, $later);
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
$node->stop;

my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($node, 'b', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', q{
recovery_target_name = 'here'
recovery_target_action = 'promote'
gtf.enabled = off
});
$restored->start;

sub restored
{
	return $restored->safe_psql('postgres', $_[0]);
}

until_true($restored, 'SELECT NOT pg_is_in_recovery()');
worker_pid($restored, 'dispatcher');
is(status($restored, $done), 'success', 'restored: what had ended has ended');
is(restored(qq{SELECT count(*) FROM gtf.tasks WHERE id = '$later'}), '0', 'what came later is not there');
until_true($restored, "SELECT gtf_status('$id{procedure}') = 'failure'");
is(join(' ', map { status($restored, $id{$_}) } 'running', 'waiting', 'key'), 'pending pending pending',
	'with gtf.enabled off the rest waits');
is(restored('SELECT count(*) FROM effects WHERE n > 1'), '0', 'and has not run');

restored(q{INSERT INTO released DEFAULT VALUES});
restored(q{ALTER SYSTEM SET gtf.enabled = on});
$restored->reload;
is(outcome($restored, $id{running}), 'success|2', 'then what was running runs again');
is(restored("SELECT count(*) FROM effects WHERE task = '$id{running}'"), '1', 'with its effects once');
is(outcome($restored, $id{procedure}), 'failure|1|executor lost|executor_lost', 'a procedure only while attempts remain');
is(outcome($restored, $id{$_}), 'success|1', "what waited runs: $_") for 'waiting', 'key';
is(restored(q{SELECT string_agg(n::text, ' ' ORDER BY n) FROM effects}), '1 2 3', 'each once');
is(outcome($restored, submit($restored, q{'note', '{"n": 5}', task_key => 'k'})), 'success|1', 'and new tasks run');

$restored->stop;
done_testing();
