# Counters go on after a restart of the server and of the dispatcher, also when
# that ended in the middle of something; after a crash they go on from the last
# stop.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main');
create_bodies($node);

# name = value of what tasks have done; what a restart adds to is left out
my $counters = q{
	SELECT string_agg(concat_ws(' ', name, labels->>'le', value), E'\n' ORDER BY name, labels) FROM gtf.stats
	WHERE name LIKE 'tasks\_%' OR name LIKE 'attempts\_%' OR name LIKE 'runtime\_%'};

sub value
{
	my ($name) = @_;

	return $node->safe_psql('postgres', "SELECT value FROM gtf.stats WHERE name = '$name'");
}

ended($node, submit($node, q{'note', '{"n": 1}'})) for 1 .. 3;
ended($node, submit($node, q{'raise', '{"message": "no"}', max_attempts => 2}));
$node->safe_psql('postgres', q{SELECT gtf_cancel(gtf_submit('note', delay => '1 h'))});

# ---- the server is restarted

my $before = $node->safe_psql('postgres', $counters);
like($before, qr/^tasks_succeeded 3$/m, 'three tasks have succeeded');
like($before, qr/^tasks_failed 1$/m, 'one has failed');
like($before, qr/^attempts_retried 1$/m, 'after another attempt');
$node->restart;
is($node->safe_psql('postgres', $counters), $before, 'at once after a restart nothing is lost');
worker_pid($node, 'dispatcher');
ended($node, submit($node, q{'note', '{"n": 1}'}));
is(value('tasks_succeeded'), 4, 'and counting goes on');

$node->restart for 1 .. 2;
is(value('tasks_succeeded'), 4, 'also after several');

# ---- only the dispatcher

my $dispatcher = worker_pid($node, 'dispatcher');
terminate($node, $dispatcher);
new_worker($node, 'dispatcher', $dispatcher);
ended($node, submit($node, q{'note', '{"n": 1}'}));
is(value('tasks_succeeded'), 5, 'a new dispatcher does not count twice');

# ---- while tasks come and go

my $load = session($node);
$load->query_until(qr/begin/, q{\echo begin
SELECT count(gtf_submit('note')) FROM generate_series(1, 2000);
\watch 0.01
});
until_true($node, q{SELECT value > 5 FROM gtf.stats WHERE name = 'tasks_succeeded'});
my $busy = value('tasks_succeeded');
$node->stop('fast');
eval { $load->quit };
$node->start;
cmp_ok(value('tasks_succeeded'), '>=', $busy, 'stopped in the middle of something');

# ---- nobody waits for a table that somebody has locked

until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE status IN ('pending', 'in_progress') AND run_at IS NULL});
$node->restart;
my $after_stop = value('tasks_succeeded');
ended($node, submit($node, q{'note', '{"n": 1}'}));
my $locker = session($node);
$locker->query_safe('BEGIN; LOCK TABLE gtf.counters IN SHARE MODE');
$dispatcher = worker_pid($node, 'dispatcher');
terminate($node, $dispatcher);
new_worker($node, 'dispatcher', $dispatcher);
pass('the dispatcher leaves nevertheless');
is(value('tasks_succeeded'), $after_stop + 1, 'and nothing is lost by that');
$locker->quit;

# ---- crash

$node->kill9;
start_after_crash($node);
cmp_ok(value('tasks_succeeded'), '>=', $after_stop, 'after a crash it goes on from the last stop');

$node->stop;
done_testing();
