# What the TAP tests share: a small server with gtf, task types whose bodies
# can be watched and held, and waiting for what has to happen.
#
# Bodies that are held wait for an advisory lock which the test's own session
# has (gate), so a test decides when they go on.  Nothing here sleeps for a
# fixed time.
#
# The machine may stop for seconds at any moment.  So no test expects that it
# comes in time for something: what has to happen before a timeout, a delay or
# an expiry is done in one call of the server, and what has to be quick has
# several tries (in_time).

package GtfTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT = qw(
  gtf_node create_bodies create_stuck_bodies take_effects nothing_left gate session
  submit submit_sql ended outcome status until_status until_true
  executor_of until_held holder worker_pid new_worker terminate waiter nobody_waits in_time
  until_dispatched start_after_crash log_count log_offset until_log
);

# A running server.  Parameters: conf (text for postgresql.conf), init (hash
# for Cluster->init), extension => 0 (do not create it), start => 0.
sub gtf_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%{ $params{init} // {} });
	$node->append_conf('postgresql.conf', slurp_file('test/gtf.conf'))
	  if !defined $ENV{TEMP_CONFIG};
	$node->append_conf('postgresql.conf', $params{conf})
	  if defined $params{conf};
	return $node if defined $params{start} && !$params{start};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION gtf')
	  unless defined $params{extension} && !$params{extension};
	return $node;
}

# Task types for tests, and the table of what their bodies did:
#	note(n)		writes a row
#	hold(key)	writes a row, then waits for the gate with this key
#	raise(message)
#	quit()		writes a row, then terminates its own process
#	call_hold(key)	a procedure: commits a row, then waits for the gate
sub create_bodies
{
	my ($node, $db) = @_;

	$node->safe_psql(
		$db // 'postgres', q{
		CREATE TABLE effects (
			seq bigserial, task uuid, attempt int, n int, who text DEFAULT session_user,
			at timestamptz DEFAULT clock_timestamp());
		GRANT ALL ON effects TO PUBLIC;
		GRANT ALL ON SEQUENCE effects_seq_seq TO PUBLIC;

		CREATE FUNCTION effect(n int DEFAULT NULL) RETURNS void LANGUAGE sql AS
			'INSERT INTO effects (task, attempt, n) SELECT task_id, attempt, $1 FROM gtf_context()';
		CREATE FUNCTION note(n int DEFAULT NULL) RETURNS int LANGUAGE plpgsql AS
			'BEGIN PERFORM effect(n); RETURN n; END';
		CREATE FUNCTION hold(key int, n int DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS
			'BEGIN PERFORM effect(n); PERFORM pg_advisory_xact_lock_shared(key); END';
		CREATE FUNCTION "raise"(message text) RETURNS void LANGUAGE plpgsql AS
			$$BEGIN PERFORM effect(); RAISE EXCEPTION '%', message; END$$;
		CREATE FUNCTION quit() RETURNS void LANGUAGE plpgsql AS
			'BEGIN PERFORM effect(); PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END';
		CREATE PROCEDURE call_hold(key int, n int DEFAULT NULL) LANGUAGE plpgsql AS
			'BEGIN PERFORM effect(n); COMMIT; PERFORM pg_advisory_xact_lock_shared(key); END';

		SELECT gtf_register_task('note', 'note(int)'),
			gtf_register_task('hold', 'hold(int,int)', retry_delay => '10 ms'),
			gtf_register_task('raise', 'raise(text)', retry_delay => '10 ms'),
			gtf_register_task('quit', 'quit()'),
			gtf_register_task('call_hold', 'call_hold(int,int)', retry_delay => '10 ms');
	});
}

# More task types, for servers that go down while they run:
#	stuck()		writes a row, then waits until table released has one
#	call_stuck()	a procedure: commits a row, then sleeps for long
#	raise_twice(message)	has two attempts, two seconds apart
sub create_stuck_bodies
{
	my ($node) = @_;

	$node->safe_psql(
		'postgres', q{
		CREATE TABLE released ();
		CREATE FUNCTION stuck() RETURNS void LANGUAGE plpgsql AS $$BEGIN
			PERFORM effect();
			WHILE NOT EXISTS (SELECT FROM released) LOOP PERFORM pg_sleep(0.02); END LOOP;
		END$$;
		CREATE PROCEDURE call_stuck() LANGUAGE plpgsql AS
			'BEGIN PERFORM effect(); COMMIT; PERFORM pg_sleep(600); END';
		SELECT gtf_register_task('stuck', 'stuck()'), gtf_register_task('call_stuck', 'call_stuck()'),
			gtf_register_task('raise_twice', 'raise(text)', max_attempts => 2, retry_delay => '2 s')});
}

