# The files in docs/monitoring: each query of the exporter's configuration runs
# and has the columns that it names, as a role without privileges; Debian's
# exporter reads it and shows every metric; the dashboard shows only these.
#
# The exporter is looked for in PATH, or is GTF_EXPORTER.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

my $folder = "$FindBin::RealBin/../../docs/monitoring";
my $file = "$folder/postgres_exporter.yaml";
my $yaml = slurp_file($file);

my $node = gtf_node('main');
create_bodies($node);
$node->safe_psql('postgres', 'CREATE ROLE monitor LOGIN');
ended($node, submit($node, q{'note', '{"n": 1}'})) for 1 .. 3;
ended($node, submit($node, q{'raise', '{"message": "no"}'}));
submit($node, q{'note', delay => '1 h', queue => 'nightly'});

# ---- the queries

my (%query, %columns, %usage, $name);
foreach my $line (split /\n/, $yaml)
{
	$name = $1 if $line =~ /^(\w+):$/;
	$query{$name} .= "$1\n" if $line =~ /^    ([^ -].*)/ || $line =~ /^    (  .*)/ && !$columns{$name};
	push @{ $columns{$name} }, $1 if $line =~ /^    - (\w+):$/;
	$usage{ "${name}_" . $columns{$name}[-1] } = $1 if $line =~ /^        usage: (\w+)$/;
}
is(join(' ', sort keys %query),
	'gtf gtf_queue gtf_runtime_seconds gtf_type gtf_workers', 'the queries are found');
foreach my $name (sort keys %query)
{
	my ($rc, $stdout, $stderr) = $node->psql(
		'postgres',
		"\\pset tuples_only off\n\\pset format csv\n$query{$name};",
		extra_params => [ '-U', 'monitor' ]);
	my ($header) = $stdout =~ /^(.*)/;

	is($stderr, '', "query of $name runs");
	is($header, join(',', @{ $columns{$name} }), "and has the columns that are named");
}
like(
	$node->safe_psql('postgres', $query{gtf_queue}),
	qr/^postgres\|default\|0\|0\|0\|0\|0$/m,
	'a queue is there while nothing is in it');
my @metrics = grep { $usage{$_} ne 'LABEL' } sort keys %usage;

# ---- the dashboard

my $dashboard = decode_json(slurp_file("$folder/grafana.json"));
my %shown;
foreach my $panel (@{ $dashboard->{panels} })
{
	foreach my $target (@{ $panel->{targets} })
	{
		$shown{$_} = 1 foreach $target->{expr} =~ /\b(gtf_\w+)/g;
	}
}
is( join(' ', grep { my $m = $_; !grep { $_ eq $m } @metrics } sort keys %shown),
	'', 'the dashboard shows what the exporter exports');
foreach my $wanted (
	qw(gtf_queue_ready gtf_queue_oldest_ready_age_seconds gtf_runtime_seconds_bucket gtf_tasks_failed_total
	gtf_executors gtf_attempts_retried_total gtf_attempts_lost_total))
{
	ok($shown{$wanted}, "the dashboard shows $wanted");
}

# ---- the exporter

my $exporter = $ENV{GTF_EXPORTER} // (grep { -x $_ } map { "$_/prometheus-postgres-exporter" } File::Spec->path, '/usr/bin')[0];

SKIP:
{
	skip 'prometheus-postgres-exporter is not installed (Debian has a package of that name)', 1
	  unless defined $exporter && -x $exporter;

	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $out = '';
	local $ENV{DATA_SOURCE_NAME} =
	  'user=monitor dbname=postgres host=' . $node->host . ' port=' . $node->port;
	my $process = IPC::Run::start(
		[
			$exporter, "--extend.query-path=$file",
			'--disable-default-metrics', '--disable-settings-metrics',
			"--web.listen-address=127.0.0.1:$port"
		],
		'>', \$out, '2>', \$out);
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $page = '';

	until ($page =~ /^gtf_tasks_submitted_total\{/m || time > $deadline)
	{
		my $answer = HTTP::Tiny->new(timeout => 30)->get("http://127.0.0.1:$port/metrics");

		$page = $answer->{content} if $answer->{success};
		usleep(100_000);
	}
	$process->kill_kill;

	is(join(' ', grep { $page !~ /^$_\{/m } @metrics), '', 'every metric is exported') or diag $out;
	foreach my $metric (@metrics)
	{
		like($page, qr/^# TYPE $metric \L$usage{$metric}\E$/m, "$metric is a $usage{$metric}");
	}
	like($page, qr/^gtf_tasks_succeeded_total\{database="postgres",[^}]*\} 3$/m, 'with its value');
	like($page, qr/^gtf_queue_scheduled\{[^}]*queue="nightly"[^}]*\} 1$/m, 'and its labels');
	like($page, qr/^gtf_runtime_seconds_bucket\{[^}]*le="\+Inf"[^}]*\} 4$/m, 'buckets, too');
}

$node->stop;
done_testing();
