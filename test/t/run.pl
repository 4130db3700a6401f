# CALL gtf_run: what others see of a task that its session runs, how they stop
# it, and what becomes of it when the session is cancelled or lost.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = gtf_node('main', conf => q{
gtf.max_slots = 8
gtf.max_executors = 2
max_wal_senders = 2
wal_level = logical
});
create_bodies($node);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub sqlstate
{
	my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$_[0]");
	return $err =~ /ERROR:  (\w+)/ ? $1 : $err;
}

sql(q{
	CREATE FUNCTION noted(arg jsonb) RETURNS void LANGUAGE sql AS $$ SELECT effect((arg ->> 0)::int) $$;
	CREATE FUNCTION careful(key int, n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM gtf_on_abort('noted(jsonb)', to_jsonb(n + 1)), gtf_on_cleanup('noted(jsonb)', to_jsonb(n + 2)), gtf_update_progress(n);
		PERFORM pg_advisory_xact_lock_shared(key), effect(n);
	END$$;
	CREATE PROCEDURE call_careful(key int, n int) LANGUAGE plpgsql AS $$BEGIN
		PERFORM gtf_on_abort('noted(jsonb)', to_jsonb(n + 1)), gtf_on_cleanup('noted(jsonb)', to_jsonb(n + 2)), gtf_update_progress(n), effect(n);
		COMMIT;
		PERFORM pg_advisory_xact_lock_shared(key);
	END$$;
	SELECT gtf_register_task('careful', 'careful(int, int)'), gtf_register_task('call_careful', 'call_careful(int, int)'),
		gtf_register_task('stopped', 'careful(int, int)', abort => 'interrupt'), gtf_register_task('call_stopped', 'call_careful(int, int)', abort => 'interrupt'),
		gtf_register_task('never', 'careful(int, int)', abort => 'never');
	-- a body that runs another one
	CREATE FUNCTION outer_body(key int, n int) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		i uuid; s text; r jsonb;
	BEGIN
		PERFORM gtf_on_cleanup('noted(jsonb)', to_jsonb(n + 10));
		CALL gtf_run('careful', jsonb_build_object('key', key, 'n', n), task_id => i, status => s, result => r);
		RETURN s;
	END$$;
	SELECT gtf_register_task('outer', 'outer_body(int, int)', abort => 'interrupt');
});

# The newest task that a session has run: status and more.
my $facts = q{SELECT concat_ws('|', status, execution_mode, error_message, progress_current) FROM gtf.task_info WHERE execution_mode = 'sync' ORDER BY id DESC LIMIT 1};

sub newest
{
	return sql(q{SELECT id FROM gtf.task_info WHERE execution_mode = 'sync' ORDER BY id DESC LIMIT 1});
}

# A session that is in the middle of a call.  Returns it, its process id, the
# task and a function that waits for the end of the call and returns the output.
sub running
{
	my ($call, %params) = @_;
	my $session = session($node);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	$session->query_safe($_) for @{ $params{first} // [] };
	$session->{stderr} = '';
	$session->query_until(qr/begun/, "\\set VERBOSITY sqlstate\n\\echo begun\n$call;\n\\echo ended\n");
	until_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE pid = $pid AND locktype = 'advisory' AND NOT granted");
	return ($session, $pid, $params{invisible} ? undef : newest(),
		sub {
			my $out = $session->query_until(qr/ended/, '');
			my $err = $session->{stderr};

			$session->{stderr} = '';

			# what comes next is not hit
			is($session->query_safe('SELECT count(*) FROM generate_series(1, 10000), gtf_task_id() WHERE gtf_task_id IS NULL'),
				'10000', 'the next statement is not hit')
			  unless $params{lost};
			return (split(/\|/, $out))[1] // $err;
		});
}

my $call = q{CALL gtf_run('careful', '{"key": 1, "n": 100}')};
my $call_procedure = q{CALL gtf_run('call_careful', '{"key": 1, "n": 100}')};
my $gate = gate($node, 1);

# Others see it.
for my $procedure (0, 1)
{
	my ($session, $pid, $id, $end) = running($procedure ? $call_procedure : $call);

	is(sql("SELECT status, worker = 'backend $pid', is_abortable, progress_current, attempt FROM gtf_get_task('$id')"),
		'in_progress|t|t|100|1', 'in progress');
	is(sql("SELECT pid, state, task_id FROM gtf.workers WHERE kind = 'backend'"), "$pid|running|$id", 'gtf.workers');
	is(sql("SELECT sum(in_progress) FROM gtf.queues"), '1', 'gtf.queues');
	is(sql(q{SELECT value FROM gtf.stats WHERE name = 'executors'}), '0', 'no executor');
	is(sql("SELECT state, worker FROM gtf.live WHERE task_id = '$id'"), "r|$pid", 'its start is written down');

	# who waits for it is told, and hears of it
	my $waiting = waiter($node, $id);
	my $listener = session($node);
	$listener->query_safe(qq{LISTEN "gtf:complete:$id"});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is($end->(), 'success', 'ended');
	is($waiting->(), 'success', 'who waits is told');
	my $heard = '';
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$heard .= $listener->query('SELECT') . $listener->{stdout};
		last if $heard =~ /gtf:complete/;
		usleep(100_000);
	}
	like($heard, qr/"gtf:complete:$id" with payload "success"/, 'and hears of it');
	is(take_effects($node), '100 102', 'effects');
	$_->quit for $session, $listener;
	$gate->query_safe('SELECT pg_advisory_lock(1)');
}

# They stop it.
for my $type ('careful', 'call_careful', 'stopped', 'call_stopped')
{
	my $effects = $type =~ /call/ ? '100 101 102' : $type eq 'careful' ? '100 101 102' : '101 102';

	for my $how ('cancel', 'SIGINT', 'SIGTERM')
	{
		my ($session, $pid, $id, $end) = running(qq{CALL gtf_run('$type', '{"key": 1, "n": 100}')});
		my $interrupted = $how ne 'cancel' || $type =~ /stopped/;

		is(sql($how eq 'cancel' ? "SELECT gtf_cancel('$id')" : "SELECT gtf_revoke('$id', true, '$how')"),
			$how eq 'cancel' ? 'aborted' : 'aborting', "$type: $how");
		$gate->query_safe('SELECT pg_advisory_unlock(1)') unless $interrupted;
		is($end->(), 'aborted', 'the call says so');
		is(take_effects($node), $interrupted && $type !~ /call/ ? '101 102' : $effects, 'effects');
		$gate->query_safe('SELECT pg_advisory_lock(1)') unless $interrupted;
		is(sql("SELECT pid = $pid FROM pg_stat_activity WHERE pid = $pid"), 't', 'the session is there');
		$session->quit;
	}
}

# Not abortable: 55000, and nothing happens.
{
	my ($session, $pid, $id, $end) = running(q{CALL gtf_run('never', '{"key": 1, "n": 100}')});

	is(sqlstate("SELECT gtf_cancel('$id')"), '55000', 'mode never');
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is($end->(), 'success', 'it goes on');
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	is(take_effects($node), '100 102', 'effects');
	$session->quit;
}

# The caller cancels his own statement: whatever the mode.
for my $type ('careful', 'call_careful', 'stopped', 'never')
{
	my ($session, $pid, $id, $end) = running(qq{CALL gtf_run('$type', '{"key": 1, "n": 100}')});

	sql("SELECT pg_cancel_backend($pid)");
	like($end->(), qr/57014/, "$type: cancelled by the caller");
	is(sql($facts), 'aborted|sync|100', 'the task is aborted');
	is(take_effects($node), $type =~ /call/ ? '100 101 102' : '101 102', 'effects');
	$session->quit;
}
# in a transaction block it is as if nothing had been
{
	my ($session, $pid, undef, $end) = running($call, first => ['BEGIN'], invisible => 1, lost => 1);

	is(sql($facts), 'aborted|sync|100', 'others do not see it');
	is(sql(q{SELECT pid FROM gtf.workers WHERE kind = 'backend' AND task_id IS NULL}), $pid, 'but its slot');
	is(sql('SELECT count(*) FROM gtf.live'), '0', 'nothing is written down');
	sql("SELECT pg_cancel_backend($pid)");
	like($end->(), qr/57014/, 'cancelled in a transaction block');
	$session->query_safe('ROLLBACK');
	is(take_effects($node), '', 'no effects');
	is(sql(q{SELECT count(*) FROM gtf.workers WHERE kind = 'backend'}), '0', 'the slot is free');
	$session->quit;
}

# A task inside of a task: stopping the outer one stops the inner one.
for my $how ('inline', 'executor')
{
	my $outer;

	if ($how eq 'inline')
	{
		my ($session, $pid, $id, $end) = running(q{CALL gtf_run('outer', '{"key": 1, "n": 100}')});

		sql("SELECT gtf_cancel('$id')");
		is($end->(), 'aborted', 'the outer one');
		$outer = $id;
		$session->quit;
	}
	else
	{
		$outer = submit($node, q{'outer', '{"key": 1, "n": 100}'});
		until_held($node, 1);
		sql("SELECT gtf_cancel('$outer')");
		is(outcome($node, $outer), 'aborted|1', 'the outer one, in an executor');
	}
	is(take_effects($node), '110', 'what the inner one and its handlers did is rolled back with the outer body');
	is(sql("SELECT count(*) FROM gtf.task_info WHERE parent_id = '$outer'"), '0', 'and so is its row');
}

# The session is lost.
for my $type ('careful', 'call_careful')
{
	my $effects = $type eq 'careful' ? '102' : '100 102';

	for my $how ('terminated', 'cancelled and terminated')
	{
		my ($session, $pid, $id, $end) = running(qq{CALL gtf_run('$type', '{"key": 1, "n": 100}')}, lost => 1);
		my $waiting = waiter($node, $id);

		sql("SELECT gtf_cancel('$id')") if $how =~ /cancelled/;
		terminate($node, $pid);
		is($waiting->(), $how =~ /cancelled/ ? 'aborted' : 'failure', "$type: $how");
		is(sql($facts), $how =~ /cancelled/ ? 'aborted|sync|100' : 'failure|sync|executor lost|100', 'its row says so');
		is(sql("SELECT worker = 'backend $pid', attempt FROM gtf_get_task('$id')"), 't|1', 'one attempt');
		is(take_effects($node), $effects, 'an executor has run its cleanup handler');
		eval { $session->quit };
	}
}
# also in a transaction block: then it was never there
{
	my ($session, $pid) = running($call, first => ['BEGIN'], invisible => 1, lost => 1);

	terminate($node, $pid);
	until_true($node, q{SELECT count(*) = 0 FROM gtf.workers WHERE kind = 'backend'});
	is(take_effects($node), '', 'no effects');
	eval { $session->quit };
}
# with one task inside of another one, and in an executor
{
	my ($session, $pid, $id) = running(q{CALL gtf_run('outer', '{"key": 1, "n": 100}')}, lost => 1);

	terminate($node, $pid);
	is(outcome($node, $id), 'failure|1|executor lost|executor_lost', 'the outer one');
	is(take_effects($node), '110', 'its handler');
	eval { $session->quit };

	my $outer = submit($node, q{'outer', '{"key": 1, "n": 100}'});
	terminate($node, holder($node, 1));
	until_held($node, 1);
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is(outcome($node, $outer), 'success|2', 'a task in an executor runs again, with the one inside of it');
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	is(take_effects($node), '100 102 110 110', 'effects');
}

# Joined.
{
	my ($session, $pid, $id, $end) = running(q{CALL gtf_run('careful', '{"key": 1, "n": 100}', task_key => 'k')});
	my $other = session($node);

	is(sql(q{SELECT gtf_submit('careful', '{"key": 1, "n": 200}', task_key => 'k')}), $id, 'a submit joins it');
	$other->query_until(qr/begun/, qq{\\echo begun\nCALL gtf_run('careful', '{"key": 1, "n": 200}', task_key => 'k');\n\\echo ended\n});
	until_true($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL gtf_run%200%' AND wait_event = 'Extension'});
	is(sqlstate(q{BEGIN; CALL gtf_run('careful', '{"key": 1, "n": 200}', task_key => 'k')}), '25001', 'not in a transaction block');
	is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL gtf_run%200%' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)}),
		'0', 'who waits holds no snapshot');
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is($end->(), 'success', 'who runs it');
	is($other->query_until(qr/ended/, ''), "$id|success|\nended\n", 'who has joined it');
	is(take_effects($node), '100 102', 'it has run once');
	$gate->query_safe('SELECT pg_advisory_lock(1)');

	# while it is aborting, the next one waits for its end
	my ($first, undef, $aborting, $first_end) = running(q{CALL gtf_run('careful', '{"key": 1, "n": 100}', task_key => 'k')});
	sql("SELECT gtf_cancel('$aborting')");
	like($other->query_until(qr/ended/, qq{CALL gtf_run('note', '{"n": 300}', task_key => 'k');\n\\echo ended\n}),
		qr/success\|300/, 'another type, another key');
	$other->query_until(qr/begun/, qq{\\echo begun\nCALL gtf_run('careful', '{"key": 2, "n": 200}', task_key => 'k');\n\\echo ended\n});
	until_true($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL gtf_run%200%' AND wait_event = 'Extension'});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is($first_end->(), 'aborted', 'the first');
	like($other->query_until(qr/ended/, ''), qr/success/, 'then the next one begins');
	is(take_effects($node), '100 101 102 200 202 300', 'effects');
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	$_->quit for $session, $other, $first;
}

# Slots are full: 53400.  Executors are not in the way of those that have one.
{
	my @sessions;

	# as many as executors may want are theirs, whether they are there or not
	sql(q{SELECT pg_terminate_backend(pid) FROM gtf.workers WHERE kind = 'executor'});
	until_true($node, q{SELECT count(*) = 0 FROM gtf.workers WHERE kind = 'executor'});
	for (1 .. 6)
	{
		my ($session) = running($call, invisible => 1);
		push @sessions, $session;
	}
	is(sqlstate("SET statement_timeout = '60 s'; $call"), '53400', 'no slot is free');
	my $gate_2 = gate($node, 2);
	my @held = map { submit($node, q{'hold', '{"key": 2}'}) } 1 .. 2;
	executor_of($node, $_) for @held;
	pass('but for executors');
	$gate_2->quit;
	is(ended($node, $_), 'success', 'which go on') for @held;
	is(sql($facts), 'in_progress|sync|100', 'and no task is left of it');
	is(sqlstate("BEGIN; $call"), '53400', 'in a transaction block, too');
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	$_->query_until(qr/ended/, '') for @sessions;
	is(sql("CALL gtf_run('note', '{\"n\": 1}')") =~ /success/, 1, 'they are free again');
	$_->quit for @sessions;
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	sql('TRUNCATE effects');
}

# A commit that fails is an error of the body.
{
	my $session = session($node);

	sql(q{CREATE TABLE dots (color text);
		INSERT INTO dots VALUES ('black'), ('white');
		CREATE FUNCTION recolor(f text, t text) RETURNS int LANGUAGE plpgsql AS $$
		DECLARE n int;
		BEGIN
			UPDATE dots SET color = t WHERE color = f;
			GET DIAGNOSTICS n = ROW_COUNT;
			PERFORM pg_advisory_xact_lock_shared(1);
			RETURN n;
		END$$;
		SELECT gtf_register_task('recolor', 'recolor(text, text)')});
	my ($first, undef, undef, $end) = running(q{CALL gtf_run('recolor', '{"f": "black", "t": "white"}')},
		first => [q{SET default_transaction_isolation = 'serializable'}]);
	# the other way round meanwhile
	$session->query_safe(q{BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE dots SET color = 'black' WHERE color = 'white'; SELECT count(*) FROM dots; COMMIT});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is($end->(), 'failure', 'a serialization failure');
	like(sql($facts), qr/^failure\|sync\|could not serialize/, 'its row');
	is(sql('SELECT string_agg(color, \' \' ORDER BY color) FROM dots'), 'black black', 'the body has left nothing');
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	$_->quit for $session, $first;
}

# COMMIT PREPARED
{
	my $id = sql(q{BEGIN; CALL gtf_run('note', '{"n": 5}') \gset
		\echo :task_id
		PREPARE TRANSACTION 'p'});
	my $listener = session($node);

	is(sql("SELECT count(*) FROM gtf.task_info WHERE id = '$id'"), '0', 'prepared');
	my $offset = log_offset($node);
	sql(q{COMMIT PREPARED 'p'});
	is(sql("SELECT status, result FROM gtf_get_task('$id')"), 'success|5', 'committed');
	is(ended($node, $id), 'success', 'and waited for');
	is(take_effects($node), '5', 'effects');
	$listener->quit;
}

# A walsender needs the signals for itself.
{
	my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$call", replication => 'database');
	like($err, qr/0A000/, 'a walsender');
}

# The server crashes.
{
	my ($session, $pid, $id) = running($call_procedure, lost => 1);
	my $delayed = submit($node, q{'note', '{"n": 9}'});

	ended($node, $delayed);
	$node->stop('immediate');
	$node->start;
	is(outcome($node, $id), 'failure|1|executor lost|executor_lost', 'after a crash of the server');
	is(sql("SELECT worker = 'backend $pid', started_at IS NOT NULL FROM gtf_get_task('$id')"), 't|t', 'its row');
	eval { $session->quit };
	eval { $gate->quit };
}
sql("SELECT gtf_retry((SELECT id FROM gtf.task_info WHERE error_message = 'executor lost' AND task_type = 'call_careful' ORDER BY id DESC LIMIT 1))");
until_true($node, q{SELECT count(*) = 1 FROM gtf.task_info WHERE execution_mode = 'sync' AND attempt = 2 AND status = 'success' AND worker LIKE 'executor %'});

nothing_left($node);
$node->stop;
done_testing();
