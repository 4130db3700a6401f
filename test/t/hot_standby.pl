# On a hot standby tasks can be read and nothing else; after its promotion
# everything that had not ended goes on there.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

my $primary = gtf_node('primary', init => { allows_streaming => 1 },
	conf => "gtf.max_executors = 3\nmax_connections = 30\nshared_buffers = 16MB");
create_bodies($primary);
create_stuck_bodies($primary);
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;

sub primary
{
	return $primary->safe_psql('postgres', $_[0]);
}

sub standby
{
	return $standby->safe_psql('postgres', $_[0]);
}

# something of everything
my %id = (
	done => submit($primary, q{'note', '{"n": 5}'}),
	failed => submit($primary, q{'raise', '{"message": "a"}'}));
ended($primary, $_) for values %id;
%id = (
	%id,
	atomic => submit($primary, q{'stuck'}),
	procedure => submit($primary, q{'call_stuck'}));
executor_of($primary, $id{$_}) for ('atomic', 'procedure');
# the third executor is held by another one after the first attempt of one,
# which does not get another attempt so
($id{retrying}, $id{third}) = split /\|/,
  primary(q{SELECT gtf_submit('raise_twice', '{"message": "b"}', priority => 1), gtf_submit('stuck')});
executor_of($primary, $id{third});
%id = (
	%id,
	delayed => submit($primary, q{'note', delay => '3 s'}),
	later => submit($primary, q{'note', delay => '1 day'}));
until_true($primary,
	"SELECT count(*) = 1 FROM gtf.task_attempts WHERE task_id = '$id{retrying}'");
until_true($primary, 'SELECT count(*) = 4 FROM gtf.live');
primary(q{BEGIN; SELECT gtf_submit('note', '{"n": 77}'); PREPARE TRANSACTION 'p'});
primary('SELECT pg_switch_wal()');
$primary->wait_for_catchup($standby);

# reading
is(standby('SELECT count(*) FROM gtf.task_info'), '8', 'gtf.task_info');
is(standby("SELECT status, result FROM gtf_result('$id{done}')"), 'success|5', 'a success');
is(standby("SELECT status, error_message FROM gtf_get_task('$id{failed}')"), 'failure|a', 'a failure');
is(standby("SELECT gtf_status('$id{atomic}'), gtf_status('$id{procedure}')"), 'in_progress|in_progress', 'running tasks');
is(standby("SELECT gtf_status('$id{delayed}'), gtf_status('$id{retrying}')"), 'pending|pending', 'waiting tasks');
is(standby('SELECT count(*) FROM gtf.task_attempts'), '2', 'gtf.task_attempts');
is(standby('SELECT count(*) FROM gtf.task_types'), '9', 'gtf.task_types');
is(standby('SELECT count(*) FROM gtf.workers'), '0', 'gtf.workers: nobody');
standby("SELECT * FROM $_") for ('gtf.queues', 'gtf.stats');

# writing
for my $sql (
	q{SELECT gtf_submit('note')},
	q{CALL gtf_run('note')},
	q{SELECT gtf_submit_sql('SELECT 1')},
	q{SELECT gtf_submit_many('note', '{}')},
	q{SELECT gtf_register_task('other', 'note(int)')},
	q{SELECT gtf_unregister_task('note')},
	q{SELECT gtf_adopt()},
	qq{SELECT gtf_cancel('$id{later}')},
	qq{SELECT gtf_retry('$id{failed}')},
	qq{CALL gtf_wait('$id{atomic}')})
{
	(undef, undef, my $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	like($err, qr/ERROR:  25006:/, $sql);
}
is(standby(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'gtf%'}), '0', 'no workers');

# promotion
$primary->stop('immediate');
$standby->promote;
standby('INSERT INTO released DEFAULT VALUES');
like(outcome($standby, $id{atomic}), qr/^success\|2$/, 'the running task runs again');
like(outcome($standby, $id{third}), qr/^success\|2$/, 'and so does the other');
is(standby("SELECT string_agg(attempt::text, ',') FROM effects WHERE task = '$id{atomic}'"), '2', 'with its effects once');
is(outcome($standby, $id{procedure}), 'failure|1|executor lost|executor_lost', 'the procedure is lost');
is(outcome($standby, $id{retrying}), 'failure|2|b|raise_exception', 'the retrying task is tried again');
is(outcome($standby, $id{delayed}), 'success|1', 'the delayed task runs');
is(standby("SELECT started_at >= run_at FROM gtf_get_task('$id{delayed}')"), 't', 'in time');
is(status($standby, $id{later}), 'pending', 'the one for tomorrow waits');
is(standby("SELECT count(*) FROM effects WHERE task IN ('$id{done}', '$id{failed}')"), '1', 'what had ended does not run again');
standby(q{COMMIT PREPARED 'p'});
until_true($standby, 'SELECT count(*) = 1 FROM effects WHERE n = 77');
pass('a transaction that was prepared');
is(outcome($standby, submit($standby, q{'note'})), 'success|1', 'new tasks run');
isnt(standby('SELECT suspect_before FROM gtf.state'), '', 'tasks from before are suspect');

$standby->stop;
done_testing();