# The numbers that bodies have written, in order; they are removed.
sub take_effects
{
	my ($node) = @_;

	return $node->safe_psql(
		'postgres', q{WITH e AS (DELETE FROM effects RETURNING n)
		SELECT string_agg(n::text, ' ' ORDER BY n) FROM e});
}

# In the end no table has anything that is to be done.
sub nothing_left
{
	my ($node) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	until_true($node, 'SELECT count(*) = 0 FROM gtf.abort_requests');
	is( $node->safe_psql('postgres', q{SELECT count(*) FROM gtf.task_info WHERE ended_at IS NULL}),
		'0', 'nothing is left over');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM gtf.live'), '0', 'nor in gtf.live');
}

# An open session; errors do not end it.
sub session
{
	my ($node, %params) = @_;

	my $session = $node->background_psql($params{db} // 'postgres',
		on_error_stop => 0,
		extra_params => $params{user} ? [ '-U', $params{user} ] : []);

	# a limit for each query, not for all of them together
	$session->set_query_timer_restart;
	return $session;
}

# A session that keeps bodies held at these gates until
# pg_advisory_unlock(key), or until it quits.
sub gate
{
	my ($node, @keys) = @_;
	my $session = session($node, ref $keys[0] ? %{ shift @keys } : ());

	$session->query_safe("SELECT pg_advisory_lock($_)") for @keys;
	return $session;
}

# submit($node, "'note', '{\"n\": 1}'") returns the id.
sub submit
{
	my ($node, $args, %params) = @_;

	return $node->safe_psql($params{db} // 'postgres',
		"SELECT gtf_submit($args)",
		extra_params => $params{user} ? [ '-U', $params{user} ] : []);
}

sub submit_sql
{
	my ($node, $command, %params) = @_;
	my $options = $params{options} ? ", $params{options}" : '';

	return $node->safe_psql($params{db} // 'postgres',
		"SELECT gtf_submit_sql(\$command\$$command\$command\$$options)",
		extra_params => $params{user} ? [ '-U', $params{user} ] : []);
}

# Waits until the task has ended; its status (or the current one after a
# minute).
sub ended
{
	my ($node, $id, %params) = @_;

	return $node->safe_psql($params{db} // 'postgres',
		"CALL gtf_wait('$id', '60 s')");
}

