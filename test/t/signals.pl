# Signals: a NOTIFY for each request to stop and each end of a task, once it is
# durable; none before, none twice, none lost.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', conf => q{
wal_level = replica
max_wal_senders = 2
gtf.max_executors = 2
gtf.kill_grace = 0
gtf.crash_limit = 1
});
create_bodies($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION naps() RETURNS void LANGUAGE plpgsql AS 'BEGIN WHILE gtf_sleep(''60 s'') LOOP END LOOP; END';
	CREATE FUNCTION fails_once() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		IF (SELECT attempt FROM gtf_context()) = 1 THEN RAISE EXCEPTION 'once more'; END IF; END$$;
	SELECT gtf_register_task('naps', 'naps()', abort => 'poll'),
		gtf_register_task('interrupted', 'hold(int,int)', abort => 'interrupt'),
		gtf_register_task('fails_once', 'fails_once()', max_attempts => 2, retry_delay => '10 ms');
});

sub sql
{
	return $node->safe_psql('postgres', join(';', @_));
}

# A session that listens, as any client of libpq does; what has come in until
# now, as "abort" and "success" for example, in order.
my $listener = session($node);
# a warning, as of a task that will expire, is an error of query_safe
$listener->query_safe('SET client_min_messages = error');
my $seen = '';

sub listen_to
{
	my (@ids) = @_;

	$seen .= $listener->query_safe(join('', map { qq{LISTEN "gtf:abort:$_"; LISTEN "gtf:complete:$_";} } @ids));
}

sub heard
{
	my ($id) = @_;

	# psql looks for notifications after each command
	$seen .= $listener->query_safe('SELECT');
	my @parts = $seen =~ /notification "gtf:(\w+):$id" with payload "(\w+)"/g;
	my @signals;

	push @signals, join(':', splice(@parts, 0, 2)) while @parts;
	return join ' ', @signals;
}

# What is heard of a task, when it is that; waits for it.
sub is_heard
{
	my ($id, $expected, $what) = @_;
	my $got;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$got = heard($id);
		last if length $got >= length $expected;
		Time::HiRes::usleep(50_000);
	}
	is($got, $expected, $what);
}

# Signals are sent in the order of what they are about: when those of a later
# task are there, the earlier ones are.
sub nothing_more
{
	my ($id, $expected, $what) = @_;
	my $later = submit_and_listen(q{'note'});

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_heard($later, 'complete:success', "$what: a later one is heard of");
	is(heard($id), $expected, $what);
}

# ---- all ends

my $gate = gate($node, 1);

# In one transaction, so that the listener is there before the task.
sub submit_and_listen
{
	my ($args) = @_;
	my $out = $listener->query_safe(
		qq{BEGIN; SELECT gtf_submit($args) AS id \\gset
		SELECT 'gtf:abort:' || :'id' AS abort, 'gtf:complete:' || :'id' AS complete \\gset
		LISTEN :"abort"; LISTEN :"complete"; COMMIT; SELECT :'id'});

	$seen .= $out;
	return $out =~ /^([0-9a-f-]{36})$/m ? $1 : die "no id: $out";
}

my $id = submit_and_listen(q{'note'});
is_heard($id, 'complete:success', 'success');
$id = submit_and_listen(q{'raise', '{"message": "a"}'});
is_heard($id, 'complete:failure', 'failure');
sql("SELECT gtf_retry('$id')");
is_heard($id, 'complete:failure complete:failure', 'failure after a retry');
$id = submit_and_listen(q{'fails_once'});
is_heard($id, 'complete:success', 'only the last attempt');

$id = submit_and_listen(q{'note', delay => '1 h'});
sql("SELECT gtf_cancel('$id')");
is_heard($id, 'complete:aborted', 'cancelled before it has started');
$id = submit_and_listen(q{'note', delay => '1 h', expires_at => clock_timestamp() + interval '0.5 s'});
is_heard($id, 'complete:aborted', 'expired');

for my $type ('naps', 'interrupted')
{
	$id = submit_and_listen($type eq 'naps' ? q{'naps'} : q{'interrupted', '{"key": 1}'});
	executor_of($node, $id);
	sql("SELECT gtf_cancel('$id')");
	is_heard($id, 'abort:abort complete:aborted', "$type: cancelled while it runs");
	$id = submit_and_listen($type eq 'naps' ? q{'naps', timeout => '0.5 s'} : q{'interrupted', '{"key": 1}', timeout => '0.5 s'});
	is_heard($id, 'abort:abort complete:timed_out', "$type: timed out");
}
$id = submit_and_listen(q{'hold', '{"key": 1}'});
executor_of($node, $id);
sql("SELECT gtf_revoke('$id', true)");
is_heard($id, 'abort:abort complete:aborted', 'revoked');
$id = submit_and_listen(q{'hold', '{"key": 1}'});
terminate($node, executor_of($node, $id));
is_heard($id, 'complete:failure', 'executor lost too often');

