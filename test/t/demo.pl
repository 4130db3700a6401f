# The tasks of make demo, on a short list of packages: they end as the demo
# wants to show, run by a role that is no superuser.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $demo = "$FindBin::RealBin/../demo";
my $list = "$PostgreSQL::Test::Utils::tmp_check/packages";
my $node = gtf_node('main', conf => slurp_file("$demo/server.conf"), extension => 0);

append_to_file($list, <<'E');
Package: libc6
Version: 2.36-9
Installed-Size: 13000
Recommends: libidn2-0 (>= 2.0.5~)
Description: GNU C Library: "shared" libraries
 A \backslash and a	tab.

Package: libidn2-0
Version: 2.3.3-1
Depends: libc6 (>= 2.14)

Package: perl-base
Version: 5.36.0-7
Installed-Size: 7700
Depends: libc6 (>= 2.35)

Package: postgresql
Version: 15+248
Installed-Size: 70
Depends: perl | perl-base, libc6
Suggests: postgresql-doc

Package: postgresql
Version: 15+247
Depends: nothing
E

sub psql_file
{
	my ($name) = @_;

	return $node->safe_psql('demo', slurp_file("$demo/$name"),
		extra_params => [ '-U', 'demo' ]);
}

$node->safe_psql('postgres', 'CREATE ROLE demo LOGIN');
$node->safe_psql('postgres', 'CREATE DATABASE demo OWNER demo');
$node->safe_psql('demo', 'CREATE EXTENSION gtf');
psql_file('tasks.sql');
my ($rows, $stderr) = run_command([ 'awk', '-f', "$demo/packages.awk", $list ]);
is($stderr, '', 'packages.awk reads the list');
$node->safe_psql('demo',
	"COPY package (name, version, installed_kb, relations) FROM STDIN;\n$rows\n\\.\n");
is( $node->safe_psql('demo', 'SELECT name, installed_kb, relations FROM package ORDER BY name'),
	join("\n",
		'libc6|13000|{"Recommends": "libidn2-0 (>= 2.0.5~)"}',
		'libidn2-0||{"Depends": "libc6 (>= 2.14)"}',
		'perl-base|7700|{"Depends": "libc6 (>= 2.35)"}',
		'postgresql|70|{"Depends": "perl | perl-base, libc6", "Suggests": "postgresql-doc"}'),
	'packages are loaded, the first version of each');

# the demo has time to show that it waits
$node->safe_psql('demo',
	"SELECT gtf_register_task('most_wanted', 'most_wanted(int)', max_attempts => 20, retry_delay => '20 ms')");

psql_file('submit.sql');
until_true($node, "SELECT bool_and(status IN ('success', 'failure')) FROM gtf.task_info",
	db => 'demo');
is( $node->safe_psql(
		'demo',
		q{SELECT task_type, args ->> 'package', status, coalesce(result::text, progress_text), error_message
		  FROM gtf.task_info ORDER BY id}),
	join("\n",
		'parse_relations||success|7|',
		'most_wanted||success|[{"package": "libc6", "needed_by": 3}, {"package": "perl", "needed_by": 1}, {"package": "perl-base", "needed_by": 1}]|',
		'count_users||success|4 of 4 (100%)|',
		'sql||success|{"command_tag": "CREATE INDEX"}|',
		'closure|gnome|failure||there is no package "gnome"',
		'closure|kde-full|failure||there is no package "kde-full"',
		'closure|libreofice|failure||there is no package "libreofice"',
		'closure|postgresql|success|{"size": "13 MB", "packages": 3}|',
		'sql||success|{"command_tag": "VACUUM"}|'),
	'the tasks end as they should');
is( $node->safe_psql('demo', 'SELECT name, needed_by FROM package ORDER BY name'),
	"libc6|3\nlibidn2-0|0\nperl-base|1\npostgresql|0",
	'what they have written is there');

like(psql_file('frame.sql'),
	qr/\|failure 1\|  closure libreofice +failure +\d+\.\d s  there is no package "libreofice"$/m,
	'the display has a line for each task');
like(psql_file('results.sql'), qr/^libc6\|3$/m, 'the results are shown');

done_testing();
