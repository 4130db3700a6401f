# A dump is restored in another server, where other roles have the OIDs: nothing
# runs or is seen by the wrong ones, and after gtf_adopt() everything goes on as
# the roles with the same names.  And pg_upgrade.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $from = gtf_node('from', conf => 'gtf.max_executors = 2', extension => 0);
# the same OIDs, in another order
$from->safe_psql('postgres', "CREATE ROLE $_ LOGIN") for qw(alice bob carol dave);
my $to = gtf_node('to', conf => 'gtf.max_executors = 4', extension => 0);
$to->safe_psql('postgres', "CREATE ROLE $_ LOGIN") for qw(mallory alice eve robert dave);
my $oid = q{SELECT oid FROM pg_roles WHERE rolname = };
is( $to->safe_psql('postgres', "$oid 'mallory'"),
	$from->safe_psql('postgres', "$oid 'alice'"),
	'mallory has the OID that alice has elsewhere');

$from->safe_psql('postgres', 'CREATE EXTENSION gtf');
create_bodies($from);
create_stuck_bodies($from);
$from->safe_psql(
	'postgres', q{
	GRANT SELECT ON released TO PUBLIC;
	CREATE FUNCTION of_bob() RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS
		$$BEGIN INSERT INTO effects (task, who) VALUES (gtf_task_id(), current_user); END$$;
	ALTER FUNCTION of_bob OWNER TO bob;
	SELECT gtf_register_task('of_bob', 'of_bob()'),
		gtf_register_task('together', 'note(int)', scope => 'shared')});

# ---- tasks in all states

my %id;
my $offset = log_offset($from);
$id{finished} = submit($from, q{'note', '{"n": 1}'}, user => 'alice');
is(outcome($from, $id{finished}), 'success|1', 'one that has ended');
$id{retrying} = submit($from, q{'raise_twice', '{"message": "a"}'}, user => 'alice');
until_true($from, "SELECT count(*) = 1 FROM gtf.task_attempts WHERE task_id = '$id{retrying}'");
$id{running} = submit($from, q{'stuck'}, user => 'alice');
$id{procedure} = submit($from, q{'call_stuck'}, user => 'bob');
executor_of($from, $id{$_}) for qw(running procedure);
until_true($from, q{SELECT count(*) = 2 FROM gtf.live WHERE state = 'r'});
# no executor is left for these
$id{alice} = submit($from, q{'note', '{"n": 2}'}, user => 'alice');
$id{bob} = submit($from, q{'note', '{"n": 3}'}, user => 'bob');
$id{carol} = submit($from, q{'note', '{"n": 4}'}, user => 'carol');
$id{of_bob} = submit($from, q{'of_bob'}, user => 'alice');
$id{dependent} = submit($from, qq{'note', '{"n": 5}', depends_on => '{$id{alice}}'}, user => 'alice');
$id{delayed} = submit($from, q{'note', '{"n": 6}', delay => '1 h'}, user => 'dave');
$id{keyed} = submit($from, q{'note', '{"n": 7}', 'the key', delay => '1 h'}, user => 'alice');
$id{shared} = submit($from, q{'together', '{"n": 8}', 'our key', delay => '1 h'}, user => 'alice');
submit($from, q{'together', '{"n": 8}', 'our key'}, user => $_) for qw(bob dave);
$id{carol_later} = submit($from, q{'note', '{"n": 9}', delay => '1 h'}, user => 'carol');

$from->safe_psql('postgres', 'ALTER ROLE bob RENAME TO robert');
until_true($from, q{SELECT count(*) = 1 FROM gtf.roles WHERE name = 'robert'});

my $dir = PostgreSQL::Test::Utils::tempdir();
$from->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", '-d', $from->connstr('postgres') ], 'dump, custom format');
$from->command_ok([ 'pg_dump', '-Fp', '-f', "$dir/plain", '-d', $from->connstr('postgres') ], 'plain format');
$from->command_ok([ 'pg_dump', '-Fc', '--schema-only', '-f', "$dir/schema", '-d', $from->connstr('postgres') ], 'schema only');
$from->command_ok([ 'pg_dump', '-Fc', '--data-only', '-f', "$dir/data", '-d', $from->connstr('postgres') ], 'data only');

# the original goes on
$from->safe_psql('postgres', 'INSERT INTO released DEFAULT VALUES');
$from->safe_psql('postgres', "SELECT gtf_revoke('$id{procedure}', terminate => true)");
is(outcome($from, $id{$_}), 'success|1', "the original goes on: $_") for qw(running alice bob carol of_bob dependent);
like(outcome($from, $id{retrying}), qr/^failure\|2/, 'the original goes on: retrying');

# ---- a schema without tasks is nobody's copy

