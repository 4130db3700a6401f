# Executors run many tasks one after the other: nothing that one of them does
# to its session is seen by the next.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use Test::More;

# one executor, so that the next task is in the same process
my $node = gtf_node('main', conf => "gtf.max_executors = 1\nwal_level = logical");

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# What a body can leave behind, and a look for it.
sql(q{
	ALTER ROLE CURRENT_USER SET work_mem = '3MB';
	CREATE SEQUENCE s;
	CREATE TABLE written (i int);
	CREATE TYPE dirt AS ENUM ('settings', 'temp', 'prepared', 'cursor', 'lock', 'sequence', 'error');

	CREATE FUNCTION make_dirt() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM set_config('work_mem', '5MB', false), set_config('search_path', 'nowhere', false),
			set_config('my.setting', 'mine', false), set_config('default_transaction_isolation', 'serializable', false),
			set_config('default_transaction_read_only', 'on', false), set_config('application_name', 'mine', false),
			set_config('gtf.app_user', 'somebody', false), set_config('statement_timeout', '1ms', false);
		CREATE TEMP TABLE dirt_table (i int);
		CREATE FUNCTION pg_temp.dirt_function() RETURNS int LANGUAGE sql AS 'SELECT 1';
		EXECUTE 'PREPARE dirt_statement AS SELECT 1';
		EXECUTE 'DECLARE dirt_cursor CURSOR WITH HOLD FOR SELECT 1';
		PERFORM pg_advisory_lock(1), pg_advisory_lock_shared(2, 3), pg_try_advisory_lock(4);
		PERFORM pg_catalog.nextval('public.s');
	END$$;

	CREATE FUNCTION find_dirt() RETURNS text LANGUAGE plpgsql SET search_path = public AS $$
	DECLARE
		found text[];
	BEGIN
		INSERT INTO written VALUES (1);
		SELECT array_agg(name || '=' || setting ORDER BY name) INTO found FROM pg_settings
		 WHERE source = 'session' AND name NOT IN ('search_path', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable')
			OR name IN ('work_mem', 'application_name', 'transaction_isolation', 'gtf.app_user');
		found := found || ARRAY(SELECT relname::text FROM pg_class WHERE relnamespace = pg_my_temp_schema())
			|| ARRAY(SELECT proname::text FROM pg_proc WHERE pronamespace = pg_my_temp_schema())
			|| ARRAY(SELECT name FROM pg_prepared_statements)
			|| ARRAY(SELECT name FROM pg_cursors WHERE is_holdable)
			|| ARRAY(SELECT 'advisory lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
			|| nullif(current_setting('my.setting', true), '');
		BEGIN
			found := found || ('lastval ' || lastval());
		EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
		END;
		BEGIN
			found := found || ('currval ' || currval('s'));
		EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
		END;
		RETURN array_to_string(found, ', ');
	END$$;

	CREATE FUNCTION dirty() RETURNS void LANGUAGE sql AS 'SELECT make_dirt()';
	CREATE FUNCTION dirty_error() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM make_dirt(); RAISE EXCEPTION ''no''; END';
	CREATE FUNCTION dirty_caught() RETURNS void LANGUAGE plpgsql AS
		'BEGIN BEGIN PERFORM make_dirt(); RAISE EXCEPTION ''no''; EXCEPTION WHEN raise_exception THEN NULL; END; PERFORM set_config(''work_mem'', ''6MB'', false); END';
	CREATE PROCEDURE call_dirty() LANGUAGE plpgsql AS 'BEGIN PERFORM make_dirt(); COMMIT; END';
	CREATE PROCEDURE call_dirty_error() LANGUAGE plpgsql AS 'BEGIN PERFORM make_dirt(); COMMIT; RAISE EXCEPTION ''no''; END';
	CREATE PROCEDURE call_loop_error() LANGUAGE plpgsql AS
		'DECLARE i int; BEGIN FOR i IN SELECT generate_series(1, 100) LOOP COMMIT; RAISE EXCEPTION ''no''; END LOOP; END';
	SELECT gtf_register_task(t, (t || '()')::regprocedure) FROM unnest('{dirty,dirty_error,dirty_caught,call_dirty,call_dirty_error,call_loop_error,find_dirt}'::text[]) t;
});

sub dirt
{
	my ($app_user) = @_;
	my $id = sql("SET gtf.app_user = '" . ($app_user // '') . q{'; SELECT gtf_submit('find_dirt')});

	ended($node, $id);
	return sql("SELECT coalesce(error_message, result #>> '{}'), worker FROM gtf.task_info WHERE id = '$id'");
}

my $worker = (dirt() =~ /(executor \d+)/)[0];
my $clean = "application_name=gtf executor, gtf.app_user=, transaction_isolation=read committed, work_mem=3072|$worker";

is(dirt(), $clean, 'a fresh session');
for my $type ('dirty', 'dirty_error', 'dirty_caught', 'call_dirty', 'call_dirty_error', 'call_loop_error')
{
	my $id = submit($node, "'$type'");

	is(outcome($node, $id),
		$type =~ /error/ ? 'failure|1|no|raise_exception' : 'success|1',
		"$type makes a mess");
	is(dirt(), $clean, 'of which nothing is left');
}
for my $command (
	'SET work_mem = 5000',
	'SET default_transaction_read_only = on',
	'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE',
	'SET my.setting = 5',
	'CREATE TEMP TABLE dirt_table AS SELECT 1',
	'PREPARE dirt_statement AS SELECT 1',
	'DECLARE dirt_cursor CURSOR WITH HOLD FOR SELECT 1',
	'SELECT pg_advisory_lock(7), nextval($$s$$)',
	'DO $$BEGIN PERFORM make_dirt(); COMMIT; END$$',
	'SET search_path = nowhere',
	'SET gtf.app_user = $$me$$')
{
	is(outcome($node, sql("SELECT gtf_submit_sql(\$a\$$command\$a\$)")), 'success|1', $command);
	is(dirt(), $clean, 'leaves nothing behind');
}

# replication slots: one that an error has left acquired, here of a plugin that wants options; temporary ones
sql(q{SELECT pg_create_logical_replication_slot('acquired', 'pgoutput')});
sql(q{CREATE FUNCTION acquires() RETURNS void LANGUAGE sql AS 'SELECT pg_logical_slot_peek_binary_changes(''acquired'', NULL, NULL)'});
sql(q{CREATE FUNCTION acquires_caught() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM acquires(); EXCEPTION WHEN OTHERS THEN NULL; END'});
sql(q{CREATE FUNCTION makes_temporary() RETURNS void LANGUAGE sql AS 'SELECT pg_create_logical_replication_slot(''temporary'', ''pgoutput'', true)'});
sql(q{SELECT gtf_register_task(t, (t || '()')::regprocedure) FROM unnest('{acquires,acquires_caught,makes_temporary}'::text[]) t});
for my $case ([ 'acquires', 'failure' ], [ 'acquires_caught', 'success' ], [ 'makes_temporary', 'success' ])
{
	my ($type, $status) = @$case;

	like(outcome($node, submit($node, "'$type'")), qr/^$status\|1/, $type);
	is(dirt(), $clean, 'the executor stays');
	is(sql('SELECT slot_name, active FROM pg_replication_slots'), 'acquired|f', 'and has no slot');
}
foreach my $call ("CALL gtf_run('acquires')", "CALL gtf_run('sql', '{\"command\": \"SELECT acquires()\"}')")
{
	like(sql("$call; SELECT slot_name, active FROM pg_replication_slots"), qr/\|failure\|\nacquired\|f$/, "nor a session: $call");
}

# the application user is the task's
like(dirt('alice'), qr/gtf.app_user=alice,/, 'gtf.app_user is set for its task');
is(dirt(), $clean, 'and only for that');
my $id = sql(q{SET gtf.app_user = 'bob'; SELECT gtf_submit('call_dirty')});
ended($node, $id);
like(dirt('alice'), qr/gtf.app_user=alice,/, 'whatever another task has made of it');

# what only the end of a session ends: the process is not for another task
sql(q{SELECT pg_replication_origin_create('origin')});
sql(q{CREATE FUNCTION begins_backup() RETURNS void LANGUAGE sql AS 'SELECT pg_backup_start(''backup'', true)';
	CREATE FUNCTION has_origin() RETURNS void LANGUAGE sql AS 'SELECT pg_replication_origin_session_setup(''origin'')';
	CREATE FUNCTION origin() RETURNS boolean LANGUAGE sql AS 'SELECT pg_replication_origin_session_is_setup()';
	CREATE FUNCTION ends_backup() RETURNS void LANGUAGE sql AS 'SELECT pg_backup_stop()';
	SELECT gtf_register_task(t, (t || '()')::regprocedure) FROM unnest('{begins_backup,ends_backup,has_origin,origin}'::text[]) t});
for my $case ([ 'has_origin', 'origin', 'false' ], [ 'begins_backup', 'ends_backup', 'backup is not in progress' ])
{
	my ($type, $look, $answer) = @$case;
	my $first = submit($node, "'$type'");
	my $second;

	is(outcome($node, $first), 'success|1', $type);
	$second = submit($node, "'$look'");
	ended($node, $second);
	is(sql("SELECT coalesce(error_message, result #>> '{}') FROM gtf_result('$second')"), $answer, 'is not for the next task');
}
$worker = (dirt() =~ /(executor \d+)/)[0];
$clean =~ s/executor \d+/$worker/;

# what a worker cannot do
like(outcome($node, sql(q{SELECT gtf_submit_sql('DO $$BEGIN LISTEN a; END$$')})),
	qr/^failure\|1\|cannot execute LISTEN within a background process\|/, 'LISTEN');
is(outcome($node, sql(q{SELECT gtf_submit_sql('DO $$BEGIN PERFORM pg_notify(''a'', ''b''); END$$')})), 'success|1', 'NOTIFY');
is(dirt(), $clean, 'still the same process');

# a cancel that comes before the code starts is not for it
my $lock = session($node);
$lock->query_safe('BEGIN; LOCK TABLE gtf.outcomes IN ACCESS EXCLUSIVE MODE');
$id = sql(q{SELECT gtf_submit_sql('SELECT 1')});
my $blocked = q{FROM pg_stat_activity WHERE backend_type = 'gtf executor' AND wait_event_type = 'Lock'};
until_true($node, "SELECT count(*) = 1 $blocked");
sql("SELECT pg_cancel_backend(pid) $blocked");
$lock->query_safe('COMMIT');
is(outcome($node, $id), 'success|1', 'a cancel hits no task that has not started');
is(dirt(), $clean, 'nor the process');
$lock->quit;

# settings that a reload changes
$node->append_conf('postgresql.conf', 'gtf.admin_role = pg_read_all_data');
$node->reload;
my $setting = q{gtf_submit_sql($$DO 'BEGIN IF current_setting(''gtf.admin_role'') <> ''pg_read_all_data'' THEN RAISE ''%'', current_setting(''gtf.admin_role''); END IF; END'$$)};
until_true($node, q{SELECT current_setting('gtf.admin_role') = 'pg_read_all_data'});
is(outcome($node, sql("SELECT $setting")), 'success|1', 'an executor that is idle reads the new configuration');
like(dirt(), qr/\Q$worker\E$/, 'without being replaced');

$node->stop;
done_testing();