# Waits until the task has ended: status, attempt, message and condition.
sub outcome
{
	my ($node, $id, %params) = @_;

	ended($node, $id, %params);
	return $node->safe_psql(
		$params{db} // 'postgres',
		"SELECT concat_ws('|', status, attempt, error_message, exception_type)
		   FROM gtf.task_info WHERE id = '$id'");
}

sub status
{
	my ($node, $id, %params) = @_;

	return $node->safe_psql($params{db} // 'postgres',
		"SELECT gtf_status('$id')");
}

sub until_true
{
	my ($node, $query, %params) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $pause = 5_000;
	my ($rc, $stdout, $stderr);

	# more often than poll_query_until
	while (1)
	{
		# dies if psql has left before it got the query: the server was down
		($rc, $stdout, $stderr) =
		  eval { $node->psql($params{db} // 'postgres', $query) };
		($rc, $stdout, $stderr) = (-1, '', $@) unless defined $rc;
		return if $rc == 0 && $stdout eq 't';
		die "never became true: $query\nlast answer: $stdout $stderr"
		  if time > $deadline;
		usleep($pause);
		$pause = 100_000 if ($pause *= 2) > 100_000;
	}
}

sub until_status
{
	my ($node, $id, $status, %params) = @_;

	until_true($node, "SELECT gtf_status('$id') = '$status'", %params);
}

# Process id of the executor whose body has begun, once it has.
sub executor_of
{
	my ($node, $id, %params) = @_;

	until_status($node, $id, 'in_progress', %params);
	return $node->safe_psql($params{db} // 'postgres',
		"SELECT pid FROM gtf.workers WHERE task_id = '$id'");
}

# Waits until this many bodies wait for a gate.
sub until_held
{
	my ($node, $key, $count) = @_;

	$count //= 1;
	until_true($node,
		"SELECT count(*) = $count FROM pg_locks WHERE locktype = 'advisory' AND objid = $key AND NOT granted"
	);
}

# Process id of the only one that waits for a gate, once there is one.
sub holder
{
	my ($node, $key) = @_;

	until_held($node, $key);
	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $key AND NOT granted");
}

# Starts to wait for the end of a task; what is returned waits for the end of
# that and says the status.
sub waiter
{
	my ($node, $id, %params) = @_;
	my $session = session($node, %params);

	$session->query_until(qr/waiting/,
		"\\echo waiting\nCALL gtf_wait('$id');\n\\echo done\n");
	# unless it has ended meanwhile
	until_true(
		$node, "SELECT count(*) > 0 OR gtf_status('$id') NOT IN ('pending', 'in_progress', 'aborting')
		  FROM pg_stat_activity WHERE query LIKE 'CALL gtf_wait(''$id'')%' AND wait_event = 'Extension'");
	return sub {
		my $out = $session->query_until(qr/done/, '');

		$session->quit;
		return (split /\n/, $out)[0];
	};
}

# No process of gtf waits for a lock, in particular not for a transaction.
sub nobody_waits
{
	my ($node, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $node->safe_psql(
			'postgres', q{SELECT string_agg(backend_type || ': ' || wait_event, ', ') FROM pg_stat_activity
			WHERE backend_type LIKE 'gtf %' AND wait_event_type = 'Lock'}),
		'',
		$what);
}

sub worker_query
{
	my ($kind, $db) = @_;

	return "SELECT pid FROM pg_stat_activity WHERE backend_type = 'gtf $kind'"
	  . ($kind eq 'launcher' ? '' : " AND datname = '$db'");
}

# Process id of the launcher, or of a database's dispatcher or flusher, once
# there is one.
sub worker_pid
{
	my ($node, $kind, %params) = @_;
	my $query = worker_query($kind, $params{db} // 'postgres');

	until_true($node, "SELECT EXISTS ($query)");
	return $node->safe_psql('postgres', $query);
}

# The same, once it is another process than this.
sub new_worker
{
	my ($node, $kind, $old, %params) = @_;
	my $query = worker_query($kind, $params{db} // 'postgres');

	until_true($node, "SELECT EXISTS ($query AND pid <> $old)");
	return $node->safe_psql('postgres', "$query AND pid <> $old");
}

# Waits until the dispatcher has seen all that is committed by now, and handed
# it out as far as it can: twice, a task that was submitted later expires,
# which takes it a whole round.
sub until_dispatched
{
	my ($node, %params) = @_;

	for (1 .. 2)
	{
		my $id = submit($node,
			q{'note', delay => '1 h', expires_at => clock_timestamp() + interval '0.3 s'}, %params);

		until_status($node, $id, 'aborted', %params);
	}
}

sub terminate
{
	my ($node, $pid) = @_;

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
}

# Start again after kill9: processes that have not noticed yet that the
# postmaster is gone keep a new one from starting.
sub start_after_crash
{
	my ($node) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	while (1)
	{
		my $rc = system_log('pg_ctl', '-s', '-w', '-D', $node->data_dir, '-l',
			$node->logfile, '-o', '--cluster-name=' . $node->name, 'start');

		last if $rc == 0;
		die 'server did not start' if time > $deadline;
		usleep(50_000);
	}
	$node->_update_pid(1);
}

sub log_offset
{
	my ($node) = @_;

	return -s $node->logfile;
}

# How often the pattern is found in the server's log from an offset on.
sub log_count
{
	my ($node, $pattern, $offset) = @_;
	my $count = () = slurp_file($node->logfile, $offset // 0) =~ /$pattern/g;

	return $count;
}

sub until_log
{
	my ($node, $pattern, $offset) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if log_count($node, $pattern, $offset) > 0;
		usleep(100_000);
	}
	diag "never logged: $pattern";
	return 0;
}

# Something that has to be quick: it fails if it was quick in none of several
# tries.
sub in_time
{
	my ($what, $code) = @_;
	my $tries = 5;

	for my $try (1 .. $tries)
	{
		return pass($what) if $code->();
		# when others have taken the machine, a moment of that is left out
		sleep(2**($try - 1)) if $try < $tries;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return fail("$what (in none of $tries tries)");
}

1;