sub restore
{
	my ($db, $file, @options) = @_;

	if ($file eq 'plain')
	{
		$to->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/$file", '-d', $to->connstr($db) ],
			"$db: restored");
	}
	else
	{
		$to->command_ok([ 'pg_restore', '--exit-on-error', @options, '-d', $to->connstr($db), "$dir/$file" ],
			"$db: restored from $file");
	}
}

$to->safe_psql('postgres', 'CREATE DATABASE parts');
restore('parts', 'schema');
$to->safe_psql('parts', q{SELECT gtf_register_task('say', 'note(int)')});
my $own = submit($to, q{'say'}, db => 'parts', user => 'mallory');
is(outcome($to, $own, db => 'parts'), 'success|1', 'a restored schema works at once');
$to->safe_psql('parts', 'DROP EXTENSION gtf; CREATE EXTENSION gtf; TRUNCATE effects');

# ---- with tasks

for my $case ([ 'custom', 'custom', '-j2' ], [ 'plain', 'plain' ], [ 'parts', 'data' ])
{
	my ($db, $file, @options) = @$case;
	my ($out, $err);

	$to->safe_psql('postgres', "CREATE DATABASE $db") if $db ne 'parts';
	$offset = log_offset($to);
	restore($db, $file, @options);
	ok(until_log($to, qq{gtf does not run tasks in database "$db": its tables are a copy}, $offset),
		"$db: the log says that it is a copy");
	$to->safe_psql($db, 'TRUNCATE effects; TRUNCATE released');

	# before it is adopted
	is($to->safe_psql($db, q{SELECT state FROM gtf.workers WHERE kind = 'dispatcher'}),
		'not adopted', "$db: so does gtf.workers");
	is($to->safe_psql($db, 'SELECT count(*) FROM gtf.task_info', extra_params => [ '-U', $_ ]),
		'0', "$db: $_ sees nothing")
	  for qw(mallory alice eve);
	is($to->safe_psql($db, "SELECT gtf_status('$id{finished}')", extra_params => [ '-U', 'mallory' ]),
		'', "$db: not even a status");
	is(status($to, $id{alice}, db => $db), 'pending', "$db: administrators do");
	is($to->psql($db, q{SELECT gtf_submit('note', task_key => 'the key')},
			extra_params => [ '-U', 'mallory' ], stderr => \$err),
		3, "$db: nobody joins anything");
	like($err, qr/a task with a key cannot be submitted in a copy/, "$db: for a reason");
	my $new = submit($to, q{'note', '{"n": 100}'}, db => $db, user => 'mallory');
	is($to->safe_psql($db, 'SELECT count(*) FROM effects'), '0', "$db: nothing runs");
	is($to->psql($db, "CALL gtf_wait('$new')", extra_params => [ '-U', 'mallory' ], stderr => \$err),
		3, "$db: nobody waits for it");
	like($err, qr/^HINT:  Have an administrator call gtf_adopt\(\)\.$/m, "$db: and is told why");
	isnt($to->psql($db, "SELECT gtf_cancel(gen_random_uuid())", stderr => \$err), 0, "$db: a task that is not there");
	unlike($err, qr/copy/, "$db: is not there for administrators");

	# adopted
	is($to->psql($db, 'SELECT gtf_adopt()', stderr => \$err), 0, "$db: adopted");
	like($err, qr/WARNING:  role "carol" does not exist/, "$db: there is no carol");
	is(outcome($to, $new, db => $db), 'success|1', "$db: a new task runs");
	is($to->safe_psql($db, q{SELECT state FROM gtf.workers WHERE kind = 'dispatcher'}),
		'running', "$db: as gtf.workers shows");
	is(outcome($to, $id{$_}, db => $db), 'success|1', "$db: $_ runs") for qw(alice bob of_bob dependent);
	$to->safe_psql($db, 'INSERT INTO released DEFAULT VALUES');
	is(outcome($to, $id{running}, db => $db), 'success|2', "$db: what was running runs again");
	like(outcome($to, $id{procedure}, db => $db), qr/^failure\|1\|executor lost/, "$db: a procedure does not");
	like(outcome($to, $id{retrying}, db => $db), qr/^failure\|2\|a/, "$db: an attempt that was due");
	is(outcome($to, $id{carol}, db => $db), 'failure|0|role "carol" does not exist|undefined_object',
		"$db: a task of a role that does not exist");
	is( $to->safe_psql($db, q{SELECT string_agg(n || ' ' || who, ', ' ORDER BY n) FROM effects WHERE n IS NOT NULL}),
		'2 alice, 3 robert, 5 alice, 100 mallory',
		"$db: each once, as its own role");
	is($to->safe_psql($db, "SELECT who FROM effects WHERE task = '$id{of_bob}'"),
		'robert', "$db: code that robert owns");
	is($to->safe_psql($db, "SELECT owner FROM gtf_get_task('$id{$_->[0]}')"), $_->[1], "$db: $_->[0] belongs to $_->[1]")
	  for ([ 'finished', 'alice' ], [ 'delayed', 'dave' ], [ 'procedure', 'robert' ]);
	is($to->safe_psql($db, 'SELECT count(*) FROM gtf.task_info', extra_params => [ '-U', 'mallory' ]),
		'1', "$db: mallory sees her own");
	is($to->safe_psql($db, 'SELECT status, wait_reason FROM gtf.task_info WHERE args @> \'{"n": 6}\'',
			extra_params => [ '-U', 'dave' ]),
		'pending|scheduled', "$db: dave sees his");

	# keys and subscribers
	is(submit($to, q{'note', task_key => 'the key', delay => '1 h'}, db => $db, user => 'alice'),
		$id{keyed}, "$db: alice joins her task");
	isnt(submit($to, q{'note', task_key => 'the key', delay => '1 h'}, db => $db, user => 'mallory'),
		$id{keyed}, "$db: mallory does not");
	is($to->safe_psql($db, "SELECT string_agg(role::text, ' ' ORDER BY role::text) FROM gtf.task_subscribers_info WHERE task_id = '$id{shared}'"),
		'alice dave robert', "$db: subscribers");
	is($to->safe_psql($db, "SELECT gtf_cancel('$id{shared}')", extra_params => [ '-U', 'robert' ]),
		'unsubscribed', "$db: of whom one leaves");
	is(submit($to, q{'together', task_key => 'our key'}, db => $db, user => 'eve'),
		$id{shared}, "$db: and another one comes");

	# a row from elsewhere, without any notice that this is a copy
	my $other = $to->safe_psql($db, q{
		INSERT INTO gtf.tasks (id, created_at, owner, type_version, priority, home, scope, app_user, args)
		SELECT overlay(id::text placing 'ffff' from 33)::uuid, created_at, owner, type_version, 0, home + 1, scope, app_user, args
		  FROM gtf.tasks ORDER BY id LIMIT 1 RETURNING id});
	$to->safe_psql($db, "INSERT INTO gtf.live (task_id, since, attempt, state) VALUES ('$other', now(), 1, 'r')");
	my $dispatcher = worker_pid($to, 'dispatcher', db => $db);
	$to->safe_psql($db, "SELECT pg_terminate_backend($dispatcher)");
	new_worker($to, 'dispatcher', $dispatcher, db => $db);
	until_dispatched($to, db => $db);
	is($to->safe_psql($db, "SELECT attempt, state FROM gtf.live WHERE task_id = '$other'"), '1|r',
		"$db: nobody takes care of a task that is not ours");
	is($to->safe_psql($db, "SELECT gtf_status('$other')", extra_params => [ '-U', 'alice' ]), '', "$db: or sees it");
	$to->safe_psql($db, "DELETE FROM gtf.tasks WHERE id = '$other'; DELETE FROM gtf.live WHERE task_id = '$other'");

	# the role is made later, and restarts change nothing
	$to->restart;
	$to->safe_psql($db, 'CREATE ROLE carol LOGIN');
	is($to->psql($db, 'SELECT gtf_adopt()', stderr => \$err), 0, "$db: adopted again");
	unlike($err, qr/WARNING/, "$db: now there is carol");
	is($to->safe_psql($db, "SELECT owner FROM gtf_get_task('$id{carol_later}')"), 'carol', "$db: the waiting task is hers");
	$to->safe_psql($db, "SELECT gtf_retry('$id{carol}')", extra_params => [ '-U', 'carol' ]);
	is(outcome($to, $id{carol}, db => $db), 'success|2', "$db: and so is what she retries");
	$to->safe_psql($db, "SELECT gtf_cancel('$id{carol_later}')", extra_params => [ '-U', 'carol' ]);
	is($to->safe_psql($db, 'SELECT count(*) FROM gtf.roles WHERE placeholder'), '0', "$db: nothing is left of the other server");
	$to->safe_psql('postgres', "DROP DATABASE $db");
	$to->safe_psql('postgres', 'DROP ROLE carol');
}

# ---- over the very database that the dump was made of: time has passed there

$to->safe_psql('postgres', 'CREATE DATABASE again');
$to->safe_psql('again', 'CREATE EXTENSION gtf');
create_bodies($to, 'again');
my $once = submit($to, q{'note', '{"n": 1}', delay => '5 s'}, db => 'again');
$to->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/again", '-d', $to->connstr('again') ], 'dump of again');
is(ended($to, $once, db => 'again'), 'success', 'it runs');
$offset = log_offset($to);
restore('again', 'again', '--clean', '--if-exists');
ok(until_log($to, qr/gtf does not run tasks in database "again": its tables are a copy/, $offset),
	'restored over the same database: a copy');
is($to->safe_psql('again', 'SELECT count(*) FROM effects'), '0', 'nothing has run');
$to->safe_psql('again', 'SELECT gtf_adopt()');
is(ended($to, $once, db => 'again'), 'success', 'until it is adopted');

$to->stop;
$from->stop;
done_testing();