# ---- not before the commit, and not after a rollback

my $s = session($node);
for my $end ('ROLLBACK', 'ROLLBACK TO a; COMMIT')
{
	$id = submit_and_listen(q{'note', delay => '1 h'});
	my $running = submit_and_listen(q{'naps'});
	executor_of($node, $running);
	$s->query_safe("BEGIN; SAVEPOINT a; SELECT gtf_cancel('$id'), gtf_cancel('$running')");
	nothing_more($id, '', "$end: not yet");
	$s->query_safe($end);
	nothing_more($id, '', "$end: nothing");
	is(heard($running), '', "$end: nothing of the running one either");
	sql("SELECT gtf_cancel('$id'), gtf_cancel('$running')");
	is_heard($id, 'complete:aborted', "$end: then");
	is_heard($running, 'abort:abort complete:aborted', "$end: then the running one");
}

# ---- many at once, more than fit into any buffer

my @ids = split /\n/, sql(q{SELECT gtf_submit_many('note', array_fill('{}'::jsonb, ARRAY[12000]), delay => '1 h')});
my @some = map { $ids[ $_ * 500 ] } 0 .. 23;
listen_to(@some, $ids[-1]);
is(sql(q{SELECT count(*), bool_and(outcome = 'aborted') FROM gtf_cancel(ARRAY(SELECT id FROM gtf.task_info WHERE ended_at IS NULL))}),
	'12000|t', 'many are cancelled at once');
is_heard($ids[-1], 'complete:aborted', 'the last one is heard of');
is(join(' ', map { heard($_) } @some), join(' ', ('complete:aborted') x @some), 'all of them');

# ---- who listens before looking misses nothing, under load

sql(q{SELECT FROM gtf_submit_many('note', array_fill('{}'::jsonb, ARRAY[20000]), priority => -1)});
my $script = '';
$script .= q{
SELECT gtf_submit('note') AS id \gset
SELECT 'gtf:complete:' || :'id' AS channel \gset
LISTEN :"channel";
SELECT 'looked ' || :'id' || ' ' || gtf_status(:'id');
} for 1 .. 300;
$script .= q{SELECT max(id) AS last FROM gtf.task_info} =~ s/max\(id\)/(array_agg(id ORDER BY id DESC))[1]/r . " \\gset\n";
$script .= "CALL gtf_wait(:'last', '180 s');\n" . "SELECT pg_sleep(0.05);\n" x 40;
my ($rc, $out, $err) = $node->psql('postgres', $script);
my %looked = $out =~ /looked ([0-9a-f-]+) (\w+)/g;
my %heard = map { $_ => 1 } $out =~ /notification "gtf:complete:([0-9a-f-]+)" with payload "success"/g;
is(scalar keys %looked, 300, 'tasks under load');
is(scalar(grep { $looked{$_} ne 'success' && !$heard{$_} } keys %looked), 0, 'each was seen to have ended, or heard of');
cmp_ok(scalar(grep { $looked{$_} ne 'success' } keys %looked), '>', 0, 'some had not ended');
until_true($node, q{SELECT count(*) = 0 FROM gtf.task_info WHERE ended_at IS NULL});

# ---- without the flusher

my $flusher = worker_pid($node, 'flusher');
kill 'STOP', $flusher;
my @held = map { submit_and_listen(q{'note'}) } 1 .. 5;
until_status($node, $_, 'success') for @held;
my $cancelled = submit_and_listen(q{'note', delay => '1 h'});
sql("SELECT gtf_cancel('$cancelled')");
is(heard($held[0]), '', 'not before it is durable');
terminate($node, $flusher);
kill 'CONT', $flusher;
new_worker($node, 'flusher', $flusher);
is_heard($cancelled, 'complete:aborted', 'the next one goes on');
is(join(' ', map { heard($_) } @held), join(' ', ('complete:success') x 5), 'with everything');
for my $try (1 .. 5)
{
	$flusher = worker_pid($node, 'flusher');
	terminate($node, $flusher);
	my $ended = submit_and_listen(q{'note'});
	my $aborted = submit_and_listen(q{'note', delay => '1 h'});
	sql("SELECT gtf_cancel('$aborted')");
	is_heard($ended, 'complete:success', "while there is none: success ($try)");
	is_heard($aborted, 'complete:aborted', "while there is none: cancelled ($try)");
	new_worker($node, 'flusher', $flusher);
}

# ---- an error while they are sent: again, without anything new to send

