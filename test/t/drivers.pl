# CALL gtf_run through a driver that begins a transaction by itself: psycopg2.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Debian's, if there is another one
my ($python) = grep { system("$_ -c 'import psycopg2' >/dev/null 2>&1") == 0 } 'python3', '/usr/bin/python3';
plan skip_all => 'python3 with psycopg2 (python3-psycopg2) is not installed'
  if !defined $python;

my $node = gtf_node('main');

$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION add(a int) RETURNS int LANGUAGE sql RETURN a + 1;
	CREATE PROCEDURE steps() LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
	SELECT gtf_register_task('add', 'add(int)'), gtf_register_task('steps', 'steps()')});

my $script = $node->basedir . '/run.py';
append_to_file($script, <<'PYTHON');
import sys
import psycopg2

db = psycopg2.connect(sys.argv[1])
cursor = db.cursor()

def call(what, *args):
    try:
        cursor.execute(what, args)
        print(*cursor.fetchone()[1:])
    except psycopg2.Error as error:
        print(error.pgcode)
        db.rollback()

def count():
    cursor.execute('SELECT count(*) FROM gtf.task_info')
    print(cursor.fetchone()[0], 'tasks')
    if not db.autocommit:
        db.commit()

call("CALL gtf_run('add', %s)", '{"a": 1}')
db.rollback()
count()
call("CALL gtf_run('add', %s)", '{"a": 2}')
db.commit()
count()
call("CALL gtf_run('steps')")
db.autocommit = True
call("CALL gtf_run('add', %s)", '{"a": 3}')
call("CALL gtf_run('steps')")
count()

# arrays of ids and of JSON need their types
cursor.execute("SELECT gtf_submit_many('add', %s::jsonb[])", [['{"a": 1}', '{"a": 2}']])
ids = [id for (id,) in cursor]
cursor.execute("CALL gtf_wait_all(%s::uuid[])", [ids])
print(*cursor.fetchone()[0])
cursor.execute("SELECT gtf_submit('add', '{\"a\": 3}', depends_on => %s::uuid[])", [ids])
cursor.execute("SELECT outcome FROM gtf_cancel(%s::uuid[])", [ids])
print(cursor.rowcount, 'cancelled')
PYTHON
my ($out, $err) = run_command([ $python, $script, $node->connstr('postgres') ]);
is( $out,
	join("\n", 'success 2', '0 tasks', 'success 3', '1 tasks', '25001', 'success 4', 'success None', '3 tasks',
		'success success', '2 cancelled'),
	'psycopg2, first with transactions of its own, then with autocommit');
is($err, '', 'no errors');

$node->stop;
done_testing();
