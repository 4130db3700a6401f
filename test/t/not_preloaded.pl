# Without shared_preload_libraries: reading and registering work, everything
# else says what is missing; with it, all goes on.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $node = gtf_node('main', extension => 0, conf => "shared_preload_libraries = ''\ngtf.max_executors = 2");

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub error
{
	(undef, undef, my $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
	return $err;
}

sub preload
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$_[0]'");
	$node->restart;
}

my @refused = (
	q{SELECT gtf_submit('note')},
	q{SELECT gtf_submit_sql('SELECT 1')},
	q{SELECT gtf_submit_many('note', ARRAY['{}'::jsonb])},
	q{CALL gtf_run('note')},
	q{CALL gtf_wait(gen_random_uuid())},
	q{SELECT gtf_cancel(gen_random_uuid())},
	q{SELECT gtf_retry(gen_random_uuid())},
	q{SELECT gtf_adopt()});
my @readable = (
	'SELECT count(*) FROM gtf.task_info', 'SELECT count(*) FROM gtf.task_attempts',
	'SELECT count(*) FROM gtf.workers', 'SELECT count(*) FROM gtf.queues', 'SELECT count(*) FROM gtf.stats',
	q{SELECT count(*) FROM gtf.task_types WHERE task_type <> 'sql'});

# from the beginning
sql('CREATE EXTENSION gtf');
create_bodies($node);
is(sql('SELECT count(*) > 3 FROM gtf.task_types'), 't', 'types can be registered');
for my $sql (@refused)
{
	like(error($sql), qr/ERROR:  55000: gtf must be loaded via shared_preload_libraries/, $sql);
}
is(sql($_), /task_types/ ? '5' : '0', $_) for @readable;
is(sql('SELECT gtf_status(gen_random_uuid()), gtf_task_id()'), '|', 'gtf_status()');
sql('ALTER EXTENSION gtf UPDATE');
sql('CREATE DATABASE other');
sql('ALTER DATABASE other RENAME TO another');
sql('DROP DATABASE another');
sql('DROP EXTENSION gtf; CREATE EXTENSION gtf');
pass('DDL is not in the way');

# with some tasks
preload('gtf');
sql(q{DROP EXTENSION gtf; CREATE EXTENSION gtf; DROP TABLE effects; DROP FUNCTION effect, note, hold, "raise", quit; DROP PROCEDURE call_hold});
create_bodies($node);
my $gate = gate($node, 1);
my $done = submit($node, q{'note', '{"n": 1}'});
my $running = submit($node, q{'hold', '{"key": 1}'});
my $delayed = submit($node, q{'note', delay => '1 day'});
ended($node, $done);
executor_of($node, $running);
until_true($node, 'SELECT count(*) = 1 FROM gtf.live');
preload('');
eval { $gate->quit };
is(sql("SELECT gtf_status('$done'), result FROM gtf_result('$done')"), 'success|1', 'a task that has ended');
is(status($node, $delayed), 'pending', 'a task that waits');
like(sql('SELECT count(*), min(status), max(status) FROM gtf.task_info'), qr/^3\|\w+\|success$/, 'the list of tasks');
is(sql(q{SELECT string_agg(state, ' ') FROM gtf.workers}), '', 'no workers');
like(error($refused[0]), qr/ERROR:  55000:/, 'no submits');
is(sql(q{SELECT gtf_register_task('more', 'note(int)')}), '', 'types can be registered');
preload('gtf');
is(outcome($node, $running), 'success|2', 'the task that was running goes on');
is(status($node, $delayed), 'pending', 'and the other waits');

$node->stop;
done_testing();