# Somebody who holds the lock of NOTIFY: its commit waits for a standby.
sql('CREATE TABLE notes (n int)');
sql(q{ALTER SYSTEM SET synchronous_commit = 'local'}, q{ALTER SYSTEM SET synchronous_standby_names = 'none'}, 'SELECT pg_reload_conf()');
until_true($node, q{SELECT current_setting('synchronous_standby_names') = 'none' AND current_setting('synchronous_commit') = 'local'});
# the flusher reads its configuration when it is woken
ended($node, submit($node, q{'note'})) for 1 .. 2;
my $notifies = session($node);
my $lock = q{FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND objid = 0};
$notifies->query_until(qr/begun/, "SET synchronous_commit = on;\n\\echo begun\nBEGIN; INSERT INTO notes VALUES (1); NOTIFY x; COMMIT;\n\\echo over\n");
until_true($node, "SELECT EXISTS (SELECT $lock AND granted)");
$id = submit_and_listen(q{'note', delay => '0.3 s'});
until_true($node, "SELECT EXISTS (SELECT $lock AND NOT granted)");
my $log = log_offset($node);
sql("SELECT pg_cancel_backend(pid) $lock AND NOT granted");
ok(until_log($node, qr/canceling statement due to user request/, $log), 'sending fails');
sql('ALTER SYSTEM RESET synchronous_standby_names', 'ALTER SYSTEM RESET synchronous_commit', 'SELECT pg_reload_conf()');
$notifies->query_until(qr/over/, '');
is_heard($id, 'complete:success', 'a signal that could not be sent is sent later');

# ---- settings

sub set
{
	my ($name, $value) = @_;

	sql("ALTER SYSTEM SET $name = '$value'", 'SELECT pg_reload_conf()');
	until_true($node, "SELECT current_setting('$name') = '$value'");
}
set('gtf.completion_channel_prefix', 'done_');
set('gtf.abort_channel_prefix', 'stop_');
my $marker = submit_and_listen(q{'naps'});
$seen .= $listener->query_safe(qq{LISTEN "stop_$marker"; LISTEN "done_$marker"});
executor_of($node, $marker);
# the flusher reads its configuration when it is woken
ended($node, submit($node, q{'note'})) for 1 .. 2;
sql("SELECT gtf_cancel('$marker')");
for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
{
	$seen .= $listener->query_safe('SELECT');
	last if $seen =~ /"done_$marker"/;
	Time::HiRes::usleep(50_000);
}
like($seen, qr/"stop_$marker" with payload "abort".*"done_$marker" with payload "aborted"/s, 'other channels');
is(heard($marker), '', 'and not the usual ones');
(undef, undef, $err) = $node->psql('postgres', q{ALTER SYSTEM SET gtf.abort_channel_prefix = '} . 'x' x 28 . q{'});
like($err, qr/invalid value for parameter "gtf.abort_channel_prefix".*28 bytes, the limit is 27/s, 'a prefix that is too long');
set('gtf.abort_channel_prefix', 'x' x 27);
set('gtf.completion_channel_prefix', 'gtf:complete:');
$id = submit_and_listen(q{'naps'});
$seen .= $listener->query_safe('LISTEN "' . 'x' x 27 . qq{$id"});
executor_of($node, $id);
ended($node, submit($node, q{'note'})) for 1 .. 2;
sql("SELECT gtf_cancel('$id')");
is_heard($id, 'complete:aborted', 'the longest prefix');
like($seen, qr/"x{27}$id" with payload "abort"/, 'makes the longest channel');
set('gtf.abort_channel_prefix', 'gtf:abort:');

# an executor that is lost when all has been told, while it cleans up: a locked
# temporary table keeps it
sql(q{CREATE PROCEDURE lingers() LANGUAGE plpgsql AS $$BEGIN
		CREATE TEMPORARY TABLE lingering ();
		COMMIT;
		PERFORM pg_advisory_xact_lock_shared(9);
	END$$},
	q{SELECT gtf_register_task('lingers', 'lingers()')});
$gate->query_safe('SELECT pg_advisory_lock(9)');
$id = submit_and_listen(q{'lingers'});
my $lingering = holder($node, 9);
$gate->query_safe(q{BEGIN; DO $$BEGIN EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE',
	(SELECT oid::regclass FROM pg_class WHERE relname = 'lingering')); END$$; SELECT pg_advisory_unlock(9)});
is_heard($id, 'complete:success', 'an end is told');
until_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE pid = $lingering AND NOT granted");
terminate($node, $lingering);
$gate->query_safe('ROLLBACK');
until_true($node, "SELECT count(*) = 0 FROM gtf.workers WHERE pid = $lingering OR state = 'lost'");
nothing_more($id, 'complete:success', 'and not another one when its executor is lost after it');

set('gtf.signals', 'off');
ended($node, submit($node, q{'note'})) for 1 .. 2;
$id = submit_and_listen(q{'note'});
is(ended($node, $id), 'success', 'without signals');
set('gtf.signals', 'on');
ended($node, submit($node, q{'note'})) for 1 .. 2;
nothing_more($id, '', 'nobody is told');

$_->quit for $listener, $s, $gate, $notifies;
$node->stop;
done_testing();
