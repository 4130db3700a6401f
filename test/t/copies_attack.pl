# What somebody can try with a copy of a database: run a superuser's tasks where
# he has prepared it for them, and see what belongs to his OID elsewhere.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('node', extension => 0);
$node->safe_psql('postgres', 'CREATE ROLE eve LOGIN CREATEDB');
my @eve = (extra_params => [ '-U', 'eve' ]);

# a template that everybody may copy, with tasks that have not ended
$node->safe_psql('postgres', 'CREATE DATABASE stock IS_TEMPLATE true');
$node->safe_psql(
	'stock', q{
	CREATE EXTENSION gtf;
	CREATE FUNCTION refresh() RETURNS text LANGUAGE sql AS 'SELECT ''refreshed''';
	CREATE FUNCTION note() RETURNS text LANGUAGE sql AS 'SELECT current_user::text';
	SELECT gtf_register_task('note', 'note()')});
my $of_superuser = $node->safe_psql('stock', q{SELECT gtf_submit_sql('SELECT refresh()', delay => '1 h')});
$node->safe_psql('postgres', 'CREATE DATABASE mine TEMPLATE stock', @eve);
is($node->safe_psql('mine', q{SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()}),
	'eve', 'eve owns the copy');

# she owns schema public, so what the task calls is hers
$node->safe_psql(
	'mine', q{
	DROP FUNCTION refresh();
	CREATE FUNCTION refresh() RETURNS text LANGUAGE plpgsql AS $$BEGIN ALTER ROLE eve SUPERUSER; RETURN 'done'; END$$}, @eve);
my ($out, $err);
is($node->psql('mine', 'SELECT gtf_adopt()', @eve, stderr => \$err), 3, "she cannot make a superuser's task run");
like($err, qr/ERROR:  only a superuser can adopt tasks of superusers/, 'for a reason');
is($node->safe_psql('mine', 'SELECT count(*) FROM gtf.tasks WHERE home IN (SELECT home FROM gtf.roles WHERE name = \'eve\')'),
	'0', 'nothing is adopted');

# what has ended is no danger
$node->safe_psql('mine', "SELECT gtf_cancel('$of_superuser'::uuid)");
# (nor is it made one while it is adopted)
is($node->psql('mine', "SELECT gtf_retry('$of_superuser')", @eve, stderr => \$err), 3, 'it is not retried before');
like($err, qr/cannot be retried in a copy of a database/, 'for a reason');
is($node->psql('mine', 'SELECT gtf_adopt()', @eve, stderr => \$err), 0, 'she can adopt the rest');
my $own = submit($node, q{'note'}, db => 'mine', user => 'eve');
is(outcome($node, $own, db => 'mine'), 'success|1', 'and her tasks run');
is($node->safe_psql('mine', "SELECT status FROM gtf.task_info WHERE id = '$of_superuser'"), 'aborted', "not the superuser's");

# rows from elsewhere that came without any notice (logical replication, a
# restore that goes on): the OIDs in them mean nothing
$node->safe_psql('postgres', 'CREATE ROLE mallory LOGIN');
$node->safe_psql('postgres', "ALTER SYSTEM SET gtf.event_log = on");
$node->reload;
$own = submit($node, q{'note'}, db => 'mine', user => 'mallory');
is(outcome($node, $own, db => 'mine'), 'success|1', 'a task of mallory');
my $other = $node->safe_psql('mine', qq{
	INSERT INTO gtf.tasks (id, created_at, owner, type_version, priority, home, scope, app_user, args)
	SELECT overlay(id::text placing 'ffff' from 33)::uuid, created_at, owner, type_version, 0, home + 1, scope, app_user, '{"secret": 1}'
	  FROM gtf.tasks WHERE id = '$own' RETURNING id});
$node->safe_psql('mine', qq{
	INSERT INTO gtf.outcomes (task_id, started_at, ended_at, attempt, status, error_message)
	VALUES ('$other', now(), now(), 1, 'f', 'secret')});
is( $node->safe_psql('mine', qq{
		SELECT gtf_status('$other'), (SELECT count(*) FROM gtf_get_task('$other')), (SELECT count(*) FROM gtf_result('$other')),
			(SELECT count(*) FROM gtf.task_info WHERE id = '$other'), (SELECT count(*) FROM gtf_iter_tasks() WHERE id = '$other'),
			(SELECT count(*) FROM gtf.task_attempts WHERE task_id = '$other'),
			(SELECT count(*) FROM gtf.task_events WHERE task_id = '$other'),
			(SELECT count(*) FROM gtf.task_subscribers_info WHERE task_id = '$other'),
			(SELECT count(*) FROM gtf_subscribers('$other')), gtf_task_matches('$other', 'secret')},
		extra_params => [ '-U', 'mallory' ]),
	'|0|0|0|0|0|0|0|0|', 'mallory does not see a task of another server');
is($node->safe_psql('mine', "SELECT count(*) FROM gtf.task_info WHERE id = '$other'"), '1', 'administrators do');
$node->stop;
done_testing();
